"""Where a Transformer keeps its parts: what is said of one family, or by a recipe of its own."""

from dataclasses import dataclass

# The roles that an axis of a weight can play. "qkv" is three stacked "heads", "groups" the
# heads that keys and values have, "gated" two stacked "inner"; "same" axes (the vocabulary)
# never change size.
Axes = tuple[str, ...]


@dataclass(frozen=True)
class Architecture:
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
            token's number, so that the table is longer than the longest text.
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
