"""A body with the heads of a task, and its predictions for the task's test rows."""

from itertools import compress
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ..errors import EvaluationError
from ..models.shapes import state_width
from ..system.progress import told
from .examples import Row, collate_rows
from .metrics import (
    classification_metrics,
    joint_metrics,
    multi_label_metrics,
    regression_metrics,
    tagging_metrics,
)
from .rankings import ranking_scores
from .tasks import Task, TaskKind, labels_of


class NotFiniteError(EvaluationError):
    """A loss or a prediction is not finite; a lower learning rate may do."""


class TaskModel(nn.Module):
    """A body with the heads that a task needs.

    Args:
        body: Fine-tuned together with the heads.
        task: With its labels and tags.
        dropout: Before the heads.
        pooling: Which hidden states represent the text.
        half: Run the body in bfloat16; heads are always float32.
    """

    def __init__(
        self,
        body: PreTrainedModel,
        task: Task,
        *,
        dropout: float,
        pooling: Literal["mean", "first"],
        half: bool,
    ) -> None:
        super().__init__()
        width = state_width(body.config)
        outputs = 1 if task.kind is TaskKind.REGRESSION else len(task.labels)
        self.body = body
        self.dropout = nn.Dropout(dropout)
        self.of_text = nn.Linear(width, outputs) if outputs else None
        self.of_words = nn.Linear(width, len(task.tags)) if task.tags else None
        self.pooling, self._in_half = pooling, half

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor | None, Tensor | None]:
        """Logits (or the number) of every text, and logits of the tags of every token."""
        mask = inputs["attention_mask"].bool()
        device = mask.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self._in_half):
            states = self.body(**inputs).last_hidden_state
        with torch.autocast(device, enabled=False):
            states = states.float()
            real = mask[..., None].float()
            pooled = (
                (states * real).sum(1) / real.sum(1) if self.pooling == "mean" else states[:, 0]
            )
            of_text = self.of_text(self.dropout(pooled)) if self.of_text else None
            of_words = self.of_words(self.dropout(states)) if self.of_words else None
        return of_text, of_words


def predict(
    network: TaskModel, rows: list[Row], task: Task, tokenizer: PreTrainedTokenizerFast
) -> tuple[list[float], list[list[str]]]:
    """Predictions for a task's test rows: labels as indices (or numbers), and tags.

    Where any number of labels may hold, those that do stand in the place of tags.

    Args:
        network: Changed to evaluation mode.
        rows: The task's test rows, encoded.
        task: Its labels and tags.
        tokenizer: Of the model.

    Raises:
        NotFiniteError: A prediction is not finite.
    """
    network.eval()
    device = next(network.parameters()).device
    labels = [0.0] * len(rows)
    tags: list[list[str]] = [[] for _ in rows]
    by_length = sorted(range(len(rows)), key=lambda n: len(rows[n].tokens["input_ids"]))
    with torch.no_grad():
        for start in told(range(0, len(rows), 64), f"scoring {task.name}", "batches"):
            numbers = by_length[start : start + 64]
            inputs, _ = collate_rows([rows[n] for n in numbers], tokenizer, device)
            of_text, of_words = network(inputs)
            if of_text is not None:
                if not torch.isfinite(of_text).all():
                    raise NotFiniteError(
                        f"a prediction for {task.name} is not finite after the last step; lower"
                        " the learning rate; bfloat16 may need precision float32"
                    )
                if task.kind is TaskKind.MULTI_LABEL:
                    for number, held in zip(numbers, (of_text > 0).tolist(), strict=True):
                        tags[number] = [*compress(task.labels, held)]
                else:
                    one = task.kind is TaskKind.REGRESSION
                    values = of_text.squeeze(1) if one else of_text.argmax(1)
                    for number, value in zip(numbers, values.tolist(), strict=True):
                        labels[number] = float(value)
            if of_words is not None:
                best = of_words.argmax(-1).tolist()
                for number, tokens in zip(numbers, best, strict=True):
                    words = len(task.test[number].tags or ())
                    predicted = ["O"] * words
                    for place, word in enumerate(rows[number].word_of_token):
                        if word >= 0:
                            predicted[word] = task.tags[tokens[place]]
                    tags[number] = predicted
    return labels, tags


def score_predictions(task: Task, labels: list[float], tags: list[list[str]]) -> dict[str, float]:
    """Every metric of a task, by name, from what `predict` returned."""
    if task.kind is TaskKind.MULTI_LABEL:
        return multi_label_metrics(tags, [labels_of(example) for example in task.test])
    expected_tags = [list(example.tags or ()) for example in task.test]
    if task.kind is TaskKind.TAGGING:
        return tagging_metrics(tags, expected_tags)
    if task.kind is TaskKind.REGRESSION:
        found = regression_metrics(labels, task.relevances)
        ranked = ranking_scores(labels, task.relevances, task.queries) if task.queries else {}
        return found | {name: float(np.mean(values)) for name, values in ranked.items()}
    predicted = [task.labels[int(label)] for label in labels]
    expected = [str(example.label) for example in task.test]
    if task.kind is TaskKind.JOINT:
        return joint_metrics(predicted, expected, tags, expected_tags)
    return classification_metrics(predicted, expected, positive=task.positive)
