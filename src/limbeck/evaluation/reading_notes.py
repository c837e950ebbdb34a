"""Notes on texts of a task that a tokenizer cannot read exactly as they stand in the file."""

from collections.abc import Iterator, Sequence

from transformers import PreTrainedTokenizerFast

from ..tokenization.plain_text import count_spelled, plain_tokenizer, spelled_note
from .examples import read_example
from .tasks import Example, Task, TaskKind

_WHOLE = 2**31  # tokens: nothing is truncated


def reading_notes(
    task: Task,
    tokenizer: PreTrainedTokenizerFast,
    *,
    max_length: int,
    positions: int | None = None,
) -> list[str]:
    """Notes on texts that spell special tokens, become no token at all, or are not read whole.

    Args:
        task: With its rows.
        tokenizer: Of the model.
        max_length: Tokens of a row that are to be read at most.
        positions: Tokens that the model can read at most; None where that is not known.
    """
    rows = [*task.train, *task.test]
    notes = spelled_note(task.name, count_spelled(tokenizer, _texts(rows)))
    if task.kind is TaskKind.GENERATION:
        return notes
    tagged = task.kind in (TaskKind.TAGGING, TaskKind.JOINT)
    notes += empty_notes(task.name, rows, tokenizer, tagged=tagged)
    return notes + truncation_notes(
        task.name, rows, tokenizer, max_length=max_length, positions=positions
    )


def empty_notes(
    name: str, rows: Sequence[Example], tokenizer: PreTrainedTokenizerFast, *, tagged: bool
) -> list[str]:
    """A note on how many rows have a text, or a word that is tagged, without any token.

    Args:
        name: Of the rows.
        rows: Of a task.
        tokenizer: Of the model.
        tagged: Whether something is said of each word.
    """
    empty = [row for row in rows if _loses(row, tokenizer, tagged=tagged)]
    if not empty:
        return []
    what, then = ("word", "; such a word is tagged O") if tagged else ("text", "")
    return [
        f"{name}: of {len(empty):,} of {len(rows):,} rows the tokenizer leaves a {what} without any"
        f" token, first {empty[0].place}{then}"
    ]


def truncation_notes(
    name: str,
    rows: Sequence[Example],
    tokenizer: PreTrainedTokenizerFast,
    *,
    max_length: int,
    positions: int | None = None,
    whose: str = "the model",
) -> list[str]:
    """A note on how many rows are longer than what is read of them, or nothing.

    Args:
        name: Of the rows.
        rows: Of a task.
        tokenizer: Of the model.
        max_length: Tokens of a row that are to be read at most.
        positions: Tokens that the model can read at most; None where that is not known.
        whose: Who reads them.
    """
    limit = max_length if positions is None else min(max_length, positions)
    long = [row for row in rows if len(read_example(row, tokenizer, _WHOLE).ids) > limit]
    if not long:
        return []
    then = "raise max_length if it matters" if limit == max_length else f"{whose} reads no more"
    return [
        f"{name}: {len(long):,} of {len(rows):,} rows have more than {limit} tokens, first"
        f" {long[0].place}; what is beyond is not read: {then}"
    ]


def _texts(rows: list[Example]) -> Iterator[str]:
    for row in rows:
        yield from (row.text or "", row.text_pair or "", *(row.references or ()))
        yield " ".join(row.words or ())


def _loses(row: Example, tokenizer: PreTrainedTokenizerFast, *, tagged: bool) -> bool:
    if tagged and row.words is not None:
        return len(set(read_example(row, tokenizer, _WHOLE).words)) < len(row.words)
    plain = plain_tokenizer(tokenizer)
    text = row.text if row.words is None else " ".join(row.words)
    texts = [text for text in (text, row.text_pair) if text is not None]
    return not all(plain.encode(text, add_special_tokens=False).ids for text in texts)
