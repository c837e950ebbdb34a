"""What a token stands for, whatever the notation: its letters, and if a word begins with them."""

import json
from typing import NamedTuple

from tokenizers import decoders
from transformers import PreTrainedTokenizerFast


class Spelling(NamedTuple):
    """Letters of a token, and whether it begins a word."""

    letters: str
    begins: bool


def spellings(tokenizer: PreTrainedTokenizerFast) -> dict[Spelling, int]:
    """The number of every token by what it stands for; special tokens and lone bytes are left out.

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
    for token, number in tokenizer.get_vocab().items():
        if number in special or is_lone_byte(token):
            continue
        spelling = _of_bytes(token) if in_bytes else _of_letters(token, model)
        if spelling and spelling.letters:
            found.setdefault(spelling, number)
    return found


def is_lone_byte(token: str) -> bool:
    """Whether a token stands for one byte of a letter that is in no other token, as ``<0x0A>``."""
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def _of_bytes(token: str) -> Spelling | None:
    letters: str = decoders.ByteLevel().decode([token])
    if "\ufffd" in letters:
        return None  # a part of a letter
    return Spelling(letters.removeprefix(" "), letters.startswith(" "))


def _of_letters(token: str, model: dict[str, object]) -> Spelling:
    prefix = model.get("continuing_subword_prefix")
    if isinstance(prefix, str) and prefix:
        return Spelling(token.removeprefix(prefix), not token.startswith(prefix))
    return Spelling(token.removeprefix("▁"), token.startswith("▁"))
