"""The spelling of a token in any notation: its letters, and whether it begins or ends a word."""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import regex
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ..data.words import HAN

# What some tokenizers split off, with a space before it or not, and a text that shows it.
_SPLIT_OFF = ((r"\p{P}!-/:-@\[-`{-~", "a,a"), (HAN, "猫猫"))
_OPENING = regex.compile(r"[\p{Ps}\p{Pi}\p{Sc}#@]")  # most of these have a space before them


class Spelling(NamedTuple):
    """The letters of a token, and whether it begins a word.

    Attributes:
        letters: Without the marks of a notation.
        begins: Where a notation does not mark it, every token may begin a word; but of signs that
            a tokenizer splits off those only before which a space is usual, as "(".
        ends: Whether it ends a word; None where the notation does not say, as most.
    """

    letters: str
    begins: bool
    ends: bool | None = None


def token_of(spelling: Spelling, known: Mapping[Spelling, int]) -> int | None:
    """The token of a spelling, which need not say of the end of a word what the spelling says.

    >>> token_of(Spelling("the", True), {Spelling("the", True, True): 7})
    7
    >>> token_of(Spelling("the", True, False), {Spelling("the", True, True): 7})
    """
    if (number := known.get(spelling)) is not None:
        return number
    letters, begins, ends = spelling
    marks = (True, False) if ends is None else (None,)
    found = (known.get(Spelling(letters, begins, mark)) for mark in marks)
    return next((number for number in found if number is not None), None)


def spellings(tokenizer: PreTrainedTokenizerFast) -> dict[Spelling, int]:
    """The id of every token by its spelling, without special tokens and tokens of single bytes.

    ``##`` marks a token that continues a word, ``▁`` and ``Ġ`` one that begins a word, and
    ``</w>`` one that ends it. ``Ġ`` belongs to an alphabet of bytes, which the tokenizer's decoder
    converts to letters.

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
    suffix = (model.end_of_word_suffix or "") if isinstance(model, models.BPE) else ""
    special = set(tokenizer.all_special_ids)
    of_bytes, decoder = in_bytes(tokenizer), decoders.ByteLevel()
    vocabulary = tokenizer.get_vocab()
    spaces = not prefix and any(token.startswith("▁") for token in vocabulary)
    alone = None if of_bytes or spaces else _split_off(tokenizer.backend_tokenizer)
    found: dict[Spelling, int] = {}
    for token, number in vocabulary.items():
        if number in special or is_lone_byte(token):
            continue
        if of_bytes:
            spelling = _of_bytes(token, decoder)
        else:
            spelling = _of_letters(token, prefix, suffix, spaces=spaces, alone=alone)
        if spelling and spelling.letters:
            found.setdefault(spelling, number)
    return found


def unspelled(
    tokenizer: PreTrainedTokenizerFast, known: Mapping[Spelling, int] | None = None
) -> dict[str | bytes | Spelling, int]:
    """The id of every token without a spelling, by what it stands for in any notation.

    That is the name of a special token, the bytes of one that is not made of whole letters, and
    the spelling without letters of one that marks the beginning of a word alone.

    >>> from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer
    >>> blank = blank_tokenizer("bytes", lowercase=False)
    >>> found = unspelled(learn_tokenizer(["the house"] * 9, blank, vocab_size=262))
    >>> [key in found for key in ("</s>", bytes([0xD0]), Spelling("", True), Spelling("e", False))]
    [True, True, True, False]

    Args:
        tokenizer: Of any kind.
        known: Its `spellings`, where they are known already.
    """
    known = spellings(tokenizer) if known is None else known
    special, with_spelling = set(tokenizer.all_special_ids), set(known.values())
    of_bytes = in_bytes(tokenizer)
    values = _bytes_of_alphabet() if of_bytes else {}
    found: dict[str | bytes | Spelling, int] = {}
    for token, number in tokenizer.get_vocab().items():
        if number in special:
            found[token] = number
        elif is_lone_byte(token):
            found[bytes.fromhex(token[3:5])] = number
        elif number in with_spelling:
            continue
        elif token == ("Ġ" if of_bytes else "▁"):
            found[Spelling("", True)] = number
        elif values.keys() >= set(token):
            found[bytes(values[letter] for letter in token)] = number
    return found


def tokens_of_bytes(tokenizer: PreTrainedTokenizerFast, some: bytes) -> list[int]:
    """The tokens of bytes that need not be whole letters; of a notation in letters, those it has.

    >>> from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer
    >>> blank = blank_tokenizer("bytes", lowercase=False)
    >>> mine = learn_tokenizer(["the house"] * 9, blank, vocab_size=262)
    >>> mine.convert_ids_to_tokens(tokens_of_bytes(mine, b"the" + bytes([0xD0])))
    ['t', 'he', 'Ð']
    """
    backend = tokenizer.backend_tokenizer
    if in_bytes(tokenizer):
        return [token.id for token in backend.model.tokenize(_in_alphabet(some))]
    found = (backend.token_to_id(f"<0x{number:02X}>") for number in some)
    return [number for number in found if number is not None]


def spelled_in_bytes(
    tokenizer: PreTrainedTokenizerFast, some: bytes, *, begins: bool = False
) -> list[int]:
    """The tokens of all bytes; empty where one has no token.

    >>> from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer
    >>> blank = blank_tokenizer("bytes", lowercase=False)
    >>> mine = learn_tokenizer(["the house"] * 9, blank, vocab_size=262)
    >>> mine.convert_ids_to_tokens(spelled_in_bytes(mine, "й".encode(), begins=True))
    ['Ġ', 'Ð', '¹']

    Args:
        tokenizer: Of any kind; only some have bytes.
        some: They need not be whole letters.
        begins: Put the mark of a word's beginning before them, where it is a token.
    """
    if in_bytes(tokenizer):
        some = b" " + some if begins else some
        found = tokens_of_bytes(tokenizer, some)
        is_whole = "".join(tokenizer.convert_ids_to_tokens(found)) == _in_alphabet(some)
        return found if is_whole else []
    found = tokens_of_bytes(tokenizer, some)
    if len(found) < len(some):
        return []
    mark = tokenizer.backend_tokenizer.token_to_id("▁") if begins else None
    return found if mark is None else [mark, *found]


def in_bytes(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether tokens are written in the alphabet of bytes: what splits a text, or decodes, says so.

    Either may be one step of several, and some tokenizers were saved without a decoder.
    """
    backend = tokenizer.backend_tokenizer
    steps = (backend.decoder, backend.pre_tokenizer, backend.normalizer)
    return any(b'"ByteLevel"' in step.__getstate__() for step in steps if step is not None)


def _in_alphabet(some: bytes) -> str:
    letters = {number: letter for letter, number in _bytes_of_alphabet().items()}
    return "".join(letters[number] for number in some)


@lru_cache(maxsize=1)
def _bytes_of_alphabet() -> dict[str, int]:
    """The byte that each letter of the alphabet of bytes stands for.

    A byte that is a visible letter is that letter, and the others have letters from 256 on, in
    their order.
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    own = [ord(letter) for letter in letters if ord(letter) < 256]
    others = sorted({*range(256)}.difference(own))
    return dict(zip(letters, [*own, *others], strict=True))


def is_lone_byte(token: str) -> bool:
    """Whether a token stands for a single byte, e.g. ``<0x0A>``."""
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def _of_bytes(token: str, decoder: decoders.ByteLevel) -> Spelling | None:
    letters: str = decoder.decode([token])
    if "\ufffd" in letters:
        return None  # only some bytes of a letter
    return Spelling(letters.removeprefix(" "), letters.startswith(" "))


def _of_letters(
    token: str, prefix: str, suffix: str, *, spaces: bool, alone: regex.Pattern[str] | None
) -> Spelling:
    ends = token.endswith(suffix) if suffix else None
    token = token.removesuffix(suffix)
    if spaces:
        return Spelling(token.removeprefix("▁"), token.startswith("▁"), ends)
    letters = token.removeprefix(prefix)
    begins = letters == token
    if alone and alone.fullmatch(letters):
        if not begins:  # it continues no word, so that text never has it
            return Spelling(token, False, ends)
        begins = _OPENING.match(letters) is not None
    return Spelling(letters, begins, ends)


def _split_off(tokenizer: Tokenizer) -> regex.Pattern[str] | None:
    """The tokens that a tokenizer splits off; None where it splits off nothing."""
    normalizer, splits = tokenizer.normalizer, tokenizer.pre_tokenizer
    found = ""
    for letters, text in _SPLIT_OFF if splits else ():
        read = normalizer.normalize_str(text) if normalizer else text
        if len(splits.pre_tokenize_str(read)) == len(text):
            found += letters
    return regex.compile(f"[{found}]+") if found else None
