"""Which values are numbers: one rule for every field that users write."""

import dataclasses
from typing import get_type_hints

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from limbeck.data.text import TextSource
from limbeck.evaluation.settings import FinetuneSettings, GenerationSettings
from limbeck.generation.options import RULE_OPTIONS, PolicyOptions
from limbeck.models.architecture import Architecture
from limbeck.objectives.options import OPTIONS
from limbeck.objectives.schedule import Ramp
from limbeck.recipe.parse import parse_evaluation, parse_recipe
from limbeck.recipe.part import Part
from limbeck.study.schema import Study
from limbeck.system.numbers import Number, Whole
from limbeck.tokenization.masking import Masking
from limbeck.training.settings import OptimizerSettings

WRITTEN = [
    *Part.__subclasses__(),
    *OPTIONS.values(),
    *RULE_OPTIONS.values(),
    *(
        Architecture,
        FinetuneSettings,
        GenerationSettings,
        Masking,
        OptimizerSettings,
        PolicyOptions,
    ),
    *(Ramp, TextSource),
]
FIELDS = [
    pytest.param(hint, id=f"{kind.__name__}.{name}")
    for kind in WRITTEN
    for name, hint in get_type_hints(kind, include_extras=True).items()
    if name != "model_config"
]


def leaves(value):
    if isinstance(value, dict):
        return [leaf for pair in value.items() for side in pair for leaf in leaves(side)]
    if isinstance(value, (list, tuple)):
        return [leaf for item in value for leaf in leaves(item)]
    if isinstance(value, BaseModel) or dataclasses.is_dataclass(value):
        return []  # its fields are tried separately
    return [value]


@pytest.mark.parametrize("hint", FIELDS)
def test_no_field_takes_a_truth_value_or_text_for_a_number(hint):
    for wrong in (True, False, "2", "0.5"):
        for given in (wrong, [wrong], [[wrong]], {"VV": wrong}, {wrong: "last"}):
            try:
                found = TypeAdapter(hint).validate_python(given)
            except ValidationError:
                continue
            assert not [leaf for leaf in leaves(found) if type(leaf) in (int, float)], given


def test_every_field_is_tried():
    kinds = {kind.__name__ for kind in WRITTEN}
    assert {"Recipe", "StagePart", "EvaluationPart", "EqualTime", "LogitsOptions"} <= kinds
    assert len(FIELDS) > 120 and Study in WRITTEN


@pytest.mark.parametrize(
    ("text", "number"),
    [("2", 2.0), ("0.5", 0.5), ("1e-3", 1e-3), ("-2E+1", -20.0), ("1.5e3", 1500.0), (".5e1", 5.0)],
)
def test_numbers_as_yaml_has_them(text, number):
    """PyYAML reads 1e-3 as text, and users write it."""
    assert TypeAdapter(Number).validate_python(yaml.safe_load(text)) == number


@pytest.mark.parametrize("text", ["5000000", "5e6", "5.0e+6"])
def test_whole_numbers_as_yaml_has_them(text):
    assert TypeAdapter(Whole).validate_python(yaml.safe_load(text)) == 5_000_000


@pytest.mark.parametrize("text", ["true", "no", '"2"', "2x", "1e", "e5", "[1]", "1e3e4", "''"])
def test_text_that_is_no_number(text):
    for kind in (Number, Whole):
        with pytest.raises(ValidationError):
            TypeAdapter(kind).validate_python(yaml.safe_load(text))
    with pytest.raises(ValidationError, match="fractional part"):
        TypeAdapter(Whole).validate_python("1e-3")


def recipe_with(path, value):
    stage = {"max_steps": 2, "objectives": {"logits": {}}, "policy": {"kind": "speculative"}}
    raw = {"student": {}, "data": {}, "stages": [stage]}
    *parents, last = path.split(".")
    here = raw
    for key in parents:
        here = here[int(key)] if isinstance(here, list) else here.setdefault(key, {})
    here[last] = value
    return raw


@pytest.mark.parametrize("value", [True, "2"])
@pytest.mark.parametrize(
    "path",
    [
        "seed",
        "data.max_length",
        "data.held_out.fraction",
        "evaluation.seeds",
        "evaluation.finetuning.learning_rate",
        "evaluation.generation.temperature",
        "training.logging_steps",
        "stages.0.max_steps",
        "stages.0.optimizer.learning_rate",
        "stages.0.masking.mlm_probability",
        "stages.0.mixed.student_fraction",
        "stages.0.mixed.student_fraction.start",
        "stages.0.objectives.logits.temperature",
        "stages.0.objectives.logits.temperature.end",
        "stages.0.objectives.logits.weight",
        "stages.0.objectives.logits.weight.begins",
        "stages.0.objectives.logits.top_k",
        "stages.0.objectives.logits.divergence_options.alpha",
        "stages.0.objectives.relations.heads",
        "stages.0.objectives.relations.pairs.VV",
        "stages.0.policy.top_k",
        "stages.0.policy.temperature",
        "stages.0.policy.replay_buffer_size",
    ],
)
def test_a_recipe_names_the_field_and_the_given_value(path, value):
    _, problems = parse_recipe(recipe_with(path, value))
    kind = "a truth value" if value is True else "text"
    assert (path, f"must be a number, and is {kind} (given: {value!r})") in problems


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("stages.0.optimizer.learning_rate", 1e-3),
        ("stages.0.objectives.logits.weight", 0.01),
        ("stages.0.objectives.logits.temperature", 2.0),
    ],
)
def test_exponents_without_a_dot_stay_numbers(path, value):
    raw = recipe_with(path, {0.001: "1e-3", 0.01: "1e-2", 2.0: "2e0"}[value])
    del raw["stages"][0]["policy"]
    recipe, problems = parse_recipe(raw)
    assert problems == []
    if "optimizer" in path:
        assert recipe.stages[0].optimizer.learning_rate == value


def test_the_command_line_of_evaluate_is_refused_too():
    with pytest.raises(Exception, match="seeds: must be a number, and is a truth value"):
        parse_evaluation({"seeds": True})
