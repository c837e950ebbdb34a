"""What quantizing a recipe's teacher does to its signals, on a little of the recipe's own text."""

from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator
from torch import Tensor

from ..activations import Activations, Needs
from ..batch import Batch, Tokens
from ..models.load import load_model
from ..models.weight_headers import has_vocabulary_head
from ..recipe.setup import Setup
from ..recipe.sides import ModelSide
from .teacher import live_teacher
from .teacher_text import teacher_tokens

_MOST_ROWS = 256  # of logits, each as wide as the vocabulary


@dataclass(frozen=True)
class QuantizationError:
    """How far the signals of a quantized teacher are from those in full precision.

    Attributes:
        hidden: For each layer, the norm of the difference over the norm of its output.
        divergence: Mean KL divergence of the predicted tokens, full from quantized, in nats; None
            without a vocabulary head.
        agreement: Fraction of places at which both predict the same token; None without a head.
        tokens: Number of tokens that were read.
    """

    hidden: tuple[float, ...]
    divergence: float | None
    agreement: float | None
    tokens: int


def quantization_error(
    setup: Setup, accelerator: Accelerator, *, side: ModelSide | None = None
) -> QuantizationError:
    """The error of a recipe's quantized teacher.

    Args:
        setup: A checked recipe.
        accelerator: Tells the device.
        side: Which of several teachers; the first by default.

    Raises:
        RecipeError: There is no teacher.
    """
    teacher = side or setup.models.required_teacher()
    headed = bool(has_vocabulary_head(teacher.name, architecture=teacher.architecture))
    model = load_model(
        teacher.name, architecture=teacher.architecture, with_head=headed, stored=True
    )
    tokens = _tokens(setup, teacher)
    needs = Needs(hidden=frozenset(range(teacher.shape.num_hidden_layers)), predictions=headed)
    exact = live_teacher(setup, model, accelerator, side=teacher, quantized=False)
    batch = Batch(tokens, tokens).to(accelerator.device)
    one = _signals(exact.signals(batch, needs))
    # The same model, quantized in place: never are both held.
    other = _signals(live_teacher(setup, model, accelerator, side=teacher).signals(batch, needs))
    real = tokens.mask
    hidden = [_difference(a[real], b[real]) for a, b in zip(one[0], other[0], strict=True)]
    if one[1] is None or other[1] is None:
        return QuantizationError(tuple(hidden), None, None, int(real.sum()))
    logs = one[1].log_softmax(-1), other[1].log_softmax(-1)
    divergence = (logs[0].exp() * (logs[0] - logs[1])).sum(-1).mean()
    agreement = (logs[0].argmax(-1) == logs[1].argmax(-1)).float().mean()
    return QuantizationError(tuple(hidden), float(divergence), float(agreement), int(real.sum()))


def quantization_rows(error: QuantizationError) -> list[list[str]]:
    """The error as a table."""
    worst = max(range(len(error.hidden)), key=error.hidden.__getitem__)
    rows = [
        ["hidden states, last layer", f"{error.hidden[-1]:.2%} of their norm"],
        [f"hidden states, worst layer ({worst})", f"{error.hidden[worst]:.2%} of their norm"],
    ]
    if error.divergence is not None and error.agreement is not None:
        rows.append(["predicted tokens", f"KL {error.divergence:.2g} nats"])
        rows.append(["the same first token", f"{error.agreement:.1%} of places"])
    return [["signal", f"error over {error.tokens:,} tokens"], *rows]


def _tokens(setup: Setup, teacher: ModelSide) -> Tokens:
    """Text as the teacher reads it; a few of its places are predicted."""
    tokens = teacher_tokens(setup, teacher)
    places = tokens.mask.flatten().nonzero().squeeze(1)
    predicted = torch.zeros(tokens.mask.numel(), dtype=torch.bool)
    predicted[places[:: -(-len(places) // _MOST_ROWS)]] = True
    return replace(tokens, predicted=predicted.view_as(tokens.mask))


def _signals(found: Activations) -> tuple[list[Tensor], Tensor | None]:
    hidden = [found.hidden[layer].float().cpu() for layer in sorted(found.hidden)]
    logits = found.predictions.logits().float().cpu() if found.predictions else None
    return hidden, logits


def _difference(exact: Tensor, other: Tensor) -> float:
    return float((other - exact).norm() / exact.norm())
