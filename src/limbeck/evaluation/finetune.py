"""Any encoder, fine-tuned on a task the same way: one small head, several seeds.

The head is a linear layer on the mean of the last hidden states (or on the
first one), and for tags on the first piece of each word. It is our own, so that
every architecture is treated alike: a pooler that some folders carry, trained or
not, plays no part.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ..architectures import Anatomy
from ..attention import use_float32_attention
from ..errors import EvaluationError
from ..pretrained import load_model, load_tokenizer, locate
from .metrics import classification_metrics, joint_metrics, regression_metrics, tagging_metrics
from .tasks import Example, Task, TaskKind


@dataclass(frozen=True)
class FinetuneSettings:
    """The protocol; the same for every model that is compared.

    Attributes:
        epochs: Passes over the training rows; the last weights are scored.
        batch_size: Texts in a step.
        learning_rate: At its highest, after a tenth of the steps; then linearly to 0.
        weight_decay: Of AdamW.
        max_length: Pieces; longer texts are cut, and cut words count as tagged O.
        dropout: Before the head.
        pooling: Which states stand for the text.
        precision: Of the model; head and loss are always float32.
    """

    epochs: float = 3.0
    batch_size: int = 32
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    max_length: int = 128
    dropout: float = 0.1
    pooling: Literal["mean", "first"] = "mean"
    precision: Literal["bfloat16", "float32"] = "bfloat16"


@dataclass(frozen=True)
class SeedScore:
    """One fine-tuning."""

    seed: int
    metrics: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class TaskScore:
    """A model on a task, over seeds."""

    task: str
    metric: str
    test_split: str
    training_rows: int
    test_rows: int
    seeds: tuple[SeedScore, ...]

    @property
    def values(self) -> list[float]:
        """The headline metric of every seed."""
        return [score.metrics[self.metric] for score in self.seeds]

    @property
    def mean(self) -> float:
        """The headline metric, averaged over seeds."""
        return mean(self.values)

    @property
    def spread(self) -> float:
        """Standard deviation of the headline metric between seeds; 0 for one seed."""
        return stdev(self.values) if len(self.seeds) > 1 else 0.0

    def means(self) -> dict[str, float]:
        """Every metric, averaged over seeds."""
        return {
            name: mean(score.metrics[name] for score in self.seeds)
            for name in self.seeds[0].metrics
        }

    def to_json(self) -> dict[str, Any]:
        """For files: everything, with mean and spread of the headline metric."""
        return {**asdict(self), "mean": self.mean, "spread": self.spread, "means": self.means()}


class _Tagger(nn.Module):
    """A body with the heads that a task asks for."""

    def __init__(self, body: PreTrainedModel, task: Task, settings: FinetuneSettings) -> None:
        super().__init__()
        width = body.config.hidden_size
        outputs = 1 if task.kind is TaskKind.REGRESSION else len(task.labels)
        self.body = body
        self.dropout = nn.Dropout(settings.dropout)
        self.of_text = nn.Linear(width, outputs) if outputs else None
        self.of_words = nn.Linear(width, len(task.tags)) if task.tags else None
        self.pooling, self.precision = settings.pooling, settings.precision

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor | None, Tensor | None]:
        mask = inputs["attention_mask"].bool()
        device = mask.device.type
        on = self.precision == "bfloat16"
        with torch.autocast(device, torch.bfloat16, enabled=on):
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


@dataclass(frozen=True)
class _Row:
    pieces: dict[str, list[int]]
    label: float | int
    tags: list[int]  # for each piece; -100 where none is asked
    word_of_piece: list[int]  # -1 unless the piece begins a word


def evaluate_task(
    model: str,
    task: Task,
    *,
    settings: FinetuneSettings,
    seeds: Sequence[int],
    anatomy: Anatomy,
    results: Path | None = None,
    progress: Callable[[int, int, int], None] | None = None,
) -> TaskScore:
    """The score of a model folder on a task, over seeds.

    Args:
        model: Folder, hub name or package name.
        task: Read and, if wanted, subsampled.
        settings: The protocol.
        seeds: One fine-tuning each.
        anatomy: Of the model's family.
        results: A JSON file in which finished seeds are kept; those that are in
            it for the same model, rows and settings are not run again.
        progress: Called with (seed, step, steps).

    Raises:
        EvaluationError: A loss or a prediction is not finite, a setting makes
            no sense, or ``results`` is not a file of results.
        ModelError: The model cannot be loaded.
    """
    key = _fingerprint(model, task, settings) if results else ""
    kept = _kept(results, key) if results else {}
    for seed in seeds:
        if seed not in kept:
            kept[seed] = finetune(
                model, task, settings=settings, seed=seed, anatomy=anatomy, progress=progress
            )
            if results:
                _keep(results, key, kept)
    return TaskScore(
        task=task.name,
        metric=task.headline,
        test_split=task.test_split,
        training_rows=len(task.train),
        test_rows=len(task.test),
        seeds=tuple(kept[seed] for seed in seeds),
    )


def finetune(
    model: str,
    task: Task,
    *,
    settings: FinetuneSettings,
    seed: int,
    anatomy: Anatomy,
    progress: Callable[[int, int, int], None] | None = None,
) -> SeedScore:
    """Fine-tune once and score the test rows.

    Raises:
        EvaluationError: A loss or a prediction is not finite, or a setting
            makes no sense.
        ModelError: The model cannot be loaded.
    """
    _check(task, settings)
    began = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = load_tokenizer(model)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = load_model(model, anatomy=anatomy, with_head=False, attention_dropout=False)
        if device.type == "cpu" and settings.precision == "bfloat16":
            use_float32_attention(body)
        network = _Tagger(body, task, settings).to(device)
        limit = min(settings.max_length, _positions(body))
        rows = [_row(example, task, tokenizer, limit) for example in task.train]
        _learn(network, rows, task, tokenizer, settings, seed, device, progress)
        tests = [_row(example, task, tokenizer, limit) for example in task.test]
        labels, tags = _predict(network, tests, task, tokenizer, settings, device)
    return SeedScore(seed, _score(task, labels, tags), time.perf_counter() - began)


def _check(task: Task, settings: FinetuneSettings) -> None:
    if not task.train or not task.test:
        raise EvaluationError(
            f"{task.name} has {len(task.train)} training rows and {len(task.test)} test rows; give"
            " at least one of each"
        )
    # Three pieces hold one word between the special pieces at both ends.
    for name, value, least in (
        ("batch_size", settings.batch_size, 1),
        ("max_length", settings.max_length, 3),
    ):
        if value < least:
            raise EvaluationError(f"{name} is {value}; give {least} or more")
    for name, rate in (("epochs", settings.epochs), ("learning_rate", settings.learning_rate)):
        if not rate > 0:
            raise EvaluationError(f"{name} is {rate:g}; give more than 0")


def _positions(body: PreTrainedModel) -> int:
    """The most pieces that the model can read: RoBERTa never uses its table's first rows."""
    for name, module in body.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            unused = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - unused
    return int(body.config.max_position_embeddings)


def _learn(
    network: _Tagger,
    rows: list[_Row],
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
    steps = max(1, round(per_epoch * settings.epochs))
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
        inputs, tags = _collate(batch, tokenizer, device)
        of_text, of_words = network(inputs)
        loss = torch.zeros((), device=device)
        if of_text is not None and task.kind is TaskKind.REGRESSION:
            targets = torch.tensor([(row.label - middle) / width for row in batch], device=device)
            loss = loss + mse_loss(of_text.squeeze(1), targets.float())
        elif of_text is not None:
            classes = torch.tensor([int(row.label) for row in batch], device=device)
            loss = loss + cross_entropy(of_text, classes)
        if of_words is not None:
            loss = loss + cross_entropy(of_words.flatten(0, 1), tags.flatten(), ignore_index=-100)
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


def _predict(
    network: _Tagger,
    rows: list[_Row],
    task: Task,
    tokenizer: PreTrainedTokenizerFast,
    settings: FinetuneSettings,
    device: torch.device,
) -> tuple[list[float], list[list[str]]]:
    network.eval()
    labels = [0.0] * len(rows)
    tags: list[list[str]] = [[] for _ in rows]
    by_length = sorted(range(len(rows)), key=lambda n: len(rows[n].pieces["input_ids"]))
    with torch.no_grad():
        for start in range(0, len(rows), 64):
            numbers = by_length[start : start + 64]
            inputs, _ = _collate([rows[n] for n in numbers], tokenizer, device)
            of_text, of_words = network(inputs)
            if of_text is not None:
                if not torch.isfinite(of_text).all():
                    raise EvaluationError(
                        f"a prediction for {task.name} is not finite after the last step; lower"
                        f" the learning rate ({settings.learning_rate:g})"
                    )
                one = task.kind is TaskKind.REGRESSION
                values = of_text.squeeze(1) if one else of_text.argmax(1)
                for number, value in zip(numbers, values.tolist(), strict=True):
                    labels[number] = float(value)
            if of_words is not None:
                best = of_words.argmax(-1).tolist()
                for number, pieces in zip(numbers, best, strict=True):
                    words = len(task.test[number].tags or ())
                    said = ["O"] * words
                    for place, word in enumerate(rows[number].word_of_piece):
                        if word >= 0:
                            said[word] = task.tags[pieces[place]]
                    tags[number] = said
    return labels, tags


def _score(task: Task, labels: list[float], tags: list[list[str]]) -> dict[str, float]:
    expected_tags = [list(example.tags or ()) for example in task.test]
    if task.kind is TaskKind.TAGGING:
        return tagging_metrics(tags, expected_tags)
    if task.kind is TaskKind.REGRESSION:
        return regression_metrics(labels, [float(example.label or 0) for example in task.test])
    said = [task.labels[int(label)] for label in labels]
    expected = [str(example.label) for example in task.test]
    if task.kind is TaskKind.JOINT:
        return joint_metrics(said, expected, tags, expected_tags)
    return classification_metrics(said, expected, positive=task.positive)


def _row(example: Example, task: Task, tokenizer: PreTrainedTokenizerFast, limit: int) -> _Row:
    # Words are read as one text: byte-level pieces know a word's start by the space before it.
    text = example.text if example.words is None else " ".join(example.words)
    encoded = tokenizer(
        text,
        None if example.words is not None else example.text_pair,
        truncation=True,
        max_length=limit,
        return_offsets_mapping=True,
    )
    spans = encoded.pop("offset_mapping")
    length = len(encoded["input_ids"])
    tags, begins = [-100] * length, [-1] * length
    if example.words is not None and example.tags is not None:
        word_at = _word_at_each_character(example.words)
        before = -1
        for place, (start, end) in enumerate(spans):
            # By its last character: a piece may begin with the space, or be nothing else.
            word = word_at[end - 1] if end > start else -1
            if word not in (-1, before):
                begins[place] = before = word
                tags[place] = task.tags.index(example.tags[word])
    label = task.labels.index(str(example.label)) if task.labels else float(example.label or 0)
    return _Row({k: list(v) for k, v in encoded.items()}, label, tags, begins)


def _word_at_each_character(words: Sequence[str]) -> list[int]:
    found: list[int] = []
    for number, word in enumerate(words):
        found += [*[number] * len(word), -1]  # the space after it belongs to none
    return found


def _collate(
    rows: list[_Row], tokenizer: PreTrainedTokenizerFast, device: torch.device
) -> tuple[dict[str, Tensor], Tensor]:
    longest = max(len(row.tags) for row in rows)
    fill = {"input_ids": tokenizer.pad_token_id}

    def padded(values: list[list[int]], with_: int) -> Tensor:
        full = [row + [with_] * (longest - len(row)) for row in values]
        return torch.tensor(full, device=device)

    names = rows[0].pieces
    inputs = {n: padded([row.pieces[n] for row in rows], fill.get(n, 0)) for n in names}
    return inputs, padded([row.tags for row in rows], -100)


def _shuffled(
    rows: list[_Row], batch_size: int, generator: np.random.Generator
) -> Iterator[list[int]]:
    """Batches of texts of like length, in random order: little padding, little bias."""
    lengths = np.array([len(row.tags) for row in rows])
    noisy = lengths * generator.uniform(0.8, 1.25, len(rows))
    order = np.argsort(noisy, kind="stable")
    starts = generator.permutation(np.arange(0, len(rows), batch_size))
    for start in starts:
        yield order[start : start + batch_size].tolist()


def _standard(rows: list[_Row]) -> tuple[float, float]:
    labels = np.array([row.label for row in rows], dtype=float)
    return float(labels.mean()), float(labels.std()) or 1.0


def _fingerprint(model: str, task: Task, settings: FinetuneSettings) -> str:
    """Names the weights, the rows and the settings, so that stale results are not reused."""
    digest = hashlib.sha256(json.dumps([task.name, asdict(settings), task.test_split]).encode())
    for example in [*task.train, *task.test]:
        digest.update(repr(example).encode())
    folder = Path(locate(model))
    for file in sorted(folder.glob("*.safetensors")) if folder.is_dir() else [Path(model)]:
        digest.update(file.read_bytes() if file.is_file() else str(file).encode())
    return digest.hexdigest()


def _kept(results: Path, key: str) -> dict[int, SeedScore]:
    if not results.exists():
        return {}
    try:
        saved = json.loads(results.read_text(encoding="utf-8"))
        if saved["fingerprint"] != key:
            return {}
        return {score["seed"]: SeedScore(**score) for score in saved["seeds"]}
    except (ValueError, KeyError, TypeError) as error:
        raise EvaluationError(
            f"{results} is not a file of results ({type(error).__name__}: {error}); remove it, or"
            " give another place for results"
        ) from error


def _keep(results: Path, key: str, kept: dict[int, SeedScore]) -> None:
    results.parent.mkdir(parents=True, exist_ok=True)
    part = results.with_suffix(".part")
    content = {"fingerprint": key, "seeds": [asdict(score) for score in kept.values()]}
    part.write_text(json.dumps(content, indent=1), encoding="utf-8")
    part.replace(results)
