"""Which trainings of a study have ended, and the report of them, written again after each."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from ..reports.comparison import write_comparison
from ..reports.study_results import StudyResult
from ..reports.study_search import ArmSearch
from ..system.locks import claim
from .arms import ArmRun, evaluation_of
from .redraws import Redraws
from .report import study_report, taught
from .schema import Study
from .scores import (
    Scores,
    is_scored,
    known_scores,
    known_teacher_scores,
    scores_of,
    teacher_scores,
)


class Progress:
    """What has ended of a study, in this process and in others.

    Args:
        study: As it was read.
        runs: All of its trainings.
        searches: How their values were chosen.
        folder: The study's.

    Attributes:
        scored: The scores of trainings that have ended, by their number.
    """

    def __init__(
        self, study: Study, runs: Sequence[ArmRun], searches: Sequence[ArmSearch], folder: Path
    ) -> None:
        self.scored: dict[int, Scores] = {}
        self._study, self._runs, self._searches, self._folder = study, runs, searches, folder
        self._taught = taught(runs)
        self._teacher: Scores | None = None
        self._outdated: set[int] = set()
        self._redraws: Redraws | None = None

    def done(self, run: ArmRun) -> bool:
        """Whether a training has ended, in this process or another."""
        return is_scored(run, self._folder)

    def look(self) -> bool:
        """Read the scores of what has ended since the last look; whether there are any."""
        before = len(self.scored), self._teacher is None
        for number, run in enumerate(self._runs):
            if number in self.scored or number in self._outdated or not self.done(run):
                continue
            scores = known_scores(run, self._folder)
            if scores is None:
                self._outdated.add(number)
            else:
                self.scored[number] = scores
        if self._taught and self._teacher is None:
            self._teacher = known_teacher_scores(self._taught, self._folder)
        return before != (len(self.scored), self._teacher is None)

    def score(self, number: int, console: Console) -> None:
        """Measure a training that has ended, as far as that is not done."""
        self.scored[number] = scores_of(self._runs[number], self._folder, console)

    def score_teacher(self, claims: Path, console: Console, *, wait: bool) -> None:
        """Measure the teacher, unless that is done.

        Args:
            claims: Where processes say what they work on.
            console: For progress.
            wait: Wait for another process that measures it; else leave it to that one.
        """
        if self._taught is None or self._teacher is not None:
            return
        with claim(claims, "teacher", wait=wait) as mine:
            if mine:
                self._teacher = teacher_scores(self._taught, self._folder, console)

    def report(self, *, last: bool) -> StudyResult:
        """Write the report of what has ended, and return it.

        Args:
            last: Whether all has ended: then milliseconds and memory are measured as well as
                sizes, and the page has drawings.
        """
        self._redraws = self._redraws or Redraws(self._study, self._runs)
        found = study_report(
            self._study,
            self._runs,
            self.scored,
            self._teacher,
            self._redraws,
            self._folder,
            timed=last and evaluation_of(self._runs).cost,
        )
        found = replace(found, search=self._searches)
        write_comparison(found, self._folder / "report", drawn=last)
        return found
