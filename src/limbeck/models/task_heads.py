"""The heads of models that were fine-tuned on a task: classifiers, taggers, and models that score.

A head is known by the class that saved it, as transformers writes it into ``config.json``; its
labels by their names, whose order says which logit is whose.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from ..errors import ModelError

_CLASSES: dict[str, Any] = {
    "sequence": AutoModelForSequenceClassification,
    "token": AutoModelForTokenClassification,
}
_ENDINGS = {"ForSequenceClassification": "sequence", "ForTokenClassification": "token"}
_UNNAMED = re.compile(r"LABEL_[0-9]+")
SCORE = "score"  # the name of the only output of a model that scores


@dataclass(frozen=True)
class TaskHead:
    """What a fine-tuned model says of a text.

    Attributes:
        kind: ``sequence`` says one thing of a text or pair, ``token`` one of each token.
        labels: Names of the classes in the order of the logits; of a model that gives one number,
            only `SCORE`.
    """

    kind: Literal["sequence", "token"]
    labels: tuple[str, ...]

    @property
    def scores(self) -> bool:
        """Whether the model gives a number, and no classes."""
        return len(self.labels) == 1

    @property
    def named(self) -> bool:
        """Whether labels have names, and not only the numbers that transformers gives them."""
        return self.scores or not all(_UNNAMED.fullmatch(label) for label in self.labels)

    @property
    def about(self) -> str:
        """The kind in words."""
        if self.scores:
            return "a head that gives a number"
        return {"sequence": "a classification head", "token": "a tagging head"}[self.kind]

    def renamed(self, names: Mapping[str, str], *, strict: bool = True) -> "TaskHead":
        """The same head with other names of its labels; those that are not in the map keep theirs.

        Args:
            names: New names by old ones.
            strict: False ignores labels that the head does not have, which another one may have.

        Raises:
            ModelError: The map names labels that the head does not have, or two become one.
        """
        if strict and (unknown := sorted(set(names) - set(self.labels))):
            raise ModelError(
                f"{', '.join(map(repr, unknown))} is no label of the model, which has"
                f" {listed(self.labels)}; name those"
            )
        labels = tuple(names.get(label, label) for label in self.labels)
        if len(set(labels)) < len(labels):
            raise ModelError(f"the labels become {listed(labels)}; give each a name of its own")
        return replace(self, labels=labels)

    def set_on(self, config: Any) -> None:
        """Let a configuration describe a model with this head."""
        config.id2label = dict(enumerate(self.labels))
        config.label2id = {label: number for number, label in enumerate(self.labels)}
        config.problem_type = None
        if self.kind == "sequence":
            config.problem_type = "regression" if self.scores else "single_label_classification"


def head_of(config: Any) -> TaskHead | None:
    """The head that a configuration says its model was saved with; None where there is none.

    Models whose classes do not exclude one another (multi_label_classification) count as without.
    """
    kinds = {
        kind
        for name in config.architectures or ()
        for ending, kind in _ENDINGS.items()
        if name.endswith(ending)
    }
    if len(kinds) != 1 or is_multi_label(config):
        return None
    labels = tuple(str(config.id2label[number]) for number in sorted(config.id2label))
    [kind] = kinds
    if kind == "sequence" and len(labels) == 1:
        return TaskHead("sequence", (SCORE,))
    return TaskHead("sequence" if kind == "sequence" else "token", labels)


def is_multi_label(config: Any) -> bool:
    """Whether several classes of a model may hold for one text."""
    return getattr(config, "problem_type", None) == "multi_label_classification"


def no_head_of_task(name: str, config: Any) -> str:
    """Why a model cannot be used as a classifier, tagger or scoring model, and what to do.

    Args:
        name: The name that the user gave.
        config: Of the model, for which `head_of` finds no head.
    """
    if is_multi_label(config):
        return (
            f"the classes of {name!r} do not exclude one another (problem_type"
            " multi_label_classification), and only one class for each text can be learned; give a"
            " model of such classes"
        )
    saved = ", ".join(config.architectures or ()) or "no class"
    return (
        f"{name!r} has no head of a task (its config.json names {saved}); fine-tune it first"
        " (`limbeck finetune`)"
    )


def is_task_class(kind: type) -> bool:
    """Whether a class of models is one of classifiers, taggers or scoring models."""
    return any(kind.__name__.endswith(ending) for ending in _ENDINGS)


def task_class(head: TaskHead) -> Any:
    """Transformers' automatic class of models with such a head."""
    return _CLASSES[head.kind]


def head_missing(head: TaskHead, config: Any) -> str | None:
    """Why there is no model of a type with such a head; None where there is one."""
    kind = task_class(head)
    if type(config) in kind._model_mapping:
        return None
    return (
        f"transformers has no {config.model_type} model with {head.about} ({kind.__name__});"
        " take a model of another type"
    )


def label_problem(
    given: Sequence[str], known: Sequence[str], whose: str, *, how: str | None = None
) -> str | None:
    """Why labels cannot be found among those of a head; None where all of them can.

    Args:
        given: Labels of rows.
        known: Labels of the head.
        whose: Whose head it is, as "the teacher".
        how: To say which label is which, where the head's have no names; by default as a recipe
            does.
    """
    lacking = [label for label in given if label not in known]
    if not lacking:
        return None
    sets = f"the rows have {listed(given)}, and {whose} {listed(known)}"
    if all(_UNNAMED.fullmatch(label) for label in known):
        return (
            f"labels are matched by name: {sets}, which are no names; say which is which"
            f" ({how or f'`teacher: {{labels: {{{known[0]}: {given[0]}, ...}}}}`'})"
        )
    return f"labels are matched by name: {sets}; the latter lacks {listed(lacking)}"


def listed(labels: Sequence[str], most: int = 8) -> str:
    """Labels for a message, the first few of many."""
    shown = ", ".join(map(repr, labels[:most]))
    return shown + (f" and {len(labels) - most} more" if len(labels) > most else "")
