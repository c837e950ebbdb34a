"""What a decoder writes after prompts, against references; and how sure it is of the references.

Bits per byte can be compared across vocabularies, perplexity within one alone.

Source: agreement on own text against text of others, Arora et al. 2022, arXiv:2204.01171.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ..activations import Needs, Predictions
from ..batch import Tokens
from ..data.prompts import Prompt
from ..errors import EvaluationError
from ..generation.ends import ends_notes, ends_of
from ..generation.parts import means_by_part, parts_of
from ..generation.rules import Student
from ..generation.tables import Readers
from ..generation.write import Writing, most_places, write
from ..models.architecture import Architecture
from ..models.capture import capture
from ..models.families import architecture_of
from ..models.load import load_config, load_model
from ..models.shapes import shape_of
from ..objectives.labels import label_log_likelihoods
from ..token_ids import TokenIds
from ..tokenization.load import load_tokenizer
from ..tokenization.prompts import PromptTable, answered, encode_prompts
from .finetune import SeedScore
from .rouge import rouge_l, words
from .settings import GenerationSettings
from .tasks import Task


def score_generation(
    model: str,
    task: Task,
    *,
    settings: GenerationSettings,
    seed: int,
    progress: Callable[[int, int, int], None] | None = None,
) -> SeedScore:
    """What a model folder writes after the prompts of a task, and its score.

    Metrics are ``rouge_l`` (the best reference of each prompt), ``bits_per_byte`` and
    ``perplexity`` (of the first reference), ``ended`` (answers that came to an end),
    ``words`` (of an answer), and the shares that were too long to be read whole:
    ``cut_prompts`` lost their beginning, ``cut_references`` their end.

    Raises:
        EvaluationError: The model is no decoder, or there is no room for a prompt.
        MissingExtraError: rouge-score is not installed.
    """
    began = time.perf_counter()
    writer = Writer.loaded(model)
    rows = _prompts(task)
    table = writer.table(rows, settings)
    written, ended = writer.answers(table.prompts, settings, seed=seed, progress=progress)
    texts = [writer.text(row) for row in written]
    found = [rouge_l(row.references, text) for row, text in zip(rows, texts, strict=True)]
    nats = torch.cat([writer.nats(tokens) for tokens in batched(table.by_length(), settings)])
    utf8_bytes = sum(int(row.sum()) for row in table.response_bytes)
    metrics = {
        "rouge_l": sum(found) / len(found),
        "bits_per_byte": float(nats.sum()) / math.log(2) / max(1, utf8_bytes),
        "perplexity": math.exp(min(float(nats.mean()), 700.0)),
        "ended": sum(ended) / len(rows),
        "words": sum(len(words(text)) for text in texts) / len(rows),
        "cut_prompts": table.cut_prompts / len(rows),
        "cut_references": table.cut_responses / len(rows),
    }
    return SeedScore(seed, metrics, time.perf_counter() - began, labels=tuple(found))


@dataclass(frozen=True)
class Writer:
    """A decoder with its tokenizer, ready to write.

    Attributes:
        model: In evaluation mode.
        tokenizer: Of the model.
        architecture: Of its family.
        ends: Token ids that end a text, each of them.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    architecture: Architecture
    ends: tuple[int, ...]

    @staticmethod
    def loaded(name: str, architecture: Architecture | None = None) -> "Writer":
        """From a model folder.

        Args:
            name: Of the model.
            architecture: Its family's, where that is not in the table.

        Raises:
            EvaluationError: It is no decoder, or neither it nor its tokenizer ends a text.
        """
        tokenizer = load_tokenizer(name)
        architecture = architecture or architecture_of(load_config(name).model_type)
        ends = ends_of(tokenizer, name)
        if tokenizer.eos_token_id is None and ends:
            tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ends[0])
        if not architecture.causal:
            raise EvaluationError(f"{name} is an encoder; only decoders write texts")
        if tokenizer.eos_token_id is None:
            notes = "".join(f" ({note})" for note in ends_notes(tokenizer, name))
            raise EvaluationError(
                f"{name} has no token that ends a text{notes}; name one as eos_token of its"
                " tokenizer, or as eos_token_id in its generation_config.json"
            )
        model = load_model(name, architecture=architecture, with_head=True)
        if torch.cuda.is_available():
            nn.Module.cuda(model)
        return Writer(model, tokenizer, architecture, ends)

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
        """Prompts and first references in tokens, as long as the model can read."""
        length = min(self.positions, settings.max_length or 2048)
        if settings.max_new_tokens >= length - 1:
            raise EvaluationError(
                f"answers of {settings.max_new_tokens} tokens leave no room for a prompt in {length};"
                " ask for shorter ones (`response`)"
            )
        return encode_prompts(
            rows,
            self.tokenizer,
            length=length,
            response=settings.max_new_tokens,
            between="\n" if settings.separator is None else settings.separator,
            chat=bool(settings.chat_template),
        )

    def answers(
        self,
        prompts: Sequence[Any],
        settings: GenerationSettings,
        *,
        seed: int,
        progress: Callable[[int, int, int], None] | None = None,
    ) -> tuple[list[list[int]], list[bool]]:
        """Tokens written after each prompt, and whether they came to an end."""
        tokens: list[list[int]] = [[] for _ in prompts]
        ended = [False for _ in prompts]
        longest = max(map(len, prompts), default=0) + settings.max_new_tokens
        self._readers.expect(
            rows=min(settings.batch_size, len(prompts)),
            places=most_places(longest, Writing.block),
        )
        # Prompts of a like length hold little padding.
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
        for start in range(0, len(order), settings.batch_size):
            some = order[start : start + settings.batch_size]
            found = write(
                self.model,
                None,
                [list(map(int, prompts[row])) for row in some],
                Student(),
                writing=Writing(settings.max_new_tokens, settings.temperature, seed=seed + start),
                tokens=self._ids,
                ends=self.ends,
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
        """Without its end, which need not be a special token, and without special tokens."""
        if len(tokens) and tokens[-1] in self.ends:
            tokens = tokens[:-1]
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def nats(self, tokens: Tokens) -> Float[Tensor, " predicted"]:
        """That the model needs for each predicted token."""
        with torch.no_grad():
            tokens = tokens.to(self.model.device)
            labels = tokens.labels[tokens.predicted]
            found = self._predictions(tokens)
            return -label_log_likelihoods(found, labels, vocabulary=self._ids).cpu()

    def likeliest(self, tokens: Tokens) -> Int[Tensor, " predicted"]:
        """The token that the model finds likeliest at each predicted place."""
        with torch.no_grad():
            logits = self._predictions(tokens.to(self.model.device)).logits()
            return self._ids.only(logits).argmax(-1).cpu()

    def _predictions(self, tokens: Tokens) -> Predictions:
        found = capture(self.model, self.architecture, tokens, Needs(predictions=True)).predictions
        if found is None:
            raise EvaluationError("the model gave no predictions")
        return found


def positions_of_task(
    model: str, teacher: str, task: Task, settings: GenerationSettings
) -> dict[str, list[float]]:
    """How good a model folder is early and late in the texts of a task, as `by_position` says.

    Raises:
        EvaluationError: One of them is no decoder, or their tokens differ.
    """
    both = Writer.loaded(model), Writer.loaded(teacher)
    if both[0].tokenizer.get_vocab() != both[1].tokenizer.get_vocab():
        raise EvaluationError(
            f"{model} and {teacher} have different tokens, and where they agree is counted by"
            " token; name a teacher with the same tokenizer, or none"
        )
    return by_position(*both, _prompts(task), settings)


def _prompts(task: Task) -> list[Prompt]:
    return [Prompt(str(e.text), e.references or ()) for e in task.test]


def by_position(
    student: Writer, teacher: Writer | None, rows: Sequence[Prompt], settings: GenerationSettings
) -> dict[str, list[float]]:
    """How good a student is in the first, middle and last third of texts.

    Returns:
        ``bits_per_piece`` of the references; and with a teacher of the same tokens
        ``agreement_on_references`` and ``agreement_on_own_text``: the share of places at
        which both find the same token likeliest, over the references and over what the
        student writes itself. What the second lacks to the first, and more so later in
        the text, is the harm of its own mistakes (exposure bias).
    """
    table = student.table(rows, settings)
    own, _ = student.answers(table.prompts, settings, seed=0)
    mine = PromptTable(table.prompts, [np.array(row) for row in own], 0, 0)
    bits = _means(table, settings, lambda tokens: student.nats(tokens) / math.log(2))
    found = {"bits_per_piece": bits}
    if teacher is None:
        return found

    def agrees(tokens: Tokens) -> Tensor:
        return (student.likeliest(tokens) == teacher.likeliest(tokens)).float()

    for name, texts in (("references", table), ("own_text", mine)):
        found[f"agreement_on_{name}"] = _means(texts, settings, agrees)
    return found


def batched(table: PromptTable, settings: GenerationSettings) -> Iterator[Tokens]:
    """Prompts with their responses, some at once."""
    for start in range(0, len(table), settings.batch_size):
        some = slice(start, start + settings.batch_size)
        yield answered(table.prompts[some], table.responses[some], pad=0)


def _means(
    table: PromptTable, settings: GenerationSettings, measure: Callable[[Tokens], Tensor]
) -> list[float]:
    """Of what is measured at every predicted token, by the part of its response."""
    table = table.by_length()
    values = torch.cat([measure(tokens) for tokens in batched(table, settings)])
    parts = parts_of(torch.tensor([len(row) for row in table.responses]))
    return means_by_part(values, parts[parts >= 0])
