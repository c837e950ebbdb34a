"""Real texts to compare a file with its model on: held-out rows, rows of a task, or novels."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from ..data.text import TextSource, read_documents
from ..errors import LimbeckError
from ..evaluation.tasks import Example
from ..recipe.parse import parse_recipe
from ..recipe.read import read_recipe
from ..recipe.task_rows import rows_of
from .scores import ScoredTasks
from .source import Source

_NOVELS = Path(__file__).parents[1] / "demo" / "novels.txt.gz"
_ROWS, _OF_VOCABULARY = 256, 48  # texts; fewer where every token has a whole vocabulary
_CALIBRATED = 128  # texts that ranges are read off
_FEWEST_WORDS = 4  # of a line of a novel


def real_texts(source: Source, named: ScoredTasks) -> tuple[list[Example], str]:
    """Rows without regard to their labels, and a sentence about where they are from.

    The rows that a run held out; else scored rows of a named task; else lines of the demo's text.

    Args:
        source: The model, whose name may be that of a run folder.
        named: What it is scored on.
    """
    most = _OF_VOCABULARY if source.kind in ("masked", "causal") else _ROWS
    if held_out := _held_out(Path(source.name)):
        return _some(held_out, most, "rows that the run held out")
    for task in named.tasks:
        return _some(task.test, most, f"scored rows of {task.name}")
    for pairs in named.similarity:
        rows = [Example(text=text) for text in pairs.left]
        return _some(rows, most, f"texts of {pairs.name}")
    return _some(_lines(source)[:most], most, "lines of the demo's English novels")


def calibration_texts(source: Source, named: ScoredTasks) -> list[Example]:
    """Rows that ranges of activations are read off, none of which is scored.

    The rows that a run held out; else training rows of a named task; else lines of the demo's text.

    Args:
        source: The model, whose name may be that of a run folder.
        named: What it is scored on.
    """
    held_out = _held_out(Path(source.name))
    rows = held_out or next((task.train for task in named.tasks if task.train), ())
    return _evenly(rows or _lines(source), _CALIBRATED)


def _lines(source: Source) -> list[Example]:
    """Lines of the demo's text; of a tagger their words."""
    lines = read_documents(TextSource(str(_NOVELS)))
    long_enough = (line for line in lines if len(line.split()) >= _FEWEST_WORDS)
    rows = [Example(text=line) for line in islice(long_enough, _ROWS)]
    if source.kind == "token":
        rows = [Example(words=tuple((row.text or "").split())) for row in rows]
    return rows


def _held_out(run: Path) -> Sequence[Example]:
    """The rows that a run held out; none of a folder without rows, or whose files are gone."""
    if not (run / "recipe.yaml").is_file():
        return ()
    try:
        recipe, _ = parse_recipe(read_recipe(run / "recipe.yaml"))
        if recipe is None or not (recipe.data.task or recipe.data.rows):
            return ()
        return rows_of(recipe.data, predict=recipe.data.predict, split=None).held_out
    except LimbeckError:  # the run may have been moved here without its data
        return ()


def _some(rows: Sequence[Example], most: int, whence: str) -> tuple[list[Example], str]:
    chosen = _evenly(rows, most)
    return chosen, f"{len(chosen)} {whence}"


def _evenly(rows: Sequence[Example], most: int) -> list[Example]:
    """So many rows, evenly over all of them."""
    step = max(1, len(rows) // most)
    return list(rows[::step][:most])
