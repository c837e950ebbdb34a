"""Objectives as the loss of a training loop of one's own: no recipe, only models and tensors."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..activations import Activations
from ..batch import Batch, Tokens
from ..errors import ObjectiveError
from ..models.capture import capture
from ..models.families.lookup import architecture_of
from ..models.shapes import shape_of
from ..student.projections import Projections
from ..teacher.live import LiveTeacher
from .contract import Objective, joint_needs

_READ = ("input_ids", "attention_mask", "labels", "token_type_ids")
IGNORED = -100  # transformers' label of a token that is not predicted


class Total(NamedTuple):
    """The loss of one objective on a batch, before it is divided.

    Attributes:
        loss: The sum over the items, in the unit that the objective names.
        items: How many there are.
    """

    loss: Tensor
    items: int


class DistillationLoss(nn.Module):
    """The loss of a student against its teacher.

    Both models read the same token ids. The module holds the learned maps of the objectives alone:
    give ``loss.parameters()`` to the optimizer beside the student's, and save the student without
    it. The teacher is put into evaluation mode and gets no gradient.

    Args:
        student: A transformers model; with a vocabulary head where an objective needs logits.
        teacher: Another of any width and depth; None where no objective needs one.
        objectives: By any name.
        weights: Of the objectives, 1 where none is given.
        seed: Decides the initialization of the learned maps.

    Raises:
        ObjectiveError: An objective cannot compare these models, or is none; says all problems.
        ModelError: The family of a model is not known.

    Source: MiniLMv2, arXiv:2012.15828, and whatever the objectives name.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel | None,
        objectives: Mapping[str, Objective],
        *,
        weights: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check_kinds(objectives, weights or {})
        mine = architecture_of(student.config)
        theirs = architecture_of(teacher.config) if teacher is not None else None
        shapes = (
            shape_of(student.config, mine),
            shape_of(teacher.config, theirs) if teacher is not None and theirs else None,
        )
        problems = [
            f"{name}{f'.{field}' if field else ''} {message}"
            for name, objective in objectives.items()
            for field, message in objective.problems_with(*shapes)
        ]
        problems += [
            f"{name!r} has a weight and is no objective"
            for name in weights or ()
            if name not in objectives
        ]
        if problems:
            raise ObjectiveError("; ".join(problems))
        self.objectives = {name: found.bound(*shapes) for name, found in objectives.items()}
        self.weights = dict.fromkeys(objectives, 1.0) | dict(weights or {})
        self.maps = nn.ModuleList(
            Projections(found.projection_sizes(*shapes), seed=seed)
            for found in self.objectives.values()
        )
        # In a tuple, so that neither model is a part of this module.
        self._student = (student, mine)
        self._teacher = LiveTeacher(teacher, theirs) if teacher is not None and theirs else None

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of the objectives' means over a batch, float32.

        Args:
            inputs: As transformers' collators give them: ``input_ids``, (rows, tokens);
                ``attention_mask``, 1 at real tokens; ``labels``, -100 where nothing is predicted;
                ``token_type_ids``, for the models that distinguish them.

        Raises:
            ObjectiveError: As of `tokens_of`; or an objective of an encoder reads predictions, and
                there are no ``labels`` to say where.
        """
        totals = self.totals(inputs)
        means = {name: total.loss / max(1, total.items) for name, total in totals.items()}
        return torch.stack([self.weights[name] * mean for name, mean in means.items()]).sum()

    def totals(self, inputs: Mapping[str, Tensor]) -> dict[str, Total]:
        """The sum of every objective over a batch, and its number of items.

        A step over several batches adds both up and divides once: a mean of means would depend on
        how the step is split.
        """
        student, architecture = self._student
        tokens = tokens_of(inputs, causal=architecture.causal)
        teacher = self._teacher.model if self._teacher else student
        batch = Batch(_read_by(student, tokens), _read_by(teacher, tokens))
        needs = joint_needs(found.student_needs() for found in self.objectives.values())
        wanted = joint_needs(found.teacher_needs() for found in self.objectives.values())
        if needs.predictions and not architecture.causal and "labels" not in inputs:
            raise ObjectiveError(
                "the inputs have no `labels`, which say where an encoder predicts tokens; give"
                " those of DataCollatorForLanguageModeling, or objectives that read no predictions"
            )
        mine = capture(student, architecture, batch.student, needs)
        theirs = self._teacher.signals(batch, wanted) if self._teacher else Activations()
        found = {}
        for (name, objective), maps in zip(self.objectives.items(), self.maps, strict=True):
            loss = objective.total(mine, theirs, batch, cast(Projections, maps))
            found[name] = Total(loss, objective.count(batch))
        return found


def tokens_of(inputs: Mapping[str, Tensor], *, causal: bool) -> Tokens:
    """The tokens of a batch as limbeck's objectives read them.

    Args:
        inputs: ``input_ids``, (rows, tokens), and where they are known ``attention_mask``,
            ``labels`` and ``token_type_ids`` of the same shape, as transformers' collators give
            them.
        causal: Whether a decoder reads them, whose labels transformers shifts by one.

    Returns:
        Labels stand at the token that predicts them. Without ``labels`` a decoder predicts every
        token from those before it, and an encoder predicts none.

    Raises:
        ObjectiveError: ``input_ids`` are missing, or something is given that is not read.
    """
    if "input_ids" not in inputs:
        raise ObjectiveError(f"the inputs have no `input_ids`; they have {', '.join(inputs)}")
    if unread := [name for name in inputs if name not in _READ]:
        raise ObjectiveError(
            f"the inputs have {', '.join(unread)}, which is not read; leave it out, and give"
            f" {', '.join(_READ)}"
        )
    ids = inputs["input_ids"]
    mask = (
        inputs["attention_mask"].bool() if "attention_mask" in inputs else torch.ones_like(ids) > 0
    )
    labels = inputs.get("labels")
    if labels is None:
        labels = ids.masked_fill(~mask, IGNORED) if causal else torch.full_like(ids, IGNORED)
    if causal:
        labels = torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], IGNORED)], 1)
    predicted = (labels != IGNORED) & mask
    types = inputs.get("token_type_ids")
    labels = torch.where(predicted, labels, 0)
    return Tokens(ids, mask, labels, predicted, token_type_ids=types)


def _read_by(model: PreTrainedModel, tokens: Tokens) -> Tokens:
    """The same tokens without the types that a model does not distinguish."""
    types = getattr(model.config, "type_vocab_size", 0)
    return tokens if types > 1 else replace(tokens, token_type_ids=None)


def _check_kinds(objectives: Mapping[str, Objective], weights: Mapping[str, float]) -> None:
    """See that objectives and weights are what they are called.

    Raises:
        ObjectiveError: They are not; says all problems.
    """
    if not isinstance(objectives, Mapping) or not objectives:
        raise ObjectiveError(
            f"objectives are {objectives!r}; give one or more by name, as"
            ' {"relations": Relations()}'
        )
    problems = [
        f"{name} is {found!r}, no objective; give an object, as Relations(heads=12)"
        for name, found in objectives.items()
        if isinstance(found, type) or not isinstance(found, Objective)
    ]
    problems += [
        f"the weight of {name} is {weight!r}; give a finite number"
        for name, weight in weights.items()
        if not isinstance(weight, int | float) or not math.isfinite(weight)
    ]
    if problems:
        raise ObjectiveError("; ".join(problems))
