"""What took the memory where it was not enough, and what takes less."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ..errors import TrainingError
from ..recipe.setup import Setup
from ..reports.memory import PARTS, with_rest
from ..system.memory import peak_bytes
from ..teacher.contract import Teacher
from ..tokenization.batching import BatchSource
from ..training.memory import expected_parts

# What the errors of torch for a processor say where memory is missing: they have no class.
_SAID = ("not enough memory", "can't allocate memory", "Cannot allocate memory")
_TAKES_LESS = {
    "before": "end other programs, or read less text at once",
    "student": "take a smaller student, or let adapters or low-rank layers learn alone and hold"
    " what is frozen in 16 bits (training.frozen_dtype: bfloat16)",
    "teacher": "hold the teacher in fewer bits (teacher.quantize: int8, or int4), keep its layers"
    " off a GPU (teacher.device_map: cpu), run it once (limbeck cache), or ask a server"
    " (teacher.server)",
    "gradients": "let adapters or low-rank layers learn alone (student.low_rank, trainable:"
    " low_rank)",
    "optimizer": "hold the averages in fewer bits (optimizer.optim: adamw_torch_8bit), or let"
    " adapters learn alone (student.low_rank: {kind: lora})",
    "caches": "generate in bfloat16 (policy.precision), shorter texts (data.max_new_tokens), or"
    " fewer at once (batch_size)",
    "rest": "divide the batch (micro_batch_size), recompute layers"
    " (training.gradient_checkpointing: true), or read shorter texts (data.max_length)",
}


@contextmanager
def telling_what_is_largest(
    setup: Setup,
    number: int,
    learner: nn.Module,
    teacher: Teacher | None,
    batches: BatchSource,
    held_before: int | None,
) -> Iterator[None]:
    """A context in which memory that is not enough becomes an error that says what is largest.

    Args:
        setup: A checked recipe.
        number: Of the stage.
        learner: What it trains.
        teacher: That it learns from, if any.
        batches: That it reads.
        held_before: Bytes that the process held before its models were loaded.

    Raises:
        TrainingError: The memory was not enough.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not is_out_of_memory(error):
            raise
        stage, device = setup.stages[number], setup.device.type
        held = expected_parts(learner, teacher, stage.optimizer.optim, caches=batches.held_bytes())
        parts = with_rest(held, held_before, peak_bytes(device))
        told = {name: size for name, size in parts.items() if size}
        largest = max(told, key=told.__getitem__)
        sizes = ", ".join(f"{PARTS[name]} {size / 1e6:,.0f} MB" for name, size in told.items())
        raise TrainingError(
            f"the memory of the {'GPU' if device == 'cuda' else 'machine'} is not enough for stage"
            f" {stage.name!r}, about: {sizes}. The largest part is {PARTS[largest]}:"
            f" {_TAKES_LESS[largest]}; `limbeck plan` measures what a step takes. The last"
            " checkpoint is whole"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is missing, on a GPU or on the processor."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _SAID)
