"""What can go wrong by the user's hand, one class a room.

Every message says what was given, what was needed and what to change.
"""


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
    """A recipe has faults; all of them are in the message, each with its field's path."""
