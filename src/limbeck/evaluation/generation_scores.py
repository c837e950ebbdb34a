"""How good the answers of a decoder are against references, and how likely it finds these.

Bits per byte can be compared across vocabularies, perplexity only within one.
"""

import math
import time
from collections.abc import Callable

import torch

from .finetune import SeedScore
from .rouge import rouge_l, words
from .settings import GenerationSettings
from .tasks import Task
from .text_generator import TextGenerator, answered_batches


def score_generation(
    model: str,
    task: Task,
    *,
    settings: GenerationSettings,
    seed: int,
    progress: Callable[[int, int, int], None] | None = None,
) -> SeedScore:
    """The scores of what a model folder generates after the prompts of a task.

    Metrics are ``rouge_l`` (the best reference of each prompt), ``bits_per_byte`` and
    ``perplexity`` (of the first reference), ``ended`` (share of answers that have an end),
    ``words`` (of an answer), and the shares that were too long and were truncated:
    ``cut_prompts`` lost their beginning, ``cut_references`` their end.

    Raises:
        EvaluationError: The model is no decoder, or there is no room for a prompt.
        MissingExtraError: rouge-score is not installed.
    """
    began = time.perf_counter()
    generator = TextGenerator.load(model)
    rows = task.prompts
    table = generator.table(rows, settings)
    answers, ended = generator.answers(table.prompts, settings, seed=seed, progress=progress)
    texts = [generator.text(row) for row in answers]
    found = [rouge_l(row.references, text) for row, text in zip(rows, texts, strict=True)]
    nats = torch.cat(
        [generator.nats(tokens) for tokens in answered_batches(table.by_length(), settings)]
    )
    utf8_bytes = sum(int(row.sum()) for row in table.response_bytes)
    metrics = {
        "rouge_l": sum(found) / len(found),
        "bits_per_byte": float(nats.sum()) / math.log(2) / max(1, utf8_bytes),
        "perplexity": math.exp(min(float(nats.mean()), 700.0)),
        "ended": sum(ended) / len(rows),
        "words": sum(len(words(text)) for text in texts) / len(rows),
        "cut_prompts": table.truncated_prompts / len(rows),
        "cut_references": table.truncated_responses / len(rows),
    }
    return SeedScore(seed, metrics, time.perf_counter() - began, labels=tuple(found))
