"""The results that `limbeck evaluate` keeps, and which it refuses to add to."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import EvaluationError
from ..system.files import expanded
from .terminal import console

if TYPE_CHECKING:
    from ..data.prompt_sources import TaskLocation

RESULTS = "evaluation.json"
# Of it, beside the tasks.
_OTHER_PARTS = ("model", "format", "fingerprint", "embeddings", "cost", "by_position")


def check_output(output: Path | None, model: str, form: str | None = None) -> str | None:
    """The fingerprint of what is scored, where its results are kept.

    A folder with the results of another model is refused, of another of its files, or of the same
    name with other weights.

    Args:
        output: The folder; None for none.
        model: As the user gave it.
        form: Of a folder of `limbeck export`, the format of the file that is scored.

    Raises:
        EvaluationError: It holds such results, or something else under their name.
    """
    if output is None:
        return None
    before = _results(output)
    if before.get("model") not in (None, model):
        raise EvaluationError(
            f"{output} holds the results of {before['model']!r}; give another folder"
        )
    if before.get("format", form) != form:
        raise EvaluationError(
            f"{output} holds the results of the {before['format']} file of {model!r}, and that of"
            f" {form} is scored; give another folder"
        )
    now = _fingerprint(model, form)
    if before.get("fingerprint", now) != now:
        raise EvaluationError(
            f"{output} holds results of {model!r} as it was before: its files have changed since,"
            " and results of both would stand side by side; give another folder"
        )
    return now


def _fingerprint(model: str, form: str | None) -> str:
    """A name for the files of a model, or for those of a format of an exported folder."""
    from ..models.locate import fingerprint, model_of_run

    if form is None:
        return fingerprint(model_of_run(model))
    from ..deploy.formats import FORMATS
    from ..deploy.timing import files_of
    from ..system.fingerprints import content_of

    return content_of(*files_of(expanded(model) / FORMATS[form].file))


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


def save(
    found: dict[str, Any],
    output: Path | None,
    model: str,
    *,
    form: str | None,
    state: str | None,
    printed: bool,
) -> None:
    """Add the results to those that the folder holds, and print them if that is requested.

    Args:
        found: The results by their names.
        output: The folder; None for none.
        model: As the user gave it.
        form: Of a folder of `limbeck export`, the format of the file that was scored.
        state: The fingerprint of what was scored, as `check_output` gives it.
        printed: Whether they are printed as JSON, too.
    """
    from ..system.files import write_text  # needed once something was measured

    found = {"format": form, **found} if form else found
    if output:
        before = _results(output)
        whole = {**before, "model": model, "fingerprint": state, **found}
        if "embeddings" in found:
            new = {(one["kind"], one["task"]) for one in found["embeddings"]}
            others = before.get("embeddings", [])
            others = [one for one in others if (one["kind"], one["task"]) not in new]
            whole["embeddings"] = [*others, *found["embeddings"]]
        write_text(output / RESULTS, json.dumps(whole, ensure_ascii=False, indent=1) + "\n")
        console.print(f"results: {output / RESULTS}", highlight=False, soft_wrap=True)
    if printed:
        sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")
