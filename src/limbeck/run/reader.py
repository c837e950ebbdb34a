"""How a model reads the rows of a task."""

from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerFast

from ..evaluation.examples import Reading, read_example
from ..evaluation.tasks import Example
from ..recipe.sides import ModelSide


@dataclass(frozen=True)
class Reader:
    """How one model reads rows.

    Attributes:
        tokenizer: Of the model.
        limit: Tokens of a row at most.
        segments: Token types that the model distinguishes.
        prompt: Put before each text.
    """

    tokenizer: PreTrainedTokenizerFast
    limit: int
    segments: int
    prompt: str = ""

    @classmethod
    def of(cls, side: ModelSide, max_length: int) -> "Reader":
        """The reader of a model, of so many tokens at most."""
        limit = min(max_length, side.shape.max_position_embeddings)
        return cls(side.tokenizer, limit, getattr(side.config, "type_vocab_size", 0) or 0)

    def read(self, row: Example) -> Reading:
        """A row in the model's tokens."""
        if self.prompt:
            text = row.text or "" if row.words is None else " ".join(row.words)
            row = replace(row, text=f"{self.prompt}{text}", words=None)
        read = read_example(row, self.tokenizer, self.limit, segments=self.segments)
        return read.without_prompt(len(self.prompt)) if self.prompt else read
