"""Conversations: messages of a system, of users, of an assistant and of tools.

Messages are read in the form of OpenAI and transformers ({role, content}) and in that of ShareGPT
({from, value}), each recognized by its keys.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import DataError

Message = Mapping[str, Any]
# Roles as chat templates know them, by the names that data sets have for them.
_ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
_KEYS = (("role", "content"), ("from", "value"))


@dataclass(frozen=True)
class Conversation:
    """Messages, of which the last one is the assistant's.

    Attributes:
        messages: Each with a ``role``, a ``content`` (text), and all else that templates may read.
        tools: Descriptions of tools, as templates take them.
        learned_from: Number of the first message whose answer is learned; those before are given.
        unanswered: Number of messages after the last answer, which are left out.
        others: Answers that are as good as the last one.
        place: For messages of errors.
    """

    messages: tuple[Message, ...]
    tools: tuple[Any, ...] = ()
    learned_from: int = 0
    unanswered: int = 0
    others: tuple[str, ...] = ()
    place: str = ""

    @property
    def asked(self) -> str:
        """The texts of all messages before the last answer."""
        return "\n".join(message["content"] for message in self.messages[:-1])

    @property
    def answer(self) -> str:
        """The text of the last answer; its tool calls as JSON where it has no text."""
        last = self.messages[-1]
        if last["content"].strip() or not last.get("tool_calls"):
            return str(last["content"])
        return json.dumps(last["tool_calls"], ensure_ascii=False)

    @property
    def answers(self) -> list[int]:
        """The numbers of the assistant's messages that are learned."""
        found = range(self.learned_from, len(self.messages))
        return [number for number in found if self.messages[number]["role"] == "assistant"]


def conversation_of(
    messages: Sequence[Message],
    place: str,
    *,
    system: Any = None,
    tools: Any = None,
    learned_from: int = 0,
    others: tuple[str, ...] = (),
) -> Conversation:
    """A conversation of messages that `messages_of` has read, up to the last answer.

    Args:
        messages: At least one.
        place: Of the row, for messages of errors.
        system: What the row says the system says, if anything.
        tools: What the row says of tools, if anything.
        learned_from: Number of the first message whose answer is learned.
        others: Answers that are as good as the last one.

    Raises:
        DataError: No answer is there, the first message to be answered is an answer, the last
            answer is empty, or system or tools are given twice or not as they should be.
    """
    before = _system_of(system, messages, place)
    roles = [message["role"] for message in messages]
    answers = [n for n in range(learned_from, len(roles)) if roles[n] == "assistant"]
    if not answers:
        raise DataError(
            f"{place}: no message is the assistant's (roles are {', '.join(roles)}), so there is"
            " nothing to learn; leave the row out"
        )
    first = next((role for role in roles if role != "system"), "")
    if first == "assistant":
        raise DataError(
            f"{place}: the conversation begins with the assistant, to which nothing was said; leave"
            " that message out, or put what it answers before it"
        )
    found = Conversation(
        (*before, *messages[: answers[-1] + 1]),
        _tools_of(tools, place),
        learned_from + len(before),
        len(messages) - answers[-1] - 1,
        others,
        place,
    )
    for answer in (found.answer, *others):
        if not isinstance(answer, str) or not answer.strip():
            raise DataError(f"{place}: an answer is {answer!r:.60}; give a text, or leave it out")
    return found


def messages_of(value: Any, field: str, place: str) -> list[Message]:
    """The messages of a field: a list of objects, or JSON text of it, as csv has it.

    Raises:
        DataError: It is no such list or is empty, or a message has no known role or no text.
    """
    said = _from_json(value)
    if not isinstance(said, list) or not said:
        raise DataError(
            f"{place}: `{field}` is {value!r:.60}; give a list of one message or more, as"
            " [{role: user, content: ...}, {role: assistant, content: ...}]"
        )
    return [
        _message(item, f"message {n} of `{field}` in {place}") for n, item in enumerate(said, 1)
    ]


def _message(item: Any, where: str) -> Message:
    if not isinstance(item, Mapping):
        raise DataError(
            f"{where} is {item!r:.60}; give an object with `role` and `content`, or with `from`"
            " and `value`"
        )
    given = without_nothing(item)
    role_key, content_key = next((keys for keys in _KEYS if keys[0] in given), _KEYS[0])
    if role_key not in given:
        raise DataError(
            f"{where} has the keys {', '.join(map(str, given)) or 'none'}; needed are `role` and"
            " `content`, or `from` and `value`"
        )
    name = given[role_key]
    role = _ROLES.get(name.strip().lower()) if isinstance(name, str) else None
    if role is None:
        raise DataError(
            f"{where} has the {role_key} {name!r:.40}; known are {', '.join(_ROLES)}. Name it as"
            " one of them, or leave the message out"
        )
    rest = {key: value for key, value in given.items() if key not in (role_key, content_key)}
    content = given.get(content_key, "" if given.get("tool_calls") else None)
    return {"role": role, "content": _text(content, role, content_key, where), **rest}


def _text(content: Any, role: str, key: str, where: str) -> str:
    """The text of a message; what tools return may be any JSON value."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) and content else [None]
    texts = [part.get("text") if isinstance(part, Mapping) else None for part in parts]
    if all(isinstance(text, str) for text in texts):
        return "".join(map(str, texts))
    if role == "tool" and content is not None:
        return json.dumps(content, ensure_ascii=False)
    raise DataError(
        f"{where}: its {key} is {content!r:.60}; give a text, or a list of parts that are texts"
    )


def _system_of(system: Any, messages: Sequence[Message], place: str) -> tuple[Message, ...]:
    if system is None or system == "":
        return ()
    if not isinstance(system, str):
        raise DataError(f"{place}: `system` is {system!r:.60}; give a text")
    if messages[0]["role"] == "system":
        raise DataError(f"{place} has a `system` beside a system message; leave one of them out")
    return ({"role": "system", "content": system},)


def _tools_of(tools: Any, place: str) -> tuple[Any, ...]:
    said = _from_json(tools)
    if said is None or said == "" or said == []:
        return ()
    if not isinstance(said, list) or not all(isinstance(tool, Mapping) for tool in said):
        raise DataError(f"{place}: `tools` is {tools!r:.60}; give a list of objects")
    return tuple(map(without_nothing, said))


def without_nothing(value: Any) -> Any:
    """JSON without the keys that hold null: in parquet every object has the keys of all."""
    if isinstance(value, Mapping):
        return {key: without_nothing(item) for key, item in value.items() if item is not None}
    return [without_nothing(item) for item in value] if isinstance(value, list) else value


def _from_json(value: Any) -> Any:
    """A list that is written as JSON text; any other value as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
