"""Low-rank layers of a student: made, trained alone, and merged or saved at the end."""

from pathlib import Path

from transformers import PreTrainedModel

from ..batch import Tokens
from ..models.architecture import Architecture
from ..models.low_rank_layers import LowRankLinear
from ..models.sentences.attached import attached_vectors
from ..recipe.models_part import LowRankPart
from ..recipe.setup import Setup
from ..recipe.sides import Models
from ..student.adapters import add_adapters, merge_adapters, save_adapters, train_only_adapters
from ..student.low_rank import Rank, chosen_layers, factorize_layers, merge_factors
from ..student.new_head import head_modules, train_head


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
        student: With its initial weights.
        models: Of the recipe.
        part: As the recipe has it.
        calibration: Text as the student reads it, for whitening.
        seed: Decides the initialization of adapters.

    Raises:
        StudentError: No layer would get smaller.
        MissingExtraError: What adapts is not installed.
    """
    paths = chosen_layers(student, models.student.architecture, part.target_modules)
    if part.kind == "lora":
        rank = part.rank or 1
        add_adapters(student, paths, rank=rank, alpha=part.lora_alpha or 2 * rank, seed=seed)
        return
    rank_of = Rank(part.rank, part.energy, part.parameter_ratio)
    factorize_layers(student, paths, rank_of, calibration=calibration if part.whiten else [])


def train_only_factors(setup: Setup, student: PreTrainedModel) -> None:
    """Freeze everything but low-rank layers or adapters, and what is new beside them."""
    part = setup.recipe.student.low_rank
    if part is not None and part.kind == "lora":
        train_only_adapters(student)
    else:
        student.requires_grad_(False)
        for module in student.modules():
            if isinstance(module, LowRankLinear):
                module.requires_grad_(True)
    if "head" in setup.new_parts:
        train_head(student)
    if "map" in setup.new_parts and (vectors := attached_vectors(student)):
        vectors.dense[-1].requires_grad_(True)  # as `student_vectors` appends it


def export_adapters(
    setup: Setup, student: PreTrainedModel, folder: Path, *, with_head: bool
) -> None:
    """Save the adapters as a folder for peft where the recipe wants it, before they are merged.

    A new head, which learned beside them, is saved with them.
    """
    part = setup.recipe.student
    if part.model and part.low_rank and part.low_rank.export == "adapters":
        new = with_head and "head" in setup.new_parts
        save_adapters(
            student,
            folder / "adapters",
            base=part.model,
            with_head=with_head,
            beside=head_modules(student) if new else {},
            task=setup.models.student.head,
        )


def finish_low_rank(
    student: PreTrainedModel, architecture: Architecture, part: LowRankPart | None
) -> None:
    """Merge adapters into their layers, or multiply low-rank layers out where that is wanted."""
    if part is None:
        return
    if part.kind == "lora":
        merge_adapters(student)
    elif part.export == "dense":
        merge_factors(student, architecture)
