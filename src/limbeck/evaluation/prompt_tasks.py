"""Tasks of prompts and conversations: their rows."""

from ..data.prompt_kinds import are_prompts
from ..data.prompt_sources import PromptTaskSource
from ..data.prompts import prompts_and_places
from ..data.row_files import StoredRows, stored_rows
from ..data.rows import RowSource
from ..errors import DataError
from .held_out_rows import hold_out
from .mapped_rows import MappedRows
from .task_rows import example_of_prompt


def prompts_of_rows(source: RowSource) -> PromptTaskSource | None:
    """The description of the same rows as prompts, if that is what they are by their fields.

    Args:
        source: Where it names columns, labels or a type of problem, the rows are no prompts.

    Raises:
        DataError: The rows cannot be read.
    """
    if source.labels or source.problem_type or any(source.columns.values()) or source.label_columns:
        return None
    stored = stored_rows(source)
    split = "train" if "train" in stored.splits else next(iter(stored.splits))
    first = next(stored.read(split), None)
    if first is None or not are_prompts(first.columns):
        return None
    return PromptTaskSource(source.path, source.name, source.split, task_name=source.task_name)


def read_prompt_rows(source: PromptTaskSource, test_split: str | None) -> MappedRows:
    """The scored rows of a task of prompts; nothing is learned from such a task.

    Args:
        source: Describes them. A ``split`` that is a name alone is the one that is scored.
        test_split: Which split is scored; by default the one that the description names alone,
            else dev, else test, else all rows.

    Raises:
        DataError: There is no such split, it has no rows, or a row is refused.
    """
    stored = stored_rows(source)
    notes = []
    scored = test_split or _scored_split(stored)
    held_out = scored in stored.fractions
    rows = [
        example_of_prompt(prompt, place)
        for prompt, place in prompts_and_places(source, "train" if held_out else scored)
    ]
    if not rows:
        raise DataError(f"{source.path} has no rows in its split {scored!r}; give some")
    if held_out:
        rows = hold_out(rows, stored.fractions, source.path)[scored]
    elif scored == "train" and not (test_split or source.split):
        notes.append(
            f"{source.path} names no rows to be scored, so all {len(rows)} are; choose others as"
            " split: {dev: 0.2} or split: {dev: FILE}"
        )
    return MappedRows([], rows, scored, tuple(notes))


def _scored_split(stored: StoredRows) -> str:
    if [*stored.source.split] == ["train"]:
        return "train"
    return next((split for split in ("dev", "test") if split in stored.names), "train")
