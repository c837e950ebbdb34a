"""Initialization of learned maps by least squares over a stage's first batches.

The states of a student that starts from its teacher's layers already contain most of the
teacher's states. A random map hides that, and its gradients at first undo the copy.
"""

from collections.abc import Iterator
from typing import cast

import torch
from accelerate import Accelerator

from ..batch import Batch
from ..objectives.mapped import MappedObjective
from ..student.projections import LeastSquares, Projections
from ..teacher.contract import Teacher
from ..tokenization.batching import BatchSource
from .learner import Learner
from .processes import Share
from .stage import Stage
from .step import teacher_signals

_TOKENS = 16_384  # dozens of tokens for every coordinate of usual students


def fit_maps(
    learner: Learner,
    teacher: Teacher,
    stage: Stage,
    batches: BatchSource,
    accelerator: Accelerator,
) -> None:
    """Initialize every trained map to the least-squares map from student to teacher states.

    Nothing is done where the stage has random maps or no maps. All processes read the same rows
    and get the same maps.

    Args:
        learner: Its maps are changed in place.
        teacher: Gives the signals that the objectives compare with.
        stage: The stage of the learner.
        batches: Batches of the stage, of which about the first 16,000 tokens are read.
        accelerator: Device and precision.
    """
    all_maps = [cast(Projections, maps) for maps in learner.projections]
    fits = {
        (number, name): LeastSquares(size)
        for number, maps in enumerate(all_maps)
        for name, size in maps.sizes.items()
    }
    if stage.projections == "random" or not fits:
        return
    learner.to(accelerator.device).eval()
    share = Share.of(stage.batch_size, accelerator, together=stage.rows_together)
    most = min(stage.micro_batch_size, share.most)
    for batch in _some(batches, stage.steps, most):
        here = batch.to(accelerator.device)
        with torch.no_grad():
            signals = teacher_signals(teacher, stage, here, accelerator)
            with accelerator.autocast():
                found = list(learner.read(here, signals))
        for number, read in enumerate(found):
            if isinstance(read.objective, MappedObjective):
                compared = read.objective.compared(read.student, read.teacher, read.batch)
                for name, state, target in compared:
                    if (number, name) in fits and read.objective.trains(name):
                        fits[number, name].add(state, target)
    for (number, name), fit in fits.items():
        if fit.rows:
            all_maps[number].initialize(name, fit.weight())


def _some(batches: BatchSource, steps: int, rows: int) -> Iterator[Batch]:
    """Micro-batches as in training, until there are enough tokens."""
    tokens = 0
    for number in range(steps):
        batch = batches.batch(number)
        for start in range(0, len(batch.student.mask), rows):
            some = batch.rows(start, start + rows)
            yield some
            tokens += int(some.student.mask.sum())
            if tokens >= _TOKENS:
                return
