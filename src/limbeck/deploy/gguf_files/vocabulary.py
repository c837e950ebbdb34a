"""A tokenizer as llama.cpp reads it: the kind, the tokens, and what splits a text into words.

llama.cpp has tokenizers of its own and knows only some normalizers and pre-tokenizers. What it
lacks is refused here; that the rest tokenizes alike is proven in `same_tokens`.
"""

import base64
import json
from typing import Any

from gguf import TokenType
from transformers import PreTrainedTokenizerFast

from .bpe import bpe
from .tokens import SPACE, Tokens, Vocabulary, lacks, names_of, steps_of

_CONTINUES = "##"


def vocabulary_of(tokenizer: PreTrainedTokenizerFast, rows: int) -> Vocabulary:
    """A tokenizer as llama.cpp reads it.

    Args:
        tokenizer: Of the model.
        rows: Of its embedding table; ids without a token get an unused one.

    Raises:
        ExportError: llama.cpp cannot tokenize as it does.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    for token in state["added_tokens"]:
        if not token["special"] and (token["lstrip"] or token["rstrip"] or token["single_word"]):
            raise lacks(f"the added token {token['content']!r}, which takes spaces around it")
    kind = state["model"]["type"]
    known = {"WordPiece": _wordpiece, "Unigram": _unigram, "BPE": bpe}
    if kind not in known:
        raise lacks(f"tokenizers of the kind {kind}")
    found = known[kind](state, Tokens(tokenizer, rows))
    if len(set(found.tokens)) < len(found.tokens):
        twice = next(one for one in found.tokens if found.tokens.count(one) > 1)
        raise lacks(f"one id for each of two tokens that it would spell {twice!r}")
    return found


def _wordpiece(state: dict[str, Any], tokens: Tokens) -> Vocabulary:
    """As BERT: words at spaces and punctuation."""
    [*steps] = steps_of(state["normalizer"], "normalizers")
    if [one["type"] for one in steps] != ["BertNormalizer"] or not (
        steps[0]["clean_text"] and steps[0]["handle_chinese_chars"]
    ):
        raise lacks(f"WordPiece with the normalizer {names_of(steps)}; it has BERT's")
    splits = steps_of(state["pre_tokenizer"], "pretokenizers")
    if [one["type"] for one in splits] != ["BertPreTokenizer"]:
        raise lacks(f"WordPiece with the pre-tokenizer {names_of(splits)}; it has BERT's")
    if state["model"]["continuing_subword_prefix"] != _CONTINUES:
        raise lacks(f"WordPiece whose tokens continue a word without {_CONTINUES}")
    first, last = tokens.frame()
    if first is None or last is None:
        raise lacks("WordPiece without special tokens before and after a text")
    lowercase = bool(steps[0]["lowercase"])
    strips = steps[0]["strip_accents"]
    # It marks where a word begins, BERT where it does not.
    spelled = [
        text
        if kind is TokenType.CONTROL
        else text.removeprefix(_CONTINUES)
        if text.startswith(_CONTINUES)
        else SPACE + text
        for text, kind in zip(tokens.texts, tokens.types, strict=True)
    ]
    return Vocabulary(
        "bert",
        "default",
        spelled,
        tokens.types,
        flags={
            "normalizer.lowercase": lowercase,
            "normalizer.strip_accents": lowercase if strips is None else bool(strips),
        },
        special=tokens.special(bos=first, seperator=last),
    )


def _unigram(state: dict[str, Any], tokens: Tokens) -> Vocabulary:
    """As T5 and XLM-R: the most likely tokenization, spaces are part of tokens."""
    characters, merged = b"", False
    for step in steps_of(state["normalizer"], "normalizers"):
        if step["type"] == "Precompiled" and not characters and not merged:
            characters = base64.b64decode(step["precompiled_charsmap"])
        elif step["type"] == "Replace" and step["pattern"] == {"Regex": " {2,}"}:
            merged = True
        elif step["type"] != "Strip":  # spaces at the ends go where neighbouring ones are merged
            raise lacks(f"Unigram with the normalizer {step['type']}; it has sentencepiece's table")
    steps = steps_of(state["pre_tokenizer"], "pretokenizers")
    if steps and steps[0]["type"] == "WhitespaceSplit":
        steps, merged = steps[1:], True
    if [one["type"] for one in steps] != ["Metaspace"] or steps[0]["replacement"] != SPACE:
        raise lacks(f"Unigram with the pre-tokenizer {names_of(steps)}; it has Metaspace")
    unknown = state["model"]["unk_id"]
    if unknown is None or state["model"].get("byte_fallback"):
        raise lacks("Unigram without an unknown token, or with tokens of single bytes")
    scores = dict(state["model"]["vocab"])
    types = list(tokens.types)
    types[unknown] = TokenType.UNKNOWN
    flags, special = tokens.framed()
    spaces = {
        "add_space_prefix": steps[0].get("prepend_scheme", "always") != "never",
        "remove_extra_whitespaces": merged,
    }
    return Vocabulary(
        "t5",
        "default",
        tokens.texts,
        types,
        scores=[scores.get(text, -10_000.0) for text in tokens.texts],
        flags={**flags, **spaces},
        special={**special, "unknown": unknown},
        characters=characters,
    )
