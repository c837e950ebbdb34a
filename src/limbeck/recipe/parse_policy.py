"""A policy as a recipe writes it, checked without loading what carries it out."""

from collections.abc import Mapping
from dataclasses import fields as fields_of
from typing import Any, NamedTuple

from ..errors import Problem, nearest
from ..generation.options import RULE_OPTIONS, PolicyOptions, StudentOptions
from .parse_options import read_options

KINDS = ("corpus", "mixed", *RULE_OPTIONS)
_OWN = tuple(field.name for field in fields_of(PolicyOptions))
_MIXED_SHARE = 0.5


class PolicyPart(NamedTuple):
    """What a recipe says of a policy.

    Attributes:
        rule: Who generates, an object of `generation.options.RULE_OPTIONS`; None leaves every
            text to the corpus.
        options: Of the policy as a whole.
    """

    rule: Any
    options: PolicyOptions


def parse_policy(
    options: Mapping[str, Any], place: tuple[str, ...]
) -> tuple[PolicyPart | None, list[Problem]]:
    """The options of a policy, those of its rule beside its own; and all that is wrong with them.

    Args:
        options: ``kind`` and what belongs to it.
        place: Where it stands in the recipe.
    """
    path, kind = ".".join(place), options.get("kind")
    if kind not in KINDS:
        return None, [(f"{path}.kind", f"no policy is called {kind!r}{nearest(str(kind), KINDS)}")]
    rule_kind = RULE_OPTIONS.get("student" if kind == "mixed" else str(kind))
    known = [field.name for field in fields_of(rule_kind)] if rule_kind else list[str]()
    given = {name: value for name, value in options.items() if name != "kind"}
    problems: list[Problem] = [
        (f"{path}.{name}", f"unknown option{nearest(name, [*known, *_OWN])}")
        for name in sorted(given.keys() - {*known, *_OWN})
    ]
    defaults = {"fraction": _MIXED_SHARE} if kind == "mixed" else {}
    own = defaults | {name: given[name] for name in _OWN if name in given}
    common, unread = read_options(PolicyOptions, own, place)
    problems += unread
    problems += [(f"{path}.{name}", message) for name, message in common.problems()]
    rule: Any = None
    if rule_kind:
        rules = {name: given[name] for name in known if name in given}
        rule, unread = read_options(rule_kind, rules, place)
        problems += unread
    if kind == "corpus":
        message = "is for generated text, and corpus generates none; leave it out"
        problems += [(f"{path}.{name}", message) for name in _OWN if name in given]
    if common.engine == "vllm" and rule_kind is not StudentOptions:
        message = "is vllm, which generates the student's text alone; use kind: student or mixed"
        problems.append((f"{path}.engine", message))
    if rule is not None:
        problems += [(f"{path}.{name}", message) for name, message in rule.problems()]
    return (None if problems else PolicyPart(rule, common)), problems
