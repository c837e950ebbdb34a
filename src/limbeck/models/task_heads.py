"""The heads of models that were fine-tuned on a task: classifiers, taggers, and models that score.

A head is known by the class that saved it, as transformers writes it into ``config.json``; its
labels by their names, whose order says which logit is whose.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedTokenizerFast,
)

from ..errors import ModelError
from ..token_ids import TokenIds
from .label_forms import form_problem
from .shapes import Shape

_CLASSES: dict[str, Any] = {
    "sequence": AutoModelForSequenceClassification,
    "token": AutoModelForTokenClassification,
}
_ENDINGS = {"ForSequenceClassification": "sequence", "ForTokenClassification": "token"}
_OF_LANGUAGE = ("ForMaskedLM", "ForCausalLM", "ForPreTraining", "ForConditionalGeneration")
_UNNAMED = re.compile(r"LABEL_[0-9]+")
SCORE = "score"  # the name of the only output of a model that scores
MULTI_LABEL = "multi_label_classification"  # as transformers calls it


@dataclass(frozen=True)
class TaskHead:
    """What a fine-tuned model says of a text.

    Attributes:
        kind: ``sequence`` says one thing of a text or pair, ``token`` one of each token.
        labels: Names of the classes in the order of the logits; of a model that gives one number,
            only `SCORE`.
        multi_label: Whether classes do not exclude one another: each has a probability of its own,
            the sigmoid of its logit, and a text any number of them.
    """

    kind: Literal["sequence", "token"]
    labels: tuple[str, ...]
    multi_label: bool = False

    @property
    def scores(self) -> bool:
        """Whether the model gives a number, and no classes."""
        return len(self.labels) == 1 and not self.multi_label

    @property
    def named(self) -> bool:
        """Whether labels have names, and not only the numbers that transformers gives them."""
        return self.scores or not all(_UNNAMED.fullmatch(label) for label in self.labels)

    @property
    def about(self) -> str:
        """The kind in words."""
        if self.scores:
            return "a head that gives a number"
        if self.multi_label:
            return "a multi-label head"
        return {"sequence": "a classification head", "token": "a tagging head"}[self.kind]

    def like(self, other: "TaskHead") -> bool:
        """Whether two heads are of one kind, whatever their labels."""
        mine, theirs = ((x.kind, x.scores, x.multi_label) for x in (self, other))
        return mine == theirs

    def says_what(self, other: "TaskHead") -> bool:
        """Whether two heads say the same of a text, whatever the order of their labels."""
        return self.like(other) and set(self.labels) == set(other.labels)

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
                f" {listed(self.labels)}; {form_problem(unknown, self.labels) or 'name those'}"
            )
        labels = tuple(names.get(label, label) for label in self.labels)
        if len(set(self.labels)) < len(self.labels):
            raise ModelError(
                f"two classes of the model have one name ({listed(self.labels)}); give each a name"
                " of its own in its config.json (id2label and label2id)"
            )
        if len(set(labels)) < len(labels):
            raise ModelError(f"the labels become {listed(labels)}; give each a name of its own")
        return replace(self, labels=labels)

    def set_on(self, config: Any) -> None:
        """Let a configuration describe a model with this head."""
        config.id2label = dict(enumerate(self.labels))
        config.label2id = {label: number for number, label in enumerate(self.labels)}
        config.problem_type = None
        if self.multi_label:
            config.problem_type = MULTI_LABEL
        elif self.kind == "sequence":
            config.problem_type = "regression" if self.scores else "single_label_classification"

    def on(self, shape: Shape) -> Shape:
        """The shape of a model with this head."""
        return replace(shape, labels=self.labels, multi_label=self.multi_label)


def head_of(config: Any) -> TaskHead | None:
    """The head that a configuration says its model was saved with; None where there is none.

    Models that give several numbers for a text (`gives_numbers`) count as without.
    """
    kinds = _kinds(config)
    if len(kinds) != 1 or gives_numbers(config):
        return None
    labels = tuple(str(config.id2label[number]) for number in sorted(config.id2label))
    [kind] = kinds
    if kind == "sequence" and getattr(config, "problem_type", None) == MULTI_LABEL:
        return TaskHead("sequence", labels, multi_label=True)
    if kind == "sequence" and len(labels) == 1:
        return TaskHead("sequence", (SCORE,))
    return TaskHead("sequence" if kind == "sequence" else "token", labels)


def gives_numbers(config: Any) -> bool:
    """Whether a model gives several numbers for one text."""
    numbers = getattr(config, "problem_type", None) == "regression" and "sequence" in _kinds(config)
    return numbers and len(config.id2label) > 1


def other_head(config: Any) -> str | None:
    """The class of a head that `head_of` does not take; None of heads of language models, too."""
    if head_of(config) is not None:
        return None
    names = [name for name in config.architectures or () if "For" in name]
    found = next((name for name in names if not name.endswith(_OF_LANGUAGE)), None)
    return f"{found}, {config.problem_type}" if found and gives_numbers(config) else found


def no_head_of_task(name: str, config: Any) -> str:
    """Why a model cannot be used as a classifier, tagger or scoring model, and what to do.

    Args:
        name: The name that the user gave.
        config: Of the model, for which `head_of` finds no head.
    """
    if gives_numbers(config):
        return (
            f"{name!r} gives {len(config.id2label)} numbers for a text (problem_type regression),"
            " and only heads that give one are supported; give a model that gives one number for"
            " each text"
        )
    saved = ", ".join(config.architectures or ()) or "no class"
    return (
        f"{name!r} has no head of a task (its config.json names {saved}); fine-tune it first"
        " (`limbeck finetune`)"
    )


def _kinds(config: Any) -> set[str]:
    """The kinds of heads that the class which saved a model stands for."""
    return {
        kind
        for name in config.architectures or ()
        for ending, kind in _ENDINGS.items()
        if name.endswith(ending)
    }


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
    form = form_problem(lacking, known)
    return f"labels are matched by name: {sets}; " + (form or f"the latter lacks {listed(lacking)}")


def listed(labels: Sequence[str], most: int = 8) -> str:
    """Labels for a message, the first few of many."""
    shown = ", ".join(map(repr, labels[:most]))
    return shown + (f" and {len(labels) - most} more" if len(labels) > most else "")


def padding_problem(head: TaskHead, config: Any, tokenizer: PreTrainedTokenizerFast) -> str | None:
    """Why a decoder's head does not find the end of a text: it classifies the last real token.

    transformers looks for it by the padding token of the configuration.

    Args:
        head: Of the decoder.
        config: Of the decoder.
        tokenizer: That pads its texts.
    """
    expected, padding = config.get_text_config().pad_token_id, tokenizer.pad_token_id
    if head.kind != "sequence" or (expected is not None and expected == padding):
        return None
    if padding is not None:
        change = f"set pad_token_id to {padding} in its config.json"
    elif expected is not None and 0 <= expected < TokenIds.of(tokenizer).end:
        token = tokenizer.convert_ids_to_tokens(expected)
        change = f"set pad_token to {token!r} in its tokenizer_config.json"
    else:
        change = "set pad_token in its tokenizer_config.json, and pad_token_id in its config.json"
    return (
        "classifies the last token that is no padding, and its config.json has the pad_token_id"
        f" {expected}, its tokenizer {padding}; {change}"
    )
