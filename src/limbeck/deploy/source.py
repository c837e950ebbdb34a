"""The model that is exported: as it is stored, and as one module with one output."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from ..errors import ExportError, ModelError
from ..evaluation.embeddings.encode import TextEncoder, load_text_encoder
from ..models.families.lookup import architecture_of
from ..models.load import load_config, load_model, load_task_model
from ..models.locate import GGUF, locate, model_of_run
from ..models.sentences.load import chain_of
from ..models.sentences.vectors import SentenceVectors
from ..models.shapes import shape_of
from ..models.task_heads import (
    TaskHead,
    gives_numbers,
    head_of,
    no_head_of_task,
    padding_problem,
)
from ..run.reader import Reader
from ..token_ids import TokenIds
from ..tokenization.load import load_tokenizer
from ..tokenization.post_processor import own_frame, put_frame
from .arrays import Feed

Kind = Literal["vectors", "sequence", "token", "masked", "causal", "body"]
OUTPUTS: dict[Kind, str] = {
    "vectors": "sentence_embedding",
    "sequence": "logits",
    "token": "logits",
    "masked": "logits",
    "causal": "logits",
    "body": "last_hidden_state",
}
_LONGEST = 512  # tokens of a text, where neither the model nor its tokenizer says less


class Exported(nn.Module):
    """A model that takes ids and a mask, and gives one array.

    Args:
        model: Of transformers, in evaluation mode.
        output: The name of the array.
        vectors: What makes one vector of a text; None where the model's own output is given.
    """

    def __init__(self, model: Any, output: str, vectors: SentenceVectors | None = None) -> None:
        super().__init__()
        self.model, self.output, self.vectors = model, output, vectors
        self.config = model.config  # where transformers' exporter looks for it

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The output by its name."""
        given = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        found = self.model(input_ids=input_ids, attention_mask=attention_mask, **given)[0]
        if self.vectors is not None:
            found = self.vectors(found, attention_mask.bool())
        return {self.output: found}


@dataclass(frozen=True)
class Source:
    """A model before it is exported.

    Attributes:
        name: As the user gave it.
        kind: What it says of a text.
        module: Computes in float32 on the processor.
        config: Of transformers, as it is stored.
        reader: Makes tokens of texts.
        inputs: Names of the arrays that it takes.
        longest: Tokens of a text that its positions allow.
        head: Of a classifier, tagger or scoring model.
        encoder: Of a folder of sentence-transformers.
    """

    name: str
    kind: Kind
    module: Exported
    config: Any
    reader: Reader
    inputs: tuple[str, ...]
    longest: int
    head: TaskHead | None = None
    encoder: TextEncoder | None = None

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Of the model."""
        return self.reader.tokenizer

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding table."""
        size: int = self.config.get_text_config().vocab_size
        return size

    def example(self, rows: int = 3) -> dict[str, Int[Tensor, "rows tokens"]]:
        """Inputs to trace a forward with, the largest id and padding among them.

        No size is 1, which may fix a dimension, and the two differ.

        Args:
            rows: Texts; 2 or more, but 7.
        """
        mask = torch.ones(rows, 7, dtype=torch.long)
        mask[1, 3:] = 0
        found = dict.fromkeys(self.inputs, torch.zeros_like(mask))
        ids = torch.full_like(mask, self.vocabulary - 1)
        return found | {"input_ids": ids, "attention_mask": mask}

    def __call__(self, feed: Feed) -> np.ndarray:
        """What torch computes for arrays [batch, tokens] by the names of the inputs."""
        given = {name: torch.from_numpy(np.asarray(feed[name], np.int64)) for name in self.inputs}
        with torch.inference_mode():
            found: np.ndarray = self.module(**given)[self.module.output].numpy()
        return found


def load_source(name: str) -> Source:
    """A model as it will be exported, in float32 on the processor.

    Args:
        name: A model or run folder, a hub name, or ``minilm-demo``.

    Raises:
        ExportError: It is a GGUF file, has classes that do not exclude one
            another, or vectors that depend on where a prompt ends.
        ModelError: It cannot be loaded; one that needs remote code never is. Or its tokenizer gives
            ids that it has no embedding of, reads nothing of a text, or pads with another one than
            a decoder's head expects.
    """
    place = model_of_run(name)
    if locate(place).endswith(GGUF):
        raise ExportError(
            f"{name!r} is a GGUF file, whose weights are rounded already; export the folder of"
            " safetensors that it was made from"
        )
    config = load_config(place)
    if gives_numbers(config):
        raise ExportError(no_head_of_task(name, config))
    if chain_of(place) is not None:
        return _of_vectors(name, place, config)
    head = head_of(config)
    architecture, tokenizer = architecture_of(config), load_tokenizer(place)
    _check_ids(name, config, tokenizer)
    kind: Kind
    if head is not None:
        if architecture.causal and (problem := padding_problem(head, config, tokenizer)):
            raise ModelError(f"{name!r} {problem}")
        model, kind = load_task_model(place, head), head.kind
    else:
        put_frame(tokenizer)
        model = load_model(place, architecture=architecture)
        kind = "causal" if architecture.causal else "masked"
        if model is model.base_model or not architecture.head:
            kind = "body"
    longest = shape_of(config, architecture).max_position_embeddings
    reader = _reader(name, tokenizer, longest, getattr(config, "type_vocab_size", 0) or 0)
    return _source(name, kind, model, config, reader, longest, head=head)


def _of_vectors(name: str, place: str, config: Any) -> Source:
    encoder = load_text_encoder(place, precision="float32")
    _check_ids(name, config, encoder.tokenizer)
    if not encoder.vectors.pooling.include_prompt and any(encoder.prompts.values()):
        raise ExportError(
            f"the vectors of {name!r} leave out the tokens of prompts (include_prompt: false), and"
            " a file does not know where a prompt ends; export a folder without prompts"
        )
    longest = shape_of(config, architecture_of(config)).max_position_embeddings
    reader = Reader(encoder.tokenizer, encoder.max_length, 0)
    encoder.vectors.cpu().train(False)
    return _source(name, "vectors", encoder.body, config, reader, longest, encoder=encoder)


def _check_ids(name: str, config: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    """See that a model has an embedding of every id of its tokenizer.

    Raises:
        ModelError: It has not.
    """
    rows, ids = config.get_text_config().vocab_size, TokenIds.of(tokenizer)
    if ids.end > rows:
        raise ModelError(
            f"{name!r} has {rows} embeddings, and its tokenizer {len(ids)} tokens with ids up to"
            f" {ids.end - 1}; save both as they were trained together"
        )


def _reader(name: str, tokenizer: PreTrainedTokenizerFast, longest: int, segments: int) -> Reader:
    """What makes tokens of texts.

    Raises:
        ModelError: It would read nothing of them.
    """
    limit = min(longest, tokenizer.model_max_length)
    special = sum(map(len, own_frame(tokenizer.backend_tokenizer) or ()))
    if limit <= special:
        raise ModelError(
            f"{name!r} reads {limit} tokens of a text, of which {special} are special tokens; set"
            f" model_max_length in its tokenizer_config.json to {special + 1} or more"
        )
    return Reader(tokenizer, limit if limit < 2**20 else _LONGEST, segments)


def _source(
    name: str,
    kind: Kind,
    model: Any,
    config: Any,
    reader: Reader,
    longest: int,
    *,
    head: TaskHead | None = None,
    encoder: TextEncoder | None = None,
) -> Source:
    model.config.use_cache = False  # keys and values of a decoder would be outputs, too
    vectors = encoder.vectors if encoder else None
    module = Exported(model.cpu().float(), OUTPUTS[kind], vectors).train(False)
    types = ("token_type_ids",) if reader.segments > 1 else ()
    return Source(
        name=name,
        kind=kind,
        module=module,
        config=config,
        reader=reader,
        inputs=("input_ids", "attention_mask", *types),
        longest=longest,
        head=head,
        encoder=encoder,
    )
