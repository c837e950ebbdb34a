"""What can go wrong by the user's hand, one class a room.

Every message says what was given, what was needed and what to change.
"""

import difflib
from collections.abc import Iterable

Problem = tuple[str, str]  # (path of the field, what is wrong and what to change)


class LimbeckError(Exception):
    """Anything limbeck raises on purpose; the command line prints it without a traceback."""


class MissingExtraError(LimbeckError):
    """An optional package is not installed; the message holds the command that installs it."""


class DataError(LimbeckError):
    """A text or task file cannot be read as what it should be."""


class ModelError(LimbeckError):
    """A model folder cannot be loaded safely, or is of an unknown architecture."""


class StudentError(LimbeckError):
    """A student of the given shape cannot be built, or not from this teacher."""


class ObjectiveError(LimbeckError):
    """An objective was given activations or options that it cannot be measured on."""


class TrainingError(LimbeckError):
    """The training had to stop; what was checkpointed is whole."""


class InterruptedRunError(TrainingError):
    """The user stopped the run; a checkpoint of the last whole step is on disk."""


class CacheError(LimbeckError):
    """Signals that were kept are damaged, incomplete, or of another teacher or text."""


class DeviceError(LimbeckError):
    """The device that was named is not there."""


class EvaluationError(LimbeckError):
    """A model cannot be measured on a task."""


class RecipeError(LimbeckError):
    """A recipe has problems; all of them are in the message, each with its field's path."""


def first_line(error: BaseException) -> str:
    """What another library says of an error, as far as it fits into one of ours."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that was perhaps meant, or all of them, as the end of a message.

    >>> nearest("layer", ["layers", "heads"])
    "; did you mean 'layers'?"
    """
    known = sorted(known)
    near = difflib.get_close_matches(str(word), known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
