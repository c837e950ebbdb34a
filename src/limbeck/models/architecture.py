"""Where a Transformer keeps its parts, as the table of families or a recipe describes it."""

from dataclasses import dataclass

# The role of each axis of a weight: "hidden", "embedding", "heads", "inner", "positions"; "qkv" for
# three stacked "heads", "groups" for the heads of keys and values, "gated" for two stacked "inner",
# and "same" for an axis that never changes its size, such as the vocabulary.
Axes = tuple[str, ...]


@dataclass(frozen=True)
class Architecture:
    """Module paths of one family.

    Attributes:
        layers: Path of the list of layers within the model's body.
        query: Path of the query projection within a layer.
        key: Path of the key projection; the same as ``query`` where one module returns queries,
            keys and values joined in this order.
        value: Path of the value projection.
        head: Paths within the language model of the modules that map the last hidden state to
            vocabulary logits, in the order of their use; empty where the family has no head.
        output: Path of the linear map to the vocabulary at the end of the head; by default the
            last module of ``head``.
        causal: A token attends only to the tokens before it: the model is a decoder.
        inputs_first: Linear layers store their weights transposed, inputs first.
        intermediate_field: The configuration's name for the feed-forward width.
        positions_after_padding: Positions are numbered from the padding token's id + 1, so the
            position table has more rows than the longest text has tokens.
        axes: Roles of the axes of every weight, by the end of its name; needed only to copy
            layers into a student of another width. A bias has the role of its weight's outputs.
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
        """Whether one module returns queries, keys and values."""
        return self.query == self.key == self.value

    @property
    def projections(self) -> dict[str, tuple[str, ...]]:
        """What each projection returns (queries, keys, values), by its path within a layer."""
        if self.fused:
            return {self.query: ("queries", "keys", "values")}
        return {self.query: ("queries",), self.key: ("keys",), self.value: ("values",)}

    @property
    def rotary(self) -> bool:
        """Whether positions rotate queries and keys, instead of being rows of a table."""
        return not any("positions" in roles for _, roles in self.axes)
