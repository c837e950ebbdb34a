"""What the models of a run or a study cost, each measured once and kept."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from ..evaluation.cost import SENTENCE_LENGTH, measure_cost, model_size
from ..models.load import load_config
from ..models.locate import fingerprint
from ..recipe.setup import Setup
from ..system.files import remembered
from .text_counts import tokens_per_byte

_ADDED = (
    "parameters",
    "embedding_parameters",
    "megabytes",
    "peak_memory_bytes",
    "cpu_ms_per_sentence",
)


class Costed(NamedTuple):
    """A model whose cost is wanted.

    Attributes:
        model: Its folder or name.
        sentence: Tokens of the one text that a sentence stands for.
        kept: The file in which its cost is kept.
    """

    model: str
    sentence: int
    kept: Path


def costs_by_size(models: Mapping[str, Costed], *, timed: bool) -> dict[str, dict[str, Any]]:
    """What models cost, by name; those of one architecture and size are measured once.

    Args:
        models: By name.
        timed: False gives sizes alone.
    """
    of_size: dict[tuple[Any, ...], dict[str, Any]] = {}
    found = {}
    for name, (model, sentence, kept) in models.items():
        size, config = model_size(model), load_config(model)
        heads = getattr(config.get_text_config(), "num_attention_heads", None)
        key = (config.model_type, heads, *size.values(), sentence)
        if key not in of_size:
            of_size[key] = kept_cost(model, kept, sentence=sentence) if timed else size
        found[name] = of_size[key]
    return found


def kept_cost(model: str, kept: Path, *, sentence: int = SENTENCE_LENGTH) -> dict[str, Any]:
    """Size, memory and latency of a model, from the file where they were measured before.

    Args:
        model: Its folder or name.
        kept: The file.
        sentence: Tokens of the one text that a sentence stands for.
    """
    of = {"model": fingerprint(model), "sentence": sentence}
    found = remembered(kept, of, lambda: {"cost": asdict(measure_cost(model, sentence=sentence))})
    cost: dict[str, Any] = found["cost"]
    return cost


def students_sentence(setup: Setup) -> int:
    """Tokens that the student reads where the teacher reads those of a sentence."""
    models = setup.models
    if models.teacher is None or not models.two_vocabularies:
        return SENTENCE_LENGTH
    longer = tokens_per_byte(setup, models.student.tokenizer)
    longer /= tokens_per_byte(setup, models.teacher.tokenizer)
    return max(1, round(SENTENCE_LENGTH * longer))


def added_costs(costs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What models cost that run one after another on the same text, all held in memory.

    The vocabulary, the sentence, threads and precision are those of the first.

    Args:
        costs: Of each, as `kept_cost` gives them, or sizes alone.
    """
    first, *others = costs
    total = dict(first)
    for key in _ADDED:
        every = [cost.get(key) for cost in costs]
        if key in first:
            total[key] = None if None in every else sum(filter(None, every))
    if "latencies" in first:
        total["latencies"] = [
            {**row, **{key: row[key] + sum(same[key] for same in rows) for key in ("p50", "p95")}}
            for row in first["latencies"]
            if len(rows := [s for cost in others for s in cost["latencies"] if _alike(row, s)])
            == len(others)
        ]
    return total


def teacher_cost(models: Sequence[str], kept: Path, *, timed: bool) -> dict[str, Any]:
    """What a teacher costs, or several whose answers are averaged.

    Args:
        models: Their folders or names.
        kept: The file in which the cost of the first is kept; those of others are beside it.
        timed: False gives sizes alone.
    """
    files = [kept, *(kept.with_suffix(f".{number}.json") for number in range(1, len(models)))]
    return added_costs(
        [
            kept_cost(model, file) if timed else model_size(model)
            for model, file in zip(models, files, strict=True)
        ]
    )


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two latencies are of batches of the same size."""
    return (one["batch"], one["length"]) == (other["batch"], other["length"])
