"""What makes vectors of a model's texts, as a part of that model, trained and moved with it."""

from typing import cast

from transformers import PreTrainedModel

from ...errors import ModelError
from .vectors import SentenceVectors

_NAME = "sentence_vectors"


def attach_vectors(model: PreTrainedModel, vectors: SentenceVectors) -> None:
    """Make the vectors a part of the model."""
    model.add_module(_NAME, vectors)


def attached_vectors(model: PreTrainedModel) -> SentenceVectors | None:
    """What `attach_vectors` has attached, if it has."""
    return cast(SentenceVectors | None, dict(model.named_children()).get(_NAME))


def vectors_of(model: PreTrainedModel) -> SentenceVectors:
    """What `attach_vectors` has attached.

    Raises:
        ModelError: Nothing was.
    """
    found = attached_vectors(model)
    if found is None:
        raise ModelError(
            f"nothing makes vectors of the texts of this {type(model).__name__}; attach it first"
        )
    return found


def detach_vectors(model: PreTrainedModel) -> SentenceVectors | None:
    """Take the vectors out of the model, before it is saved; None where there are none."""
    found = attached_vectors(model)
    if found is not None:
        delattr(model, _NAME)
    return found
