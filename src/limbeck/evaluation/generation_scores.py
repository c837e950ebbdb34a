"""How good the answers of a decoder are against references, and how likely it finds these."""

import time
from collections.abc import Callable

from ..tokenization.load import load_tokenizer
from .answer_bits import answer_bits
from .askable import check_askable
from .finetune import SeedScore
from .rouge import check_rouge, rouge_l, words
from .settings import GenerationSettings
from .tasks import Task
from .text_generator import TextGenerator


def score_generation(
    model: str,
    task: Task,
    *,
    settings: GenerationSettings,
    seed: int,
    progress: Callable[[int, int, int], None] | None = None,
) -> SeedScore:
    """The scores of what a model folder generates after the prompts of a task.

    Of a conversation the prompt is all before its last answer, and that answer the reference.
    Metrics are ``rouge_l`` (the best reference of each prompt), those of `answer_bits` (of the
    first reference), ``ended`` (share of answers that have an end), ``words`` (of an answer), and
    the shares that were too long and were truncated: ``cut_prompts`` lost their beginning (a
    conversation its oldest messages), ``cut_references`` their end.

    Raises:
        DataError: A conversation does not suit the chat template.
        EvaluationError: The model is no decoder, there is no room for a prompt, or there are
            conversations and no chat template is to be used.
        MissingExtraError: rouge-score is not installed.
    """
    began = time.perf_counter()
    check_rouge()
    check_askable(task, load_tokenizer(model), settings)
    generator = TextGenerator.load(model)
    rows = task.prompts
    table = generator.table(rows, settings)
    answers, ended = generator.answers(table.prompts, settings, seed=seed, progress=progress)
    texts = [generator.text(row) for row in answers]
    found = [rouge_l(row.references, text) for row, text in zip(rows, texts, strict=True)]
    metrics = {
        "rouge_l": sum(found) / len(found),
        **answer_bits(generator, table, settings),
        "ended": sum(ended) / len(rows),
        "words": sum(len(words(text)) for text in texts) / len(rows),
        "cut_prompts": table.truncated_prompts / len(rows),
        "cut_references": table.truncated_responses / len(rows),
    }
    return SeedScore(seed, metrics, time.perf_counter() - began, labels=tuple(found))
