"""What is asked of a Transformer's insides: where its parts are, and how large they are."""

from dataclasses import dataclass, replace
from typing import Any

from ..errors import ModelError
from ..token_ids import TokenIds
from .architecture import Architecture


@dataclass(frozen=True)
class Shape:
    """The sizes of a Transformer that decide what it costs, and what objectives compare.

    Attributes:
        layers: Without the embedding output.
        hidden: Width of the hidden states.
        heads: Attention heads.
        intermediate: Width of the feed-forward.
        vocabulary: Rows of the embedding table, those that only fill it up included.
        positions: The longest text.
        key_value_heads: Heads of the keys and values; None for as many as ``heads``.
        head_size: Width of a head; None for hidden / heads.
        causal: A token sees only those before it.
        tokens: Tokens that the tokenizer really has; None for all of ``vocabulary``.
        absent: Ids below its largest that no token has, in order.
    """

    layers: int
    hidden: int
    heads: int
    intermediate: int
    vocabulary: int
    positions: int
    key_value_heads: int | None = None
    head_size: int | None = None
    causal: bool = False
    tokens: int | None = None
    absent: tuple[int, ...] = ()

    @property
    def token_ids(self) -> TokenIds:
        """The rows of ``vocabulary`` that are tokens."""
        if self.tokens is None:
            return TokenIds(self.vocabulary)
        return TokenIds(self.tokens + len(self.absent), self.absent)

    def of_tokens(self, ids: TokenIds) -> "Shape":
        """The same with a tokenizer of those ids."""
        return replace(self, tokens=len(ids), absent=ids.absent)

    @property
    def query_width(self) -> int:
        """Width of the queries, heads joined."""
        return self.heads * self._head_size

    @property
    def key_width(self) -> int:
        """Width of the keys, and of the values; less than the queries' with grouped heads."""
        return (self.key_value_heads or self.heads) * self._head_size

    @property
    def _head_size(self) -> int:
        return self.head_size or self.hidden // self.heads


def shape_of(config: Any, architecture: Architecture) -> Shape:
    """The sizes that a transformers configuration describes.

    Raises:
        ModelError: It has no field for one of them.
    """
    fields = config.to_dict()
    try:
        # GPT-2 leaves the field empty where the feed-forward is four times as wide.
        intermediate = getattr(config, architecture.intermediate_field) or 4 * config.hidden_size
        return Shape(
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            heads=config.num_attention_heads,
            intermediate=intermediate,
            vocabulary=config.vocab_size,
            positions=config.max_position_embeddings - unused_positions(config, architecture),
            key_value_heads=fields.get("num_key_value_heads"),
            head_size=fields.get("head_dim"),
            causal=architecture.causal,
        )
    except AttributeError as error:
        raise ModelError(
            f"the configuration of {config.model_type!r} has no field {error.name!r}, so its sizes"
            " are not known; only models that name their sizes as BERT or Llama do can be used"
            " (`architecture.intermediate_field` says what the feed-forward's width is called)"
        ) from error


def unused_positions(config: Any, architecture: Architecture) -> int:
    """Rows of the position table that no text ever uses."""
    return config.pad_token_id + 1 if architecture.positions_after_padding else 0
