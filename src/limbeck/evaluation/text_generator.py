"""A decoder that answers prompts, and says how likely it finds given answers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ..activations import Needs, Predictions
from ..batch import Tokens
from ..data.prompts import Prompt
from ..errors import EvaluationError
from ..generation.decoding import DecodingOptions, generate
from ..generation.drafting import most_places
from ..generation.ends import ends_notes, ends_of
from ..generation.readers import Readers
from ..generation.rules import Student
from ..models.architecture import Architecture
from ..models.capture import capture
from ..models.families.lookup import architecture_of
from ..models.load import load_config, load_model
from ..models.shapes import shape_of
from ..objectives.labels import label_log_likelihoods
from ..token_ids import TokenIds
from ..tokenization.chat import tokenize_said
from ..tokenization.frame import frame_of
from ..tokenization.load import load_tokenizer
from ..tokenization.prompts import PromptTable, answered, encode_prompts
from .settings import GenerationSettings

_LONGEST = 2048  # tokens of prompt and answer, where the settings name no length


@dataclass(frozen=True)
class TextGenerator:
    """A decoder with its tokenizer, ready to generate.

    Attributes:
        model: In evaluation mode.
        tokenizer: Of the model.
        architecture: Of its family.
        ends: Ids of all tokens that end a text.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    architecture: Architecture
    ends: tuple[int, ...]

    @staticmethod
    def load(name: str, architecture: Architecture | None = None) -> "TextGenerator":
        """The decoder of a model folder.

        Args:
            name: Of the model.
            architecture: Of its family, where limbeck does not know the family.

        Raises:
            EvaluationError: It is no decoder, or neither it nor its tokenizer names an end of text.
        """
        tokenizer = load_tokenizer(name)
        architecture = architecture or architecture_of(load_config(name))
        ends = with_end(tokenizer, name)
        if not architecture.causal:
            raise EvaluationError(f"{name} is an encoder; only decoders generate texts")
        if tokenizer.eos_token_id is None:
            notes = "".join(f" ({note})" for note in ends_notes(tokenizer, name))
            raise EvaluationError(
                f"{name} has no token that ends a text{notes}; name one as eos_token of its"
                " tokenizer, or as eos_token_id in its generation_config.json"
            )
        model = load_model(name, architecture=architecture, with_head=True)
        if torch.cuda.is_available():
            nn.Module.cuda(model)
        return TextGenerator(model, tokenizer, architecture, ends)

    @cached_property
    def _readers(self) -> Readers:
        return Readers()

    @property
    def _ids(self) -> TokenIds:
        return TokenIds.of(self.tokenizer)

    @property
    def positions(self) -> int:
        """Tokens that the model can read at once."""
        return shape_of(self.model.config, self.architecture).max_position_embeddings

    def table(self, rows: Sequence[Prompt], settings: GenerationSettings) -> PromptTable:
        """Prompts and first references in tokens, truncated to what the model can read."""
        length = longest_text(self.positions, settings)
        most = most_new_tokens(self.tokenizer, length, settings)
        if settings.max_new_tokens > most:
            raise EvaluationError(
                f"answers of {settings.max_new_tokens} tokens leave no room for a prompt in"
                f" {length}; make `max_new_tokens` smaller ({most} at most)"
            )
        return encode_prompts(
            rows,
            self.tokenizer,
            max_length=length,
            max_new_tokens=settings.max_new_tokens,
            separator="\n" if settings.separator is None else settings.separator,
            chat_template=bool(settings.chat_template),
        )

    def answers(
        self,
        prompts: Sequence[Any],
        settings: GenerationSettings,
        *,
        seed: int,
        progress: Callable[[int, int, int], None] | None = None,
    ) -> tuple[list[list[int]], list[bool]]:
        """Tokens generated after each prompt, and whether each answer has an end."""
        tokens: list[list[int]] = [[] for _ in prompts]
        ended = [False for _ in prompts]
        longest = max(map(len, prompts), default=0) + settings.max_new_tokens
        self._readers.expect(
            rows=min(settings.batch_size, len(prompts)),
            places=most_places(longest, DecodingOptions.draft_length),
        )
        # Prompts of about one length need little padding.
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
        for start in range(0, len(order), settings.batch_size):
            some = order[start : start + settings.batch_size]
            found = generate(
                self.model,
                None,
                [list(map(int, prompts[row])) for row in some],
                Student(),
                options=DecodingOptions(
                    settings.max_new_tokens, settings.temperature, seed=seed + start
                ),
                vocabulary=self._ids,
                eos_token_id=self.ends,
                readers=self._readers,
            )
            for row, text, length, end in zip(
                some,
                found.tokens.tolist(),
                found.lengths.tolist(),
                found.ended.tolist(),
                strict=True,
            ):
                tokens[row], ended[row] = text[:length], end
            if progress:
                progress(seed, start + len(some), len(prompts))
        return tokens, ended

    def text(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without its end and without special tokens."""
        if len(tokens) and tokens[-1] in self.ends:  # an end need not be a special token
            tokens = tokens[:-1]
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def nats(self, tokens: Tokens) -> Float[Tensor, " predicted"]:
        """The loss of the model at each predicted token."""
        with torch.no_grad():
            tokens = tokens.to(self.model.device)
            labels = tokens.labels[tokens.predicted]
            found = self._predictions(tokens)
            return -label_log_likelihoods(found, labels, vocabulary=self._ids).cpu()

    def most_likely(self, tokens: Tokens) -> Int[Tensor, " predicted"]:
        """The token that the model finds most likely at each predicted place."""
        with torch.no_grad():
            logits = self._predictions(tokens.to(self.model.device)).logits()
            return self._ids.only(logits).argmax(-1).cpu()

    def _predictions(self, tokens: Tokens) -> Predictions:
        found = capture(self.model, self.architecture, tokens, Needs(predictions=True)).predictions
        if found is None:
            raise EvaluationError("the model gave no predictions")
        return found


def with_end(tokenizer: PreTrainedTokenizerFast, name: str) -> tuple[int, ...]:
    """Token ids that end a text of a model; a tokenizer that names no end gets the first of them.

    Raises:
        ModelError: As `ends_of` says.
    """
    ends = ends_of(tokenizer, name)
    if tokenizer.eos_token_id is None and ends:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ends[0])
    return ends


def longest_text(positions: int, settings: GenerationSettings) -> int:
    """Tokens of prompt and answer that a model reads at most, which has so many positions."""
    return min(positions, settings.max_length or _LONGEST)


def most_new_tokens(
    tokenizer: PreTrainedTokenizerFast, length: int, settings: GenerationSettings
) -> int:
    """Tokens that an answer may have, so that there is room for a prompt.

    Args:
        tokenizer: Of the model.
        length: Tokens of prompt and answer.
        settings: Which say whether a chat template takes some of them.

    Raises:
        DataError: There is no chat template, or it fails.
    """
    if settings.chat_template:
        [empty] = tokenize_said(tokenizer, [""])
        return length - len(empty.ids) - 1
    return length - max(1, len(frame_of(tokenizer).begin)) - 1


def answered_batches(table: PromptTable, settings: GenerationSettings) -> Iterator[Tokens]:
    """Prompts with their responses, `batch_size` at a time."""
    for start in range(0, len(table), settings.batch_size):
        some = slice(start, start + settings.batch_size)
        yield answered(table.prompts[some], table.responses[some], pad=0)
