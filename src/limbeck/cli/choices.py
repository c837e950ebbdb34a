"""What a recipe can choose from, as `limbeck list` shows it."""

from collections.abc import Callable
from dataclasses import fields as fields_of
from typing import Any

from ..evaluation.tasks import TASKS
from ..generation.options import RULE_OPTIONS
from ..objectives.layer_mapping import NAMED_MAPS, layer_links
from ..objectives.measures import MEASURES
from ..objectives.options import OPTIONS
from ..objectives.presets import PRESETS
from ..recipe.methods import METHODS
from ..recipe.parse_objective import option_names
from ..reports.tables import Table

_SINGLE_MAPS = {
    "last": "The last student layer and the teacher's last.",
    "last-1": "The last student layer and the teacher's last but one; last-2 and so on.",
    "0:1,2:5": "Pairs of a student layer and a teacher layer.",
}


def _objectives() -> Table:
    rows = [[n, ", ".join(option_names(n)), _about(kind)] for n, kind in OPTIONS.items()]
    return [["name", "options", "description"], *rows]


def _presets() -> Table:
    rows = [[n, ", ".join(preset.objectives), preset.about] for n, preset in PRESETS.items()]
    return [["name", "objectives", "description"], *rows]


def _methods() -> Table:
    return [["name", "description"], *([name, method.about] for name, method in METHODS.items())]


def _policies() -> Table:
    return [
        ["name", "options", "description"],
        ["corpus", "", "The references in the files of prompts."],
        ["mixed", "fraction 0.5", "The student generates a fraction; the rest are references."],
        *([n, ", ".join(_fields(rule)), _about(rule)] for n, rule in RULE_OPTIONS.items()),
    ]


def _divergences() -> Table:
    rows = []
    for name, measure in MEASURES.items():
        taken = [f"{option} {known.default:g}" for option, known in measure.options.items()]
        rows.append([name, ", ".join(taken), measure.about])
    return [["name", "options", "description"], *rows]


def _layer_maps() -> Table:
    return [
        ["name", "student layer: teacher layers, of 3 and 6", "description"],
        *([n, _links(n), _about(function)] for n, function in NAMED_MAPS.items()),
        *([n, _links(n), about] for n, about in _SINGLE_MAPS.items()),
    ]


def _tasks() -> Table:
    rows = [[n, task.headline, task.language, task.about] for n, task in TASKS.items()]
    return [["task", "metric", "language", "description"], *rows]


CHOICES: dict[str, Callable[[], Table]] = {
    "objectives": _objectives,
    "presets": _presets,
    "methods": _methods,
    "policies": _policies,
    "divergences": _divergences,
    "layer-maps": _layer_maps,
    "tasks": _tasks,
}


def _about(thing: object) -> str:
    return (thing.__doc__ or "").splitlines()[0]


def _fields(rule: Any) -> list[str]:
    return [f"{field.name} {field.default}" for field in fields_of(rule)]


def _links(name: str) -> str:
    links = layer_links(name, 3, 6)
    return ", ".join(f"{s}: {'+'.join(map(str, teachers))}" for s, teachers in links)
