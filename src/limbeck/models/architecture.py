"""Where a Transformer keeps its parts, as the table of families or a recipe describes it."""

from dataclasses import dataclass
from typing import Literal

from limbeck.system.numbers import Whole

# The role of each axis of a weight. "hidden", "embedding", "inner" and "positions" name a size;
# "heads" are the coordinates of all query heads, "groups" those of all heads of keys and values,
# "head" one row for each head; "qkv" are queries, keys and values in one axis, "gated" two "inner"
# in one axis, "gated_heads" each query head with a gate behind it; and "same" is an axis that never
# changes its size, such as the vocabulary.
Axes = tuple[str, ...]

# How a model knows where a token is: from a table of positions, by rotating queries and keys, from
# learned additions to the attention scores by distance, or from fixed ones (ALiBi).
Positions = Literal["table", "rotary", "relative", "alibi"]


@dataclass(frozen=True)
class Architecture:
    """Module paths of one family.

    Attributes:
        layers: Path of the list of layers within the model's body.
        query: Path of the query projection within a layer.
        key: Path of the key projection; the same as ``query`` where one module returns queries,
            keys and values in one vector.
        value: Path of the value projection.
        head: Paths within the language model of the modules that map the last hidden state to
            vocabulary logits, in the order of their use; empty where the family has no head.
        output: Path of the map to the vocabulary at the end of the head, a linear layer or the
            embedding table; by default the last module of ``head``.
        output_bias: Path of the bias of the logits, where ``output`` is the embedding table.
        query_norm: Path of a norm over the queries within a layer; where there is one, queries
            are what it returns.
        key_norm: Path of a norm over the keys within a layer, used alike.
        norms_by_head: These norms are given (batch, heads, tokens, width), not
            (batch, tokens, heads, width).
        grouped: One module returns queries, keys and values, and returns them group by group: the
            query heads that share their keys, then these keys, then their values. Otherwise all
            queries come first, then all keys, then all values.
        shared_layers: Each module of ``layers`` runs as several consecutive layers.
        first_output: Path within the body of a module that changes what the first layer returns,
            where a model has one.
        text_encoder: The family is a pair of an encoder and a decoder, of which only the encoder
            is used (transformers' AutoModelForTextEncoding).
        causal: A token attends only to the tokens before it: the model is a decoder.
        positions: How the model knows the positions of its tokens.
        positions_after_padding: Positions are numbered from the padding token's id + 1, so the
            position table has more rows than the longest text has tokens.
        padding_id: The id that the padding token must have, where the family's code fixes it.
        separable_documents: Documents in one row are kept apart where their positions restart.
        inputs_first: Linear layers store their weights transposed, inputs first.
        norms_add_one: Norms multiply by 1 + weight.
        intermediate_field: The configuration's name for the feed-forward width; empty where it is
            always four times the hidden size.
        key_value_heads_field: The configuration's name for the number of heads of keys and values.
        head_dim_field: The configuration's name for the width of a head.
        logits_divisor_field: The configuration's name for a number that divides the logits.
        logits_multiplier_field: The configuration's name for a number that multiplies the logits.
        soft_cap_field: The configuration's name for a bound of the logits, which become
            bound * tanh(logits / bound).
        axes: Roles of the axes of every weight, by the end of its name; needed only to copy
            layers into a student of another width. A bias has the role of its weight's outputs.
    """

    layers: str
    query: str
    key: str
    value: str
    head: tuple[str, ...] = ()
    output: str = ""
    output_bias: str = ""
    query_norm: str = ""
    key_norm: str = ""
    norms_by_head: bool = False
    grouped: bool = False
    shared_layers: bool = False
    first_output: str = ""
    text_encoder: bool = False
    causal: bool = False
    positions: Positions = "table"
    positions_after_padding: bool = False
    padding_id: Whole | None = None
    separable_documents: bool = True
    inputs_first: bool = False
    norms_add_one: bool = False
    intermediate_field: str = "intermediate_size"
    key_value_heads_field: str = "num_key_value_heads"
    head_dim_field: str = "head_dim"
    logits_divisor_field: str = ""
    logits_multiplier_field: str = ""
    soft_cap_field: str = ""
    axes: tuple[tuple[str, Axes], ...] = ()

    @property
    def fused(self) -> bool:
        """Whether one module returns queries, keys and values."""
        return self.query == self.key == self.value

    @property
    def rotary(self) -> bool:
        """Whether positions rotate queries and keys."""
        return self.positions == "rotary"
