"""Any encoder, fine-tuned on a task the same way: one small head, several seeds.

The head is a linear layer on the mean of the last hidden states (or on the
first one), and for tags on the first token of each word. It is our own, so that
every architecture is treated alike: a pooler that some folders have, trained or
not, is not used.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ..errors import EvaluationError
from ..models.attention import use_float32_attention
from ..models.load import load_body
from ..system.device import choose_device, choose_precision
from ..tokenization.load import load_tokenizer
from .examples import Row, collate_rows, encode_example, least_tokens
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
        tags: The index of each word's tag among the task's, a row for each test row.
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
    """

    network: TaskModel
    tokenizer: PreTrainedTokenizerFast
    task: Task
    settings: FinetuneSettings
    seed: int
    seconds: float
    limit: int
    segments: int

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
        place = {tag: number for number, tag in enumerate(task.tags)}
        place.setdefault("O", -1)
        return SeedScore(
            self.seed,
            score_predictions(task, labels, tags),
            self.seconds + time.perf_counter() - began,
            labels=tuple(labels) if task.labels or task.kind is TaskKind.REGRESSION else (),
            tags=tuple(tuple(place[tag] for tag in row) for row in tags) if task.tags else (),
        )

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
    """Fine-tune once on the training rows.

    Raises:
        EvaluationError: A loss is not finite, a setting makes no sense, or there is no room for
            a token of every text.
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
        limit = min(settings.max_length, _positions(body))
        _check_room(task, tokenizer, limit)
        segments = _segments(body)
        rows = [
            encode_example(example, task, tokenizer, limit, segments=segments)
            for example in task.train
        ]
        _learn(network, rows, task, tokenizer, settings, seed, device, progress)
    seconds = time.perf_counter() - began
    return Finetuned(network, tokenizer, task, settings, seed, seconds, limit, segments)


def _check(task: Task, settings: FinetuneSettings) -> None:
    if not task.train or not task.test:
        raise EvaluationError(
            f"{task.name} has {len(task.train)} training rows and {len(task.test)} test rows; give"
            " at least one of each"
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


def _positions(body: PreTrainedModel) -> int:
    """The most tokens that the model can read: RoBERTa never uses its table's first rows."""
    for name, module in body.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            unused = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - unused
    found = getattr(body.config, "max_position_embeddings", None)
    return int(found) if found else 2**31  # without a table, any length can be read


def _segments(body: PreTrainedModel) -> int:
    """How many token types (the texts of a pair) the model distinguishes."""
    for name, module in body.named_modules():
        if name.endswith("token_type_embeddings") and isinstance(module, nn.Embedding):
            return module.num_embeddings
    return 0


def _learn(
    network: TaskModel,
    rows: list[Row],
    task: Task,
    tokenizer: PreTrainedTokenizerFast,
    settings: FinetuneSettings,
    seed: int,
    device: torch.device,
    progress: Callable[[int, int, int], None] | None,
) -> None:
    network.train()
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    per_epoch = -(-len(rows) // settings.batch_size)
    steps = max(1, round(per_epoch * settings.num_train_epochs))
    warmup = max(1, steps // 10)
    generator = np.random.default_rng(seed)
    middle, width = _standard(rows) if task.kind is TaskKind.REGRESSION else (0.0, 1.0)
    batches: Iterator[list[int]] = iter(())
    for step in range(steps):
        if (chosen := next(batches, None)) is None:
            batches = _shuffled(rows, settings.batch_size, generator)
            chosen = next(batches)
        for group in optimizer.param_groups:
            rate = min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))
            group["lr"] = settings.learning_rate * rate
        batch = [rows[number] for number in chosen]
        inputs, tags = collate_rows(batch, tokenizer, device)
        of_text, of_words = network(inputs)
        loss = torch.zeros((), device=device)
        if of_text is not None and task.kind is TaskKind.REGRESSION:
            targets = torch.tensor([(row.label - middle) / width for row in batch], device=device)
            loss = loss + mse_loss(of_text.squeeze(1), targets.float())
        elif of_text is not None:
            classes = torch.tensor([int(row.label) for row in batch], device=device)
            loss = loss + cross_entropy(of_text, classes)
        if of_words is not None:
            # A mean over no tag at all would be NaN.
            count = (tags != -100).sum().clamp_min(1)
            total = cross_entropy(of_words.flatten(0, 1), tags.flatten(), reduction="sum")
            loss = loss + total / count
        if not torch.isfinite(loss):
            raise EvaluationError(
                f"the loss on {task.name} is not finite at step {step} with seed {seed}; lower the"
                f" learning rate ({settings.learning_rate:g}) or use precision float32"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if progress:
            progress(seed, step + 1, steps)


def _shuffled(
    rows: list[Row], batch_size: int, generator: np.random.Generator
) -> Iterator[list[int]]:
    """Batches of texts of similar length, in random order: little padding, little bias."""
    lengths = np.array([len(row.tags) for row in rows])
    noisy = lengths * generator.uniform(0.8, 1.25, len(rows))
    order = np.argsort(noisy, kind="stable")
    starts = generator.permutation(np.arange(0, len(rows), batch_size))
    for start in starts:
        yield order[start : start + batch_size].tolist()


def _standard(rows: list[Row]) -> tuple[float, float]:
    labels = np.array([row.label for row in rows], dtype=float)
    return float(labels.mean()), float(labels.std()) or 1.0
