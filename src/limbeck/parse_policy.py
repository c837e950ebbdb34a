"""A policy as a recipe writes it, checked without loading what carries it out."""

from collections.abc import Mapping
from dataclasses import fields as fields_of
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from .faults import Fault, faults_of, nearest
from .generation.options import RULE_OPTIONS, PolicyOptions
from .recipe import Recipe

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
) -> tuple[PolicyPart | None, list[Fault]]:
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
    faults: list[Fault] = [
        (f"{path}.{name}", f"unknown option{nearest(name, [*known, *_OWN])}")
        for name in sorted(given.keys() - {*known, *_OWN})
    ]
    defaults = {"share": _MIXED_SHARE} if kind == "mixed" else {}
    try:
        own = defaults | {name: given[name] for name in _OWN if name in given}
        common = TypeAdapter(PolicyOptions).validate_python(own)
        rule: Any = None
        if rule_kind:
            options = {name: given[name] for name in known if name in given}
            rule = TypeAdapter(rule_kind).validate_python(options)
    except ValidationError as error:
        return None, faults + faults_of(error, Recipe, place)
    needed = [
        (0 <= common.share <= 1, "share", f"is {common.share:g}; give 0 to 1"),
        (0 <= common.replay < 1, "replay", f"is {common.replay:g}; give 0 to less than 1"),
        (common.kept >= 1, "kept", f"is {common.kept}; give 1 or more"),
        (common.temperature >= 0, "temperature", f"is {common.temperature:g}; give 0 or more"),
        (common.block >= 1, "block", f"is {common.block}; give 1 or more"),
    ]
    faults += [(f"{path}.{name}", message) for met, name, message in needed if not met]
    if kind == "corpus":
        message = "is for text that is written, and corpus writes none; leave it out"
        faults += [(f"{path}.{name}", message) for name in _OWN if name in given]
    if rule is not None:
        faults += [(f"{path}.{name}", message) for name, message in rule.faults()]
    return (None if faults else PolicyPart(rule, common)), faults
