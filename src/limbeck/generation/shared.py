"""Several processes generate one batch: each a share of the rows, or the first one on its server.

All receive the whole.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import fields
from functools import partial
from typing import Any, TypeVar

import torch
from transformers import PreTrainedModel

from ..errors import LimbeckError, ServerError
from ..token_ids import TokenIds
from .decoding import DecodingOptions, Generated
from .vllm_text import VllmText

Made = TypeVar("Made")


def generated_by_all(
    rows: int, process: int, processes: int, generate_rows: Callable[[range], Generated | None]
) -> Generated:
    """What all processes generate of a batch, in the order of its rows.

    Args:
        rows: Of the batch.
        process: Number of this process.
        processes: How many there are; a single one exchanges nothing.
        generate_rows: Generates some of the rows; returns None where there are none.
    """
    share = -(-rows // processes)
    mine = generate_rows(range(min(rows, process * share), min(rows, (process + 1) * share)))
    if processes == 1 and mine is not None:
        return mine
    sent = {f.name: getattr(mine, f.name).cpu() for f in fields(mine)} if mine else None
    found: list[Any] = [None] * processes
    torch.distributed.all_gather_object(found, sent)
    parts = [part for part in found if part]
    return Generated(**{f.name: torch.cat([p[f.name] for p in parts]) for f in fields(Generated)})


def made_by_first(make: Callable[[], Made] | None) -> Made:
    """What the first process makes, in all of them; where it fails, all raise the same error.

    Args:
        make: None in the processes that receive.
    """
    sent: list[Any] = [None]
    if make is not None:
        try:
            sent = [make()]
        except LimbeckError as error:
            sent = [error]
    torch.distributed.broadcast_object_list(sent)
    if isinstance(sent[0], LimbeckError):
        raise sent[0]
    made: Made = sent[0]
    return made


class TextOfFirst:
    """The text of a vLLM server in all of several processes, of which the first has the server.

    Args:
        text: What asks the server; None in the other processes.
    """

    def __init__(self, text: VllmText | None) -> None:
        self._text = text

    def begin(
        self,
        student: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        options: DecodingOptions,
        *,
        vocabulary: TokenIds,
        eos_token_id: Collection[int],
    ) -> Callable[[], Generated]:
        """As `VllmText.begin`; what fails is raised in all processes by what is returned."""
        if self._text is None:
            return partial(made_by_first, None)
        try:
            wait = self._text.begin(
                student, prompts, options, vocabulary=vocabulary, eos_token_id=eos_token_id
            )
        except ServerError as error:
            failed = error

            def wait() -> Generated:
                raise failed

        return partial(made_by_first, wait)
