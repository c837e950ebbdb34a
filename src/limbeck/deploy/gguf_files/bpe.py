"""BPE as llama.cpp has it: of bytes, as GPT-2, or of letters, as Llama 2."""

from typing import Any

from gguf import TokenType
from tokenizers import pre_tokenizers

from .tokens import SPACE, Tokens, Vocabulary, lacks, names_of, steps_of

# How byte-level BPE splits a text, as regular expressions or the names of steps; and llama.cpp's
# name for it, without and with `ignore_merges`, where it has one.
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_OTHERS = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA_3 = f"{_CONTRACTIONS}|{_WORDS}|\\p{{N}}{{1,3}}|{_OTHERS}"
_QWEN_2 = f"{_CONTRACTIONS}|{_WORDS}|\\p{{N}}|{_OTHERS}"
_SPLITS: dict[tuple[str, ...], tuple[str | None, str | None]] = {
    ("ByteLevel",): ("gpt-2", None),
    ("Digits", "ByteLevel"): ("smollm", None),
    (_LLAMA_3, "bytes"): ("smaug-bpe", "llama-bpe"),
    (_QWEN_2, "bytes"): ("qwen2", None),
}


def bpe(state: dict[str, Any], tokens: Tokens) -> Vocabulary:
    """Of bytes, as GPT-2; or of letters with tokens of single bytes, as Llama 2."""
    model = state["model"]
    for part in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(part):
            raise lacks(f"BPE with {part} {model[part]!r}")
    make = _bpe_of_letters if model["byte_fallback"] else _bpe_of_bytes
    return make(state, tokens)


def _bpe_of_bytes(state: dict[str, Any], tokens: Tokens) -> Vocabulary:
    model = state["model"]
    normalizer = steps_of(state["normalizer"], "normalizers")
    if any(one["type"] != "NFC" for one in normalizer):
        raise lacks(f"BPE with the normalizer {names_of(normalizer)}")
    # Without an unknown token both leave such bytes out.
    if model.get("unk_token") and (lost := _alphabet() - set(model["vocab"])):
        raise lacks(f"BPE that reads {len(lost)} bytes as the token {model['unk_token']!r}")
    splits = tuple(map(_split_of, steps_of(state["pre_tokenizer"], "pretokenizers")))
    pre = _SPLITS.get(splits, (None, None))[bool(model.get("ignore_merges"))]
    if pre is None:
        how = " with ignore_merges" if model.get("ignore_merges") else ""
        raise lacks(f"BPE{how} that splits texts by {' and '.join(splits) or 'nothing'}")
    flags, special = tokens.framed()
    return Vocabulary(
        "gpt2",
        pre,
        tokens.texts,
        tokens.types,
        merges=[" ".join(pair) for pair in _pairs(model)],
        flags=flags,
        special=special,
        chat_template=_template(tokens),
    )


def _bpe_of_letters(state: dict[str, Any], tokens: Tokens) -> Vocabulary:
    """What sentencepiece calls BPE: a token's score is where its first merge stands."""
    model = state["model"]
    normalizer = steps_of(state["normalizer"], "normalizers")
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    splits = steps_of(state["pre_tokenizer"], "pretokenizers")
    if normalizer == [{"type": "Prepend", "prepend": SPACE}, spaces] and not splits:
        prefixed = True
    elif normalizer == [spaces] and not splits:
        prefixed = False
    elif not normalizer and [one["type"] for one in splits] == ["Metaspace"]:
        prefixed = splits[0].get("prepend_scheme", "always") != "never"
    else:
        raise lacks(
            f"BPE of letters with the normalizer {names_of(normalizer)} and the pre-tokenizer"
            f" {names_of(splits)}"
        )
    types, scores = list(tokens.types), [-1e6] * len(tokens.texts)
    for byte in range(256):
        number = model["vocab"].get(f"<0x{byte:02X}>")
        if number is None:
            raise lacks("BPE of letters without tokens for all 256 bytes")
        types[number] = TokenType.BYTE
    if model.get("unk_token"):
        types[model["vocab"][model["unk_token"]]] = TokenType.UNKNOWN
    for place, pair in reversed(list(enumerate(_pairs(model)))):
        scores[model["vocab"]["".join(pair)]] = -float(place)
    flags, special = tokens.framed()
    return Vocabulary(
        "llama",
        "default",
        tokens.texts,
        types,
        scores=scores,
        flags={**flags, "add_space_prefix": prefixed},
        special=special,
        chat_template=_template(tokens),
    )


def _split_of(step: dict[str, Any]) -> str:
    """A step by which byte-level BPE splits a text, as a key of `_SPLITS`."""
    kind: str = step["type"]
    if kind == "ByteLevel" and not step["add_prefix_space"]:
        return kind if step["use_regex"] else "bytes"
    if kind == "Digits" and step["individual_digits"]:
        return kind
    if kind == "Split" and step["behavior"] == "Isolated" and not step["invert"]:
        return str(step["pattern"].get("Regex", step["pattern"]))
    return f"{kind} with {step}"


def _alphabet() -> set[str]:
    """What stands for a byte in tokens, of the bytes that UTF-8 has."""
    byte = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    letters = map(chr, (*range(0x800), *range(0x800, 0xD800, 64), *range(0xE000, 0x10000, 64)))
    rare = map(chr, range(0x10000, 0x110000, 4096))
    every = byte.pre_tokenize_str("".join((*letters, *rare)))
    return {one for text, _ in every for one in text}


def _pairs(model: dict[str, Any]) -> list[list[str]]:
    return [one.split(" ", 1) if isinstance(one, str) else one for one in model["merges"]]


def _template(tokens: Tokens) -> str:
    found = tokens.tokenizer.chat_template
    return found if isinstance(found, str) else ""
