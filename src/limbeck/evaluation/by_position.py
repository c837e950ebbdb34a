"""How good a decoder is in the first, middle and last third of texts.

Source: agreement on own text against text of others, Arora et al. 2022, arXiv:2204.01171.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..batch import Tokens
from ..data.prompts import Prompt
from ..errors import EvaluationError
from ..generation.thirds import means_by_third, thirds_of
from ..tokenization.load import load_tokenizer
from ..tokenization.prompts import PromptTable
from .askable import check_askable
from .settings import GenerationSettings
from .tasks import Task
from .text_generator import TextGenerator, answered_batches


def positions_of_task(
    model: str, teacher: str, task: Task, settings: GenerationSettings
) -> dict[str, list[float]]:
    """How good a model folder is in each third of the texts of a task; see `by_position`.

    Raises:
        DataError: Conversations of the task do not suit a chat template.
        EvaluationError: One of them is no decoder, or their tokens differ; or there are
            conversations, and no chat template is to be used.
    """
    for name in (model, teacher):
        check_askable(task, load_tokenizer(name), settings)
    both = TextGenerator.load(model), TextGenerator.load(teacher)
    if both[0].tokenizer.get_vocab() != both[1].tokenizer.get_vocab():
        raise EvaluationError(
            f"{model} and {teacher} have different tokens, but agreement is counted by token; name"
            " a teacher with the same tokenizer, or none"
        )
    return by_position(*both, task.prompts, settings)


def by_position(
    student: TextGenerator,
    teacher: TextGenerator | None,
    rows: Sequence[Prompt],
    settings: GenerationSettings,
) -> dict[str, list[float]]:
    """How good a student is in the first, middle and last third of texts.

    Returns:
        ``bits_per_piece`` of the references; and with a teacher of the same tokens
        ``agreement_on_references`` and ``agreement_on_own_text``: the share of places at
        which both find the same token most likely, in the references and in the texts that
        the student generates. How far the second falls below the first, and more so late in
        the text, shows the harm of the student's own mistakes (exposure bias).
    """
    table = student.table(rows, settings)
    own, _ = student.answers(table.prompts, settings, seed=0)
    mine = PromptTable(table.prompts, [np.array(row) for row in own], 0, 0)
    bits = _means(table, settings, lambda tokens: student.nats(tokens) / math.log(2))
    found = {"bits_per_piece": bits}
    if teacher is None:
        return found

    def agrees(tokens: Tokens) -> Tensor:
        return (student.most_likely(tokens) == teacher.most_likely(tokens)).float()

    for name, texts in (("references", table), ("own_text", mine)):
        found[f"agreement_on_{name}"] = _means(texts, settings, agrees)
    return found


def _means(
    table: PromptTable, settings: GenerationSettings, measure: Callable[[Tokens], Tensor]
) -> list[float]:
    """The mean of what is measured at predicted tokens, in each third of the responses."""
    table = table.by_length()
    values = torch.cat([measure(tokens) for tokens in answered_batches(table, settings)])
    thirds = thirds_of(torch.tensor([len(row) for row in table.responses]))
    return means_by_third(values, thirds[thirds >= 0])
