"""Whether a recipe's text and prompts are enough: rows to learn from, and others to measure on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice

from ..data.corpus import held_out_below, split_documents
from ..data.prompts import read_prompts
from ..data.rows import path_of
from ..data.text import read_documents
from ..errors import Problem
from ..tokenization.frame import frame_of
from ..tokenization.plain_text import plain_tokenizer
from ..training.stage import Stage
from .schema import DataPart
from .sides import Models

_CHARACTERS_A_TOKEN = 16  # no text has more; so much of a long document is enough to count tokens


@dataclass(frozen=True)
class _Rows:
    """Documents or prompts that are split together.

    Attributes:
        field: That names them.
        name: For messages.
        read: All, from the start.
        share: Held out, as the recipe has it.
        kind: What one of them is called.
    """

    field: str
    name: str
    read: Callable[[], Iterator[str]]
    share: float
    kind: str

    def side(self, *, held_out: bool) -> Iterator[str]:
        """Those that are held out, or all others."""
        below = held_out_below(self.read(), share=self.share)
        return split_documents(self.read(), below=below, held_out=held_out)


def amount_problems(models: Models, data: DataPart) -> list[Problem]:
    """Texts and prompts of which nothing is left to learn from, or nothing is held out."""
    return [problem for rows in _all_rows(data) if (problem := _problem(models, rows))]


def amount_warnings(models: Models, data: DataPart, stages: Sequence[Stage]) -> list[str]:
    """What is so little that the held-out share does not hold, or a step reads it several times."""
    every = _all_rows(data)
    found = []
    for rows in every:
        asked = held_out_below([], share=rows.share)
        if (below := held_out_below(rows.read(), share=rows.share)) != asked:
            side = "one is held out" if below > asked else "one is learned from"
            none = "none" if below > asked else "all"
            found.append(
                f"{rows.field}: a held_out.fraction of {rows.share:g} takes {none} of the few"
                f" {rows.kind}s of {rows.name}, so {side} all the same; figures of so little text"
                " say little"
            )
    for number, stage in enumerate(stages):
        if stage.rows:
            continue
        of_prompts = stage.policy is not None
        mine = [rows for rows in every if (rows.kind == "prompt") == of_prompts]
        size = stage.batch_size
        if of_prompts:
            count = sum(len(_some(rows, size)) for rows in mine)
            what = "prompt to learn from" if count == 1 else "prompts to learn from"
        else:
            count = sum(_sequences(models, data, rows, size) for rows in mine)
            what = f"training sequence{'' if count == 1 else 's'} of {data.max_length} tokens"
        if count < size:
            shorter = "" if of_prompts else " or a smaller `max_length`,"
            are = "is" if count == 1 else "are"
            found.append(
                f"stages.{number}: a step reads {size} rows and there {are} {count} {what}, so that"
                f" it reads the same ones again; give more,{shorter} or a smaller `batch_size`"
            )
    return found


def _all_rows(data: DataPart) -> list[_Rows]:
    share = data.held_out.fraction
    found = [
        _Rows(f"data.text.{n}", source.path, partial(read_documents, source), share, "document")
        for n, source in enumerate(data.text)
    ]
    if data.prompts:
        name = ", ".join(map(path_of, data.prompts))
        found.append(_Rows("data.prompts", name, partial(_prompts, data), share, "prompt"))
    return found


def _prompts(data: DataPart) -> Iterator[str]:
    return (row.identity for row in chain.from_iterable(map(read_prompts, data.prompts)))


def _problem(models: Models, rows: _Rows) -> Problem | None:
    for held_out in (True, False):
        side = rows.side(held_out=held_out)
        first = next(side, None)
        doing = "be held out" if held_out else "be learned from"
        if first is None:
            count = sum(1 for _ in rows.read())
            alike = ", all the same" if count > 1 else ""
            message = (
                f"{rows.name} holds {count} {rows.kind}(s){alike}; one has to be held out and"
                " another learned from: give two that differ, or more"
            )
            lines = "; of a txt file, every line is a document" if rows.kind == "document" else ""
            return rows.field, message + lines
        if rows.kind == "prompt":
            continue  # the end of an answer is a token, whatever it says
        if not any(_tokens(models, text) for text in chain([first], side)):
            message = (
                f"{rows.name}: the documents that are to {doing} hold no token of the student's"
                f" tokenizer (the first: {first!r:.60}); give more text"
            )
            return rows.field, message
    return None


def _sequences(models: Models, data: DataPart, rows: _Rows, most: int) -> int:
    """About how many sequences are learned from; no more than ``most`` are counted."""
    frame = frame_of(models.student.tokenizer)
    room = data.max_length - len(frame.first) - len(frame.last)
    enough = most * room * _CHARACTERS_A_TOKEN
    counts = (_tokens(models, text[:enough]) for text in rows.side(held_out=False))
    if not data.packing:
        return sum(1 for _ in islice(filter(None, counts), most))
    tokens = 0
    for count in counts:
        tokens += count + 1
        if tokens > most * room:
            return most
    return max(1, tokens // room)


def _some(rows: _Rows, most: int) -> list[str]:
    return list(islice(rows.side(held_out=False), most))


def _tokens(models: Models, text: str) -> int:
    return len(plain_tokenizer(models.student.tokenizer).encode(text, add_special_tokens=False).ids)
