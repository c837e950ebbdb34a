"""`limbeck list`: everything that a recipe may choose, in tables that fit a terminal."""

import sys
from typing import get_args, get_type_hints

import pytest

from limbeck.cli.choices import CHOICES
from limbeck.cli.lists import LISTS
from limbeck.cli.main import main
from limbeck.deploy.formats import FORMATS
from limbeck.evaluation.tasks import METRICS, TASKS, TaskKind
from limbeck.models.families import ARCHITECTURES
from limbeck.objectives.layer_mapping import NAMED_MAPS
from limbeck.objectives.measures import MEASURES
from limbeck.objectives.options import OPTIONS
from limbeck.objectives.presets import PRESETS
from limbeck.objectives.schedule import Ramp
from limbeck.recipe.methods import METHODS
from limbeck.recipe.models_part import CopyPart, LowRankPart
from limbeck.recipe.options_table import options_table
from limbeck.recipe.parse_policy import KINDS
from limbeck.recipe.stage_part import AlignmentPart
from limbeck.reports.tables import column_widths
from limbeck.student.rounding_kinds import Rounding
from limbeck.student.width import Width
from limbeck.training.settings import OptimizerSettings


def listed(monkeypatch, capsys, *words: str) -> tuple[int, str, str]:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", ["limbeck", "list", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def choices(kind: type, field: str) -> list[str]:
    """The names among the values that a field may have."""
    annotation = get_type_hints(kind)[field]
    found = [annotation, *get_args(annotation)]
    return [value for part in found for value in get_args(part) if isinstance(value, str)]


NAMED = {
    "objectives": [*OPTIONS],
    "presets": [*PRESETS],
    "methods": [*METHODS],
    "policies": [*KINDS, "replay_buffer_size"],
    "divergences": [*MEASURES],
    "layer-maps": [*NAMED_MAPS, "last-1"],
    "alignments": [*AlignmentPart.model_fields, *choices(AlignmentPart, "kind")],
    "schedules": [*choices(OptimizerSettings, "lr_scheduler_type"), *Ramp.__dataclass_fields__],
    "optimizers": [
        *OptimizerSettings.__dataclass_fields__,
        *choices(OptimizerSettings, "optim"),
    ],
    "initializations": [
        *choices(CopyPart, "layers"),
        *(width.value for width in Width),
        "embedding_init",
        "weighted",
        "projection_init",
    ],
    "low-rank": [*LowRankPart.model_fields, "factorize", "lora"],
    "roundings": [*get_args(Rounding)],
    "tasks": [*TASKS],
    "task-kinds": [
        *(kind.value for kind in TaskKind),
        *(score for scores in METRICS.values() for score in scores),
    ],
    "families": [*ARCHITECTURES],
    "formats": [*FORMATS],
    "augmentations": ["masked", "spans", "copies", "replace_prob", "top_k"],
}


def test_every_list_has_a_name_a_table_and_a_test():
    assert [*LISTS] == [*CHOICES] == [*NAMED]


@pytest.mark.parametrize("name", [*LISTS])
def test_a_list_names_everything_that_is_there(name):
    cells = " ".join(cell for row in CHOICES[name]() for cell in row)
    words = {word.strip(".,:;()`") for word in cells.split()}
    assert NAMED[name] and [choice for choice in NAMED[name] if choice not in words] == []


@pytest.mark.parametrize("name", [*LISTS])
def test_a_list_fits_80_columns(monkeypatch, capsys, name):
    code, out, _ = listed(monkeypatch, capsys, name)
    assert code == 0 and max(map(len, out.splitlines())) <= 80
    assert column_widths(CHOICES[name](), 80)  # no word is broken, and no column became a row
    assert " ".join(out.split()).endswith(LISTS[name].more)


def test_without_a_name_the_lists_are_listed(monkeypatch, capsys):
    code, out, _ = listed(monkeypatch, capsys)
    assert code == 0 and max(map(len, out.splitlines())) <= 80
    first = [line.split()[0] for line in out.splitlines()[2:] if line[:1].strip()]
    assert first == [*LISTS]


def test_an_option_says_what_it_may_be():
    rows = options_table(LowRankPart, ["target_modules", "rank", "whiten"], prefix="low_rank: ")
    assert [row[:3] for row in rows[1:]] == [
        ["low_rank: target_modules", "feed_forward, attention, all, list", "feed_forward"],
        ["low_rank: rank", "whole number", "none"],
        ["low_rank: whiten", "true, false", "true"],
    ]
    ramp = options_table(Ramp)
    assert ramp[1][:3] == ["start", "number", ""]  # it has no default
    assert ramp[-1] == [
        "form",
        "linear, cosine",
        "linear",
        "linear or cosine, which starts and ends slowly.",
    ]
