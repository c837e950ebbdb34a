"""What a recipe may hold of low-rank layers, and what these come to."""

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import torch
from transformers import PreTrainedModel

from ..errors import Problem, StudentError
from ..models.auto_classes import empty_model, whole_class
from ..models.load import load_config
from ..models.low_rank_layers import sizes_of
from ..models.low_rank_loading import QUANT_METHOD
from ..models.task_heads import head_of
from ..models.weight_headers import has_vocabulary_head
from ..student.low_rank import Rank, break_even, chosen_layers
from ..training.stage import Stage
from .models_part import LowRankPart
from .schema import Recipe, TrainingPart
from .sides import Models
from .stage_part import StagePart
from .vectors import maps_vectors

_FIELD = "student.low_rank"
NewPart = Literal["head", "map"]


def low_rank_problems(
    models: Models, part: LowRankPart, *, mixed: bool, pretrained: bool
) -> list[Problem]:
    """Options that do not go together, layers that there are not, and ranks that save nothing.

    Args:
        models: Of the recipe.
        part: As the recipe has it.
        mixed: Whether some stage is a mixed one.
        pretrained: Whether the student lies somewhere, with weights of its own.
    """
    given = [
        name for name in ("rank", "energy", "parameter_ratio") if getattr(part, name) is not None
    ]
    if part.kind == "lora":
        wrong = given != ["rank"]
        problems = [(_FIELD, "is lora, which takes `rank` alone")] if wrong else []
    else:
        message = (
            f"has {', '.join(given) or 'no size'}; give one of rank, energy and parameter_ratio"
        )
        problems = [(_FIELD, message)] if len(given) != 1 else []
    if part.kind == "factorize" and part.lora_alpha is not None:
        problems.append((f"{_FIELD}.lora_alpha", "is for `kind: lora`; say that, or leave it out"))
    if part.kind == "lora" and not part.whiten:
        message = "is for `kind: factorize`, and adapters begin as nothing; leave it out"
        problems.append((f"{_FIELD}.whiten", message))
    if part.export == "adapters" and (part.kind != "lora" or not pretrained):
        message = "is adapters, which `kind: lora` adds to a `student.model`"
        problems.append((f"{_FIELD}.export", f"{message}; name it, or leave the field out"))
    if mixed:
        problems.append(
            (_FIELD, "cannot stand beside a `mixed` stage; run it on that run's student")
        )
    try:
        sizes = _layer_sizes(models, part)
    except StudentError as error:
        return [*problems, (f"{_FIELD}.target_modules", str(error))]
    if not sizes:
        return [*problems, (f"{_FIELD}.target_modules", "names no layer of the student; name some")]
    most = max(break_even(*size) for size in sizes.values())
    if part.kind == "factorize" and part.rank is not None and part.rank > most:
        message = f"is {part.rank}; low-rank layers are smaller than dense ones up to rank {most}"
        problems.append((f"{_FIELD}.rank", message))
    return problems


def factor_stage_problems(stages: Sequence[StagePart], part: LowRankPart | None) -> list[Problem]:
    """Stages that train low-rank layers where there are none, or what adapters leave out."""
    adapted = part is not None and part.kind == "lora"
    wrong = {
        "low_rank": (part is None, "but the student has no low-rank layers (student.low_rank)"),
        "head": (adapted, "but with `low_rank: {kind: lora}` the adapters alone are trained"),
    }
    message = "cannot be with `low_rank: {kind: lora}`, whose weights are added up on export"
    problems = [
        (f"stages.{number}.quantization_aware", f"{message}; leave it out")
        for number, stage in enumerate(stages)
        if adapted and stage.quantization_aware
    ]
    if part is not None and part.kind == "factorize" and part.export == "dense":
        message = "rounds each of the two thin matrices, and `low_rank: {export: dense}` multiplies"
        message += " them before the file is rounded; leave it out, or export low_rank"
        problems += [
            (f"stages.{number}.quantization_aware", message)
            for number, stage in enumerate(stages)
            if stage.quantization_aware
        ]
    return problems + [
        (
            f"stages.{number}.trainable",
            f"is {stage.trainable}, {wrong[stage.trainable][1]}; leave it out",
        )
        for number, stage in enumerate(stages)
        if wrong.get(stage.trainable, (False, ""))[0]
    ]


def only_low_rank(stages: Sequence[Stage], part: LowRankPart | None) -> bool:
    """Whether no stage trains anything but the student's low-rank layers or adapters."""
    return part is not None and all(
        stage.mixed is None
        and stage.rounding is None
        and (part.kind == "lora" or stage.trainable == "low_rank")
        for stage in stages
    )


def untrained_problems(models: Models, recipe: Recipe, stages: Sequence[Stage]) -> list[Problem]:
    """Random weights of the student that stay so, or that its adapters are saved without."""
    part = recipe.student.low_rank
    if part is None or not only_low_rank(stages, part):
        return []
    if not models.student.name and not models.copied_layers:
        message = "and all else of the student would stay random; start from a model"
        message += " (init_from_teacher, student.model)"
        if part.kind == "lora":
            message = f"is lora, which trains adapters, {message}, or leave low_rank out"
            return [(f"{_FIELD}.kind", message)]
        message = f"is low_rank, as in every stage, {message}, or train all in some stage"
        return [("stages.0.trainable", message)]
    if part.export == "adapters" and "map" in new_parts(models, recipe, stages):
        message = "is adapters, and peft has no place for the student's new map to the width of the"
        message += " teacher's vectors; leave it out: RUN/student has the map"
        return [(f"{_FIELD}.export", message)]
    return []


def new_parts(models: Models, recipe: Recipe, stages: Sequence[Stage]) -> frozenset[NewPart]:
    """What has random weights where low-rank layers or adapters alone learn, and learns with them.

    ``head`` is that of a task or of the vocabulary, ``map`` the one to the width of the teacher's
    vectors.
    """
    if not only_low_rank(stages, recipe.student.low_rank):
        return frozenset()
    student, source = models.student, models.student.name
    copied = models.teacher if models.copied_layers else None
    if student.head:
        own = head_of(load_config(source)) if source else copied and copied.head
        return frozenset[NewPart]() if own == student.head else frozenset[NewPart]({"head"})
    found = set[NewPart]()
    if any(stage.student_needs().predictions for stage in stages):
        name = source or (copied.name if copied else "")
        if has_vocabulary_head(name, architecture=student.architecture) is False:
            found.add("head")
    if recipe.teacher and maps_vectors(models, recipe.teacher.model, stages):
        found.add("map")
    return frozenset(found)


def frozen_problems(
    stages: Sequence[Stage], part: LowRankPart | None, training: TrainingPart
) -> list[Problem]:
    """A precision for frozen weights where every weight is trained in some stage."""
    if training.frozen_dtype != "bfloat16":
        return []
    if part is not None and part.kind == "lora" and part.export == "adapters":
        message = "rounds the weights that the adapters learn beside, and adapters are saved for"
        message += " the model as it is; take auto, or float32"
        return [("training.frozen_dtype", message)]
    if only_low_rank(stages, part):
        return []
    message = "rounds weights that are never trained, but here all are (or a stage rounds them"
    message += " itself); leave it out, or train low-rank layers or adapters alone in every stage"
    return [("training.frozen_dtype", message)]


def low_rank_table(
    models: Models, part: LowRankPart, new: Collection[NewPart] = ()
) -> list[list[str]]:
    """Size, rank and parameters of every kind of layer, where the rank is known beforehand.

    Args:
        models: Of the recipe.
        part: As the recipe has it.
        new: What learns whole beside the layers.
    """
    rows: dict[tuple[str, int, int], int] = {}
    for path, (inputs, outputs) in _layer_sizes(models, part).items():
        end = path.removeprefix(models.student.architecture.layers + ".").split(".", 1)[1]
        rows[end, inputs, outputs] = rows.get((end, inputs, outputs), 0) + 1
    table = [["layer", "how many", "size", "rank", "saves up to rank", "parameters kept"]]
    for (end, inputs, outputs), count in rows.items():
        rank = _known_rank(part, inputs, outputs)
        share = "" if rank is None else f"{rank * (inputs + outputs) / (inputs * outputs):.1%}"
        most = break_even(inputs, outputs)
        size = f"{inputs} x {outputs}"
        table.append([end, str(count), size, str(rank or "by energy"), str(most), share])
    return table + [[f"the new {name}", "", "", "whole", "", "100.0%"] for name in sorted(new)]


def _known_rank(part: LowRankPart, inputs: int, outputs: int) -> int | None:
    """The rank of a layer; None where the energy of its weights decides it."""
    if part.parameter_ratio is None:
        return part.rank
    return Rank(parameter_ratio=part.parameter_ratio).of(torch.zeros(1), inputs, outputs)


def exported_config(models: Models, part: LowRankPart | None) -> Any:
    """The configuration of the student as it is exported, as far as ranks are known beforehand."""
    config = models.student.config
    if part is None or part.kind == "lora" or part.export == "dense" or part.energy is not None:
        return config
    ranks = {
        path: rank
        for path, size in _layer_sizes(models, part).items()
        if (rank := _known_rank(part, *size)) and rank <= break_even(*size)
    }
    config = copy.deepcopy(config)
    config.quantization_config = {"quant_method": QUANT_METHOD, "ranks": ranks}
    return config


def low_rank_notes(models: Models, part: LowRankPart | None, ranks: Mapping[str, int]) -> list[str]:
    """What a student's low-rank layers have become, in a sentence.

    Args:
        models: Of the recipe.
        part: As the recipe has it.
        ranks: Of the exported student's low-rank layers; none where they were multiplied out.
    """
    if part is None or not ranks:
        return []
    sizes = _layer_sizes(models, part)
    kept = sum(rank * sum(sizes[path]) for path, rank in ranks.items())
    dense = sum(inputs * outputs for inputs, outputs in (sizes[path] for path in ranks))
    said = (
        f"{len(ranks)} layers are low-rank, of rank {min(ranks.values())} to"
        f" {max(ranks.values())}, with {kept / dense:.1%} of their parameters"
    )
    if whole := len(sizes) - len(ranks):
        said += f"; {whole} that would not get smaller stay whole"
    return [said]


def skeleton(models: Models) -> PreTrainedModel:
    """The student without its weights."""
    return empty_model(whole_class(models.student.architecture), models.student.config)


def _layer_sizes(models: Models, part: LowRankPart) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of every layer that is to be low-rank, by its path from the body.

    Raises:
        StudentError: The recipe names layers that there are not.
    """
    model = skeleton(models)
    paths = chosen_layers(model, models.student.architecture, part.target_modules)
    return {path: sizes_of(model.base_model.get_submodule(path)) for path in paths}
