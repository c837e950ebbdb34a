"""The floating-point operations that the models of a step need, by formula.

Counted are the products of matrices: each weight of a linear layer with every token, and the scores
and sums of attention. A forward stops where all that is needed was computed, so later layers do not
count. A backward is one more product for a layer's inputs where something before them is trained,
and one more for its weight where that is trained. Padding, layers that are computed again in the
backward, and the losses themselves do not count.

Source: the share of a device's limit, Chowdhery et al. 2022, PaLM, arXiv:2204.02311, appendix B.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ..activations import Needs
from ..batch import Batch, Tokens
from ..models.architecture import Architecture
from ..models.hooks import runs_of_layers
from ..models.modules import submodule
from ..models.shapes import shape_of
from ..system.matrix_rate import product_rate
from ..teacher.contract import Teacher
from ..teacher.ensemble import EnsembleTeacher
from ..teacher.live import LiveTeacher
from .learner import Learner
from .stage import Stage

# The ends of names of modules that read what enters a projection: those of low-rank layers and
# adapters beside the plain layer.
_READ_INPUT = ("down", "lora_A.default", "base_layer")


@dataclass(frozen=True)
class Flops:
    """The floating-point operations of one model in a step.

    Attributes:
        of_token: For each real token.
        of_pair: For each pair of tokens of one document, in both orders.
        of_prediction: For each predicted token.
    """

    of_token: int = 0
    of_pair: int = 0
    of_prediction: int = 0

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(
            self.of_token + other.of_token,
            self.of_pair + other.of_pair,
            self.of_prediction + other.of_prediction,
        )

    def of(self, tokens: Tokens) -> int:
        """Those of some tokens, which are on the processor."""
        lengths = _document_lengths(tokens)
        return (
            self.of_token * int(lengths.sum())
            + self.of_pair * int(lengths.square().sum())
            + self.of_prediction * int(tokens.predicted.sum())
        )


def limit(accelerator: Accelerator) -> float:
    """The most operations a second of a training's device in its precision, measured once."""
    half = accelerator.mixed_precision == "bf16"
    return product_rate(accelerator.device, torch.bfloat16 if half else torch.float32)


def step_flops(learner: nn.Module, teacher: Teacher | None, stage: Stage) -> "StepFlops | None":
    """What counts the operations of a stage's steps; None for a mixed stage, which none counts."""
    return StepFlops(learner, teacher, stage) if isinstance(learner, Learner) else None


class StepFlops:
    """The floating-point operations of every step of a stage in this process.

    Those of a teacher count where it runs beside the student.
    """

    def __init__(self, learner: Learner, teacher: Teacher | None, stage: Stage) -> None:
        student, architecture = learner.student, learner.architecture
        self._own = flops_of(student, architecture, learner.needs_own)
        self._compared = flops_of(student, architecture, learner.needs_compared)
        self._both = flops_of(student, architecture, learner.needs_own | learner.needs_compared)
        self._teacher = Flops()
        if isinstance(teacher, LiveTeacher):
            others = teacher.others if isinstance(teacher, EnsembleTeacher) else ()
            for one in (teacher, *others):
                self._teacher += flops_of(one.model, one.architecture, stage.teacher_needs())

    def of(self, batch: Batch) -> int:
        """Those of a step on these rows, which are on the processor."""
        found = self._teacher.of(batch.teacher)
        if batch.links is None or batch.links.view is None:
            return found + self._both.of(batch.student)
        return found + self._own.of(batch.student) + self._compared.of(batch.links.view)


def flops_of(model: PreTrainedModel, architecture: Architecture, needs: Needs) -> Flops:
    """Those of a forward that gives what is needed, and of the backward where weights are trained.

    Args:
        model: Its `requires_grad` say what is trained.
        architecture: Of the model.
        needs: What the forward gives; it stops once it has all.
    """
    if not needs.anything:
        return Flops()
    layers = [module for module, _ in runs_of_layers(model, architecture)]
    whole = needs.predictions or needs.class_logits or needs.sentence_vectors
    projected = needs.queries | needs.keys | needs.values
    last = max(needs.hidden, default=-1)
    full = len(layers) if whole else max(last, max(projected, default=-1) - 1) + 1
    inside = {id(p) for layer in layers for p in layer.parameters()}
    trained = any(p.requires_grad and id(p) not in inside for p in model.base_model.parameters())
    found, width = Flops(), shape_of(model.config, architecture).query_width
    for layer in layers[:full]:
        of_token = sum(
            _of_weight(part, trained if enters else trained or _trains(layer))
            for _, part, enters in _linear(layer, architecture)
        )
        found += Flops(of_token, 2 * width * _attention_products(layer, architecture, trained))
        trained = trained or _trains(layer)
    if full < len(layers) and max(projected, default=-1) == full:
        found += Flops(_of_projections(layers[full], architecture, needs, full, trained))
    return found + (_of_head(model, architecture, trained) if needs.predictions else Flops())


def _attention_products(layer: nn.Module, architecture: Architecture, reached: bool) -> int:
    """How many products of all pairs of tokens: two forward, and those that gradients need."""
    queries, keys, values = (
        reached
        or any(
            _trains(part)
            for name, part, _ in _linear(layer, architecture)
            if name == path or name.startswith(f"{path}.")
        )
        for path in (architecture.query, architecture.key, architecture.value)
    )
    return 2 + queries + keys + (queries or keys) + values


def _of_projections(
    layer: nn.Module, architecture: Architecture, needs: Needs, number: int, trained: bool
) -> int:
    """Of a layer whose forward stops at its projections: up to the last that is needed."""
    paths = (architecture.query, architecture.key, architecture.value)
    wanted = [number in layers for layers in (needs.queries, needs.keys, needs.values)]
    total, last = 0, max(place for place, here in enumerate(wanted) if here)
    used = {path for path, here in zip(paths, wanted, strict=True) if here}
    for path in dict.fromkeys(paths[: last + 1]):
        for name, part, enters in _linear(layer, architecture):
            if name == path or name.startswith(f"{path}."):
                forward_only = 2 * part.weight.numel()
                reached = trained or (not enters and _trains(layer))
                total += _of_weight(part, reached) if path in used else forward_only
    return total


def _of_head(model: PreTrainedModel, architecture: Architecture, trained: bool) -> Flops:
    """Of the head, at predicted tokens: its modules, and the map to the vocabulary."""
    output = submodule(model, architecture.output or architecture.head[-1])
    total = 0
    for path in architecture.head:
        for part in submodule(model, path).modules():
            if isinstance(part, nn.Linear | Conv1D) and part is not output:
                total += _of_weight(part, trained)
                trained = trained or _trains(part)
    return Flops(of_prediction=total + _of_weight(output, trained))


def _of_weight(part: nn.Module, reached: bool) -> int:
    """Of a layer's weight, for one token; ``reached`` says whether the inputs get a gradient."""
    weight = part.get_parameter("weight")
    return 2 * weight.numel() * (1 + int(reached) + int(weight.requires_grad))


def _trains(part: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in part.parameters())


def _linear(
    layer: nn.Module, architecture: Architecture
) -> Iterator[tuple[str, nn.Linear | Conv1D, bool]]:
    """The linear layers of a layer by name, and whether they read what enters its attention."""
    paths = (architecture.query, architecture.key, architecture.value)
    for name, part in layer.named_modules():
        if isinstance(part, nn.Linear | Conv1D):
            enters = any(
                name == path or name in {f"{path}.{end}" for end in _READ_INPUT} for path in paths
            )
            yield name, part, enters


def _document_lengths(tokens: Tokens) -> Int[Tensor, " documents"]:
    """How many real tokens each document has; a row is one, unless it holds several."""
    if tokens.documents is None:
        return tokens.mask.sum(-1)
    rows, length = tokens.mask.shape
    of_row = torch.arange(rows)[:, None] * (length + 1)  # no other row has these numbers
    return (tokens.documents + of_row)[tokens.mask].bincount()
