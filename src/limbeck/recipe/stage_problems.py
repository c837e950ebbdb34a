"""What is wrong with a stage for the models that it trains: their kinds, heads and mask tokens."""

from collections.abc import Mapping

from ..errors import Problem
from ..models.quantized import quantization_missing
from ..objectives.contract import Objective
from .low_rank import skeleton
from .schema import DataPart
from .sides import Models
from .stage_part import StagePart


def rounding_problems(part: StagePart, number: int, models: Models) -> list[Problem]:
    """Rounding that no exported file of the student has."""
    if part.quantization_aware != "int4" or models.student.architecture.causal:
        return []
    message = "is int4, which exported files of decoders alone have; give int8"
    return [(f"stages.{number}.quantization_aware", message)]


def optimizer_problems(part: StagePart, number: int) -> list[Problem]:
    """An optimizer of which a package is missing."""
    missing = quantization_missing()
    if part.optimizer.optim == "adamw_torch" or missing is None:
        return []
    return [(f"stages.{number}.optimizer.optim", f"is {part.optimizer.optim}: {missing}")]


def decoder_problems(part: StagePart, number: int, models: Models, data: DataPart) -> list[Problem]:
    """What is for decoders alone, or for encoders alone."""
    problems: list[Problem] = []
    causal = models.student.architecture.causal
    if data.isolate_documents and (part.alignment or not (data.packing and causal)):
        message = "is for packed text that decoders read, without an alignment; leave it out"
        problems.append(("data.isolate_documents", message))
    families = [side.architecture for side in (models.student, models.teacher) if side]
    if data.isolate_documents and not all(family.separable_documents for family in families):
        message = "cannot be: the model has no positions that keep documents apart; leave it out"
        problems.append(("data.isolate_documents", message))
    if part.masking and causal:
        message = "hides tokens, which decoders do not learn from; leave it out"
        problems.append((f"stages.{number}.masking", message))
    return problems


def mask_problems(models: Models, number: int, *, both: bool) -> list[Problem]:
    """Tokenizers without a mask token, where tokens are hidden."""
    tokenizers = {"student": models.student.tokenizer}
    if both and models.teacher:
        tokenizers["teacher"] = models.teacher.tokenizer
    lacking = [who for who, found in tokenizers.items() if found.mask_token_id is None]
    message = "hides tokens, but the tokenizer of the {} has no mask_token; add one, or leave out"
    message += " `masking` and the objectives that need predictions (labels, logits ...)"
    return [(f"stages.{number}", message.format(who)) for who in lacking]


def head_problems(
    objectives: Mapping[str, Objective], number: int, models: Models
) -> list[Problem]:
    """Objectives that give a vocabulary head nothing to learn from, or a head without weights."""
    place = f"stages.{number}.trainable"
    if models.student.head:
        return []
    others = [name for name, o in objectives.items() if not o.student_needs().predictions]
    if others:
        message = f"is head, but {', '.join(others)} needs no predictions; train all, or leave"
        return [(place, f"{message} the objective out")]
    model = skeleton(models)
    body = {id(parameter) for parameter in model.base_model.parameters()}
    if all(id(parameter) in body for parameter in model.parameters()):
        message = "is head, but the student's is its embedding table and nothing else; train all"
        return [(place, message)]
    return []
