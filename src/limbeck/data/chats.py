"""Conversations: messages of a system, of users, of an assistant and of tools.

Messages are read in the form of OpenAI and transformers ({role, content}) and in that of ShareGPT
({from, value}), each recognized by its keys.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from ..errors import DataError
from .json_lines import whole_letters

Message = Mapping[str, Any]
# Roles as chat templates know them, by the names that data sets have for them.
_ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "tool": "tool",
    "tool_response": "tool",
    "function": "tool",
    "observation": "tool",
    "developer": "system",
}
_KEYS = {"role": "content", "from": "value"}
_LEARNED = ("weight", "train", "training", "loss")  # say how much an answer is learned, if at all
_TEXT_PARTS = ("text", "input_text", "output_text")  # kinds of parts of a content


@dataclass(frozen=True)
class Conversation:
    """Messages, of which the last one is the assistant's.

    Attributes:
        messages: Each with a ``role``, a ``content`` (text), and all else that templates may read.
        tools: Descriptions of tools, as templates take them.
        learned_from: Number of the first message whose answer is learned; those before are given.
        left_out: Number of answers before the first question and of messages after the last
            answer, which are left out.
        others: Answers that are as good as the last one.
        place: For messages of errors.
    """

    messages: tuple[Message, ...]
    tools: tuple[Any, ...] = ()
    learned_from: int = 0
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

    Answers before the first question, to which nothing was said, are left out.

    Args:
        messages: At least one.
        place: Of the row, for messages of errors.
        system: What the row says the system says, if anything.
        tools: What the row says of tools, if anything.
        learned_from: Number of the first message whose answer is learned.
        others: Answers that are as good as the last one.

    Raises:
        DataError: No answer is there, or none to a question; an answer that is learned is empty;
            or system or tools are given twice or not as they should be.
    """
    before = _system_of(system, messages, place)
    roles = [message["role"] for message in messages]
    answers = [n for n in range(learned_from, len(roles)) if roles[n] == "assistant"]
    if not answers:
        raise DataError(
            f"{place}: no message is the assistant's (roles are {', '.join(roles)}), so there is"
            " nothing to learn; leave the row out"
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
        len(before) + max(min(learned_from, first), learned_from - asked + first),
        asked - first + len(messages) - answers[-1] - 1,
        others,
        place,
    )
    for answer in (*(_said_in(found.messages[number]) for number in found.answers), *others):
        if not isinstance(answer, str) or not answer.strip():
            raise DataError(f"{place}: an answer is {answer!r:.60}; give a text, or leave it out")
    return found


def messages_of(value: Any, field: str, place: str) -> list[Message]:
    """The messages of a field: a list of objects, or JSON text of it, as csv has it.

    An object of lists, as `datasets` gives a sequence of objects, is the same.

    Raises:
        DataError: It is no such list or is empty, or a message has no known role or no text.
    """
    said = _from_json(value, place)
    if isinstance(said, Mapping) and all(isinstance(column, list) for column in said.values()):
        rows = zip_longest(*said.values())
        said = [dict(zip(said, row, strict=True)) for row in rows]
    if not isinstance(said, list) or not said:
        is_text = isinstance(value, str) and value.lstrip().startswith("[")
        raise DataError(
            f"{place}: `{field}` is {value!r:.60}{', which is not JSON' if is_text else ''}; give a"
            ' list of one message or more, as [{"role": "user", "content": ...}, {"role":'
            ' "assistant", "content": ...}]'
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
    role_key = next((key for key in _KEYS if key in given), None)
    if role_key is None:
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
    name = next((name for name in _LEARNED if given.get(name, 1) != 1), None)
    if role == "assistant" and name:
        raise DataError(
            f"{where} has the {name} {given[name]!r:.20}, as if it were not to be learned"
            f" (`{name}`), and all answers are learned alike; leave `{name}` out, or give what is"
            " not learned as `prompt` and the rest as `completion`"
        )
    content_key = next((key for key in _KEYS.values() if key in given), _KEYS[role_key])
    calls = _calls_of(given, where)
    content = given.get(content_key) or ("" if calls else given.get(content_key))
    used = (role_key, content_key, "tool_calls", "function_call")
    rest = {key: value for key, value in given.items() if key not in used}
    rest |= {"tool_calls": calls} if calls else {}
    return {"role": role, "content": _text(content, role, content_key, where), **rest}


def _text(content: Any, role: str, key: str, where: str) -> str:
    """The text of a message; what tools return may be any JSON value."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) and content else [None]
    texts = [_text_of(part, role) for part in parts]
    if all(text is not None for text in texts):
        return "".join(map(str, texts))
    if role == "tool" and content is not None:
        return json.dumps(content, ensure_ascii=False)
    number = texts.index(None)
    what = f"part {number + 1} of its {key}" if parts is content else f"its {key}"
    raise DataError(
        f"{where}: {what} is {parts[number] if parts is content else content!r:.60}; give a text,"
        " or a list of parts that are texts (images and sounds cannot be read: leave the row out)"
    )


def _text_of(part: Any, role: str) -> str | None:
    """The text of a part of a content; None where it is anything else, as an image."""
    if isinstance(part, str) and role != "tool":  # whose result may be a list of texts
        return part
    if not isinstance(part, Mapping) or part.get("type", "text") not in _TEXT_PARTS:
        return None
    text = part.get("text")
    return text if isinstance(text, str) else None


def _calls_of(given: Mapping[str, Any], where: str) -> list[Mapping[str, Any]]:
    """The calls of tools in a message, in the form of transformers: arguments are objects."""
    said = _from_json(given.get("tool_calls"), where)
    if not said and "function_call" in given:  # as OpenAI had it before
        said = [{"type": "function", "function": given["function_call"]}]
    if not said:
        return []
    called = isinstance(said, list) and all(
        isinstance(call, Mapping) and isinstance(call.get("function", call), Mapping)
        for call in said
    )
    if not called:
        raise DataError(f"{where}: its calls of tools are {said!r:.60}; give a list of objects")
    return [_with_arguments(call, lambda value: _from_json(value, where, "{")) for call in said]


def with_text_arguments(message: Message) -> Message:
    """A message whose calls of tools have their arguments as JSON text, as OpenAI has them."""
    if not message.get("tool_calls"):
        return message

    def as_json(value: Any) -> Any:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    calls = [_with_arguments(call, as_json) for call in message["tool_calls"]]
    return {**message, "tool_calls": calls}


def _with_arguments(call: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """A call of a tool with its arguments changed."""
    if "function" in call:
        return {**call, "function": _with_arguments(call["function"], change)}
    return {**call, "arguments": change(call["arguments"])} if "arguments" in call else {**call}


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
    said = _from_json(tools, place)
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


def _from_json(value: Any, place: str, opening: str = "[") -> Any:
    """A list, or an object, that is written as JSON text; any other value as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith(opening):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return whole_letters(found, place)
