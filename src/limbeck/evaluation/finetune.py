"""Any encoder, fine-tuned on a task the same way: one small head, several seeds.

The head is a linear layer on the mean of the last hidden states (or on the
first one), and for tags on the first token of each word. It is our own, so that
every architecture is treated alike: a pooler that some folders have, trained or
not, is not used.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ..errors import EvaluationError
from ..models.attention import use_float32_attention
from ..models.load import load_body
from ..models.modules import longest_text
from ..student.label_bias import log_odds
from ..system.device import choose_device, choose_precision
from ..tokenization.load import load_tokenizer
from .examples import Row, encode_example, least_tokens, multi_hot
from .finetuning.learning import TaskLoss, learn, mean_loss
from .settings import FinetuneSettings
from .task_model import TaskModel, predict, score_predictions
from .tasks import Example, Task, TaskKind


@dataclass(frozen=True)
class SeedScore:
    """One fine-tuning.

    Attributes:
        seed: Its seed.
        metrics: Scores on the test rows.
        seconds: Spent.
        labels: The prediction for each test row: the index of the label among the task's,
            or the number; empty where the task has none.
        tags: The index of each word's tag among the task's, a row for each test row; where any
            number of labels may hold, the index of each one that does.
    """

    seed: int
    metrics: dict[str, float]
    seconds: float
    labels: tuple[float, ...] = ()
    tags: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Finetuned:
    """A model that has learned a task, to be scored on rows of its own or of another's.

    Attributes:
        network: Body and heads, on their device.
        tokenizer: Of the model.
        task: What was learned.
        settings: The protocol.
        seed: Of the fine-tuning.
        seconds: Of the fine-tuning.
        limit: Tokens of a text that are read.
        segments: Token types that the model distinguishes.
        loss_of: The loss that was learned with.
    """

    network: TaskModel
    tokenizer: PreTrainedTokenizerFast
    task: Task
    settings: FinetuneSettings
    seed: int
    seconds: float
    limit: int
    segments: int
    loss_of: TaskLoss

    def score(self, task: Task) -> SeedScore:
        """Score the test rows of a task with the same labels and tags.

        Raises:
            EvaluationError: Labels or tags differ, there is no room for a text, or a prediction is
                not finite.
        """
        learned = self.task
        if (task.kind, task.labels, task.tags) != (learned.kind, learned.labels, learned.tags):
            raise EvaluationError(
                f"{task.name} cannot be scored by a model that has learned {learned.name}: labels"
                " or tags differ; fine-tune on it"
            )
        _check_room(task, self.tokenizer, self.limit)
        began = time.perf_counter()
        tests = [self._encoded(row, task) for row in task.test]
        labels, tags = predict(self.network, tests, task, self.tokenizer)
        place = {"O": -1} | {name: number for number, name in enumerate(task.names)}
        labels = labels if task.labels or task.kind is TaskKind.REGRESSION else []
        return SeedScore(
            self.seed,
            score_predictions(task, labels, tags),
            self.seconds + time.perf_counter() - began,
            labels=() if task.kind is TaskKind.MULTI_LABEL else tuple(labels),
            tags=tuple(tuple(place[tag] for tag in row) for row in tags) if task.names else (),
        )

    def loss(self, task: Task) -> float:
        """The mean loss on the test rows of a task that `score` can score."""
        tests = [self._encoded(row, task) for row in task.test]
        return mean_loss(self.network, tests, self.loss_of, self.tokenizer)

    def _encoded(self, row: Example, task: Task) -> Row:
        return encode_example(row, task, self.tokenizer, self.limit, segments=self.segments)


def finetune(
    model: str,
    task: Task,
    *,
    settings: FinetuneSettings,
    seed: int,
    progress: Callable[[int, int, int], None] | None = None,
) -> Finetuned:
    """Fine-tune once on the training rows, with the learning rate and length of the settings.

    Raises:
        NotFiniteError: A loss is not finite.
        EvaluationError: A setting makes no sense, or there is no room for a token of every text.
        ModelError: The model cannot be loaded.
    """
    _check(task, settings)
    began = time.perf_counter()
    device = choose_device()
    precision = choose_precision(settings.precision, device)
    tokenizer = load_tokenizer(model)
    _check_room(task, tokenizer, settings.max_length)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = load_body(model, attention_dropout=False)
        if device.type == "cpu" and precision.half:
            use_float32_attention(body)
        network = TaskModel(
            body,
            task,
            dropout=settings.dropout,
            pooling=settings.pooling,
            half=precision.half,
        ).to(device)
        if network.of_text and task.kind is TaskKind.MULTI_LABEL:
            network.of_text.bias.data.copy_(log_odds(multi_hot(task.train, task.labels)))
        limit = min(settings.max_length, longest_text(body))
        _check_room(task, tokenizer, limit)
        segments = _segments(body)
        rows = [
            encode_example(example, task, tokenizer, limit, segments=segments)
            for example in task.train
        ]
        loss_of = TaskLoss(task, rows)
        learn(network, rows, loss_of, tokenizer, settings, seed=seed, progress=progress)
    seconds = time.perf_counter() - began
    return Finetuned(network, tokenizer, task, settings, seed, seconds, limit, segments, loss_of)


def _check(task: Task, settings: FinetuneSettings) -> None:
    if not task.train or not task.test:
        raise EvaluationError(
            f"{task.name} has {len(task.train)} training rows and {len(task.test)} test rows; give"
            " at least one of each"
        )
    if task.kind is TaskKind.CLASSIFICATION and len(task.labels) < 2:
        raise EvaluationError(
            f"all rows of {task.name} have the label {task.labels[0]!r}; a classifier needs rows of"
            " two labels or more"
        )
    if task.kind is TaskKind.MULTI_LABEL and not task.labels:
        raise EvaluationError(f"{task.name} has no label in any row; give rows that have some")
    if settings.search:
        raise EvaluationError(
            "one fine-tuning has one learning rate; take the settings that search() returns, or"
            " call evaluate_tasks"
        )
    # Three tokens hold one word between the special tokens at both ends.
    for name, value, least in (
        ("batch_size", settings.batch_size, 1),
        ("max_length", settings.max_length, 3),
    ):
        if value < least:
            raise EvaluationError(f"{name} is {value}; give {least} or more")
    for name, rate in (
        ("num_train_epochs", settings.num_train_epochs),
        ("learning_rate", settings.learning_rate),
    ):
        if not rate > 0:
            raise EvaluationError(f"{name} is {rate:g}; give more than 0")


def _check_room(task: Task, tokenizer: PreTrainedTokenizerFast, limit: int) -> None:
    """See that at least one token of every text is read."""
    least, special = least_tokens(task, tokenizer)
    if limit < least:
        texts = "both texts of a pair need" if least - special == 2 else "a text needs"
        raise EvaluationError(
            f"{task.name} is read {limit} tokens at a time (max_length), of which {special} are"
            f" special tokens, and {texts} one token at least; give {least} or more"
        )


def _segments(body: PreTrainedModel) -> int:
    """How many token types (the texts of a pair) the model distinguishes."""
    for name, module in body.named_modules():
        if name.endswith("token_type_embeddings") and isinstance(module, nn.Embedding):
            return module.num_embeddings
    return 0
