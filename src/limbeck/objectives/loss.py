"""Objectives as the loss of a training loop of one's own: no recipe, only models and tensors."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple, cast

import torch
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel

from ..activations import Activations
from ..batch import Batch, Tokens
from ..errors import ObjectiveError
from ..models.capture import capture
from ..models.families.lookup import architecture_of
from ..models.shapes import shape_of
from ..student.projections import Projections
from ..teacher.live import LiveTeacher
from .class_labels import ClassLabels
from .class_logits import ClassLogits
from .contract import Objective, joint_needs
from .loss_inputs import tokens_of
from .margin_mse import MarginMse
from .schedule import Ramp, at_progress, number
from .sentence_similarities import SentenceSimilarities
from .sentence_vectors import SentenceVectors

_OF_ROWS = ClassLabels, ClassLogits, MarginMse, SentenceSimilarities, SentenceVectors


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
    it. The teacher is put into evaluation mode and gets no gradient; it stays on its device.

    Where several processes train, `DistributedDataParallel` has to wrap a module that calls this
    one in its forward: around the student alone it would not average the gradients.

    Args:
        student: A transformers model; with a vocabulary head where an objective needs logits.
        teacher: Another of any width and depth; None where no objective needs one.
        objectives: By any name; of tokens, as this loss has no classes or vectors of whole texts.
        weights: Of the objectives, 1 where none is given; a `Ramp` changes over the training.
        seed: Decides the initialization of the learned maps.

    Raises:
        ObjectiveError: An objective cannot compare these models, or is none; says all problems.
            Or a model is wrapped in something, or shares parameters that learn with the other.
        ModelError: The family of a model is not known.

    Source: MiniLMv2, arXiv:2012.15828, and whatever the objectives name.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel | None,
        objectives: Mapping[str, Objective],
        *,
        weights: Mapping[str, float | Ramp] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check_kinds(objectives, weights or {})
        _check_models(student, teacher)
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
        self.weights: dict[str, float | Ramp] = dict.fromkeys(objectives, 1.0)
        self.weights |= weights or {}
        self.maps = nn.ModuleList(
            Projections(found.projection_sizes(*shapes), seed=seed)
            for found in self.objectives.values()
        )
        # In a tuple, so that neither model is a part of this module.
        self._student = (student, mine)
        self._teacher = LiveTeacher(teacher, theirs) if teacher is not None and theirs else None

    def forward(self, inputs: Mapping[str, Tensor], *, progress: float | None = None) -> Tensor:
        """The weighted sum of the objectives' means over a batch, float32.

        Args:
            inputs: As transformers' collators give them: ``input_ids``, (rows, tokens);
                ``attention_mask``, 1 at real tokens; ``labels``, -100 where nothing is predicted;
                ``token_type_ids``, for the models that distinguish them.
            progress: Share of the training that is done, 0 to 1, for weights and options that
                change over it (`Ramp`).

        Raises:
            ObjectiveError: As of `tokens_of`; or an objective of an encoder reads predictions, and
                there are no ``labels`` to say where; or something changes over the training, and
                there is no ``progress``.
        """
        totals = self.totals(inputs, progress=progress)
        means = {name: total.loss / max(1, total.items) for name, total in totals.items()}
        done = 1.0 if progress is None else progress
        weighted = [number(self.weights[name], done) * mean for name, mean in means.items()]
        return torch.stack(weighted).sum()

    def totals(
        self, inputs: Mapping[str, Tensor], *, progress: float | None = None
    ) -> dict[str, Total]:
        """The sum of every objective over a batch, and its number of items.

        A step over several batches adds both up and divides once: a mean of means would depend on
        how the step is split.

        Args:
            inputs: As of `forward`.
            progress: As of `forward`.

        Raises:
            ObjectiveError: As of `forward`.
        """
        self._check_progress(progress)
        student, architecture = self._student
        _warn_of_processes(student)
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
        totals = {}
        for (name, objective), maps in zip(self.objectives.items(), self.maps, strict=True):
            changes = progress is not None and self._changes(name)
            now = at_progress(objective, progress or 0.0) if changes else objective
            loss = now.total(mine, theirs, batch, cast(Projections, maps))
            totals[name] = Total(loss, now.count(batch))
        return totals

    def _check_progress(self, progress: float | None) -> None:
        """See that what changes over the training knows how much of it is done.

        Raises:
            ObjectiveError: It does not.
        """
        if progress is None and (changing := list(filter(self._changes, self.objectives))):
            raise ObjectiveError(
                f"{', '.join(changing)} changes over the training (Ramp); give `progress`, the"
                " share of the training that is done, 0 to 1"
            )

    def _changes(self, name: str) -> bool:
        options = vars(self.objectives[name]).values()
        return any(isinstance(value, Ramp) for value in [self.weights[name], *options])


def _read_by(model: PreTrainedModel, tokens: Tokens) -> Tokens:
    """The same tokens without the types that a model does not distinguish."""
    types = getattr(model.config, "type_vocab_size", 0)
    return tokens if types > 1 else replace(tokens, token_type_ids=None)


def _check_models(student: PreTrainedModel, teacher: PreTrainedModel | None) -> None:
    """See that both are models of transformers, and that the student can learn.

    Raises:
        ObjectiveError: One is something else, or what would learn is the teacher's own.
    """
    for name, model in (("student", student), ("teacher", teacher)):
        if model is not None and not isinstance(model, PreTrainedModel):
            raise ObjectiveError(
                f"the {name} is a {type(model).__name__}, no model of transformers; give the model"
                " inside it: `get_base_model()` of LoRA, whose adapters learn then, and what was"
                " compiled or wrapped for several processes as it was before"
            )
    theirs = {id(weight) for weight in teacher.parameters()} if teacher is not None else set()
    shared = [name for name, p in student.named_parameters() if p.requires_grad and id(p) in theirs]
    if shared:
        raise ObjectiveError(
            f"{len(shared)} parameters of the student ({shared[0]}, ...) are the teacher's own,"
            " which do not learn; copy what the student takes (copy.deepcopy), or freeze it"
            " (requires_grad_(False))"
        )


def _warn_of_processes(student: PreTrainedModel) -> None:
    """Warn where several processes train and nothing averages what they learn."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    # torch has no public way to ask; tests/objectives/test_loss.py fails when this one goes.
    inside = DistributedDataParallel._get_active_ddp_module()  # type: ignore[no-untyped-call]
    sharded = any(isinstance(module, FSDPModule) for module in student.modules())
    learns = torch.is_grad_enabled() and inside is None and not sharded
    if learns and distributed.get_world_size() > 1:
        warnings.warn(
            "several processes train, and the loss is not called inside DistributedDataParallel:"
            " gradients are not averaged. Let it wrap a module that calls the loss"
            " (docs/python.md), or average gradients yourself",
            stacklevel=3,
        )


def _check_kinds(objectives: Mapping[str, Objective], weights: Mapping[str, float | Ramp]) -> None:
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
        f"{name} is of classes or vectors of whole texts, and this loss is of tokens; give it to a"
        " recipe (limbeck.distill)"
        for name, found in objectives.items()
        if isinstance(found, _OF_ROWS)
    ]
    problems += [
        f"the weight of {name} is {weight!r}; give a finite number, or a Ramp"
        for name, weight in weights.items()
        if not _is_weight(weight)
    ]
    if problems:
        raise ObjectiveError("; ".join(problems))


def _is_weight(value: object) -> bool:
    ends = (value.start, value.end) if isinstance(value, Ramp) else (value,)
    return all(isinstance(end, int | float) and math.isfinite(end) for end in ends)
