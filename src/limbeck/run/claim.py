"""A run folder belongs to one recipe, and to the files that it was made of."""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import yaml

from ..errors import LimbeckError, RecipeError
from ..models.locate import model_of_run
from ..recipe.parse import parse_recipe
from ..recipe.read import dump_recipe, read_recipe
from ..recipe.schema import Recipe
from ..system.files import expanded, write_text
from .sources import check_sources

_NAMED = 5  # fields that differ
_SHORT = 80  # letters of two values
# What a folder of each kind has in it, and the command that makes it.
_KINDS = {
    "run": ("recipe.yaml", "distill"),
    "study": ("study.yaml", "compare"),
    "pilot": ("runs/student", "pilot"),
}
# How work is divided, which changes no more than rounding.
_OF_BATCHES = ("micro_batch_size",)
_OF_WORK = {
    "data": ("num_proc",),
    "teacher": ("device_map", "max_memory"),
    "training": ("gradient_checkpointing",),
}
# A server may move, and be asked more or less patiently.
_OF_REACHING = ("url", "model", "concurrency", "timeout", "max_retries", "api_key_env")


def claim_folder(folder: Path, recipe: Recipe, *, write: bool) -> None:
    """Write the resolved recipe, or see that the folder holds a run of the same one.

    Raises:
        DataError: A file that the run was made of has changed.
        RecipeError: The folder holds a run of another recipe, a study or a pilot.
    """
    check_kind(folder, "run")
    file = folder / "recipe.yaml"
    if file.exists():
        before = yaml.safe_load(file.read_text(encoding="utf-8"))
        # An older version's recipe lacks fields that have come since: they had their defaults.
        known, _ = parse_recipe(before) if isinstance(before, dict) else (None, [])
        before = _compared(yaml.safe_load(dump_recipe(known)) if known else before or {})
        now = _compared(yaml.safe_load(dump_recipe(recipe)))
        now.pop("evaluation", None)
        before.pop("evaluation", None)
        if different := list(_differences(before, now)):
            more = len(different) - _NAMED
            said = ", ".join(different[:_NAMED]) + (f" and {more} more" if more > 0 else "")
            raise RecipeError(
                f"{folder} holds a run of another recipe (different: {said}); use another folder,"
                " or the recipe.yaml in it to resume it, or remove the folder"
            )
    check_sources(recipe, folder, write=write)
    if write:
        write_text(file, dump_recipe(recipe))


def recipe_of_run(model: str) -> Recipe | None:
    """The recipe of a run, which its student stands for, too; None of another model or version.

    Args:
        model: A model or run folder, or any other name of a model.
    """
    student = expanded(model_of_run(model)).resolve()
    file = student.parent / "recipe.yaml"
    if student.name != "student" or not file.is_file():
        return None
    try:
        return parse_recipe(read_recipe(file))[0]
    except LimbeckError:
        return None


def check_kind(folder: Path, kind: str) -> None:
    """See that a folder does not hold what another command has made.

    Args:
        folder: That is to hold a ``run``, a ``study`` or a ``pilot``; need not be there.
        kind: Which of them.

    Raises:
        RecipeError: It holds another of them.
    """
    for other, (place, command) in _KINDS.items():
        if other != kind and (folder / place).exists():
            raise RecipeError(
                f"{folder} holds a {other} (limbeck {command}), which a {kind} would overwrite;"
                " give another folder"
            )


def _differences(before: Any, now: Any, path: str = "") -> Iterator[str]:
    """Where two recipes differ: the path of each field, and both values where they are short."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            place = f"{path}.{key}" if path else str(key)
            yield from _differences(before.get(key), now.get(key), place)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for number, (one, other) in enumerate(zip(before, now, strict=True)):
            yield from _differences(one, other, f"{path}.{number}")
    elif before != now:
        both = f"{_shown(before)} before, {_shown(now)} now"
        yield f"{path}: {both}" if len(both) <= _SHORT else path


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _compared(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe without what only says how its work is divided and its server is reached.

    A run that was short of memory resumes with less of it. Which model a server has is looked at
    when it is asked (`run/server.py`).
    """
    found = recipe | {part: _without(recipe.get(part), names) for part, names in _OF_WORK.items()}
    found["stages"] = [_without(stage, _OF_BATCHES) for stage in recipe.get("stages") or []]
    if isinstance(teacher := found["teacher"], dict):
        found["teacher"] = teacher | {"server": _without(teacher.get("server"), _OF_REACHING)}
    return found


def _without(part: Any, names: Collection[str]) -> Any:
    """A mapping without some keys; what is none, as it is."""
    if not isinstance(part, dict):
        return part
    return {name: value for name, value in part.items() if name not in names}
