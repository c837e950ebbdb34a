"""The teacher's signals that several trainings of a study need are computed once.

What one training stores, all that follow read, in whichever process. Several processes store at the
same time: each writes shards of its own, and a signal of a text is stored by one of them only.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

from ..activations import Name
from ..run.cacheable import teacher_identity
from ..system.locks import claim
from ..teacher.contract import Teacher
from ..teacher.live import LiveTeacher
from ..teacher.memoized import MemoizedTeacher
from ..teacher.store import SignalStore, label_of
from .arms import ArmRun

Wrap = Callable[[LiveTeacher], Teacher]


@contextmanager
def signal_store(folder: Path, most_bytes: int, claims: Path) -> Iterator[SignalStore]:
    """A store in which this process has shards of its own, for the length of the block.

    Args:
        folder: Of the signals of all processes.
        most_bytes: That all of them may take.
        claims: Where processes say what they work on.
    """
    for number in count():
        with claim(claims, f"writer/{number}") as mine:
            if mine:
                yield SignalStore(folder, most_bytes, writer=number)
                return


@contextmanager
def sharing(
    store: SignalStore,
    claims: Path,
    runs: Sequence[ArmRun],
    number: int,
    *,
    done: Callable[[ArmRun], bool],
) -> Iterator[Wrap | None]:
    """For the length of a training: what makes its teacher one that reads and stores signals.

    It stores the signals that other trainings will need, and that no other process is storing;
    signals that none will need are removed. Without room it is None.

    Args:
        store: Of this process.
        claims: Where processes say what they work on.
        runs: All trainings.
        number: Of the one that begins.
        done: Whether a training has ended.
    """
    if not store.most_bytes:
        yield None
        return
    run = runs[number]
    others = [one for place, one in enumerate(runs) if place != number and not done(one)]
    store.drop_all_but({name for one in (run, *others) for name in _signals_of(one)})
    text, mine = _text_of(run), _signals_of(run)
    later = {name for one in others if _text_of(one) == text for name in _signals_of(one)}
    later |= _read_again(run)
    identity = teacher_identity(run.setup)
    label = hashlib.sha256(repr(text).encode()).hexdigest()[:16]
    with ExitStack() as stack:
        worth = {
            name
            for name in sorted(later & mine)
            if stack.enter_context(claim(claims, f"signals/{label}/{label_of(name)}"))
        }
        try:
            yield lambda live: MemoizedTeacher(live, store, worth=worth, identity=identity)
        finally:
            store.flush()


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
