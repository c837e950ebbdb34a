"""Kinds of rows with prompts, each recognized by its fields.

Source: messages and prompt/completion as TRL reads them (dataset formats of its documentation);
instruction/input/output as Stanford Alpaca has them; conversations of from/value as ShareGPT.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from ..errors import DataError
from .chats import Conversation, conversation_of
from .messages import Message, messages_of
from .prompt_sources import FIELDS

_NOTHING = "-"  # stands for an answer that is still to be generated


class Kind(NamedTuple):
    """A kind of rows; each may also have a `system` and `tools`.

    Attributes:
        name: For messages.
        asks: Fields of which a row has one: it asks.
        answers: Fields of which a row has one: it answers; none where the first holds both.
        beside: Fields that a row may have before or after what it asks.
    """

    name: str
    asks: tuple[str, ...]
    answers: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.asks, *self.answers, *self.beside, "system", "tools")


_CHAT = Kind("conversations", ("messages", "conversations"))
_PROMPT = Kind(
    "prompts with answers", ("prompt",), ("completion", "response", "references"), ("document",)
)
_INSTRUCTION = Kind("instructions", ("instruction",), ("output",), ("input", "history"))
# What belongs to the question of one kind; of another it would be lost.
_OF_QUESTIONS = ("document", "input", "history")
_KINDS = (_CHAT, _PROMPT, _INSTRUCTION)


class PlainPrompt(NamedTuple):
    """A prompt that is a text, with equally good answers, as the row has both."""

    text: Any
    references: Any
    document: Any = None


def are_prompts(fields: Collection[str]) -> bool:
    """Whether rows with these fields are prompts with answers, and no rows with labels or tags.

    >>> are_prompts(["instruction", "output", "text"]), are_prompts(["prompt", "label"])
    (True, False)
    """
    there = {*fields}
    if not there.isdisjoint(("label", "tokens", "tags")):
        return False
    return any(
        not there.isdisjoint(kind.asks) and not (kind.answers and there.isdisjoint(kind.answers))
        for kind in _KINDS
    )


def read_row(
    row: Mapping[str, Any],
    place: str,
    *,
    named: Collection[str] = (),
    columns: Collection[str] | None = None,
    answered: bool = True,
) -> Conversation | PlainPrompt:
    """What a row asks and answers.

    Args:
        row: By the names of the fields.
        place: Of the row, for messages.
        named: Fields whose column the user has named, which decide where several are there.
        columns: What the row has, as it is called there; the fields themselves by default.
        answered: False also takes rows without an answer, and reads none: one is to be generated.

    Raises:
        DataError: It is of no known kind, of several, or not as its kind should be.
    """
    given = {field: value for field, value in row.items() if field in FIELDS and value is not None}
    kind, asks, answers = _kind_of(row, place, named, columns or tuple(row), answered)
    _refuse_lost(given, kind, answers, place, named=named, columns=columns or tuple(row))
    asked, about = given[asks], given.get(kind.beside[0]) if kind.beside else None
    earlier = _earlier(given.get("history"), place)
    beside: dict[str, Any] = {"system": given.get("system"), "tools": given.get("tools")}
    if kind is _CHAT:
        messages = messages_of(asked, asks, place)
        if not answered:
            asking = messages[:-1] if messages[-1]["role"] == "assistant" else messages
            messages = [*asking, {"role": "assistant", "content": _NOTHING}]
        return conversation_of(messages, place, **beside)
    if kind is _INSTRUCTION:
        asked, about = _with_input(asked, about, place), None
    reply = given[answers] if answered else _NOTHING
    several = answered and answers == "references"
    told = isinstance(reply, list) and not several  # messages
    if not (told or earlier or isinstance(asked, list) or any(beside.values())):
        return PlainPrompt(asked, reply if several else [_answer(reply, answers, place)], about)
    if about:
        raise DataError(f"{place} has a `document` beside messages; put it into a message")
    if several and (not isinstance(reply, list) or not reply):
        raise DataError(f"{place}: `references` is {reply!r:.60}; give a list of texts")
    replies: list[Any] = list(reply) if several else [reply]
    before = [*earlier, *_turn("user", asked, asks, place)]
    after = _turn("assistant", replies[0], answers, place)
    return conversation_of(
        [*before, *after],
        place,
        # Answers of earlier turns are learned too, as those of messages are.
        learned_from=0 if earlier else len(before),
        others=tuple(replies[1:]),
        **beside,
    )


def _refuse_lost(
    given: Mapping[str, Any],
    kind: Kind,
    answers: str,
    place: str,
    *,
    named: Collection[str],
    columns: Collection[str],
) -> None:
    """Refuse a row of which a part of the question, or what is said of the answer, would be lost.

    Raises:
        DataError: It is one.
    """
    lost = [field for field in _OF_QUESTIONS if given.get(field) and field not in kind.fields]
    if lost:
        raise DataError(
            f"{place} has `{lost[0]}`, which is not read of {kind.name}; put it into the question,"
            " or leave it out"
        )
    # TRL's rows for KTO: the label says whether the answer is a good one.
    if "label" in columns and answers and answers not in named:
        raise DataError(
            f"{place} has a `label` beside `{answers}`, and every answer is learned as a good one:"
            " leave rows with bad answers out, and name the columns, as {path: FILE, prompt:"
            f" prompt, {answers}: {answers}}}"
        )


def _earlier(history: Any, place: str) -> list[Message]:
    """Earlier turns: pairs of what was asked and answered."""
    turns = history or []
    pairs = isinstance(turns, list) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in turns
    )
    if not pairs:
        raise DataError(
            f"{place}: `history` is {history!r:.60}; give pairs, as [[question, answer], ...]"
        )
    roles = ("user", "assistant")
    return [
        {"role": role, "content": _text(said, "history", place)}
        for pair in turns
        for role, said in zip(roles, pair, strict=True)
    ]


def _kind_of(
    row: Mapping[str, Any],
    place: str,
    named: Collection[str],
    columns: Collection[str],
    answered: bool,
) -> tuple[Kind, str, str]:
    """The kind of a row, and its fields that ask and answer; the second may be empty."""
    found = []
    given = {field for field, value in row.items() if field in FIELDS and value is not None}
    for kind in _KINDS:
        if not {*named} <= {*kind.fields}:
            continue
        asks = _present(kind.asks, given, named)
        answers = _present(kind.answers, given, named)
        if asks and (answers or not kind.answers or not answered):
            found.append((kind, asks, answers))
    # Where answers are to be generated, a row that has one is still of the kind that it has here.
    found = [one for one in found if one[2] or not one[0].answers] or found
    there = ", ".join(map(str, columns)) or "none"
    if not found:
        null = [field for field in FIELDS if field in row and field not in given]
        nothing = f" ({', '.join(null)} without a value)" if null else ""
        raise DataError(
            f"{place} has the fields {there}{nothing}; known are {_known()}. Name their columns, as"
            " {path: FILE, messages: conversation}, or {path: FILE, prompt: question, response:"
            " answer}; or leave the row out"
        )
    fields = [*dict.fromkeys(f for _, asks, answers in found for f in (*asks, *answers))]
    several = found[0][1:] if len(found) == 1 else [fields]
    if one_of := next((some for some in several if len(some) > 1), None):
        raise DataError(
            f"{place} can be read in several ways: it has {', '.join(fields)} (of the fields"
            f" {there}). Name the columns that are meant, as {{path: FILE, {one_of[0]}:"
            f" {one_of[0]}}}"
        )
    kind, asks, answers = found[0]
    return kind, asks[0], answers[0] if answers else ""


def _present(fields: Collection[str], given: Collection[str], named: Collection[str]) -> list[str]:
    """Of fields that mean the same those that a row has: only the named one, if one is named."""
    there = [field for field in fields if field in given]
    return [field for field in there if field in named] or there


def _known() -> str:
    said = []
    for kind in _KINDS:
        needed = [" or ".join(f"`{f}`" for f in some) for some in (kind.asks, kind.answers) if some]
        said.append(f"{' with '.join(needed)} ({kind.name})")
    return "; ".join(said)


def _with_input(instruction: Any, about: Any, place: str) -> str:
    """An instruction, with what it is about on the next line."""
    for field, value in (("instruction", instruction), ("input", "" if about is None else about)):
        if not isinstance(value, str):
            raise DataError(f"{place}: `{field}` is {value!r:.60}; give a text")
    return f"{instruction}\n{about}" if about and about.strip() else instruction


def _turn(role: str, value: Any, field: str, place: str) -> list[Message]:
    """The messages of a field that is a list of them, or a text that one role says."""
    if isinstance(value, list):
        return messages_of(value, field, place)
    return [{"role": role, "content": _text(value, field, place)}]


def _text(value: Any, field: str, place: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{place}: `{field}` is {value!r:.60}; give a text, or a list of messages")
    return value


def _answer(value: Any, field: str, place: str) -> str:
    """The text of an answer, which must have a letter."""
    if not (said := _text(value, field, place)).strip():
        raise DataError(
            f"{place}: `{field}` is {value!r:.60}; give an answer, or leave the row out"
        )
    return said
