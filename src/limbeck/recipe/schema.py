"""A recipe: everything a run does, as frozen data that YAML can hold.

The other rooms never see these objects: `run` turns them into plain arguments.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from ..data.prompt_sources import PromptLocationField
from ..data.rows import LocationField
from ..data.text import TextSource
from ..evaluation.settings import FinetuneSettings, GenerationSettings
from ..evaluation.task_files import TaskLocations
from ..system.choices import DeviceChoice, PrecisionChoice
from ..system.numbers import Number, Whole
from ..teacher.servers.settings import ServerSettings
from .models_part import StudentPart, TeacherPart
from .part import MOST_TOKENS, Part, as_model
from .stage_part import StagePart


class HeldOutPart(Part):
    """Text that is never learned from."""

    fraction: Number = Field(0.01, gt=0, lt=1, description="fraction of the documents")
    sequences: Whole = Field(128, ge=1, description="sequences that are measured")


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _as_sources(value: Any) -> Any:
    items = value if isinstance(value, list) else [value]
    return [{"path": item} if isinstance(item, str) else item for item in items]


class DataPart(Part):
    """The text that is read, and the length of its sequences."""

    text: Annotated[list[TextSource], BeforeValidator(_as_sources)] = Field(
        [],
        description="files (txt, jsonl, csv, parquet; gz too), here or as s3://bucket/file and the"
        " like, or hub names",
    )
    prompts: Annotated[list[PromptLocationField], BeforeValidator(_as_list)] = Field(
        [],
        description="for decoders: DIR/NAME of files of prompts with references, or a file, folder"
        " or hub dataset of prompts with answers, instructions or conversations",
    )
    task: LocationField | None = Field(
        None,
        description="DIR/NAME of a task's files, or a file, folder or hub dataset of rows, whose"
        " labels or tags are learned",
    )
    rows: Annotated[list[LocationField], BeforeValidator(_as_list)] = Field(
        [], description="rows without labels, for which the teacher gives them"
    )
    predict: Literal["label", "tags"] | None = Field(
        None,
        description="of rows that have both; label, or what the teacher's head does",
    )
    max_new_tokens: Whole | None = Field(
        None, ge=1, description="longest response in tokens; half of max_length by default"
    )
    separator: str = Field("\n", description="between prompt and response")
    chat_template: bool = Field(
        False,
        description="put prompts into the tokenizer's chat template, as conversations always are",
    )
    loss_on: Literal["completion", "all"] = Field(
        "completion",
        description="completion predicts responses, and every answer of a conversation; all"
        " predicts the tokens of prompts too",
    )
    max_length: Whole = Field(
        128, ge=8, le=MOST_TOKENS, description="tokens in a sequence, special tokens included"
    )
    packing: Literal["all", True, False] = Field(
        True,
        description="join documents into full sequences without padding; all joins prompts with"
        " their responses too, which only `corpus` reads",
    )
    isolate_documents: bool = Field(
        False, description="packed documents do not attend to one another; for decoders"
    )
    held_out: HeldOutPart = HeldOutPart()
    num_proc: Whole = Field(
        1, ge=1, description="processes that tokenize the text of a source, with the same result"
    )

    @property
    def packs_prompts(self) -> bool:
        """Whether several prompts stand in one sequence."""
        return self.packing == "all"

    @property
    def longest_response(self) -> int:
        """The longest response in tokens, its end included."""
        return self.max_new_tokens or self.max_length // 2


class TrainingPart(Part):
    """How the run is carried out."""

    precision: PrecisionChoice = Field(
        "auto", description="auto is bfloat16 where the device has it in hardware, else float32"
    )
    device: DeviceChoice = Field(
        "auto", description="auto takes CUDA, then Apple's mps, then the processor"
    )
    gradient_checkpointing: bool = Field(
        False, description="recompute the student's layers in the backward pass, to save memory"
    )
    torch_compile: Literal["auto", True, False] = Field(
        "auto",
        description="compile layers and losses, which fuses what they do between matrix products:"
        " auto does on a GPU, in stages of 1,000 steps or more",
    )
    frozen_dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto",
        description="of the student's weights where only low-rank layers or adapters learn: auto"
        " holds in 16 bits those that lose nothing by it, bfloat16 rounds all, float32 holds none",
    )
    logging_steps: Whole = Field(20, ge=1, description="steps between records of the log")
    eval_steps: Whole = Field(200, ge=1, description="steps between measures on held-out text")
    save_steps: Whole = Field(200, ge=1, description="steps between checkpoints")
    save_total_limit: Whole = Field(2, ge=1, description="checkpoints to keep, the last ones")
    report_to: list[Literal["tensorboard"]] = Field([], description="trackers beside log.jsonl")


class EvaluationPart(Part):
    """What the finished student is measured on."""

    tasks: TaskLocations = Field(
        [],
        description="each DIR/NAME of task files, or a file, folder or hub dataset of rows or"
        " conversations",
    )
    seeds: Whole = Field(3, ge=1, description="fine-tunings of every model on every task")
    max_train_samples: Whole | None = Field(
        None, ge=1, description="training rows of a task, the same for every model; all by default"
    )
    split: str | None = Field(None, description="dev or test; dev where there is one")
    finetuning: FinetuneSettings = FinetuneSettings()
    generation: GenerationSettings = GenerationSettings()
    teacher: bool = Field(True, description="measure the teacher too")
    baseline: str | None = Field(
        None, description="run or model folder of a student without distillation, to compare with"
    )
    cost: bool = Field(True, description="measure latency and memory")


class Recipe(Part):
    """A whole run."""

    name: str = Field("run", description="for reports and trackers")
    seed: Whole = Field(0, ge=0, lt=2**63, description="decides everything random")
    teacher: Annotated[TeacherPart | None, BeforeValidator(as_model)] = None
    student: Annotated[StudentPart, BeforeValidator(as_model)]
    data: DataPart
    stages: list[StagePart] = Field(min_length=1)
    training: TrainingPart = TrainingPart()
    evaluation: EvaluationPart = EvaluationPart()

    @property
    def server(self) -> ServerSettings | None:
        """How the teacher's server is reached; None where the teacher is on none."""
        return self.teacher.server if self.teacher else None
