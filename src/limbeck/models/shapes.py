"""The sizes of a Transformer."""

from dataclasses import dataclass, replace
from typing import Any

from ..errors import ModelError
from ..token_ids import TokenIds
from .architecture import Architecture


@dataclass(frozen=True)
class Shape:
    """The sizes of a Transformer, which decide its cost and what objectives can compare.

    Attributes:
        num_hidden_layers: Number of layers, without the embedding output.
        hidden_size: Width of the hidden states.
        num_attention_heads: Number of attention heads.
        intermediate_size: Width of the feed-forward.
        vocab_size: Rows of the embedding table, padding rows included.
        max_position_embeddings: The largest number of tokens in a text.
        num_key_value_heads: Number of heads of the keys and values; None for
            ``num_attention_heads``.
        head_dim: Width of a head; None for ``hidden_size / num_attention_heads``.
        causal: A token attends only to the tokens before it.
        tokens: Number of tokens that the tokenizer really has; None for ``vocab_size``.
        absent: Ids below the largest that belong to no token, in ascending order.
        labels: Names of the classes of a task head, in the order of its logits; one of a head that
            gives a number, and none without such a head.
        multi_label: Whether these classes do not exclude one another.
    """

    num_hidden_layers: int
    hidden_size: int
    num_attention_heads: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    causal: bool = False
    tokens: int | None = None
    absent: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()
    multi_label: bool = False

    @property
    def token_ids(self) -> TokenIds:
        """The ids of the embedding rows that belong to tokens."""
        if self.tokens is None:
            return TokenIds(self.vocab_size)
        return TokenIds(self.tokens + len(self.absent), self.absent)

    def of_tokens(self, ids: TokenIds) -> "Shape":
        """The same sizes with the ids of a tokenizer."""
        return replace(self, tokens=len(ids), absent=ids.absent)

    @property
    def query_width(self) -> int:
        """Width of the queries with all heads joined."""
        return self.num_attention_heads * self._head_size

    @property
    def key_width(self) -> int:
        """Width of the keys and of the values; with grouped heads less than that of the queries."""
        return (self.num_key_value_heads or self.num_attention_heads) * self._head_size

    @property
    def _head_size(self) -> int:
        return self.head_dim or self.hidden_size // self.num_attention_heads


# Texts of models without a table of positions may be longer than this, but no machine reads them.
_NO_LIMIT = 2**20


def shape_of(config: Any, architecture: Architecture) -> Shape:
    """The sizes that a transformers configuration describes.

    Raises:
        ModelError: It has no field for one of them.
    """
    try:
        return Shape(
            num_hidden_layers=config.num_hidden_layers,
            hidden_size=config.hidden_size,
            num_attention_heads=config.num_attention_heads,
            intermediate_size=_intermediate_size(config, architecture),
            vocab_size=config.vocab_size,
            max_position_embeddings=_longest(config, architecture),
            num_key_value_heads=_key_value_heads(config, architecture),
            head_dim=getattr(config, architecture.head_dim_field, None),
            causal=architecture.causal,
        )
    except AttributeError as error:
        raise ModelError(
            f"the configuration of {config.model_type!r} has no field {error.name!r}, so its sizes"
            " are not known; only models that name their sizes as BERT or Llama do can be used"
            " (`architecture.intermediate_field` names the field of the feed-forward's width)"
        ) from error


def head_counts(config: Any, architecture: Architecture) -> tuple[int, int]:
    """Numbers of the query heads, and of the heads of keys and values."""
    heads: int = config.num_attention_heads
    return heads, _key_value_heads(config, architecture) or heads


def state_width(config: Any) -> int:
    """Width of the last hidden states; OPT's may leave it as narrow as its embeddings."""
    width: int = getattr(config, "word_embed_proj_dim", None) or config.hidden_size
    return width


def _intermediate_size(config: Any, architecture: Architecture) -> int:
    """The feed-forward's width; some families leave it out where it is four times the states'."""
    field = architecture.intermediate_field
    size: int = (getattr(config, field) if field else None) or 4 * config.hidden_size
    return size


def _key_value_heads(config: Any, architecture: Architecture) -> int | None:
    # Falcon has one head of keys and values, whatever its field says, unless it has groups.
    if getattr(config, "multi_query", False) and not getattr(
        config, "new_decoder_architecture", False
    ):
        return 1
    heads: int | None = getattr(config, architecture.key_value_heads_field, None)
    return heads


def _longest(config: Any, architecture: Architecture) -> int:
    limited = architecture.positions in ("table", "rotary")
    if not limited and getattr(config, "max_position_embeddings", None) is None:
        return _NO_LIMIT
    longest: int = config.max_position_embeddings
    return longest - unused_positions(config, architecture)


def unused_positions(config: Any, architecture: Architecture) -> int:
    """Rows of the position table that no text ever uses."""
    if not architecture.positions_after_padding:
        return 0
    padding = architecture.padding_id
    unused: int = (config.pad_token_id if padding is None else padding) + 1
    return unused
