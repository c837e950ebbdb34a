"""YAML -> the keys of a recipe, overrides laid over them, and a recipe -> YAML."""

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import yaml

from ..errors import RecipeError
from ..system.files import expanded
from .part import Part, as_model
from .schema import Recipe

# Where a recipe has paths: fields within fields, which may be lists.
_SOURCE: dict[str, Any] = {"path": {}}
_PATHS: dict[str, Any] = {
    "teacher": {"model": {}, "ensemble": {}, "cache": {}},
    "student": {"model": {}, "tokenizer": {}},
    "data": dict.fromkeys(("text", "prompts", "task", "rows"), _SOURCE),
    "stages": {"policy": {"vllm_command": {}}},
    "evaluation": {"tasks": _SOURCE, "baseline": {}},
}


class _Loader(yaml.SafeLoader):
    """A loader that refuses a key that stands twice, of which others keep the last alone."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """The mapping, whose keys are compared before those that `<<` brings stand among them."""
        node = super().compose_mapping_node(anchor)
        known: dict[object, yaml.Node] = {}
        for key, _ in node.value:
            if (before := known.setdefault((key.tag, str(key.value)), key)) is not key:
                first = before.start_mark.line + 1
                message = f"{key.value!r} stands twice in one mapping, first in line {first}"
                raise yaml.MarkedYAMLError(problem=message, problem_mark=key.start_mark)
        return node


def read_recipe(path: Path | str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The YAML of a recipe with ``key.path=value`` overrides, not yet checked.

    Args:
        path: Of the YAML file.
        overrides: As of ``--set``.

    Raises:
        RecipeError: The file is missing or no YAML, or an override has no place.
    """
    try:
        raw = yaml.load(expanded(path).read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise RecipeError(f"cannot read the recipe {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecipeError(f"{path} is not YAML: {error}") from error
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        raise RecipeError(f"{path} holds {type(raw).__name__}, a recipe is a mapping of names")
    for key, value in parse_overrides(overrides).items():
        override(raw, key, value)
    return raw


def is_study(raw: Mapping[str, Any]) -> bool:
    """Whether these are the keys of a study, which gives a recipe and arms, and of no recipe."""
    return "arms" in raw and "stages" not in raw


def keys_of(recipe: object) -> dict[str, Any]:
    """The keys of a recipe, however it is given, as YAML would have them.

    Args:
        recipe: An object, a mapping, in which paths may be `pathlib.Path` and parts be objects, or
            the path of a YAML file.

    Raises:
        RecipeError: It is something else, or as of `read_recipe`.
    """
    if isinstance(recipe, str | PathLike):
        return read_recipe(fspath(recipe))
    if isinstance(recipe, Recipe):
        return recipe.model_dump()
    if isinstance(recipe, Mapping):
        return {key: _plain(value) for key, value in recipe.items()}
    raise RecipeError(
        f"the recipe is a {type(recipe).__name__}; give a mapping, a `Recipe`, or the path of a"
        " YAML file"
    )


def _plain(value: Any) -> Any:
    """The same with names in place of paths, lists of tuples, and keys of the parts of a recipe."""
    if isinstance(value, Part):
        return value.model_dump()
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def with_home(value: Any, fields: Mapping[str, Any] = _PATHS) -> Any:
    """The same with the home folder in place of the ``~`` that a path begins with.

    A shell does not do it in a file, nor after the ``=`` of ``--set data.text=~/corpus.txt``.

    Args:
        value: The keys of a recipe, or a path.
        fields: Those that have paths, where the value has fields; the others stay as they are.
    """
    if isinstance(value, str):
        return str(expanded(value)) if value.startswith("~/") else value
    if isinstance(value, Mapping):
        return {
            key: with_home(one, fields[key]) if key in fields else one for key, one in value.items()
        }
    return [with_home(one, fields) for one in value] if isinstance(value, list) else value


def parse_overrides(texts: Sequence[str]) -> dict[str, Any]:
    """The values of ``key.path=value``, each read as YAML.

    Raises:
        RecipeError: One has no ``=``, or its value is not YAML.
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise RecipeError(f"--set {text!r} has no `=`; write key.path=value")
        try:
            found[key] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise RecipeError(f"--set {text!r}: the value is not YAML ({error})") from error
    return found


def override(raw: dict[str, Any], path: str, value: Any) -> None:
    """Put a value at ``key.path`` of a recipe, in place.

    Raises:
        RecipeError: The recipe has no such place.
    """
    *parents, last = path.split(".")
    here: Any = raw
    if parents and isinstance(raw.get(parents[0]), str):
        raw[parents[0]] = as_model(raw[parents[0]])
    try:
        for key in parents:
            here = here[int(key)] if isinstance(here, list) else here.setdefault(key, {})
        if isinstance(here, list):
            here[int(last)] = value
        else:
            here[last] = value
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise RecipeError(f"the recipe has no place {path!r} to put {value!r}") from error


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, every default written out."""
    plain = recipe.model_dump(mode="json", by_alias=True)
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
