"""The loop of fine-tuning: AdamW, a rate that rises and falls, batches of similar lengths."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss
from transformers import PreTrainedTokenizerFast

from ..examples import Row, collate_rows
from ..settings import FinetuneSettings
from ..task_model import NotFiniteError, TaskModel
from ..tasks import Task, TaskKind


class TaskLoss:
    """The loss of a task: cross-entropy of labels and tags, squared error of numbers.

    Of labels that do not exclude one another, the mean of each one's binary cross-entropy.

    Numbers are shifted and scaled by mean and standard deviation of the training rows.

    Args:
        task: What is learned.
        rows: Its training rows.

    Attributes:
        task: What is learned.
    """

    def __init__(self, task: Task, rows: list[Row]) -> None:
        self.task = task
        self._middle, self._width = 0.0, 1.0
        if task.kind is TaskKind.REGRESSION:
            numbers = np.array([row.label for row in rows], dtype=float)
            self._middle, self._width = float(numbers.mean()), float(numbers.std()) or 1.0

    def __call__(
        self, outputs: tuple[Tensor | None, Tensor | None], batch: list[Row], tags: Tensor
    ) -> Tensor:
        """The mean over the texts, plus the mean over their tags.

        Args:
            outputs: Of a `TaskModel`.
            batch: The rows that it has read.
            tags: Those to be predicted, -100 where there is none.
        """
        of_text, of_words = outputs
        loss = torch.zeros((), device=tags.device)
        labels: list[Any] = [row.label for row in batch]
        if of_text is not None and self.task.kind is TaskKind.REGRESSION:
            scaled = [(label - self._middle) / self._width for label in labels]
            targets = torch.tensor(scaled, device=tags.device)
            loss = loss + mse_loss(of_text.squeeze(1), targets.float())
        elif of_text is not None and self.task.kind is TaskKind.MULTI_LABEL:
            held = torch.zeros(of_text.shape)
            for number, label in enumerate(labels):
                held[number, list(label)] = 1.0
            loss = loss + binary_cross_entropy_with_logits(of_text, held.to(tags.device))
        elif of_text is not None:
            classes = torch.tensor([int(label) for label in labels], device=tags.device)
            loss = loss + cross_entropy(of_text, classes)
        if of_words is not None:
            # A mean over no tag at all would be NaN.
            count = (tags != -100).sum().clamp_min(1)
            total = cross_entropy(of_words.flatten(0, 1), tags.flatten(), reduction="sum")
            loss = loss + total / count
        return loss


def learn(
    network: TaskModel,
    rows: list[Row],
    loss_of: TaskLoss,
    tokenizer: PreTrainedTokenizerFast,
    settings: FinetuneSettings,
    *,
    seed: int,
    progress: Callable[[int, int, int], None] | None = None,
) -> None:
    """Train a network on rows; it is changed in place.

    Args:
        network: On its device.
        rows: To learn from.
        loss_of: Of the task.
        tokenizer: Of the model.
        settings: The protocol.
        seed: Decides the order of the rows.
        progress: Called with (seed, step, steps).

    Raises:
        NotFiniteError: A loss is not finite.
    """
    network.train()
    device = next(network.parameters()).device
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
        loss = loss_of(network(inputs), batch, tags)
        if not torch.isfinite(loss):
            raise NotFiniteError(
                f"the loss on {loss_of.task.name} is not finite at step {step} with seed {seed};"
                f" lower the learning rate ({settings.learning_rate:g}); bfloat16 may need"
                " precision float32"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if progress:
            progress(seed, step + 1, steps)


def mean_loss(
    network: TaskModel, rows: list[Row], loss_of: TaskLoss, tokenizer: PreTrainedTokenizerFast
) -> float:
    """The loss on rows, a mean over batches weighted by their rows.

    Args:
        network: Changed to evaluation mode.
        rows: At least one.
        loss_of: Of the task.
        tokenizer: Of the model.
    """
    network.eval()
    device = next(network.parameters()).device
    by_length = sorted(rows, key=lambda row: len(row.tags))
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(by_length), 64):
            batch = by_length[start : start + 64]
            inputs, tags = collate_rows(batch, tokenizer, device)
            total += len(batch) * float(loss_of(network(inputs), batch, tags))
    return total / len(rows)


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
