"""What a run was measured on, as its report shows it.

Fields are the keys of report.json, in its order; only `token_counts` has another name there.
Scores are shares of 1; `spread` is their standard deviation, None of a single value. `None` also
stands for a number that is not finite.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from .model_results import ModelResult
from .search_results import SearchResult
from .task_results import TaskAnswers
from .vocabulary_results import NearestTokens, SentenceInBoth, TokenizedTwice

Part = TypeVar("Part")


@dataclass(frozen=True)
class TaskQuality:
    """The scores of the compared models on a task, over fine-tunings.

    Attributes:
        metric: The headline metric.
        test_split: The rows that were scored.
        training_rows: How many were learned from.
        test_rows: How many were scored.
        teacher: The teacher's mean of the headline metric; None where it was not scored.
        student: The student's.
        no_distillation: That of the student that was trained without a teacher.
        seeds: The headline metric of every fine-tuning, by model.
        spread: Its standard deviation, by model.
        metrics: The mean of every metric, by model.
        search: How learning rate and length were chosen, by model; not in report.json where they
            were given.
    """

    metric: str
    test_split: str
    training_rows: int
    test_rows: int
    teacher: float | None
    student: float | None
    no_distillation: float | None
    seeds: Mapping[str, Sequence[float | None]]
    spread: Mapping[str, float | None]
    metrics: Mapping[str, Mapping[str, float | None]]
    search: Mapping[str, SearchResult] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The same as plain data, with the keys of report.json."""
        return {key: value for key, value in asdict(self).items() if key != "search" or value}

    @staticmethod
    def from_json(plain: Mapping[str, Any]) -> "TaskQuality":
        """The scores as they stand in report.json."""
        found = plain.get("search", {}).items()
        search = {role: SearchResult.from_json(of_role) for role, of_role in found}
        return TaskQuality(**{**plain, "search": search})

    @property
    def scores(self) -> dict[str, float]:
        """The mean of the headline metric of every model that was scored, by its role."""
        found = {
            "teacher": self.teacher,
            "student": self.student,
            "no_distillation": self.no_distillation,
        }
        return {role: score for role, score in found.items() if score is not None}


@dataclass(frozen=True)
class StageFacts:
    """What one stage of the training took.

    Attributes:
        name: Of the stage.
        steps: Of the optimizer.
        tokens: That were learned from.
        seconds: Of training.
    """

    name: str
    steps: int
    tokens: int
    seconds: float


@dataclass(frozen=True)
class TrainingFacts:
    """What the training took.

    Attributes:
        tokens: That were learned from.
        seconds: Of training.
        tokens_per_second: Over the whole training.
        peak_memory_bytes: The highest of all steps; None where the system does not say.
        trainable_parameters: Of the last stage.
        device: That trained; absent from report.json where the log does not say.
        precision: Of the arithmetic; absent where the log does not say.
        stages: In their order.
        memory: Bytes of the largest stage by what they hold, from the start of the process to
            activations; absent where the log does not say.
        mfu: The share of the device's matrix products that the models needed, over all seconds;
            absent where the log does not say.
    """

    tokens: int
    seconds: float
    tokens_per_second: float | None
    peak_memory_bytes: int | None
    trainable_parameters: int | None
    device: str | None
    precision: str | None
    stages: Sequence[StageFacts]
    memory: Mapping[str, int | None] | None = None
    mfu: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The same as plain data, with the keys of report.json."""
        plain = asdict(self)
        optional = ("device", "precision", "memory", "mfu")
        absent = [key for key in optional if plain[key] is None]
        return {key: value for key, value in plain.items() if key not in absent}

    @staticmethod
    def from_json(plain: Mapping[str, Any]) -> "TrainingFacts":
        """The training as it stands in report.json."""
        stages = [StageFacts(**stage) for stage in plain["stages"]]
        return TrainingFacts(**{"device": None, "precision": None, **plain, "stages": stages})


@dataclass(frozen=True)
class HeldOutLoss:
    """An objective on held-out text.

    Attributes:
        before: Its value before the first step of its stage.
        unit: Of the values.
        after: Its value after the last step.
    """

    before: float | None
    unit: str
    after: float | None


@dataclass(frozen=True)
class HeldOutText:
    """How well held-out text is predicted; what was not measured is None, and not in report.json.

    Attributes:
        bits_per_byte: Of the student.
        teacher_bits_per_byte: Of the teacher.
        top_agreement: Share of places at which both find the same token most likely.
        teacher_mass_on_no_piece: The teacher's probability of vocabulary rows without a token.
    """

    bits_per_byte: float | None = None
    teacher_bits_per_byte: float | None = None
    top_agreement: float | None = None
    teacher_mass_on_no_piece: float | None = None

    def to_json(self) -> dict[str, float]:
        """The same as plain data, with the keys of report.json."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class RunResult:
    """All that the report of a run shows.

    Attributes:
        name: Of the run.
        limbeck_version: Version that made the report.
        teacher: What the teacher costs; None where it was not measured.
        no_distillation: What the student trained without a teacher costs; None without one.
        student: What the student costs.
        quality: Scores by task.
        training: What the training took; None before its first step was logged.
        held_out: Losses on held-out text, by objective.
        held_out_text: How well held-out text is predicted.
        neighbours: Of a mixed stage: what student tokens mean to the teacher.
        two_readings: Of two vocabularies: one sentence in the tokens of both.
        token_counts: Of two vocabularies: counts of the training text, by stage; `cuts` in JSON.
        by_position: Measures in the first, middle and last third of held-out texts.
        task_answers: Of a task that was learned: agreement, flips and calibration; absent from
            report.json without one.
        notes: Sentences for the reader.
    """

    name: str
    limbeck_version: str
    teacher: ModelResult | None
    no_distillation: ModelResult | None
    student: ModelResult
    quality: Mapping[str, TaskQuality] = field(default_factory=dict)
    training: TrainingFacts | None = None
    held_out: Mapping[str, HeldOutLoss] = field(default_factory=dict)
    held_out_text: HeldOutText = HeldOutText()
    neighbours: NearestTokens | None = None
    two_readings: SentenceInBoth | None = None
    token_counts: Mapping[str, TokenizedTwice] = field(default_factory=dict)
    by_position: Mapping[str, Sequence[float]] = field(default_factory=dict)
    task_answers: TaskAnswers | None = None
    notes: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """The same as plain data, with the keys of report.json."""
        plain = {"cuts" if key == "token_counts" else key: v for key, v in asdict(self).items()}
        if self.task_answers is None:
            del plain["task_answers"]
        return {
            **plain,
            **{role: model.to_json() for role, model in self.models.items()},
            "quality": {task: quality.to_json() for task, quality in self.quality.items()},
            "training": self.training.to_json() if self.training else {},
            "held_out_text": self.held_out_text.to_json(),
        }

    @staticmethod
    def from_json(plain: Mapping[str, Any]) -> "RunResult":
        """A run as it stands in report.json; null counts as empty."""
        teacher, control, training, nearest, sentence = (
            plain[key]
            for key in ("teacher", "no_distillation", "training", "neighbours", "two_readings")
        )
        answers = plain.get("task_answers")
        return RunResult(
            name=plain["name"],
            limbeck_version=plain["limbeck_version"],
            teacher=ModelResult.from_json(teacher) if teacher else None,
            no_distillation=ModelResult.from_json(control) if control else None,
            student=ModelResult.from_json(plain["student"]),
            quality={
                task: TaskQuality.from_json(of_task)
                for task, of_task in (plain["quality"] or {}).items()
            },
            training=TrainingFacts.from_json(training) if training else None,
            held_out=_each(HeldOutLoss, plain["held_out"]),
            held_out_text=HeldOutText(**plain["held_out_text"]),
            neighbours=NearestTokens.from_json(nearest) if nearest else None,
            two_readings=SentenceInBoth.from_json(sentence) if sentence else None,
            token_counts=_each(TokenizedTwice, plain["cuts"]),
            by_position=plain["by_position"],
            task_answers=TaskAnswers.from_json(answers) if answers else None,
            notes=plain["notes"],
        )

    @property
    def models(self) -> dict[str, ModelResult]:
        """The models that were measured, by role: teacher, student, no_distillation."""
        found = {
            "teacher": self.teacher,
            "student": self.student,
            "no_distillation": self.no_distillation,
        }
        return {role: model for role, model in found.items() if model}


def _each(
    kind: Callable[..., Part], plain: Mapping[str, Mapping[str, Any]] | None
) -> dict[str, Part]:
    return {name: kind(**fields) for name, fields in (plain or {}).items()}
