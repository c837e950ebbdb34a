"""A stage of a recipe: what is learned, for how long, and how."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from ..objectives.schedule import NumberOrRamp, Ramp
from ..student.rounding_kinds import Rounding
from ..system.numbers import Number, Whole
from ..tokenization.masking import Masking
from ..training.settings import OptimizerSettings
from .part import Part, as_kind


def _reads_both(fraction: float | Ramp) -> float | Ramp:
    ends = (fraction.start, fraction.end) if isinstance(fraction, Ramp) else (fraction, fraction)
    if not 0 < min(ends) <= max(ends) < 1:
        message = "must stay above 0 and below 1, so that both vocabularies are read"
        raise PydanticCustomError("fraction", message)
    return fraction


class MixedPart(Part):
    """Stage I of mixed-vocabulary training: the teacher learns the student's vocabulary too."""

    student_fraction: Annotated[NumberOrRamp, AfterValidator(_reads_both)] = Field(
        0.5, description="fraction of the words in the student's tokens; a number or a ramp"
    )


class AlignmentPart(Part):
    """How teacher and student are compared where they tokenize text differently."""

    kind: Literal["match", "reduce", "boundaries"] = Field(
        "match",
        description="match compares equal tokens; reduce every teacher token with the student"
        " tokens that spell it; boundaries, for decoders, where both have read the same text",
    )
    pool: Literal["sum", "mean"] = Field(
        "sum", description="how the vectors of several student tokens are combined"
    )
    columns: Literal["shared", "mapped", "all"] = Field(
        "shared",
        description="which logits are compared: of shared tokens; of all teacher tokens that the"
        " student can spell (mapped); or all of both vocabularies, for `uld` (all)",
    )
    logit_pooling: Literal["pool", "log_sum_exp"] = Field(
        "pool", description="how the logits of a token's parts are combined in mapped columns"
    )
    teacher_input: Literal["everything", "masked"] = Field(
        "everything", description="masked hides the same words from the teacher as from the student"
    )


class StagePart(Part):
    """One stage of training; without objectives that need a teacher it is plain pretraining."""

    name: str | None = Field(None, description="for logs; its objectives by default")
    preset: str | None = Field(
        None, description="the objectives of a published recipe, by its name"
    )
    objectives: dict[str, dict[str, Any]] = Field(
        {}, description="options and `weight` of every objective; `kind` under a name of your own"
    )
    mixed: MixedPart | None = Field(
        None, description="stage I of mixed-vocabulary training, in place of objectives"
    )
    alignment: Annotated[AlignmentPart | None, BeforeValidator(as_kind)] = Field(
        None,
        description="for a student with its own vocabulary: match, reduce, boundaries, or options",
    )
    policy: Annotated[dict[str, Any] | None, BeforeValidator(as_kind)] = Field(
        None,
        description="who generates the responses: corpus (nobody), student, teacher, mixed, switch,"
        " speculative or adaptive; or {kind: ...} with options",
    )
    tokens: Whole | None = Field(
        None, ge=1, description="length of the stage in tokens; or give max_steps"
    )
    max_steps: Whole | None = Field(None, ge=1, description="length of the stage in steps")
    num_train_epochs: Number | None = Field(
        None, gt=0, le=10_000, description="length of the stage in passes over the rows of a task"
    )
    batch_size: Whole = Field(32, ge=1, description="sequences in an optimizer step")
    micro_batch_size: Whole | None = Field(None, ge=1, description="sequences in one forward")
    optimizer: OptimizerSettings = OptimizerSettings()
    masking: Masking | None = Field(
        None, description="15 % of words by default, where an objective needs it"
    )
    quantization_aware: Rounding | None = Field(
        None,
        description="compute with the rounded numbers of an exported file: int8 (onnx-int8),"
        " int8_reduced (the same without VNNI), or int4 (onnx-int4-weights, for decoders)",
    )
    dropout: bool = Field(False, description="train with the student's dropout")
    projection_init: Literal["fitted", "random"] = Field(
        "fitted",
        description="initialization of the learned maps to the teacher's width: least squares over"
        " the stage's first batches, or random",
    )
    trainable: Literal["all", "head", "low_rank"] = Field(
        "all",
        description="all weights, the vocabulary head alone, or the low-rank layers alone",
    )
