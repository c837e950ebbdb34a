"""The teacher's signals that several trainings of a study need are computed once."""

from collections.abc import Callable, Sequence

from ..activations import Name
from ..run.cacheable import teacher_identity
from ..teacher.contract import Teacher
from ..teacher.live import LiveTeacher
from ..teacher.memoized import MemoizedTeacher
from ..teacher.store import SignalStore
from .arms import ArmRun


def sharing(
    store: SignalStore, runs: Sequence[ArmRun], number: int
) -> Callable[[LiveTeacher], Teacher] | None:
    """A teacher that stores the signals that later runs need too; all other signals are removed."""
    if not store.most_bytes:
        return None
    mine = _text_of(runs[number])
    same_text = [run for run in runs[number + 1 :] if _text_of(run) == mine]
    later = {name for run in same_text for name in _signals_of(run)} | _read_again(runs[number])
    store.drop_all_but({name for run in runs[number:] for name in _signals_of(run)})
    identity = teacher_identity(runs[number].setup)
    return lambda live: MemoizedTeacher(live, store, worth=later, identity=identity)


def _text_of(run: ArmRun) -> tuple[object, ...]:
    """What determines which rows the teacher reads, and how they are masked."""
    recipe = run.setup.recipe
    if all(stage.rows for stage in run.setup.stages if stage.teacher_needs().anything):
        return recipe.data, recipe.teacher  # in another order they are the same rows
    stages = [(s.batch_size, s.micro_batch_size, s.masking) for s in recipe.stages]
    return recipe.seed, recipe.data, recipe.teacher, str(stages), str(run.setup.maskings)


def _read_again(run: ArmRun) -> set[Name]:
    """The signals of rows that the training itself reads more than once."""
    rows = len(run.setup.rows.train) if run.setup.rows else 0
    again = [s for s in run.setup.stages if s.rows and s.steps * s.batch_size > rows]
    return {name for stage in again for name in stage.teacher_needs().tensors()}


def _signals_of(run: ArmRun) -> set[Name]:
    return {name for stage in run.setup.stages for name in stage.teacher_needs().tensors()}
