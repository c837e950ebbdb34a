"""What a recipe may ask for where text is written from prompts, by whom, and with what batches."""

from collections.abc import Mapping
from dataclasses import fields as fields_of
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from .data.json_lines import file_of_split
from .data.prompts import read_prompts
from .errors import DataError, LimbeckError
from .faults import Fault, faults_of, nearest
from .generation.batches import Policy, PolicyOptions
from .generation.ends import ends_of, ids_in
from .generation.rules import RULES
from .models import Models
from .recipe import DataPart, Recipe, StagePart
from .tokenization.chat import after_answer, before_words, tokenize_said, turn_end

KINDS = ("corpus", "mixed", *RULES)
_OWN = tuple(field.name for field in fields_of(PolicyOptions))
_MIXED_SHARE = 0.5


def parse_policy(
    options: Mapping[str, Any], place: tuple[str, ...]
) -> tuple[Policy | None, list[Fault]]:
    """A policy from its options, those of its rule beside its own; and all their faults.

    Args:
        options: ``kind`` and what belongs to it.
        place: Where it stands in the recipe.
    """
    path, kind = ".".join(place), options.get("kind")
    if kind not in KINDS:
        return None, [(f"{path}.kind", f"no policy is called {kind!r}{nearest(str(kind), KINDS)}")]
    rule_kind = RULES.get("student" if kind == "mixed" else str(kind))
    known = [f.name for f in fields_of(rule_kind)] if is_dataclass(rule_kind) else list[str]()
    given = {name: value for name, value in options.items() if name != "kind"}
    faults: list[Fault] = [
        (f"{path}.{name}", f"unknown option{nearest(name, [*known, *_OWN])}")
        for name in sorted(given.keys() - {*known, *_OWN})
    ]
    defaults = {"share": _MIXED_SHARE} if kind == "mixed" else {}
    try:
        own = defaults | {name: given[name] for name in _OWN if name in given}
        common = TypeAdapter(PolicyOptions).validate_python(own)
        rule = None
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
    return (None if faults else Policy(rule, common)), faults


def prompt_faults(data: DataPart) -> list[Fault]:
    """Files of prompts that are missing or begin with something else, and no room for them."""
    faults: list[Fault] = []
    if not data.text and not data.prompts:
        faults.append(("data.text", "is missing; give text, or prompts"))
    for number, location in enumerate(data.prompts):
        try:
            file_of_split(Path(location), "train")
            for _ in read_prompts(location):  # all, so that a broken row is found here
                pass
        except LimbeckError as error:
            faults.append((f"data.prompts.{number}", str(error)))
    if data.predicted == "everything" and not data.prompts:
        message = "is everything, which is always so of text; leave it out, or name `data.prompts`"
        faults.append(("data.predicted", message))
    if data.prompts and not 1 <= data.longest_response < data.length - 1:
        message = f"is {data.longest_response}, of length {data.length}; leave room for a prompt"
        faults.append(("data.response", message))
    return faults


def template_faults(models: Models, data: DataPart) -> list[Fault]:
    """Why prompts cannot stand in the student's chat template, where they are to."""
    if data.chat and not data.prompts:
        return [("data.chat", "is for prompts; name files of them (`data.prompts`)")]
    if not data.chat:
        return []
    try:
        before_words(models.tokenizer)
        [empty] = tokenize_said(models.tokenizer, [""])
    except DataError as error:
        return [("data.chat", str(error))]
    least = len(empty.ids)
    if data.length - data.longest_response > least:
        return []
    message = f"is {data.longest_response}, of length {data.length}, of which the chat template"
    return [("data.response", f"{message} takes {least}; leave room for a prompt")]


def template_warnings(models: Models, data: DataPart) -> list[str]:
    """Answers that are learned with another end than the chat template gives them."""
    if not data.chat:
        return []
    try:
        end, mine = after_answer(models.tokenizer).strip(), str(models.tokenizer.eos_token)
    except DataError:
        return []  # a template that takes no answer
    if turn_end(models.tokenizer) is not None:
        return []
    return [
        f"the chat template puts {end!r:.40} behind an answer, which no special token begins, and"
        f" the tokenizer's end (eos) is {mine!r}: answers are learned to end with that"
    ]


def ends_of_recipe(recipe: Recipe, models: Models) -> tuple[int, ...]:
    """Token ids that end what the student writes, alone or together with its teacher.

    Those of both models where they have the same tokens; none for an encoder.

    Raises:
        ModelError: A generation configuration cannot be read.
    """
    if not models.anatomy.causal:
        return ()
    found = ends_of(models.tokenizer, recipe.student.model)
    found += ids_in(models.student_config, "the student's configuration")
    if recipe.teacher and models.teacher_tokenizer and not models.two_vocabularies:
        found += ends_of(models.teacher_tokenizer, recipe.teacher.model)
    return tuple(dict.fromkeys(found))


def ends_faults(recipe: Recipe, models: Models) -> list[Fault]:
    """A generation configuration that cannot be read, or names something else than token ids."""
    try:
        ends_of_recipe(recipe, models)
    except LimbeckError as error:
        return [("student.model" if recipe.student.model else "teacher.model", str(error))]
    return []


def stage_policy(
    part: StagePart, number: int, models: Models, data: DataPart
) -> tuple[Policy | None, list[Fault]]:
    """The policy of a stage that learns from prompts, and why it cannot, if it is to.

    Without a policy of its own it does where there is no text.
    """
    place = f"stages.{number}"
    if part.policy is not None and not data.prompts:
        message = "writes from prompts; name files of them (`data.prompts`)"
        return None, [(f"{place}.policy", message)]
    if not data.prompts or (part.policy is None and data.text):
        return None, []
    policy, faults = parse_policy(part.policy or {"kind": "corpus"}, (place, "policy"))
    needed = [
        (models.anatomy.causal, "data.prompts", "are for decoders; give `text`"),
        (
            part.alignment is None,
            place,
            "aligns vocabularies, which is done over `data.text`; leave the policy out",
        ),
        (part.tokens is None, f"{place}.tokens", "cannot be known with prompts; give steps"),
    ]
    if policy and policy.rule:
        needed += [
            (
                models.teacher is not None or not policy.rule.asks_teacher,
                "teacher",
                f"is missing, and the policy of stage {number} asks it; name one",
            ),
            (
                not models.two_vocabularies,
                f"{place}.policy",
                "writes with two models that have different pieces; use `corpus` with `labels`, or"
                " a stage over `data.text` with `alignment: ends` and `chunks` or `uld`",
            ),
        ]
    return policy, faults + [(field, message) for met, field, message in needed if not met]
