"""What a piece stands for, whatever the notation: its letters, and if a word begins with them."""

import json
from typing import NamedTuple

from tokenizers import decoders
from transformers import PreTrainedTokenizerFast


class Spelling(NamedTuple):
    """Letters of a piece, and whether it begins a word."""

    letters: str
    begins: bool


def spellings(tokenizer: PreTrainedTokenizerFast) -> dict[Spelling, int]:
    """The number of every piece by what it stands for; special tokens and lone bytes are left out.

    ``##`` marks what goes on, ``▁`` and ``Ġ`` what begins; ``Ġ`` belongs to an alphabet of
    bytes, whose letters the tokenizer's own decoder gives.

    >>> from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer
    >>> text = ["the house"] * 9
    >>> cut = learn_tokenizer(text, blank_tokenizer("wordpiece", lowercase=True), size=22)
    >>> found = spellings(cut)
    >>> [Spelling(*s) in found for s in (("the", True), ("e", False), ("[CLS]", True))]
    [True, True, False]
    """
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    special = set(tokenizer.all_special_ids)
    in_bytes = isinstance(tokenizer.backend_tokenizer.decoder, decoders.ByteLevel)
    found: dict[Spelling, int] = {}
    for piece, number in tokenizer.get_vocab().items():
        if number in special or is_lone_byte(piece):
            continue
        spelling = _of_bytes(piece) if in_bytes else _of_letters(piece, model)
        if spelling and spelling.letters:
            found.setdefault(spelling, number)
    return found


def is_lone_byte(piece: str) -> bool:
    """Whether a piece stands for one byte of a letter that is in no other piece, as ``<0x0A>``."""
    return len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")


def _of_bytes(piece: str) -> Spelling | None:
    letters: str = decoders.ByteLevel().decode([piece])
    if "\ufffd" in letters:
        return None  # a part of a letter
    return Spelling(letters.removeprefix(" "), letters.startswith(" "))


def _of_letters(piece: str, model: dict[str, object]) -> Spelling:
    prefix = model.get("continuing_subword_prefix")
    if isinstance(prefix, str) and prefix:
        return Spelling(piece.removeprefix(prefix), not piece.startswith(prefix))
    return Spelling(piece.removeprefix("▁"), piece.startswith("▁"))
