"""A tokenizer with fewer of its own pieces: those that a corpus uses most.

Every piece that stays is cut, normalised and written as before, so what stays can keep its
row of the teacher's embeddings; a word whose pieces all stay is cut as before. Kept whatever
their number are special tokens, letters and bytes, so that no text becomes unknown that was known.

Source: the idea of Abdaoui et al. 2020, Load What You Need, arXiv:2010.05609.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from ..errors import DataError
from .learn import as_transformers
from .merging import Merging, merge_pairs
from .plain_text import plain_tokenizer
from .spelling import is_lone_byte

_AT_ONCE = 1000


def count_pieces(tokenizer: PreTrainedTokenizerFast, documents: Iterable[str]) -> Counter[str]:
    """How often the documents use each piece; special tokens are not added."""
    counts: Counter[int] = Counter()
    rest = iter(documents)
    while batch := list(islice(rest, _AT_ONCE)):
        for found in plain_tokenizer(tokenizer).encode_batch(batch, add_special_tokens=False):
            counts.update(found.ids)
    names = {number: piece for piece, number in tokenizer.get_vocab().items()}
    return Counter({names[number]: times for number, times in counts.items()})


def trimmed_tokenizer(
    tokenizer: PreTrainedTokenizerFast,
    counts: Mapping[str, int],
    *,
    size: int | None = None,
    share: float | None = None,
) -> PreTrainedTokenizerFast:
    """The tokenizer with fewer pieces, in the order that they had.

    Args:
        tokenizer: WordPiece, BPE or Unigram.
        counts: Uses of each piece; those used most stay. With BPE a piece that stays
            keeps those that it is really merged from, whatever other merges lead to it.
        size: Pieces, special tokens included; or give ``share``.
        share: As few stay as make up this share of all uses, and what must stay beside.

    Raises:
        DataError: The size is larger than the vocabulary or smaller than what must
            stay, or the tokenizer is of a kind that cannot be trimmed.
    """
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    model, numbers = settings["model"], tokenizer.get_vocab()
    if model["type"] not in ("WordPiece", "BPE", "Unigram"):
        raise DataError(f"a {model['type']} tokenizer cannot be trimmed; learn a new one")
    most = len(numbers) if size is None else size
    if not 0 < most <= len(numbers):
        raise DataError(f"{most} pieces are asked for of {len(numbers)}; ask for fewer")
    merging = Merging(model) if model["type"] == "BPE" else None
    kept: set[str] = set()
    for piece in _must_stay(settings, numbers):
        kept |= _needed(piece, merging)
    if len(kept) > most:
        raise DataError(
            f"{most} pieces are asked for, but special tokens, letters and bytes are already"
            f" {len(kept)}; ask for more, or learn a new vocabulary"
        )
    uses, enough = 0, sum(counts.values()) * (1.0 if share is None else share)

    def order(piece: str) -> tuple[int, bool, int]:
        never = merging is not None and not merging.made_of(piece)
        return -counts.get(piece, 0), never, numbers[piece]

    for piece in sorted(numbers, key=order):
        if size is None and uses >= enough:
            break
        uses += counts.get(piece, 0)
        if len(more := _needed(piece, merging) - kept) <= most - len(kept):
            kept |= more
    return _rebuilt(tokenizer, settings, _numbered(kept, model, numbers))


@dataclass(frozen=True)
class Proof:
    """What a text shows of a trimmed tokenizer: words whose pieces all stay are cut as before.

    Attributes:
        words: Different words of the text, at white space.
        all_stay: Of them, those whose pieces all stay.
        cut_otherwise: Of these, those that are cut otherwise all the same.
        lost: Pieces that stay, and that no word of the text is cut into any more.
    """

    words: int
    all_stay: int
    cut_otherwise: tuple[str, ...]
    lost: tuple[str, ...]


def prove(
    tokenizer: PreTrainedTokenizerFast, trimmed: PreTrainedTokenizerFast, documents: Iterable[str]
) -> Proof:
    """How the words of some documents are cut before and after; the documents are read once."""
    words = sorted({word for document in documents for word in document.split()})
    before, after = (
        [encoded.tokens for encoded in encode(words, add_special_tokens=False)]
        for encode in (t.backend_tokenizer.encode_batch for t in (tokenizer, trimmed))
    )
    kept = trimmed.get_vocab().keys()
    stays = [kept >= set(pieces) for pieces in before]
    otherwise = [
        word
        for word, stay, old, new in zip(words, stays, before, after, strict=True)
        if stay and old != new
    ]
    used, still = ({piece for pieces in cut for piece in pieces} for cut in (before, after))
    lost = sorted((used & kept) - still)
    return Proof(len(words), sum(stays), tuple(otherwise), tuple(lost))


def _must_stay(settings: Mapping[str, Any], numbers: Mapping[str, int]) -> Iterator[str]:
    """Special tokens, single letters however they stand, bytes, and what the unknown costs."""
    model = settings["model"]
    suffix = model.get("end_of_word_suffix") or ""
    yield from (token["content"] for token in settings["added_tokens"])
    unknown = model.get("unk_token") or (
        model["vocab"][model["unk_id"]][0] if model.get("unk_id") is not None else None
    )
    prefix = model.get("continuing_subword_prefix") or ""
    for piece in numbers:
        plain = piece.removeprefix(prefix).removesuffix(suffix)
        if len(plain) == 1 or is_lone_byte(piece) or piece == unknown:
            yield piece
    if model["type"] == "Unigram":
        # What is unknown costs so much more than this one: without it, it would cost less.
        yield min(model["vocab"], key=itemgetter(1))[0]


def _needed(piece: str, merging: Merging | None) -> frozenset[str]:
    """A piece with all that must stay for it to be made."""
    made = merging.made_of(piece) if merging else frozenset[str]()
    return made or frozenset({piece})  # a whole word may be a piece that no merges lead to


def _numbered(
    kept: set[str], model: Mapping[str, Any], numbers: Mapping[str, int]
) -> dict[str, int]:
    """New ids in the old order; added tokens stand behind the model's, where they are loaded."""
    pieces = model["vocab"]
    inside = {name for name, _ in pieces} if model["type"] == "Unigram" else pieces.keys()
    order = sorted(kept, key=lambda piece: (piece not in inside, numbers[piece]))
    return {piece: number for number, piece in enumerate(order)}


def _rebuilt(
    tokenizer: PreTrainedTokenizerFast, settings: dict[str, Any], numbers: Mapping[str, int]
) -> PreTrainedTokenizerFast:
    model = settings["model"]
    if model["type"] == "Unigram":
        entries = [entry for entry in model["vocab"] if entry[0] in numbers]
        if model["unk_id"] is not None:
            unknown = model["vocab"][model["unk_id"]][0]
            model["unk_id"] = [name for name, _ in entries].index(unknown)
        model["vocab"] = entries
    else:
        inside = model["vocab"].keys()
        model["vocab"] = {piece: n for piece, n in numbers.items() if piece in inside}
    if model["type"] == "BPE":
        joined = Merging(model).joined
        model["merges"] = [
            pair for pair in merge_pairs(model) if {*pair, joined(*pair)} <= model["vocab"].keys()
        ]
    if padding := settings.get("padding"):
        padding["pad_id"] = numbers[padding["pad_token"]]
    for token in settings["added_tokens"]:
        token["id"] = numbers[token["content"]]
    _renumber_processor(settings["post_processor"], numbers)
    return as_transformers(Tokenizer.from_str(json.dumps(settings)), like=tokenizer)


def _renumber_processor(processor: dict[str, Any] | None, numbers: Mapping[str, int]) -> None:
    for part in (processor or {}).get("processors", ()):
        _renumber_processor(part, numbers)
    for token in (processor or {}).get("special_tokens", {}).values():
        token["ids"] = [numbers[name] for name in token["tokens"]]
    for end in ("sep", "cls"):  # of BertProcessing and RobertaProcessing
        if processor and end in processor:
            processor[end] = (processor[end][0], numbers[processor[end][0]])
