"""Real texts to compare a file with its model on: rows of a run or a task, its text, or novels."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from ..data.text import TextSource, read_documents
from ..errors import LimbeckError
from ..evaluation.tasks import Example
from ..recipe.task_rows import TaskRows, rows_of
from ..run.claim import recipe_of_run
from .scores import ScoredTasks
from .source import Source

_NOVELS = Path(__file__).parents[1] / "demo" / "novels.txt.gz"
_ROWS, _OF_VOCABULARY = 256, 48  # texts; fewer where every token has a whole vocabulary
_FEWEST = 32  # texts; where fewer are found in one place, others are added
_CALIBRATED = 128  # texts that ranges are read off
_FEWEST_WORDS = 4  # of a line of a novel
_MOST_LETTERS = 600  # of a document; whole ones may need more memory than was trained with
_LINES = 2 * (_ROWS + _CALIBRATED)  # some are the same
_Said = tuple[str | None, str | None, tuple[str, ...] | None]
_Place = tuple[Sequence[Example], str, str]  # rows, what one of them is, and whose


def real_texts(source: Source, named: ScoredTasks) -> tuple[list[Example], str]:
    """Rows without regard to their labels, and a sentence about where they are from.

    The rows that a run held out; else scored rows of a named task; else documents of the text that
    a run has learned from, which are in its language; else lines of the demo's text. Where these
    are few, the next ones are added, training rows before documents: one text does not show that a
    file says what its model says.

    Args:
        source: The model, whose name may be that of a run folder.
        named: What it is scored on.
    """
    most = _OF_VOCABULARY if source.kind in ("masked", "causal") else _ROWS
    found: list[Example] = []
    places: list[str] = []
    for rows, what, whose in _rows_by_place(source, named, most):
        known = {_said(row) for row in found}
        wanted = most if not found else _FEWEST - len(found)
        added = _evenly([row for row in rows if _said(row) not in known], wanted)
        if added:
            found += added
            places.append(f"{len(added)} {what}{'' if len(added) == 1 else 's'} {whose}")
        if len(found) >= _FEWEST:
            break
    *others, last = places
    return found, " and ".join([*([", ".join(others)] if others else []), last])


def _rows_by_place(source: Source, named: ScoredTasks, most: int) -> Iterator[_Place]:
    """Rows to compare on, those that say most of the model first.

    Half of what was learned from is left, to read ranges off.
    """
    of_run = _rows_of_run(source.name)
    if of_run:
        yield of_run.held_out, "row", "that the run held out"
    for task in named.tasks:
        yield task.test, "scored row", f"of {task.name}"
    for pairs in named.similarity:
        for texts in (pairs.left, pairs.right):
            yield [Example(text=text) for text in texts], "text", f"of {pairs.name}"
    if of_run:
        yield of_run.train[::2], "row", "that the run learned from"
    for task in named.tasks:
        yield task.train[::2], "training row", f"of {task.name}"
    yield _documents_of_run(source)[::2], "document", "of the run's text"
    yield _lines(source)[:most], "line", "of the demo's English novels"


def calibration_texts(
    source: Source, named: ScoredTasks, *, compared: Sequence[Example]
) -> list[Example]:
    """Rows that ranges of activations are read off, none of which is scored or compared.

    Training rows of the run; else of a named task; else documents of the run's text; else lines of
    the demo's.

    Args:
        source: The model, whose name may be that of a run folder.
        named: What it is scored on.
        compared: Rows on which files are compared with the model.
    """
    scored = {_said(row) for row in compared}
    scored |= {_said(row) for task in named.tasks for row in task.test}
    scored |= {
        (text, None, None) for pairs in named.similarity for text in (*pairs.left, *pairs.right)
    }
    of_run = _rows_of_run(source.name)
    learned = [of_run.train if of_run else (), *(task.train for task in named.tasks)]
    for rows in (*learned, _documents_of_run(source)):
        if others := [row for row in rows if _said(row) not in scored]:
            return _evenly(others, _CALIBRATED)
    return _evenly([row for row in _lines(source) if _said(row) not in scored], _CALIBRATED)


def _said(row: Example) -> _Said:
    """What a row says, whatever is known of it."""
    return row.text, row.text_pair, row.words


def _lines(source: Source) -> list[Example]:
    """Lines of the demo's text, to compare and to read ranges off."""
    lines = read_documents(TextSource(str(_NOVELS)))
    long_enough = (line for line in lines if len(line.split()) >= _FEWEST_WORDS)
    return _as_rows(source, islice(long_enough, _LINES))


def _documents_of_run(source: Source) -> list[Example]:
    """Beginnings of the first documents of each text file of a run, as far as it is here."""
    recipe = recipe_of_run(source.name)
    files = [one for one in recipe.data.text if Path(one.path).is_file()] if recipe else []
    found: list[str] = []
    for file in files:
        with suppress(LimbeckError):  # it may have changed
            documents = islice(read_documents(file), _LINES // len(files))
            found += (document[:_MOST_LETTERS] for document in documents)
    return _as_rows(source, found)


def _as_rows(source: Source, texts: Iterable[str]) -> list[Example]:
    """Texts as a model reads them; of a tagger their words."""
    if source.kind == "token":
        return [Example(words=tuple(text.split())) for text in texts]
    return [Example(text=text) for text in texts]


def _rows_of_run(name: str) -> TaskRows | None:
    """The rows of a run; None of a run without rows, or of one whose files are gone."""
    recipe = recipe_of_run(name)
    if recipe is None or not (recipe.data.task or recipe.data.rows):
        return None
    try:
        return rows_of(recipe.data, predict=recipe.data.predict, split=None)
    except LimbeckError:  # the run may have been moved here without its data
        return None


def _evenly(rows: Sequence[Example], most: int) -> list[Example]:
    """So many rows, evenly over all of them."""
    count = min(most, len(rows))
    return [rows[number * len(rows) // count] for number in range(count)]
