"""Tokens that no text ever becomes, because a normalizer takes letters of theirs away.

A vocabulary with capitals whose tokenizer makes all letters small, as transformers does with a
`vocab.txt` that stands alone, loses most of its words, and й becomes и; so do scripts whose vowels
are marks on a letter, as Devanagari and Thai, or that are written with points.
"""

import json
import unicodedata
from pathlib import Path

from tokenizers import decoders
from transformers import PreTrainedTokenizerFast

_ODD = 0.02  # of a vocabulary: a few tokens that are never made are in most of them


def lost_tokens(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The tokens with a letter or mark that the normalizer takes away, special ones apart."""
    backend = tokenizer.backend_tokenizer
    if backend.normalizer is None:
        return []
    apart = {str(token) for token in tokenizer.added_tokens_decoder.values()}
    apart |= {str(token) for token in tokenizer.all_special_tokens}
    tokens = [
        token
        for token in tokenizer.get_vocab()
        if token not in apart and (token[:1], token[-1:]) not in (("[", "]"), ("<", ">"))
    ]
    if isinstance(backend.decoder, decoders.ByteLevel):
        # A single one stands for a byte, which its alphabet always has.
        tokens = [backend.decoder.decode([token]) for token in tokens if len(token) > 1]
    normalize = backend.normalizer.normalize_str
    # Whole tokens, for what becomes of a mark depends on its letter.
    return [token for token in tokens if _letters(normalize(token)) != _letters(token)]


def _letters(text: str) -> str:
    """Its letters and the marks on them: vowel signs, points and accents."""
    return "".join(letter for letter in text if unicodedata.category(letter)[0] in "LM")


def letters_problem(tokenizer: PreTrainedTokenizerFast, name: str) -> str | None:
    """That many tokens of a vocabulary can never be made, and how that is changed; None if few."""
    lost, count = lost_tokens(tokenizer), len(tokenizer)
    if len(lost) <= _ODD * count:
        return None
    capitals = sum(any(letter.isupper() for letter in token) for token in lost) > _ODD * count
    keep = {"do_lower_case": False} if capitals else {"strip_accents": False}
    some = max(lost, key=len)
    read = tokenizer.backend_tokenizer.normalizer.normalize_str(some)
    return (
        f"{len(lost)} of the {count} tokens of {name!r} can never be made, because its tokenizer"
        f" reads {some!r} as {read!r}. To keep these letters, write {json.dumps(keep)} into its"
        " tokenizer_config.json, beside vocab.txt and without a tokenizer.json"
    )


def says_so(tokenizer: PreTrainedTokenizerFast, folder: Path) -> bool:
    """Whether a model's files say what becomes of capitals, and not what transformers assumes."""
    if not folder.is_dir():  # on the hub: where its files were put
        folder = Path(str(tokenizer.init_kwargs.get("vocab_file", ""))).parent
    if (folder / "tokenizer.json").is_file():
        return True
    try:
        said = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(said, dict) and not {"do_lower_case", "strip_accents"}.isdisjoint(said)
