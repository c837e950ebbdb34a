"""The results that `limbeck evaluate` keeps, and which it refuses to add to."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import EvaluationError
from .terminal import console

if TYPE_CHECKING:
    from ..data.prompt_sources import TaskLocation

RESULTS = "evaluation.json"
_OTHER_PARTS = ("model", "embeddings", "cost", "by_position")  # of it, beside the tasks


def check_output(output: Path | None, model: str) -> None:
    """Refuse a folder with the results of another model.

    Raises:
        EvaluationError: It holds such results, or something else under their name.
    """
    before = _results(output)
    if before.get("model") not in (None, model):
        raise EvaluationError(
            f"{output} holds the results of {before['model']!r}; give another folder"
        )


def _results(output: Path | None) -> dict[str, Any]:
    """The results that a folder holds, of an earlier call."""
    if output is None or not (output / RESULTS).is_file():
        return {}
    try:
        found = json.loads((output / RESULTS).read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise EvaluationError(f"{output / RESULTS} holds no results; remove it, or give -o another")
    return found


def check_names(tasks: Iterable["TaskLocation"]) -> None:
    """Refuse tasks whose scores would stand under the name of something else.

    Raises:
        EvaluationError: One is called as another part of the results.
    """
    from ..evaluation.task_files import name_of_task

    if taken := [name for name in map(name_of_task, tasks) if name in _OTHER_PARTS]:
        raise EvaluationError(
            f"a task is called {taken[0]!r}, and so is another part of {RESULTS}; give it another"
            " name, as {path: ..., task_name: ANOTHER}"
        )


def save(found: dict[str, Any], output: Path | None, model: str, *, printed: bool) -> None:
    """Add the results to those that the folder holds, and print them if that is requested."""
    from ..system.files import write_text  # needed once something was measured

    if output:
        before = _results(output)
        whole = {**before, "model": model, **found}
        if "embeddings" in found:
            new = {(one["kind"], one["task"]) for one in found["embeddings"]}
            others = before.get("embeddings", [])
            others = [one for one in others if (one["kind"], one["task"]) not in new]
            whole["embeddings"] = [*others, *found["embeddings"]]
        write_text(output / RESULTS, json.dumps(whole, ensure_ascii=False, indent=1) + "\n")
        console.print(f"results: {output / RESULTS}", highlight=False)
    if printed:
        sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")
