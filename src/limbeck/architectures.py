"""What is asked of a Transformer's insides: where its parts are, and how large they are."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from .errors import ModelError

# The roles that an axis of a weight can play. "qkv" is three stacked "heads", "groups" the
# heads that keys and values have, "gated" two stacked "inner"; "same" axes (the vocabulary)
# never change size.
Axes = tuple[str, ...]


@dataclass(frozen=True)
class Anatomy:
    """Module paths of one family.

    Attributes:
        layers: The list of layers, from the model's body.
        query: The query projection, from a layer.
        key: The key projection; the same path as ``query`` where one module
            gives queries, keys and values joined in this order.
        value: The value projection.
        head: Modules from last hidden state to vocabulary logits, in turn,
            from the language model; empty where the family has none.
        output: The linear map to the vocabulary at the end of the head; by
            default the head's last module.
        causal: A token sees only those before it, and the model is a decoder.
        inputs_first: Linear layers keep their weights turned, inputs first.
        intermediate_field: The configuration's name for the feed-forward width.
        positions_after_padding: Positions are counted from behind the padding
            piece's number, so that the table is longer than the longest text.
        axes: Roles of the axes of every weight, by the end of its name; needed
            only to copy layers into a student of another width. A bias has
            the role of its weight's outputs.
    """

    layers: str
    query: str
    key: str
    value: str
    head: tuple[str, ...] = ()
    output: str = ""
    causal: bool = False
    inputs_first: bool = False
    intermediate_field: str = "intermediate_size"
    positions_after_padding: bool = False
    axes: tuple[tuple[str, Axes], ...] = ()

    @property
    def fused(self) -> bool:
        """Whether one module gives queries, keys and values."""
        return self.query == self.key == self.value

    @property
    def projections(self) -> dict[str, tuple[str, ...]]:
        """What each module gives of queries, keys and values, by its path from a layer."""
        if self.fused:
            return {self.query: ("queries", "keys", "values")}
        return {self.query: ("queries",), self.key: ("keys",), self.value: ("values",)}

    @property
    def rotary(self) -> bool:
        """Whether positions turn queries and keys instead of standing in a table."""
        return not any("positions" in roles for _, roles in self.axes)


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
        pieces: Pieces that the tokenizer really has; None for all of ``vocabulary``.
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
    pieces: int | None = None

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


def shape_of(config: Any, anatomy: Anatomy) -> Shape:
    """The sizes that a transformers configuration describes.

    Raises:
        ModelError: It has no field for one of them.
    """
    fields = config.to_dict()
    try:
        # GPT-2 leaves the field empty where the feed-forward is four times as wide.
        intermediate = getattr(config, anatomy.intermediate_field) or 4 * config.hidden_size
        return Shape(
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            heads=config.num_attention_heads,
            intermediate=intermediate,
            vocabulary=config.vocab_size,
            positions=config.max_position_embeddings - unused_positions(config, anatomy),
            key_value_heads=fields.get("num_key_value_heads"),
            head_size=fields.get("head_dim"),
            causal=anatomy.causal,
        )
    except AttributeError as error:
        raise ModelError(
            f"the configuration of {config.model_type!r} has no field {error.name!r}, so its sizes"
            " are not known; only models that name their sizes as BERT or Llama do can be used"
            " (`anatomy.intermediate_field` says what the feed-forward's width is called)"
        ) from error


def unused_positions(config: Any, anatomy: Anatomy) -> int:
    """Rows of the position table that no text ever uses."""
    return config.pad_token_id + 1 if anatomy.positions_after_padding else 0


def submodule(model: nn.Module, path: str) -> nn.Module:
    """The module at a dotted path.

    Raises:
        ModelError: There is none; the message lists what stands beside it.
    """
    here, walked = model, "the model"
    for name in path.split("."):
        children = dict(here.named_children())
        if name not in children:
            raise ModelError(
                f"{walked} ({type(here).__name__}) has no module {name!r} of the path {path!r};"
                f" it has: {', '.join(children) or 'none'}. Correct the anatomy's path"
            )
        here, walked = children[name], f"{walked}.{name}"
    return here


def parameter_counts(model: nn.Module) -> tuple[int, int]:
    """Parameters in all and in embedding tables; tied weights once."""
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    parameters = list(model.parameters())
    embeddings = sum(p.numel() for p in parameters if id(p) in tables)
    return sum(p.numel() for p in parameters), embeddings
