"""The axes of a teacher's weights, each mapped to the student's narrower one.

Source: the rotation of the residual stream follows the idea of SliceGPT, Ashkboos et al. 2024,
arXiv:2401.15024.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from ..activations import Needs
from ..batch import Tokens
from ..errors import StudentError
from ..models.architecture import Architecture
from ..models.capture import capture
from ..models.shapes import Shape
from .axis_roles import axis_roles, outputs_first_roles
from .head_maps import head_maps, largest
from .importance import Importance, measure_importance
from .width import Width

# The coordinates that are kept, in order; or a matrix (wide, narrow), which mixes them.
AxisMap = Tensor
# What is added up for each query head and for each feed-forward unit of a module of layers.
Scores = tuple[Float[Tensor, " heads"], Float[Tensor, " inner"]]


@dataclass(frozen=True)
class AxisMaps:
    """A map from the teacher's coordinates to the student's, by the role of an axis.

    Attributes:
        by_role: The maps; an axis of another role keeps its size.
        norm_scale: Factor of the gain of norms of hidden states, so that the kept directions keep
            their size.
        norms_add_one: Norms multiply by 1 + weight.
    """

    by_role: dict[str, AxisMap]
    norm_scale: float
    norms_add_one: bool

    def weight(self, value: Tensor, roles: Sequence[str]) -> Tensor:
        """A weight of two axes or more, each mapped by its role."""
        for axis, role in enumerate(roles):
            if role in self.by_role:
                value = _mapped(value, axis, self.by_role[role])
        return value

    def bias(self, value: Tensor, role: str) -> Tensor:
        """A bias, or the shift of a norm."""
        return _mapped(value, 0, self.by_role[role]) if role in self.by_role else value

    def gain(self, value: Tensor, role: str) -> Tensor:
        """The gain of a norm."""
        if role not in self.by_role:
            return value
        chosen, one = self.by_role[role], 1.0 if self.norms_add_one else 0.0
        gains = _mapped(value + one, 0, chosen.square() if chosen.is_floating_point() else chosen)
        return gains * (self.norm_scale if role in ("hidden", "embedding") else 1.0) - one


def _mapped(value: Tensor, axis: int, axis_map: AxisMap) -> Tensor:
    if not axis_map.is_floating_point():
        return value.index_select(axis, axis_map)
    mapped: Tensor = torch.tensordot(value, axis_map, dims=([axis], [0])).movedim(-1, axis)
    return mapped


class AllMaps:
    """The maps of every module of layers, and of the weights outside them."""

    def __init__(
        self,
        teacher: PreTrainedModel,
        source: Mapping[str, Tensor],
        architecture: Architecture,
        runs: Sequence[Sequence[int]],
        sizes: tuple[Shape, Shape],
        width: Width,
        calibration: Sequence[Tokens],
    ) -> None:
        """Choose what is kept.

        Args:
            teacher: Run on the calibration text where the width needs it.
            source: Its weights by the names that they get in the student.
            architecture: The family's row.
            runs: Modules of the teacher's layers that each of the student's is made of.
            sizes: Of the student and of the teacher.
            width: How axes are made narrower.
            calibration: Text in the teacher's tokens.

        Raises:
            StudentError: The width needs calibration text, and there is none.
        """
        self._architecture, self._sizes = architecture, sizes
        narrow, wide = sizes
        measured = None
        if width is Width.IMPORTANCE and _narrower(narrow, wide):
            _require(calibration, width)
            measured = measure_importance(teacher, architecture, wide, calibration)
        hidden, self._scale = _hidden_map(
            teacher, architecture, narrow, wide, width, calibration, measured
        )
        self._shared = {"hidden": hidden}
        if _embedding_width(source, architecture) == wide.hidden_size:
            self._shared["embedding"] = hidden
        self._scores = [
            _scores(source, architecture, number, run, wide, width, measured)
            for number, run in enumerate(runs)
        ]
        if any("head" in roles for _, roles in architecture.axes):
            # One table of a number for each head, which all layers use.
            together = torch.stack([_shares(heads) for heads, _ in self._scores]).sum(0)
            self._scores = [(together, inner) for _, inner in self._scores]

    def of(self, number: int | None) -> AxisMaps:
        """The maps of a module of the student's layers; None for the weights outside them."""
        by_role = dict(self._shared)
        heads, inner = self._scores[number or 0]
        by_role |= head_maps(heads, self._architecture, *self._sizes)
        if number is not None:
            narrow, wide = self._sizes
            kept = largest(inner, narrow.intermediate_size)
            by_role |= {"inner": kept, "gated": torch.cat([kept, wide.intermediate_size + kept])}
        return AxisMaps(by_role, self._scale, self._architecture.norms_add_one)


def _narrower(narrow: Shape, wide: Shape) -> bool:
    sizes = ("hidden_size", "num_attention_heads", "num_key_value_heads", "intermediate_size")
    return any(getattr(narrow, name) != getattr(wide, name) for name in sizes)


def _require(calibration: Sequence[Tokens], width: Width) -> None:
    if not calibration:
        raise StudentError(
            f"copying by {width.value} needs calibration text; give some, or use `width: cut`"
        )


def _embedding_width(source: Mapping[str, Tensor], architecture: Architecture) -> int:
    for name, weight in source.items():
        if axis_roles(name, architecture) == ("same", "embedding"):
            return weight.shape[1]
    return 0


def _scores(
    source: Mapping[str, Tensor],
    architecture: Architecture,
    number: int,
    run: Sequence[int],
    wide: Shape,
    width: Width,
    measured: Importance | None,
) -> Scores:
    """How much each head and unit matters; all the same where the first are kept."""
    heads, inner = torch.zeros(wide.num_attention_heads), torch.zeros(wide.intermediate_size)
    if measured is not None:
        # The layers of a mean have the same weight. Some kinds of layers have no heads.
        heads = sum((_shares(measured.heads[n]) for n in run if n in measured.heads), heads)
        inner = sum((_shares(measured.inner[n]) for n in run if n in measured.inner), inner)
    elif width is Width.SVD:
        weights = _outputs_first(source, architecture, f"{architecture.layers}.{number}.")
        output = weights.get(("hidden", "heads"))
        if output is not None:
            heads = output.square().sum(0).reshape(wide.num_attention_heads, -1).sum(1)
        up, down = weights.get(("inner", "hidden")), weights.get(("hidden", "inner"))
        if down is not None:
            inner = down.square().sum(0)
            inner = inner if up is None else inner * up.square().sum(1)
    return heads, inner


def _shares(values: Tensor) -> Tensor:
    return values / values.sum().clamp_min(1e-30)


def _outputs_first(
    source: Mapping[str, Tensor], architecture: Architecture, prefix: str
) -> dict[tuple[str, ...] | None, Tensor]:
    """The matrices of a layer by the roles of their axes, with outputs first in every family."""
    found = {}
    for name, weight in source.items():
        if name.startswith(prefix) and weight.dim() == 2:
            matrix = weight.detach().float()
            roles = outputs_first_roles(name, architecture)
            found[roles] = matrix.mT if architecture.inputs_first else matrix
    return found


def _hidden_map(
    teacher: PreTrainedModel,
    architecture: Architecture,
    narrow: Shape,
    wide: Shape,
    width: Width,
    calibration: Sequence[Tokens],
    measured: Importance | None,
) -> tuple[AxisMap, float]:
    """The map of the residual stream, and the factor of the gain of norms that belongs to it.

    Raises:
        StudentError: The width is ``svd``, and there is no calibration text.
    """
    grows = wide.hidden_size / narrow.hidden_size
    if width is Width.CUT or narrow.hidden_size == wide.hidden_size:
        return torch.arange(narrow.hidden_size), 1.0
    if measured is not None:
        kept = largest(measured.hidden, narrow.hidden_size)
        energy = float(measured.squares[kept].sum() / measured.squares.sum())
        return kept, (energy * grows) ** 0.5
    _require(calibration, width)
    second_moment = _second_moment(teacher, architecture, wide, calibration)
    # A norm subtracts the mean over coordinates, so that direction is mapped to itself, and
    # the rest of the basis is orthogonal to it.
    ones = torch.full((wide.hidden_size, 1), wide.hidden_size**-0.5, dtype=torch.float64)
    project = torch.eye(wide.hidden_size, dtype=torch.float64) - ones @ ones.mT
    values, vectors = torch.linalg.eigh(project @ second_moment @ project)
    kept = vectors[:, -(narrow.hidden_size - 1) :]
    energy = float(values[-(narrow.hidden_size - 1) :].sum() / values.sum())
    ones_narrow = torch.full((narrow.hidden_size, 1), narrow.hidden_size**-0.5, dtype=torch.float64)
    basis = torch.linalg.svd(ones_narrow, full_matrices=True).U[:, 1:]
    matrix = kept @ basis.mT + ones @ ones_narrow.mT
    return matrix.float(), (energy * grows) ** 0.5


def _second_moment(
    teacher: PreTrainedModel, architecture: Architecture, wide: Shape, calibration: Sequence[Tokens]
) -> Float[Tensor, "hidden hidden"]:
    """The mean of x x^T over the layers' outputs at real tokens, in float64."""
    second_moment = torch.zeros(wide.hidden_size, wide.hidden_size, dtype=torch.float64)
    everything = Needs(hidden=frozenset(range(wide.num_hidden_layers)))
    with torch.no_grad():
        for tokens in calibration:
            states = capture(teacher, architecture, tokens, everything).hidden
            for state in states.values():
                rows = state[tokens.mask].double().cpu()
                # Every layer has the same weight, however large its states are.
                second_moment += rows.mT @ rows / rows.square().sum()
    return second_moment
