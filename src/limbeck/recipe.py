"""A recipe: everything a run does, as frozen data that YAML can hold.

Unknown keys are refused with the nearest known one, and every fault is found at
once, each with its field's path. The rooms never see these objects: builders
turn them into plain arguments.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from .architectures import Anatomy
from .data.text import TextSource
from .errors import RecipeError
from .evaluation.finetune import FinetuneSettings
from .faults import Fault, faults_of, nearest
from .objectives import OBJECTIVES
from .objectives.contract import Objective
from .objectives.presets import PRESETS
from .objectives.schedule import Ramp
from .student.axis_maps import Width
from .tokenization.masking import Masking
from .training.stages import OptimizerSettings


class Part(BaseModel):
    """Frozen; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class TeacherPart(Part):
    """The model that is learned from; a bare string in YAML means its ``model``."""

    model: str = Field(description="a transformers folder, a hub name, or minilm-demo")
    anatomy: Anatomy | None = Field(None, description="module paths of an unknown architecture")


class CopyPart(Part):
    """Which teacher layers the student starts from."""

    layers: Literal["uniform", "first", "last"] | list[int] = Field(
        "uniform", description="one teacher layer for each student layer, counted from 0"
    )
    width: Width = Field(Width.SVD, description="how narrower weights are filled: cut or svd")


class StudentPart(Part):
    """The model that is trained."""

    layers: int
    hidden: int
    heads: int
    intermediate: int
    architecture: str | None = Field(None, description="model type; the teacher's by default")
    tokenizer: str | None = Field(None, description="folder or hub name; the teacher's by default")
    positions: int | None = Field(None, description="longest text; the teacher's by default")
    key_value_heads: int | None = Field(
        None, description="of decoders whose heads share keys; the teacher's ratio by default"
    )
    vocabulary: int | None = Field(
        None, description="rows of the embedding table, no fewer than pieces; the teacher's"
    )
    embeddings: Literal["random", "mean"] = Field(
        "random",
        description="first embeddings of another vocabulary than the teacher's: mean takes the"
        " mean of the teacher's pieces",
    )
    other_normalisation: bool = Field(
        False,
        description="allow a tokenizer that tells letters apart which the teacher's does not (as"
        " capitals), or the other way round",
    )
    copy_from_teacher: CopyPart | None = Field(
        None, alias="copy", description="start from teacher layers; null starts from random weights"
    )


class HeldOutPart(Part):
    """Text that is never learned from."""

    share: float = Field(0.01, gt=0, lt=1, description="share of the documents")
    sequences: int = Field(128, ge=1, description="how many are measured")


def _as_sources(value: Any) -> Any:
    items = value if isinstance(value, list) else [value]
    return [{"path": item} if isinstance(item, str) else item for item in items]


class DataPart(Part):
    """What is read, and how long the sequences are."""

    text: Annotated[list[TextSource], BeforeValidator(_as_sources)] = Field(
        min_length=1, description="files (txt, jsonl, csv, parquet; gz too) or hub names"
    )
    length: int = Field(128, ge=8, description="pieces in a sequence, special tokens included")
    packed: bool = Field(True, description="documents follow one another without padding")
    held_out: HeldOutPart = HeldOutPart()


class MixedPart(Part):
    """The teacher learns to read the student's vocabulary beside its own, from labels."""

    share: float | Ramp = Field(
        0.5, description="of the words, those cut by the student's vocabulary; or a ramp"
    )


class StagePart(Part):
    """One stretch of training; without objectives that need a teacher it is plain pretraining."""

    name: str | None = None
    preset: str | None = Field(None, description="objectives by the name of a published recipe")
    objectives: dict[str, dict[str, Any]] = Field(
        {}, description="options by name, and `weight`; `kind` where the name is another"
    )
    mixed: MixedPart | None = Field(
        None, description="stage I of mixed-vocabulary training, in place of objectives"
    )
    tokens: int | None = Field(None, ge=1, description="length in tokens; or give steps")
    steps: int | None = Field(None, ge=1)
    batch_size: int = Field(32, ge=1, description="sequences in an optimizer step")
    micro_batch_size: int | None = Field(None, ge=1, description="sequences in one forward")
    optimizer: OptimizerSettings = OptimizerSettings()
    masking: Masking | None = Field(None, description="by default 15 % of words, if labels need it")
    dropout: bool = Field(False, description="train with the student's dropout")
    trained: Literal["all", "head"] = Field(
        "all", description="head leaves everything but the vocabulary head as it is"
    )


class TrainingPart(Part):
    """How the run is carried out."""

    precision: Literal["bfloat16", "float32"] = "bfloat16"
    device: Literal["auto", "cpu"] = "auto"
    log_every: int = Field(20, ge=1)
    held_out_every: int = Field(200, ge=1)
    checkpoint_every: int = Field(200, ge=1)
    trackers: list[Literal["tensorboard"]] = []


class EvaluationPart(Part):
    """What the student is measured on when it is ready."""

    tasks: list[str] = Field([], description="DIR/NAME of task files")
    seeds: int = Field(3, ge=1)
    training_rows: int | None = Field(None, ge=1, description="the same subsample for every model")
    test_split: str | None = None
    settings: FinetuneSettings = FinetuneSettings()
    teacher: bool = Field(True, description="measure the teacher too")
    no_distillation: str | None = Field(
        None, description="run folder or model folder of the control that is measured beside it"
    )
    cost: bool = Field(True, description="measure latency and memory")


def _as_teacher(value: Any) -> Any:
    return {"model": value} if isinstance(value, str) else value


class Recipe(Part):
    """A whole run."""

    name: str = "run"
    seed: int = Field(0, ge=0)
    teacher: Annotated[TeacherPart | None, BeforeValidator(_as_teacher)] = None
    student: StudentPart
    data: DataPart
    stages: list[StagePart] = Field(min_length=1)
    training: TrainingPart = TrainingPart()
    evaluation: EvaluationPart = EvaluationPart()


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The YAML of a recipe with ``key.path=value`` overrides, not yet checked.

    Raises:
        RecipeError: The file is missing or no YAML, or an override has no place.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"cannot read the recipe {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not YAML: {error}") from error
    if not isinstance(raw, dict):
        raise RecipeError(f"{path} holds {type(raw).__name__}, a recipe is a mapping of keys")
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise RecipeError(f"--set {text!r} has no `=`; write key.path=value")
        override(raw, key, yaml.safe_load(value))
    return raw


def override(raw: dict[str, Any], path: str, value: Any) -> None:
    """Put a value at ``key.path`` of a recipe, in place.

    Raises:
        RecipeError: The recipe has no such place.
    """
    *parents, last = path.split(".")
    here: Any = raw
    try:
        for key in parents:
            here = here[int(key)] if isinstance(here, list) else here.setdefault(key, {})
        if isinstance(here, list):
            here[int(last)] = value
        else:
            here[last] = value
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise RecipeError(f"the recipe has no place {path!r} to put {value!r}") from error


def parse_recipe(raw: Mapping[str, Any]) -> tuple[Recipe | None, list[Fault]]:
    """The recipe, or None and every fault of its form."""
    faults: list[Fault] = []
    recipe = None
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        faults += faults_of(error, Recipe)
    for number, stage in enumerate(_listed(raw.get("stages"))):
        faults += _preset_faults(_mapped(stage), f"stages.{number}")
        for name, options in stage_objectives(_mapped(stage)).items():
            place = ("stages", str(number), "objectives", name)
            faults += parse_objective(name, options, place)[2]
    for number, part in enumerate(recipe.stages if recipe else []):
        if (part.tokens is None) == (part.steps is None):
            faults.append((f"stages.{number}", "give either tokens or steps"))
    return (None if faults else recipe), faults


def stage_objectives(stage: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Options of a stage's objectives by name: its preset's, with its own laid over them."""
    name = stage.get("preset")
    preset = PRESETS[name].objectives if isinstance(name, str) and name in PRESETS else {}
    own = _mapped(stage.get("objectives"))
    return {
        name: {**preset.get(name, {}), **_mapped(own.get(name))}
        for name in dict.fromkeys([*preset, *own])
    }


def _preset_faults(stage: Mapping[str, Any], path: str) -> list[Fault]:
    name = stage.get("preset")
    if isinstance(name, str) and name not in PRESETS:
        return [(f"{path}.preset", f"no preset is called {name!r}{nearest(name, PRESETS)}")]
    given = bool(name) or bool(_mapped(stage.get("objectives")))
    if stage.get("mixed") is not None:
        message = "is a mixed stage, which learns from labels alone; leave objectives out"
        return [(path, message)] if given else []
    if not given:
        return [(path, "has no objectives; name one, or a preset")]
    return []


def parse_objective(
    name: str, options: Mapping[str, Any], place: tuple[str, ...] = ()
) -> tuple[Objective | None, float | Ramp, list[Fault]]:
    """An objective, its weight, and the faults of its options."""
    own = {key: value for key, value in options.items() if key not in ("kind", "weight")}
    kind = options.get("kind", name)
    path = ".".join(place)
    if kind not in OBJECTIVES:
        return None, 0.0, [(path, f"no objective is called {kind!r}{nearest(kind, OBJECTIVES)}")]
    weight, faults = _parse_weight(options.get("weight", 1.0), (*place, "weight"))
    fields = option_names(kind)
    for key in sorted(own.keys() - set(fields)):
        faults.append((f"{path}.{key}", f"unknown option{nearest(key, [*fields, 'weight'])}"))
    try:
        known = {key: value for key, value in own.items() if key in fields}
        return TypeAdapter(OBJECTIVES[kind]).validate_python(known), weight, faults
    except ValidationError as error:
        return None, weight, faults + faults_of(error, Recipe, place)


def _parse_weight(value: Any, place: tuple[str, ...]) -> tuple[float | Ramp, list[Fault]]:
    if isinstance(value, Mapping):
        try:
            ramp = TypeAdapter(Ramp).validate_python(value)
        except ValidationError as error:
            return 1.0, faults_of(error, Recipe, place)
        if min(ramp.start, ramp.end) < 0 or max(ramp.start, ramp.end) <= 0:
            return 1.0, [(".".join(place), "both ends must be 0 or more, one of them above 0")]
        return ramp, []
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        message = f"is {value!r}, must be a number above 0, or a ramp as {{start: 1, end: 0}}"
        return 1.0, [(".".join(place), message)]
    return float(value), []


def option_names(kind: str) -> list[str]:
    """The options of an objective."""
    return [option.name for option in fields_of(OBJECTIVES[kind])]  # type: ignore[arg-type]


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, every default written out."""
    plain = recipe.model_dump(mode="json", by_alias=True)
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapped(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
