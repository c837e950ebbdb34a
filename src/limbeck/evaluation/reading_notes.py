"""Notes on texts of a task that a tokenizer cannot read exactly as they stand in the file."""

from collections.abc import Iterator, Sequence

from transformers import PreTrainedTokenizerFast

from ..tokenization.plain_text import count_spelled, plain_tokenizer, spelled_note
from .examples import encode_example, read_example
from .tasks import Example, Task, TaskKind

_WHOLE = 2**31  # tokens: nothing is truncated


def reading_notes(task: Task, tokenizer: PreTrainedTokenizerFast, *, max_length: int) -> list[str]:
    """Notes on texts that spell special tokens, become no token at all, or are not read whole.

    Args:
        task: With its rows.
        tokenizer: Of the model.
        max_length: Tokens of a row that are read at most.
    """
    rows = [*task.train, *task.test]
    notes = spelled_note(task.name, count_spelled(tokenizer, _texts(rows)))
    if task.kind is TaskKind.GENERATION:
        return notes
    empty = [row for row in rows if _loses(row, task, tokenizer)]
    if empty:
        tagged = empty[0].words is not None
        what, then = ("word", "; such a word is tagged O") if tagged else ("text", "")
        notes.append(
            f"{task.name}: of {len(empty):,} of {len(rows):,} rows the tokenizer leaves a {what}"
            f" without any token, first {empty[0].place}{then}"
        )
    return notes + truncation_notes(task.name, rows, tokenizer, max_length=max_length)


def truncation_notes(
    name: str, rows: Sequence[Example], tokenizer: PreTrainedTokenizerFast, *, max_length: int
) -> list[str]:
    """A note on how many rows are longer than what is read of them, or nothing.

    Args:
        name: Of the rows.
        rows: Of a task.
        tokenizer: Of the model.
        max_length: Tokens of a row that are read at most.
    """
    long = [row for row in rows if len(read_example(row, tokenizer, _WHOLE).ids) > max_length]
    if not long:
        return []
    return [
        f"{name}: {len(long):,} of {len(rows):,} rows have more than {max_length} tokens, first"
        f" {long[0].place}; what is beyond is not read: raise max_length if it matters"
    ]


def _texts(rows: list[Example]) -> Iterator[str]:
    for row in rows:
        yield from (row.text or "", row.text_pair or "", *(row.references or ()))
        yield " ".join(row.words or ())


def _loses(row: Example, task: Task, tokenizer: PreTrainedTokenizerFast) -> bool:
    if row.words is not None:
        found = encode_example(row, task, tokenizer, _WHOLE).word_of_token
        return len({word for word in found if word >= 0}) < len(row.words)
    plain = plain_tokenizer(tokenizer)
    texts = [text for text in (row.text, row.text_pair) if text is not None]
    return not all(plain.encode(text, add_special_tokens=False).ids for text in texts)
