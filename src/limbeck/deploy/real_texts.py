"""Real texts to compare a file with its model on: held-out rows, rows of a task, or novels."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from ..data.text import TextSource, read_documents
from ..errors import LimbeckError
from ..evaluation.tasks import Example
from ..models.locate import model_of_run
from ..recipe.parse import parse_recipe
from ..recipe.read import read_recipe
from ..recipe.task_rows import TaskRows, rows_of
from .scores import ScoredTasks
from .source import Source

_NOVELS = Path(__file__).parents[1] / "demo" / "novels.txt.gz"
_ROWS, _OF_VOCABULARY = 256, 48  # texts; fewer where every token has a whole vocabulary
_CALIBRATED = 128  # texts that ranges are read off
_FEWEST_WORDS = 4  # of a line of a novel
_LINES = 2 * (_ROWS + _CALIBRATED)  # some are the same
_Said = tuple[str | None, str | None, tuple[str, ...] | None]


def real_texts(source: Source, named: ScoredTasks) -> tuple[list[Example], str]:
    """Rows without regard to their labels, and a sentence about where they are from.

    The rows that a run held out; else scored rows of a named task; else lines of the demo's text.

    Args:
        source: The model, whose name may be that of a run folder.
        named: What it is scored on.
    """
    most = _OF_VOCABULARY if source.kind in ("masked", "causal") else _ROWS
    of_run = _rows_of_run(source.name)
    if of_run and of_run.held_out:
        return _some(of_run.held_out, most, "rows that the run held out")
    for task in named.tasks:
        return _some(task.test, most, f"scored rows of {task.name}")
    for pairs in named.similarity:
        rows = [Example(text=text) for text in pairs.left]
        return _some(rows, most, f"texts of {pairs.name}")
    return _some(_lines(source)[:most], most, "lines of the demo's English novels")


def calibration_texts(
    source: Source, named: ScoredTasks, *, compared: Sequence[Example]
) -> list[Example]:
    """Rows that ranges of activations are read off, none of which is scored or compared.

    Training rows of the run; else of a named task; else lines of the demo's text.

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
    for rows in (of_run.train if of_run else (), *(task.train for task in named.tasks)):
        if others := [row for row in rows if _said(row) not in scored]:
            return _evenly(others, _CALIBRATED)
    return _evenly([row for row in _lines(source) if _said(row) not in scored], _CALIBRATED)


def _said(row: Example) -> _Said:
    """What a row says, whatever is known of it."""
    return row.text, row.text_pair, row.words


def _lines(source: Source) -> list[Example]:
    """Lines of the demo's text, to compare and to read ranges off; of a tagger their words."""
    lines = read_documents(TextSource(str(_NOVELS)))
    long_enough = (line for line in lines if len(line.split()) >= _FEWEST_WORDS)
    rows = [Example(text=line) for line in islice(long_enough, _LINES)]
    if source.kind == "token":
        rows = [Example(words=tuple((row.text or "").split())) for row in rows]
    return rows


def _rows_of_run(name: str) -> TaskRows | None:
    """The rows of a run, which its student stands for, too.

    None of another model, of a run without rows, or of one whose files are gone.
    """
    student = Path(model_of_run(name)).resolve()
    run = student.parent
    if student.name != "student" or not (run / "recipe.yaml").is_file():
        return None
    try:
        recipe, _ = parse_recipe(read_recipe(run / "recipe.yaml"))
        if recipe is None or not (recipe.data.task or recipe.data.rows):
            return None
        return rows_of(recipe.data, predict=recipe.data.predict, split=None)
    except LimbeckError:  # the run may have been moved here without its data
        return None


def _some(rows: Sequence[Example], most: int, whence: str) -> tuple[list[Example], str]:
    chosen = _evenly(rows, most)
    return chosen, f"{len(chosen)} {whence}"


def _evenly(rows: Sequence[Example], most: int) -> list[Example]:
    """So many rows, evenly over all of them."""
    count = min(most, len(rows))
    return [rows[number * len(rows) // count] for number in range(count)]
