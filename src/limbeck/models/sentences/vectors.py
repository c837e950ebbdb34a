"""One vector for each text, from the last hidden states of its tokens.

The states of a text are pooled, linear layers may map the result, and the vector may be truncated
to its first coordinates and scaled to length 1, in this order.

Source: Reimers and Gurevych 2019, "Sentence-BERT", arXiv:1908.10084; truncation, Kusupati et al.
2022, "Matryoshka Representation Learning", arXiv:2205.13147.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize as scaled

from ...errors import ModelError, nearest
from ..sentence_transformers import Pooling
from .pooling import Mask, States, Vectors, check_modes, pooled

# Never looked up in torch: a folder could name anything there.
ACTIVATIONS: dict[str, type[nn.Module]] = {
    kind.__name__: kind
    for kind in (
        nn.Identity,
        nn.Tanh,
        nn.ReLU,
        nn.GELU,
        nn.SiLU,
        nn.Sigmoid,
        nn.LeakyReLU,
        nn.ELU,
        nn.Mish,
    )
}


class Dense(nn.Module):
    """A linear layer after pooling; its weights have the names that sentence-transformers gives.

    Args:
        in_features: Width of the vectors that enter.
        out_features: Width of those that leave.
        bias: Whether a bias is added.
        activation: The name of a class in `torch.nn`, one of `ACTIVATIONS`.
        residual: Add the input to the output, through a second linear map where they differ in
            width.

    Raises:
        ModelError: The activation is not known.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        activation: str = "Tanh",
        residual: bool = False,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ModelError(
                f"a Dense layer has the activation {activation!r}, which is never looked up or run"
                f"{nearest(activation, ACTIVATIONS)}"
            )
        self.in_features, self.out_features = in_features, out_features
        self.activation, self.adds_input = activation, residual
        self.linear = nn.Linear(in_features, out_features, bias=bias)
        self.function = ACTIVATIONS[activation]()
        mapped = residual and in_features != out_features
        self.residual = nn.Linear(in_features, out_features, bias=False) if mapped else None

    def forward(self, vectors: Float[Tensor, "batch input"]) -> Float[Tensor, "batch output"]:
        """The mapped vectors."""
        found: Tensor = self.function(self.linear(vectors))
        if not self.adds_input:
            return found
        return found + (vectors if self.residual is None else self.residual(vectors))


class SentenceVectors(nn.Module):
    """The vectors of texts, from last hidden states; it computes in float32 at least.

    Args:
        hidden_size: Width of the states.
        pooling: How states become one vector; the mean by default.
        dense: Layers after it, which are trained with everything else.
        normalize: Scale vectors to length 1.
        truncate_dim: Keep only so many coordinates, the first ones; None keeps all.

    Raises:
        ModelError: A mode of pooling is not known, layers do not fit each other, or
            ``truncate_dim`` is more than the vectors have.
    """

    def __init__(
        self,
        hidden_size: int,
        *,
        pooling: Pooling | None = None,
        dense: Sequence[Dense] = (),
        normalize: bool = False,
        truncate_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.pooling = pooling or Pooling()
        check_modes(self.pooling.modes)
        self.dense = nn.ModuleList(dense)
        self.normalize, self.truncate_dim = normalize, truncate_dim
        width = hidden_size * len(self.pooling.modes)
        for layer in dense:
            if layer.in_features != width:
                raise ModelError(
                    f"a Dense layer takes vectors of width {layer.in_features}, and those before"
                    f" it have {width}; give one whose in_features is {width}"
                )
            width = layer.out_features
        self.full_width = width
        if truncate_dim is not None and not 1 <= truncate_dim <= width:
            raise ModelError(
                f"truncate_dim is {truncate_dim}, and the vectors have {width} coordinates; give 1"
                f" to {width}"
            )

    @property
    def width(self) -> int:
        """The number of coordinates of a vector."""
        return self.truncate_dim or self.full_width

    def forward(
        self, states: States, mask: Mask, *, prompt_tokens: Int[Tensor, " batch"] | None = None
    ) -> Vectors:
        """The vectors as they are compared: truncated and scaled.

        Args:
            states: Last hidden states, after the model's final norm: ``last_hidden_state`` of
                transformers.
            mask: Real tokens; padding may stand at either end.
            prompt_tokens: How many of the first real tokens of each text are of its prompt, with
                the special tokens before it; only read where the pooling leaves prompts out.
        """
        with torch.autocast(states.device.type, enabled=False):
            states = states.to(torch.promote_types(states.dtype, torch.float32))
            vectors = pooled(states, mask, self.pooling, prompt_tokens=prompt_tokens)
            for layer in self.dense:
                vectors = layer(vectors)
        vectors = vectors[:, : self.width]
        return scaled(vectors, dim=-1) if self.normalize else vectors
