"""What a study has found so far, as its report shows it.

Fields are the keys of report.json, in its order. Scores are shares of 1; `spread` is their standard
deviation, None of a single value. `None` also stands for a number that is not finite.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .study_search import ArmSearch

# What a model costs and what a training took, each number by its name, as they were measured.
Facts = Mapping[str, Any]


@dataclass(frozen=True)
class TaskResult:
    """The scores of a model on a task, over trainings and fine-tunings.

    Attributes:
        metric: The headline metric.
        test_rows: How many were scored.
        training_rows: How many were learned from.
        mean: Of the headline metric.
        spread: Its standard deviation.
        values: The headline metric of every training and fine-tuning.
        means: Every metric, averaged over all of them.
        by_training: Every metric of each training.
    """

    metric: str
    test_rows: int
    training_rows: int
    mean: float | None
    spread: float | None
    values: Sequence[float]
    means: Mapping[str, float | None]
    by_training: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class TeacherResult:
    """The teacher of a study.

    Attributes:
        quality: Its results by task; it may lack those for which it has no head.
        mean: Of the headline metrics over tasks; None without tasks, and where it lacks one.
        spread: Standard deviation of that mean.
        name: Folder or hub name.
        cost: What it costs.
    """

    quality: Mapping[str, TaskResult]
    mean: float | None
    spread: float | None
    name: str
    cost: Facts

    @staticmethod
    def from_json(plain: Mapping[str, Any]) -> "TeacherResult":
        """The teacher as it stands in report.json."""
        return TeacherResult(**{**plain, "quality": _quality(plain)})


@dataclass(frozen=True)
class Gap:
    """The mean score of an arm minus that of its control.

    Attributes:
        mean: The difference on the test rows.
        low: Lower end of its 95 % interval.
        high: Upper end of it.
        p: Two-sided: one minus the level of the interval that just reaches zero.
        seeds: How many the interval takes into account; with one it is of the test rows alone.
    """

    mean: float
    low: float
    high: float
    p: float
    seeds: int


@dataclass(frozen=True)
class ArmResult:
    """One arm of a study, for one student.

    Attributes:
        arm: Its name.
        student: Name of the student.
        cost: What the student costs.
        quality: Results by task.
        mean: Of the headline metrics over tasks; None without tasks.
        spread: Standard deviation of that mean.
        training: Facts of the first training: time, tokens, memory.
        held_out_before: Held-out losses before the last stage, by objective.
        held_out: Held-out losses at the end.
        by_position: Measures in the first, middle and last third of held-out texts.
        runs: Folders of its trainings, in the folder of the study.
        against_control: Its difference from the control; None of the control itself.
    """

    arm: str
    student: str
    cost: Facts
    quality: Mapping[str, TaskResult]
    mean: float | None
    spread: float | None
    training: Facts
    held_out_before: Mapping[str, float | None]
    held_out: Mapping[str, float | None]
    by_position: Mapping[str, Sequence[float | None]]
    runs: Sequence[str]
    against_control: Gap | None

    @staticmethod
    def from_json(plain: Mapping[str, Any]) -> "ArmResult":
        """An arm as it stands in report.json."""
        gap = plain["against_control"]
        against = Gap(**gap) if gap else None
        return ArmResult(**{**plain, "quality": _quality(plain), "against_control": against})

    def by_seed(self, task: str, metric: str) -> dict[str, float]:
        """A metric of every training, by the seed that ends the name of its folder."""
        seeds = [run.rsplit("/", 1)[-1] for run in self.runs]
        return dict(zip(seeds, self.quality[task].by_training.get(metric, []), strict=False))


@dataclass(frozen=True)
class StudyResult:
    """All that the report of a study shows.

    Attributes:
        name: Of the study.
        limbeck_version: Version that made the report.
        command: That carries out the study.
        again: Command that trains one arm alone.
        control: Name of the arm that all are compared with.
        trainings: Of each arm.
        fine_tunings: Of each training.
        teacher: None where it was not scored.
        students: What the student of the first arm costs, by the name of the student.
        rows: The arms of every student.
        notes: Sentences for the reader.
        search: How values were chosen for every arm, where some were searched.
        pending: Folders of the trainings that have not ended yet, in the folder of the study.
    """

    name: str
    limbeck_version: str
    command: str
    again: str
    control: str
    trainings: int
    fine_tunings: int
    teacher: TeacherResult | None
    students: Mapping[str, Facts]
    rows: Sequence[ArmResult]
    notes: Sequence[str]
    search: Sequence[ArmSearch] = ()
    pending: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """The same as plain data, with the keys of report.json."""
        return asdict(self)

    @staticmethod
    def from_json(plain: Mapping[str, Any]) -> "StudyResult":
        """A study as it stands in report.json."""
        teacher = plain["teacher"]
        return StudyResult(
            **{
                **plain,
                "teacher": TeacherResult.from_json(teacher) if teacher else None,
                "rows": [ArmResult.from_json(row) for row in plain["rows"]],
                "search": [ArmSearch.from_json(search) for search in plain.get("search", ())],
            }
        )

    @property
    def teacher_row(self) -> str:
        """How tables and drawings call the teacher: as no arm and no student is called."""
        names = {*self.students, *(row.arm for row in self.rows)}
        return "the teacher" if "teacher" in names else "teacher"

    def arms_of(self, student: str) -> list[ArmResult]:
        """The arms of one student, best first."""
        mine = [row for row in self.rows if row.student == student]
        return sorted(mine, key=lambda row: math.inf if row.mean is None else -row.mean)

    def kept(self, arm: ArmResult) -> str:
        """The mean score of an arm as a share of the teacher's, in percent; else nothing.

        Correlations may lie below 0: of such a score there is no share.
        """
        whole = None if self.teacher is None else self.teacher.mean
        if arm.mean is None or whole is None or whole <= 0:
            return ""
        return f"{arm.mean / whole:.1%}"


def _quality(plain: Mapping[str, Any]) -> dict[str, TaskResult]:
    return {task: TaskResult(**result) for task, result in plain["quality"].items()}
