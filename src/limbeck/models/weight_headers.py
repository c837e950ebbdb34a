"""Checks of a model by the headers of its files, before a weight is loaded."""

from typing import Any

from .architecture import Architecture
from .auto_classes import body_class, whole_class
from .load import load_config
from .locate import lacks_weights, locate
from .weight_files import weight_files
from .weight_plan import WeightPlan, weight_plan


def check_weights(
    name: str, *, architecture: Architecture, head_in_part: bool = True
) -> tuple[str | None, str | None]:
    """The problem with a model's weights, or None, and a note on how they are loaded, or None.

    The model is checked with and without its vocabulary head, because it may be loaded either
    way. Hub models that have not been downloaded yet are not checked.

    Args:
        name: A folder or hub name, as for `locate`.
        architecture: The architecture of its family.
        head_in_part: An incomplete vocabulary head is no problem, as it is not needed.

    Raises:
        ModelError: Files are missing or damaged.
    """
    whole, body = (
        _with_head(name, architecture),
        _plan(name, body_class(load_config(name).model_type)),
    )
    problem = whole.problem(name, head_in_part=head_in_part) if whole else None
    if body and not problem:
        problem = body.problem(name)
    notes = [plan.note for plan in (whole, body) if plan and plan.note][:1]
    if whole and (note := whole.fit.head_note(name)):
        notes.append(note)
    return problem, "; ".join(notes) or None


def check_body(name: str) -> str | None:
    """Why a model of any architecture cannot be used without a head; None where it can.

    Raises:
        ModelError: Its configuration cannot be read, or files are missing or damaged.
    """
    body = _plan(name, body_class(load_config(name).model_type))
    return body.problem(name) if body else None


def has_vocabulary_head(name: str, *, architecture: Architecture) -> bool | None:
    """Whether a model's files have all weights of the vocabulary head.

    None where this is not known, as for a hub model that has not been downloaded yet.
    """
    if not architecture.head:
        return False
    found = _with_head(name, architecture)
    return None if found is None else not found.fit.missing_in_head


def decodes(name: str, *, architecture: Architecture) -> bool:
    """Whether a model is a decoder with its vocabulary head, without which it is of no use.

    Args:
        name: A folder, without weights where a server has them, or a hub name; empty for a decoder
            that is to be made.
        architecture: The architecture of its family.
    """
    if not (architecture.causal and architecture.head):
        return False
    if not name or lacks_weights(locate(name, weights=False)):
        return True
    return has_vocabulary_head(name, architecture=architecture) is not False


def _with_head(name: str, architecture: Architecture) -> WeightPlan | None:
    return _plan(name, whole_class(architecture)) if architecture.head else None


def _plan(name: str, kind: Any) -> WeightPlan | None:
    files = weight_files(locate(name))
    return None if files is None else weight_plan(name, kind, load_config(name), files)
