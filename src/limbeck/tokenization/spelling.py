"""The spelling of a token in any notation: its letters, and whether it begins a word."""

from typing import NamedTuple

from tokenizers import decoders, models
from transformers import PreTrainedTokenizerFast


class Spelling(NamedTuple):
    """The letters of a token, and whether it begins a word."""

    letters: str
    begins: bool


def spellings(tokenizer: PreTrainedTokenizerFast) -> dict[Spelling, int]:
    """The id of every token by its spelling, without special tokens and tokens of single bytes.

    ``##`` marks a token that continues a word, ``▁`` and ``Ġ`` one that begins a word. ``Ġ``
    belongs to an alphabet of bytes, which the tokenizer's decoder converts to letters.

    >>> from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer
    >>> text = ["the house"] * 9
    >>> blank = blank_tokenizer("wordpiece", lowercase=True)
    >>> found = spellings(learn_tokenizer(text, blank, vocab_size=22))
    >>> [Spelling(*s) in found for s in (("the", True), ("e", False), ("[CLS]", True))]
    [True, True, False]
    """
    model = tokenizer.backend_tokenizer.model
    in_parts = isinstance(model, models.WordPiece | models.BPE)
    prefix = (model.continuing_subword_prefix or "") if in_parts else ""
    special = set(tokenizer.all_special_ids)
    in_bytes = isinstance(tokenizer.backend_tokenizer.decoder, decoders.ByteLevel)
    decoder = decoders.ByteLevel()
    found: dict[Spelling, int] = {}
    for token, number in tokenizer.get_vocab().items():
        if number in special or is_lone_byte(token):
            continue
        spelling = _of_bytes(token, decoder) if in_bytes else _of_letters(token, prefix)
        if spelling and spelling.letters:
            found.setdefault(spelling, number)
    return found


def is_lone_byte(token: str) -> bool:
    """Whether a token stands for a single byte, e.g. ``<0x0A>``."""
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def _of_bytes(token: str, decoder: decoders.ByteLevel) -> Spelling | None:
    letters: str = decoder.decode([token])
    if "\ufffd" in letters:
        return None  # only some bytes of a letter
    return Spelling(letters.removeprefix(" "), letters.startswith(" "))


def _of_letters(token: str, prefix: str) -> Spelling:
    if prefix:
        return Spelling(token.removeprefix(prefix), not token.startswith(prefix))
    return Spelling(token.removeprefix("▁"), token.startswith("▁"))
