"""What a recipe may ask of low-rank layers, and the student that has them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from ..batch import Tokens
from ..errors import Problem, StudentError
from ..models.architecture import Architecture
from ..models.load import language_model_class
from ..models.low_rank_layers import FactoredLinear, sizes_of
from ..student.adapters import add_adapters, merge_adapters, save_adapters, train_only_adapters
from ..student.low_rank import Rank, break_even, chosen_layers, factor_layers, merge_factors
from .schema import LowRankPart, StagePart, StudentPart
from .sides import Models

_FIELD = "student.low_rank"


def low_rank_problems(
    models: Models, part: LowRankPart, *, mixed: bool, pretrained: bool
) -> list[Problem]:
    """Options that do not go together, layers that there are not, and ranks that save nothing.

    Args:
        models: Of the recipe.
        part: What is asked for.
        mixed: Whether some stage is a mixed one.
        pretrained: Whether the student lies somewhere, with weights of its own.
    """
    given = [
        name for name in ("rank", "energy", "parameter_ratio") if getattr(part, name) is not None
    ]
    if part.kind == "lora":
        wrong = given != ["rank"]
        problems = [(_FIELD, "adapts, which takes `rank` alone")] if wrong else []
    else:
        message = f"has {', '.join(given) or 'no size'}; give one of rank, energy and budget"
        problems = [(_FIELD, message)] if len(given) != 1 else []
    if part.export == "adapters" and (part.kind != "lora" or not pretrained):
        message = "is adapters, which are additions (`kind: lora`) to a `student.model`"
        problems.append((f"{_FIELD}.export", f"{message}; name it, or leave the field out"))
    if mixed:
        problems.append(
            (_FIELD, "cannot stand beside a `mixed` stage; run it on that run's student")
        )
    try:
        paths = chosen_layers(skeleton(models), models.architecture, part.target_modules)
    except StudentError as error:
        return [*problems, (f"{_FIELD}.layers", str(error))]
    if not paths:
        return [*problems, (f"{_FIELD}.layers", "names no layer of the student; name some")]
    most = max(break_even(*size) for size in _sizes(models, paths).values())
    if part.kind == "factorize" and part.rank is not None and part.rank > most:
        message = f"is {part.rank}; two factors are smaller than one matrix up to rank {most}"
        problems.append((f"{_FIELD}.rank", message))
    return problems


def factor_stage_problems(stages: Sequence[StagePart], part: LowRankPart | None) -> list[Problem]:
    """Stages that would train low-rank layers where there are none, or a head beside additions."""
    adapted = part is not None and part.kind == "lora"
    wrong = {
        "low_rank": (part is None, "but the student has no low-rank layers (student.low_rank)"),
        "head": (adapted, "but with `low_rank: {kind: lora}` the additions alone are trained"),
    }
    return [
        (
            f"stages.{number}.trainable",
            f"is {stage.trainable}, {wrong[stage.trainable][1]}; leave it out",
        )
        for number, stage in enumerate(stages)
        if wrong.get(stage.trainable, (False, ""))[0]
    ]


def low_rank_table(models: Models, part: LowRankPart) -> list[list[str]]:
    """Size, rank and parameters of every kind of layer, where the rank is known beforehand."""
    paths = chosen_layers(skeleton(models), models.architecture, part.target_modules)
    rows: dict[tuple[str, int, int], int] = {}
    for path, (inputs, outputs) in _sizes(models, paths).items():
        end = path.removeprefix(models.architecture.layers + ".").split(".", 1)[1]
        rows[end, inputs, outputs] = rows.get((end, inputs, outputs), 0) + 1
    table = [["layer", "how many", "size", "rank", "saves up to rank", "parameters kept"]]
    for (end, inputs, outputs), count in rows.items():
        rank = part.rank
        if part.parameter_ratio is not None:
            rank = Rank(budget=part.parameter_ratio).of(torch.zeros(1), inputs, outputs)
        share = "" if rank is None else f"{rank * (inputs + outputs) / (inputs * outputs):.1%}"
        most = break_even(inputs, outputs)
        size = f"{inputs} x {outputs}"
        table.append([end, str(count), size, str(rank or "by energy"), str(most), share])
    return table


def low_rank_notes(models: Models, part: LowRankPart | None, ranks: Mapping[str, int]) -> list[str]:
    """What a student's low-rank layers have become, in a sentence.

    Args:
        models: Of the recipe.
        part: What was asked for.
        ranks: Of the exported student's factored layers; none where they were multiplied out.
    """
    if part is None or not ranks:
        return []
    paths = chosen_layers(skeleton(models), models.architecture, part.target_modules)
    sizes = _sizes(models, paths)
    kept = sum(rank * sum(sizes[path]) for path, rank in ranks.items())
    dense = sum(inputs * outputs for inputs, outputs in (sizes[path] for path in ranks))
    said = (
        f"{len(ranks)} layers are in two factors, of rank {min(ranks.values())} to"
        f" {max(ranks.values())}, with {kept / dense:.1%} of their parameters"
    )
    if whole := len(paths) - len(ranks):
        said += f"; {whole} that would not get smaller stay whole"
    return [said]


def lower_rank(
    student: PreTrainedModel,
    models: Models,
    part: LowRankPart,
    *,
    calibration: list[Tokens],
    seed: int,
) -> None:
    """Give a student its low-rank layers, in place.

    Args:
        student: With its first weights.
        models: Of the recipe.
        part: What is asked for.
        calibration: Text as the student reads it, for whitening.
        seed: Decides the first weights of additions.

    Raises:
        StudentError: No layer would get smaller.
        MissingExtraError: What adapts is not installed.
    """
    paths = chosen_layers(student, models.architecture, part.target_modules)
    if part.kind == "lora":
        rank = part.rank or 1
        add_adapters(student, paths, rank=rank, alpha=part.lora_alpha or 2 * rank, seed=seed)
        return
    rank_of = Rank(part.rank, part.energy, part.parameter_ratio)
    factor_layers(student, paths, rank_of, calibration=calibration if part.whiten else [])


def train_only_factors(student: PreTrainedModel, part: LowRankPart | None) -> None:
    """Freeze everything but low-rank layers."""
    if part is not None and part.kind == "lora":
        train_only_adapters(student)
        return
    student.requires_grad_(False)
    for module in student.modules():
        if isinstance(module, FactoredLinear):
            module.requires_grad_(True)


def export_additions(
    student: PreTrainedModel, part: StudentPart, folder: Path, *, with_head: bool
) -> None:
    """Leave additions by themselves where that is asked for, before they are merged."""
    if part.model and part.low_rank and part.low_rank.export == "adapters":
        save_adapters(student, folder / "adapters", base=part.model, with_head=with_head)


def finish_low_rank(
    student: PreTrainedModel, architecture: Architecture, part: LowRankPart | None
) -> None:
    """Merge additions into what they were added to, and factors where a dense model is wanted."""
    if part is None:
        return
    if part.kind == "lora":
        merge_adapters(student)
    elif part.export == "dense":
        merge_factors(student, architecture)


def skeleton(models: Models) -> PreTrainedModel:
    """The student without its weights."""
    with torch.device("meta"):
        kind = language_model_class(causal=models.architecture.causal)
        model: PreTrainedModel = kind.from_config(models.student_config)
    return model


def _sizes(models: Models, paths: list[str]) -> dict[str, tuple[int, int]]:
    body = skeleton(models).base_model
    return {path: sizes_of(body.get_submodule(path)) for path in paths}
