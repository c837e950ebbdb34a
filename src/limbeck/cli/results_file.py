"""What `limbeck evaluate` refuses before it measures, and the results that it keeps."""

import json
import sys
from collections.abc import Mapping
from inspect import Parameter
from pathlib import Path
from typing import Any

from ..errors import EvaluationError
from .terminal import console

RESULTS = "evaluation.json"


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


def check_untrained(given: Mapping[str, Any], known: Mapping[str, Parameter]) -> None:
    """Refuse what fine-tuning alone would read, where nothing is fine-tuned.

    Args:
        given: The parameters of the command.
        known: The same with their defaults.

    Raises:
        EvaluationError: Something else than a default is given.
    """
    of_training = ("seeds", "max_train_samples", "search", "num_train_epochs", "learning_rate")
    named = [
        f"--{name.replace('_', '-')}"
        for name in (*of_training, "batch_size", "pooling", "precision")
        if given[name] != known[name].default
    ]
    if named:
        raise EvaluationError(
            f"{' and '.join(named)} would not be read: the model is scored with the head that it"
            " has, and nothing is fine-tuned; leave it out, or fine-tune a new head (without"
            " --own-head)"
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
