"""What a recipe may hold where it learns from prompts: files, ends, templates, policies."""

from collections.abc import Iterator, Sequence
from itertools import chain, islice

from transformers import PreTrainedTokenizerFast

from ..data.chats import Conversation
from ..data.corpus import held_out_below, is_held_out
from ..data.prompts import Prompt, name_of_prompts, read_prompts, unread_columns
from ..errors import DataError, LimbeckError, Problem
from ..generation.batches import Policy
from ..generation.ends import ends_notes, ends_of
from ..generation.options import PolicyOptions
from ..generation.reader import forgetting_problem
from ..generation.rules import Speculative, rule_of
from ..tokenization.chat import after_answer, before_words, tokenize_said, turn_end
from ..tokenization.prompting.template_checks import check_conversations, unshown_fields
from .parse import ParsedStage
from .parse_policy import PolicyPart
from .schema import DataPart, Recipe
from .sides import Models
from .stage_part import StagePart

_LOOKED_AT = 1000  # conversations


def prompt_problems(data: DataPart) -> list[Problem]:
    """Files of prompts that are missing or begin with something else, and no room for them."""
    problems: list[Problem] = []
    if not (data.text or data.prompts or data.task or data.rows):
        problems.append(("data.text", "is missing; give text, prompts, or the rows of a task"))
    for number, location in enumerate(data.prompts):
        try:
            said = [row.conversation for row in read_prompts(location)]  # all: one may be broken
        except LimbeckError as error:
            problems.append((f"data.prompts.{number}", str(error)))
            continue
        if not data.chat_template and (first := next(filter(None, said), None)):
            message = (
                f"is needed for conversations, and {first.place} is one; say `chat_template: true`,"
                " or give rows of prompt and response"
            )
            problems.append(("data.chat_template", message))
    if data.packs_prompts and not data.prompts:
        message = "is all, which packs prompts too; say true, or name `data.prompts`"
        problems.append(("data.packing", message))
    if data.loss_on == "all" and not data.prompts:
        message = "is everything, which is always so of text; leave it out, or name `data.prompts`"
        problems.append(("data.loss_on", message))
    if data.max_new_tokens is not None and not data.prompts:
        message = "is the length of responses, and there are no prompts; leave it out, or name"
        problems.append(("data.max_new_tokens", f"{message} `data.prompts`"))
    if data.prompts and not 1 <= data.longest_response < data.max_length - 1:
        message = (
            f"is {data.longest_response}, of length {data.max_length}; leave room for a prompt"
        )
        problems.append(("data.max_new_tokens", message))
    return problems


def template_problems(models: Models, data: DataPart) -> list[Problem]:
    """Why prompts cannot stand in the student's chat template, where they are to."""
    if data.chat_template and not data.prompts:
        return [("data.chat_template", "is for prompts; name files of them (`data.prompts`)")]
    if not data.chat_template:
        return []
    try:
        before_words(models.student.tokenizer)
        [empty] = tokenize_said(models.student.tokenizer, [""])
        check_conversations(models.student.tokenizer, _conversations(data))
    except DataError as error:
        return [("data.chat_template", str(error))]
    least = len(empty.ids)
    if data.max_length - data.longest_response > least:
        return []
    message = f"is {data.longest_response}, of length {data.max_length}, of which the chat template"
    return [("data.max_new_tokens", f"{message} takes {least}; leave room for a prompt")]


def _conversations(data: DataPart) -> Iterator[Conversation]:
    for location in data.prompts:
        try:
            yield from filter(None, (row.conversation for row in read_prompts(location)))
        except LimbeckError:
            continue  # is refused with its own place


def unread_warnings(data: DataPart) -> list[str]:
    """Columns of prompts that are not read, which may hold a part of the question."""
    found = {name_of_prompts(place): unread_columns(place) for place in data.prompts}
    return [
        f"{name} has columns that are not read ({', '.join(columns[:8])}); what belongs to a"
        " question must stand in it"
        for name, columns in found.items()
        if columns
    ]


def template_warnings(models: Models, data: DataPart) -> list[str]:
    """What the chat template leaves out, and ends of answers that it does not give."""
    if not data.chat_template:
        return []
    some = islice(_conversations(data), _LOOKED_AT)
    return [
        *(
            f"`{name}` of messages ({count} of the first conversations) is not written by the chat"
            " template, so it is not learned; put it into `content` if it is to be"
            for name, count in unshown_fields(models.student.tokenizer, some).items()
        ),
        *_end_warnings(models),
    ]


def _end_warnings(models: Models) -> list[str]:
    """Answers that are learned with another end than the chat template gives them."""
    try:
        end, mine = (
            after_answer(models.student.tokenizer).strip(),
            str(models.student.tokenizer.eos_token),
        )
    except DataError:
        return []  # a template that takes no answer
    if turn_end(models.student.tokenizer) is not None:
        return []
    return [
        f"the chat template puts {end!r:.40} behind an answer, which no special token begins, and"
        f" the tokenizer's end (eos) is {mine!r}: answers are learned to end with that"
    ]


def split_prompts(data: DataPart, *, held_out: bool) -> Iterator[Prompt]:
    """The prompts that are never learned from, or all others."""
    rows = list(chain.from_iterable(map(read_prompts, data.prompts)))
    below = held_out_below((row.identity for row in rows), share=data.held_out.fraction)
    return (row for row in rows if is_held_out(row.identity, below=below) == held_out)


def ends_of_recipe(recipe: Recipe, models: Models) -> tuple[int, ...]:
    """Token ids that end what the student writes, alone or together with its teacher.

    Those of both models where they have the same tokens; none for an encoder.

    Raises:
        ModelError: A generation configuration cannot be read.
    """
    if not models.student.architecture.causal:
        return ()
    found = ends_of(models.student.tokenizer)
    for _, tokenizer, name in _with_ends(recipe, models):
        found += ends_of(tokenizer, name)
    return tuple(dict.fromkeys(found))


def ends_problems(recipe: Recipe, models: Models) -> list[Problem]:
    """Configurations that cannot be read, or name something else than token ids as ends."""
    problems: list[Problem] = []
    for field, tokenizer, name in _with_ends(recipe, models):
        try:
            ends_of(tokenizer, name)
        except LimbeckError as error:
            problems.append((field, str(error)))
    return problems


def ends_warnings(recipe: Recipe, models: Models) -> list[str]:
    """Ends that the models' files name and that no token is."""
    found = [ends_notes(tokenizer, name) for _, tokenizer, name in _with_ends(recipe, models)]
    return list(dict.fromkeys(note for notes in found for note in notes))


def _with_ends(
    recipe: Recipe, models: Models
) -> Iterator[tuple[str, PreTrainedTokenizerFast, str]]:
    """The models whose files say where texts end: field, tokenizer and name of each."""
    if not models.student.architecture.causal:
        return
    if recipe.student.model:
        yield "student.model", models.student.tokenizer, recipe.student.model
    if recipe.teacher and models.teacher and not models.two_vocabularies:
        yield "teacher.model", models.teacher.tokenizer, recipe.teacher.model


def engine_problems(stages: Sequence[ParsedStage]) -> list[Problem]:
    """Students whose weights a vLLM server does not take as they are."""
    found = []
    for number, stage in enumerate(stages):
        if stage.part is None or not stage.policy or stage.policy.options.engine != "vllm":
            continue
        if stage.part.quantization_aware:
            message = "is vllm, which does not know rounded weights of the student; use engine:"
            found.append((f"stages.{number}.policy.engine", f"{message} limbeck"))
    return found


def stage_policy(
    part: StagePart, given: PolicyPart | None, number: int, models: Models, data: DataPart
) -> tuple[Policy | None, list[Problem]]:
    """The policy of a stage that learns from prompts, and why it cannot, if it is to.

    Without a policy of its own it does where there is no text.
    """
    place = f"stages.{number}"
    if part.policy is not None and not data.prompts:
        message = "generates from prompts; name files of them (`data.prompts`)"
        return None, [(f"{place}.policy", message)]
    if not data.prompts or (part.policy is None and data.text):
        return None, []
    if part.policy is None:
        given = PolicyPart(None, PolicyOptions())  # every text is the corpus's
    policy = Policy(rule_of(given.rule), given.options) if given else None
    sides = [side for side in (models.student, models.teacher) if side]
    needed = [
        (models.student.architecture.causal, "data.prompts", "are for decoders; give `text`"),
        (
            part.alignment is None,
            place,
            "aligns vocabularies, which is done over `data.text`; leave the policy out",
        ),
        (part.tokens is None, f"{place}.tokens", "cannot be known with prompts; give max_steps"),
        (
            not (data.packs_prompts and policy and policy.rule),
            "data.packing",
            f"is all, and stage {number} generates responses, which stand alone; say true, or use"
            " the policy `corpus`",
        ),
        (
            not data.packs_prompts or all(side.architecture.separable_documents for side in sides),
            "data.packing",
            "is all, and the model has no positions that keep prompts apart; say true",
        ),
    ]
    if policy and policy.rule:
        needed += [
            (
                models.teacher is not None or not policy.rule.needs_teacher,
                "teacher",
                f"is missing, and the policy of stage {number} asks it; name one",
            ),
            (
                not models.two_vocabularies,
                f"{place}.policy",
                "generates with two models that have different tokens; use `corpus` with `labels`,"
                " or a stage over `data.text` with `alignment: boundaries` and `span_likelihood` or"
                " `uld`",
            ),
        ]
    problems = [(field, message) for met, field, message in needed if not met]
    problems += _top_problems(policy, models, place)
    return policy, problems + _forgetting_problems(policy, models, place)


def _top_problems(policy: Policy | None, models: Models, place: str) -> list[Problem]:
    """Top tokens that are all there are, among which every token of the student's is."""
    rule, count = policy and policy.rule, len(models.student.shape.token_ids)
    if not isinstance(rule, Speculative) or rule.top_k < count:
        return []
    message = f"is {rule.top_k} of {count} tokens, so that the student generates alone; give fewer,"
    return [(f"{place}.policy.top_k", f"{message} or use kind: student")]


def _forgetting_problems(policy: Policy | None, models: Models, place: str) -> list[Problem]:
    """Models that are to generate, and whose layers do not all keep keys and values."""
    if policy is None or policy.rule is None:
        return []
    sides = {"the teacher": models.teacher if policy.rule.needs_teacher else None}
    if policy.options.engine != "vllm":
        sides["the student"] = models.student
    return [
        (f"{place}.policy", f"generates, and {who} {problem}; use `corpus` or another model")
        for who, side in sides.items()
        if side and (problem := forgetting_problem(side.config))
    ]
