"""The errors that a user can cause, one class for each room.

Every message says what was given, what was needed and what to change.
"""

import difflib
from collections.abc import Iterable

Problem = tuple[str, str]  # (path of the field in the recipe, what is wrong and what to change)


class LimbeckError(Exception):
    """Base of every error that limbeck raises on purpose; the CLI prints it without a traceback."""


class MissingExtraError(LimbeckError):
    """An optional package is not installed; the message holds the command that installs it."""


class DataError(LimbeckError):
    """A text, prompt or task file cannot be read, or does not hold what it should."""


class ModelError(LimbeckError):
    """A model cannot be loaded safely, or its architecture is not known."""


class StudentError(LimbeckError):
    """A student of the given shape cannot be built, or cannot be built from this teacher."""


class ObjectiveError(LimbeckError):
    """An objective cannot be computed with the options or activations that it was given."""


class GenerationError(LimbeckError):
    """Text cannot be generated with the models, prompts or options that were given."""


class TrainingError(LimbeckError):
    """Training had to stop; the checkpoints that were saved before are complete."""


class DivergedError(TrainingError):
    """The loss or its gradient is not finite; a lower learning rate may help."""


class InterruptedRunError(TrainingError):
    """The user stopped the run; a checkpoint of the last completed step is on disk."""


class CacheError(LimbeckError):
    """Cached signals are damaged, incomplete, or belong to another teacher or text."""


class ServerError(LimbeckError):
    """A server cannot be reached, refuses a request, or gives what cannot be used."""


class DeviceError(LimbeckError):
    """The requested device does not exist on this machine."""


class EvaluationError(LimbeckError):
    """A model cannot be measured on a task."""


class ExportError(LimbeckError):
    """A model cannot be written in a format, or a file of one cannot be run."""


class RecipeError(LimbeckError):
    """A recipe has problems; the message lists all of them, each with the path of its field."""


def first_line(error: BaseException) -> str:
    """The first line of an error message, or the name of its class where the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of an error message: the known word closest to ``word``, or all known words.

    >>> nearest("layer", ["layers", "heads"])
    "; did you mean 'layers'?"
    """
    known = sorted(known)
    return did_you_mean(word, known, cutoff=0.5) or f"; known: {', '.join(known)}"


def did_you_mean(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """The end of an error message: the known word closest to ``word``, or nothing.

    Args:
        word: What was given.
        known: What may be given.
        cutoff: How alike they must be, 0 to 1.

    >>> did_you_mean("layer", ["layers", "heads"]), did_you_mean("x", ["layers"])
    ("; did you mean 'layers'?", '')
    """
    near = difflib.get_close_matches(str(word), list(known), n=1, cutoff=cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""
