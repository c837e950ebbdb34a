"""A run folder belongs to one recipe, and to the files that it was made of."""

from pathlib import Path
from typing import Any

import yaml

from ..errors import RecipeError
from ..recipe.parse import parse_recipe
from ..recipe.read import dump_recipe
from ..recipe.schema import Recipe
from ..system.files import write_text
from .sources import check_sources

# A server may move, and be asked more or less patiently.
_OF_REACHING = ("url", "model", "concurrency", "timeout", "max_retries", "api_key_env")


def claim_folder(folder: Path, recipe: Recipe, *, write: bool) -> None:
    """Write the resolved recipe, or see that the folder holds a run of the same one.

    Raises:
        DataError: A file that the run was made of has changed.
        RecipeError: The folder holds a run of another recipe.
    """
    file = folder / "recipe.yaml"
    if file.exists():
        before = yaml.safe_load(file.read_text(encoding="utf-8"))
        # An older version's recipe lacks fields that have come since: they had their defaults.
        known, _ = parse_recipe(before) if isinstance(before, dict) else (None, [])
        before = _compared(yaml.safe_load(dump_recipe(known)) if known else before or {})
        now = _compared(yaml.safe_load(dump_recipe(recipe)))
        different = [key for key in now if key != "evaluation" and now[key] != before.get(key)]
        if different:
            raise RecipeError(
                f"{folder} holds a run of another recipe (different: {', '.join(different)}); use"
                " another folder, or the recipe.yaml in it to resume it"
            )
    check_sources(recipe, folder, write=write)
    if write:
        write_text(file, dump_recipe(recipe))


def _compared(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe without what only says how its text is tokenized and its server is reached.

    Which model that serves is looked at when it is asked (`run/server.py`).
    """
    data = recipe.get("data")
    if isinstance(data, dict):
        recipe = {**recipe, "data": {k: value for k, value in data.items() if k != "num_proc"}}
    teacher = recipe.get("teacher")
    server = teacher.get("server") if isinstance(teacher, dict) else None
    if not isinstance(teacher, dict) or not isinstance(server, dict):
        return recipe
    kept = {name: value for name, value in server.items() if name not in _OF_REACHING}
    return {**recipe, "teacher": {**teacher, "server": kept}}
