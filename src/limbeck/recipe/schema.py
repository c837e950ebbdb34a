"""A recipe: everything a run does, as frozen data that YAML can hold.

The rooms never see these objects: builders turn them into plain arguments.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from ..data.text import TextSource
from ..evaluation.settings import FinetuneSettings, GenerationSettings
from ..models.architecture import Architecture
from ..objectives.schedule import NumberOrRamp, Ramp
from ..student.width import Width
from ..system.choices import DeviceChoice, PrecisionChoice
from ..system.numbers import Number, Whole
from ..tokenization.masking import Masking
from ..training.settings import OptimizerSettings

# Beyond any model that there is, so that a slip of the keyboard does not fill the memory.
_LAYERS, _WIDTH, _TOKENS = 10_000, 1_000_000, 100_000_000


class Part(BaseModel):
    """Frozen; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class TeacherPart(Part):
    """The model that is learned from; a bare string in YAML means its ``model``."""

    model: str = Field(description="a transformers folder, a hub name, or minilm-demo")
    architecture: Architecture | None = Field(
        None, description="module paths of an unknown architecture"
    )
    cache: str | None = Field(
        None, description="folder of its signals (limbeck cache); then model may be left out"
    )


class CopyPart(Part):
    """Which teacher layers the student starts from."""

    layers: Literal["uniform", "first", "last", "mean"] | list[Whole | list[Whole]] = Field(
        "uniform",
        description="a teacher layer for each student layer, counted from 0, or several, of which"
        " it becomes the mean; mean takes all, in equal runs",
    )
    width: Width = Field(Width.SVD, description="how narrower weights are filled: cut or svd")


class LowRankPart(Part):
    """Linear layers of the student in two thin factors, or with small additions that learn."""

    kind: Literal["factorize", "lora"] = Field(
        "factorize", description="factorize a layer into two thin ones; lora adds to a frozen one"
    )
    target_modules: Literal["feed_forward", "attention", "all"] | list[str] = Field(
        "feed_forward", description="which, or the ends of their paths, as mlp.up_proj"
    )
    rank: Whole | None = Field(None, ge=1, description="or give energy, or budget")
    energy: Number | None = Field(
        None, gt=0, lt=1, description="share of the squared singular values that is kept"
    )
    parameter_ratio: Number | None = Field(
        None, gt=0, lt=1, description="share of the layers' parameters that is kept"
    )
    whiten: bool = Field(True, description="weigh directions by what enters on real text")
    lora_alpha: Whole | None = Field(
        None, ge=1, description="of additions; twice the rank by default"
    )
    export: Literal["low_rank", "dense", "adapters"] = Field(
        "low_rank",
        description="dense multiplies the factors out at the end; adapters leaves additions to a"
        " `student.model` by themselves too, as a folder for peft",
    )


class StudentPart(Part):
    """The model that is trained; sizes that are left out are the teacher's."""

    model: str | None = Field(
        None,
        description="a student that was trained before, with sizes, tokens and weights of its own:"
        " a transformers folder, or a hub name",
    )
    num_hidden_layers: Whole | None = Field(None, ge=1, le=_LAYERS)
    hidden_size: Whole | None = Field(None, ge=1, le=_WIDTH)
    num_attention_heads: Whole | None = Field(None, ge=1, le=_WIDTH)
    intermediate_size: Whole | None = Field(None, ge=1, le=_WIDTH)
    model_type: str | None = Field(None, description="as bert or llama; the teacher's by default")
    tokenizer: str | None = Field(None, description="folder or hub name; the teacher's by default")
    max_position_embeddings: Whole | None = Field(
        None, ge=1, le=_TOKENS, description="longest text; the teacher's by default"
    )
    num_key_value_heads: Whole | None = Field(
        None,
        ge=1,
        le=_WIDTH,
        description="of decoders whose heads share keys; the teacher's ratio by default",
    )
    vocab_size: Whole | None = Field(
        None,
        ge=1,
        le=_TOKENS,
        description="rows of the embedding table, no fewer than tokens; the teacher's",
    )
    embedding_init: Literal["random", "mean", "containing", "weighted"] = Field(
        "random",
        description="first embeddings of another vocabulary than the teacher's: the mean of the"
        " teacher's tokens that a token is cut into; of those that contain it; or of these,"
        " weighted by how often the text has them",
    )
    allow_normalizer_mismatch: bool = Field(
        False,
        description="allow a tokenizer that tells letters apart which the teacher's does not (as"
        " capitals), or the other way round",
    )
    low_rank: LowRankPart | None = None
    init_from_teacher: CopyPart | None = Field(
        None, description="start from teacher layers; null starts from random weights"
    )


class HeldOutPart(Part):
    """Text that is never learned from."""

    fraction: Number = Field(0.01, gt=0, lt=1, description="share of the documents")
    sequences: Whole = Field(128, ge=1, description="how many are measured")


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _as_sources(value: Any) -> Any:
    items = value if isinstance(value, list) else [value]
    return [{"path": item} if isinstance(item, str) else item for item in items]


class DataPart(Part):
    """What is read, and how long the sequences are."""

    text: Annotated[list[TextSource], BeforeValidator(_as_sources)] = Field(
        [], description="files (txt, jsonl, csv, parquet; gz too) or hub names"
    )
    prompts: Annotated[list[str], BeforeValidator(_as_list)] = Field(
        [], description="DIR/NAME of files of prompts with references, for decoders"
    )
    max_new_tokens: Whole | None = Field(
        None, ge=1, description="tokens that answer a prompt, at most; half of length by default"
    )
    separator: str = Field("\n", description="stands between prompt and response")
    chat_template: bool = Field(
        False, description="prompts stand in the tokenizer's chat template, as a user says them"
    )
    loss_on: Literal["completion", "all"] = Field(
        "completion", description="all predicts the tokens of prompts as well"
    )
    max_length: Whole = Field(
        128, ge=8, le=_TOKENS, description="tokens in a sequence, special tokens included"
    )
    packing: bool = Field(True, description="documents follow one another without padding")
    isolate_documents: bool = Field(
        False, description="packed documents do not see one another; for decoders"
    )
    held_out: HeldOutPart = HeldOutPart()

    @property
    def longest_response(self) -> int:
        """Tokens of a response at most, its end included."""
        return self.max_new_tokens or self.max_length // 2


def _reads_both(share: float | Ramp) -> float | Ramp:
    ends = (share.start, share.end) if isinstance(share, Ramp) else (share, share)
    if not 0 < min(ends) <= max(ends) < 1:
        message = "must stay above 0 and below 1, so that both vocabularies are read"
        raise PydanticCustomError("share", message)
    return share


class MixedPart(Part):
    """The teacher learns to read the student's vocabulary beside its own, from labels."""

    student_fraction: Annotated[NumberOrRamp, AfterValidator(_reads_both)] = Field(
        0.5, description="of the words, those cut by the student's vocabulary; or a ramp"
    )


class AlignmentPart(Part):
    """How teacher and student are compared where they cut text into different tokens."""

    kind: Literal["match", "reduce", "boundaries"] = Field(
        "match",
        description="match compares tokens that are the same; reduce every teacher token with the"
        " student tokens that it is written with; ends, for decoders, where both have read as much",
    )
    pool: Literal["sum", "mean"] = Field("sum", description="what several student tokens become")
    columns: Literal["shared", "mapped", "all"] = Field(
        "shared",
        description="of output distributions: shared tokens; mapped, all of the teacher's, a logit"
        " of each pooled from those of its parts; or all of both, for `uld`",
    )
    logit_pooling: Literal["pool", "log_sum_exp"] = Field(
        "pool", description="of mapped columns: what the logits of a token's parts become"
    )
    teacher_input: Literal["everything", "masked"] = Field(
        "everything", description="masked hides from the teacher what the student does not see"
    )


def as_kind(value: Any) -> Any:
    """A kind's name alone stands for the part that has nothing but it."""
    return {"kind": value} if isinstance(value, str) else value


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
    alignment: Annotated[AlignmentPart | None, BeforeValidator(as_kind)] = Field(
        None, description="for a student with tokens of its own: match, reduce, or options"
    )
    policy: Annotated[dict[str, Any] | None, BeforeValidator(as_kind)] = Field(
        None,
        description="who writes what is learned from, by prompts: corpus, student, teacher, mixed,"
        " switch, speculative or adaptive; or {kind: ...} with options",
    )
    tokens: Whole | None = Field(None, ge=1, description="length in tokens; or give steps")
    max_steps: Whole | None = Field(None, ge=1)
    batch_size: Whole = Field(32, ge=1, description="sequences in an optimizer step")
    micro_batch_size: Whole | None = Field(None, ge=1, description="sequences in one forward")
    optimizer: OptimizerSettings = OptimizerSettings()
    masking: Masking | None = Field(None, description="by default 15 % of words, if labels need it")
    dropout: bool = Field(False, description="train with the student's dropout")
    projection_init: Literal["fitted", "random"] = Field(
        "fitted",
        description="how learned maps to the teacher's width begin: by least squares over the"
        " stage's first batches, or at random",
    )
    trainable: Literal["all", "head", "low_rank"] = Field(
        "all",
        description="head leaves everything but the vocabulary head as it is; factors everything"
        " but low-rank layers",
    )


class TrainingPart(Part):
    """How the run is carried out."""

    precision: PrecisionChoice = Field(
        "auto", description="auto is bfloat16 where the device has it in hardware, else float32"
    )
    device: DeviceChoice = Field(
        "auto", description="auto takes CUDA, then Apple's mps, then the processor"
    )
    gradient_checkpointing: bool = Field(
        False, description="compute the student's layers again in the backward, to save memory"
    )
    logging_steps: Whole = Field(20, ge=1)
    eval_steps: Whole = Field(200, ge=1)
    save_steps: Whole = Field(200, ge=1)
    save_total_limit: Whole = Field(2, ge=1, description="the last ones; others are removed")
    report_to: list[Literal["tensorboard"]] = []


class EvaluationPart(Part):
    """What the student is measured on when it is ready."""

    tasks: list[str] = Field([], description="DIR/NAME of task files")
    seeds: Whole = Field(3, ge=1)
    max_train_samples: Whole | None = Field(
        None, ge=1, description="the same subsample for every model"
    )
    split: str | None = None
    finetuning: FinetuneSettings = FinetuneSettings()
    generation: GenerationSettings = GenerationSettings()
    teacher: bool = Field(True, description="measure the teacher too")
    baseline: str | None = Field(
        None, description="run folder or model folder of the control that is measured beside it"
    )
    cost: bool = Field(True, description="measure latency and memory")


def as_model(value: Any) -> Any:
    """A model's name alone stands for the part that has nothing but it."""
    return {"model": value} if isinstance(value, str) else value


class Recipe(Part):
    """A whole run."""

    name: str = "run"
    seed: Whole = Field(0, ge=0)
    teacher: Annotated[TeacherPart | None, BeforeValidator(as_model)] = None
    student: Annotated[StudentPart, BeforeValidator(as_model)]
    data: DataPart
    stages: list[StagePart] = Field(min_length=1)
    training: TrainingPart = TrainingPart()
    evaluation: EvaluationPart = EvaluationPart()
