"""The spelling of a token in any notation: its letters, and whether it begins a word."""

from typing import NamedTuple

from tokenizers import decoders, models, pre_tokenizers
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


def unspelled(tokenizer: PreTrainedTokenizerFast) -> dict[str | bytes | Spelling, int]:
    """The id of every token without a spelling, by what it stands for in any notation.

    That is the name of a special token, the bytes of one that is not made of whole letters, and
    the spelling without letters of one that marks the beginning of a word alone.

    >>> from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer
    >>> blank = blank_tokenizer("bytes", lowercase=False)
    >>> found = unspelled(learn_tokenizer(["the house"] * 9, blank, vocab_size=262))
    >>> [key in found for key in ("</s>", bytes([0xD0]), Spelling("", True), Spelling("e", False))]
    [True, True, True, False]
    """
    special, with_spelling = set(tokenizer.all_special_ids), set(spellings(tokenizer).values())
    in_bytes = isinstance(tokenizer.backend_tokenizer.decoder, decoders.ByteLevel)
    values = _bytes_of_alphabet() if in_bytes else {}
    found: dict[str | bytes | Spelling, int] = {}
    for token, number in tokenizer.get_vocab().items():
        if number in special:
            found[token] = number
        elif is_lone_byte(token):
            found[bytes.fromhex(token[3:5])] = number
        elif number in with_spelling:
            continue
        elif token == ("Ġ" if in_bytes else "▁"):
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
    if isinstance(tokenizer.backend_tokenizer.decoder, decoders.ByteLevel):
        letters = {number: letter for letter, number in _bytes_of_alphabet().items()}
        found = tokenizer.backend_tokenizer.model.tokenize("".join(letters[n] for n in some))
        return [token.id for token in found]
    vocabulary = tokenizer.get_vocab()
    names = (f"<0x{number:02X}>" for number in some)
    return [vocabulary[name] for name in names if name in vocabulary]


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


def _of_letters(token: str, prefix: str) -> Spelling:
    if prefix:
        return Spelling(token.removeprefix(prefix), not token.startswith(prefix))
    return Spelling(token.removeprefix("▁"), token.startswith("▁"))
