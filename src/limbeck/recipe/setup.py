"""A checked recipe, and what follows from it."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch

from ..models.weight_headers import has_vocabulary_head
from ..system.device import Precision, choose_device, choose_precision
from ..tokenization.masking import Masking, NextToken
from ..training.stage import Stage
from .low_rank import NewPart, new_parts, only_low_rank
from .schema import Recipe
from .sides import Models
from .task_rows import TaskRows
from .vectors import learns_vectors


@dataclass(frozen=True)
class Setup:
    """A checked recipe, and what follows from it.

    Attributes:
        recipe: As it was written.
        models: Both, before a weight is loaded.
        stages: As the loop takes them.
        maskings: What hides tokens in each stage.
        warnings: What may be meant, and is worth a look.
        rows: Of the task that is learned; None without one.
    """

    recipe: Recipe
    models: Models
    stages: list[Stage]
    maskings: list[Masking | NextToken | None]
    warnings: list[str]
    rows: TaskRows | None = None

    def with_seed(self, seed: int) -> "Setup":
        """The same by another chance."""
        recipe = self.recipe.model_copy(update={"seed": seed})
        stages = [replace(stage, seed=seed + n) for n, stage in enumerate(self.stages)]
        return replace(self, recipe=recipe, stages=stages)

    @cached_property
    def device(self) -> torch.device:
        """Where both models run."""
        return choose_device(self.recipe.training.device)

    @cached_property
    def precision(self) -> Precision:
        """In which both models run, and why."""
        return choose_precision(self.recipe.training.precision, self.device)

    @property
    def runs_teacher(self) -> bool:
        """Whether a teacher runs here, beside the student."""
        asked = any(s.teacher_needs().anything or s.needs_teacher_logits for s in self.stages)
        return asked and self.recipe.teacher is not None and self.recipe.teacher.runs_here

    @property
    def learns_vectors(self) -> bool:
        """Whether a stage learns vectors of texts, with which the student is exported."""
        return learns_vectors(self.stages)

    @property
    def learns_low_rank_alone(self) -> bool:
        """Whether no stage trains anything but low-rank layers or adapters."""
        return only_low_rank(self.stages, self.recipe.student.low_rank)

    @cached_property
    def new_parts(self) -> frozenset[NewPart]:
        """What begins with random weights, and learns beside low-rank layers or adapters."""
        return new_parts(self.models, self.recipe, self.stages)

    @cached_property
    def has_trained_head(self) -> bool:
        """Whether some stage trains the student's vocabulary head, or the student came with one."""
        if self.models.student.head or self.learns_vectors:
            return False  # it has the head of a task in that place, or is exported without any
        if any(s.student_needs().predictions for s in self.stages if s.mixed is None):
            return True
        name = self.recipe.student.model
        return (
            name is not None
            and has_vocabulary_head(name, architecture=self.models.student.architecture)
            is not False
        )
