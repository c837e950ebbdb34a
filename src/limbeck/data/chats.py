"""Conversations: messages of a system, of users, of an assistant and of tools."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import DataError
from .messages import WEIGHT, Message, from_json, without_nothing


@dataclass(frozen=True)
class Conversation:
    """Messages, of which the last one is the assistant's.

    Attributes:
        messages: Each with a ``role``, a ``content`` (text), and all else that templates may read.
        tools: Descriptions of tools, as templates take them.
        answers: Numbers of the assistant's messages that are learned, the last one among them.
        left_out: Number of answers before the first question and of messages after the last
            learned answer, which are left out.
        others: Answers that are as good as the last one.
        place: For messages of errors.
    """

    messages: tuple[Message, ...]
    tools: tuple[Any, ...] = ()
    answers: tuple[int, ...] = ()
    left_out: int = 0
    others: tuple[str, ...] = ()
    place: str = ""

    @property
    def asked(self) -> str:
        """The texts of all messages before the last answer."""
        return "\n".join(message["content"] for message in self.messages[:-1])

    @property
    def answer(self) -> str:
        """The text of the last answer; its tool calls as JSON where it has no text."""
        return _said_in(self.messages[-1])


def conversation_of(
    messages: Sequence[Message],
    place: str,
    *,
    system: Any = None,
    tools: Any = None,
    learned_from: int = 0,
    others: tuple[str, ...] = (),
) -> Conversation:
    """A conversation of messages that `messages_of` has read, up to the last learned answer.

    Answers before the first question, to which nothing was said, are left out.

    Args:
        messages: At least one.
        place: Of the row, for messages of errors.
        system: What the row says the system says, if anything.
        tools: What the row says of tools, if anything.
        learned_from: Number of the first message whose answer is learned.
        others: Answers that are as good as the last one.

    Raises:
        DataError: No answer is to be learned, or none to a question; one that is learned is empty;
            or system or tools are given twice or not as they should be.
    """
    before = _system_of(system, messages, place)
    roles = [message["role"] for message in messages]
    said = [n for n in range(learned_from, len(roles)) if roles[n] == "assistant"]
    answers = [n for n in said if messages[n].get(WEIGHT, 1)]
    if not answers:
        none = f"no message is the assistant's (roles are {', '.join(roles)})"
        raise DataError(
            f"{place}: {'no answer is to be learned' if said else none}, so there is nothing to"
            " learn; leave the row out"
        )
    first = next(number for number, role in enumerate(roles) if role != "system")
    others_say = (n for n, role in enumerate(roles) if role not in ("system", "assistant"))
    asked = next(others_say, None)
    if asked is None or asked > answers[-1]:
        raise DataError(
            f"{place}: nothing was said to the assistant (roles are {', '.join(roles)}); put what"
            " it answers before it, or leave the row out"
        )
    found = Conversation(
        (*before, *messages[:first], *messages[asked : answers[-1] + 1]),
        _tools_of(tools, place),
        tuple(n - asked + first + len(before) for n in answers if n > asked),
        asked - first + len(messages) - answers[-1] - 1,
        others,
        place,
    )
    for answer in (*(_said_in(found.messages[number]) for number in found.answers), *others):
        if not isinstance(answer, str) or not answer.strip():
            raise DataError(f"{place}: an answer is {answer!r:.60}; give a text, or leave it out")
    return found


def _said_in(message: Message) -> str:
    """The text of a message; its tool calls as JSON where it has no text."""
    if message["content"].strip() or not message.get("tool_calls"):
        return str(message["content"])
    return json.dumps(message["tool_calls"], ensure_ascii=False)


def _system_of(system: Any, messages: Sequence[Message], place: str) -> tuple[Message, ...]:
    if system is None or system == "":
        return ()
    if not isinstance(system, str):
        raise DataError(f"{place}: `system` is {system!r:.60}; give a text")
    if messages[0]["role"] == "system":
        raise DataError(f"{place} has a `system` beside a system message; leave one of them out")
    return ({"role": "system", "content": system},)


def _tools_of(tools: Any, place: str) -> tuple[Any, ...]:
    said = from_json(tools, place)
    if said is None or said == "" or said == []:
        return ()
    if not isinstance(said, list) or not all(isinstance(tool, Mapping) for tool in said):
        raise DataError(f"{place}: `tools` is {tools!r:.60}; give a list of objects")
    return tuple(map(without_nothing, said))
