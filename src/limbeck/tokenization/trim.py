"""A tokenizer with fewer of its own pieces: those that a corpus uses most.

Every piece that stays is cut, normalised and written as before, so what stays can keep its
row of the teacher's embeddings. Kept whatever their number are special tokens, letters and
bytes, so that no text becomes unknown that was known.

Source: the idea of Abdaoui et al. 2020, Load What You Need, arXiv:2010.05609.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from ..errors import DataError
from .learn import as_transformers
from .spelling import is_lone_byte

_AT_ONCE = 1000


def count_pieces(tokenizer: PreTrainedTokenizerFast, documents: Iterable[str]) -> Counter[str]:
    """How often the documents use each piece; special tokens are not added."""
    counts: Counter[int] = Counter()
    rest = iter(documents)
    while batch := list(islice(rest, _AT_ONCE)):
        for pieces in tokenizer(batch, add_special_tokens=False, verbose=False)["input_ids"]:
            counts.update(pieces)
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
            keeps those that it is merged from.
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
    parents = _parents(model)
    kept: set[str] = set()
    for piece in _must_stay(settings, numbers):
        kept |= _with_parents(piece, parents)
    if len(kept) > most:
        raise DataError(
            f"{most} pieces are asked for, but special tokens, letters and bytes are already"
            f" {len(kept)}; ask for more, or learn a new vocabulary"
        )
    uses, enough = 0, sum(counts.values()) * (1.0 if share is None else share)
    for piece in sorted(numbers, key=lambda piece: (-counts.get(piece, 0), numbers[piece])):
        if size is None and uses >= enough:
            break
        uses += counts.get(piece, 0)
        more = _with_parents(piece, parents) - kept
        if len(kept) + len(more) <= most:
            kept |= more
    order = sorted(kept, key=numbers.__getitem__)
    return _rebuilt(tokenizer, settings, {piece: number for number, piece in enumerate(order)})


def _must_stay(settings: Mapping[str, Any], numbers: Mapping[str, int]) -> Iterator[str]:
    """Special tokens, single letters however they stand, and bytes."""
    model = settings["model"]
    yield from (token["content"] for token in settings["added_tokens"])
    unknown = model.get("unk_token") or (
        model["vocab"][model["unk_id"]][0] if model.get("unk_id") is not None else None
    )
    prefix = model.get("continuing_subword_prefix") or ""
    for piece in numbers:
        plain = piece.removeprefix(prefix) if prefix else piece
        if len(plain) == 1 or is_lone_byte(piece) or piece == unknown:
            yield piece


def _parents(model: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What each piece of BPE is first merged from; nothing for other kinds."""
    found: dict[str, tuple[str, str]] = {}
    prefix = model.get("continuing_subword_prefix") or ""
    for left, right in model.get("merges", ()):
        found.setdefault(left + right.removeprefix(prefix), (left, right))
    return found


def _with_parents(piece: str, parents: Mapping[str, tuple[str, str]]) -> set[str]:
    found, open_ = set(), [piece]
    while open_:
        found.add(now := open_.pop())
        open_ += [parent for parent in parents.get(now, ()) if parent not in found]
    return found


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
        prefix = model.get("continuing_subword_prefix") or ""
        model["merges"] = [
            (left, right)
            for left, right in model["merges"]
            if {left, right, left + right.removeprefix(prefix)} <= numbers.keys()
        ]
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
