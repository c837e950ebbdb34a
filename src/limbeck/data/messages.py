"""The messages of a conversation as rows have them, read into one form.

Messages are read in the form of OpenAI and transformers ({role, content}) and in that of ShareGPT
({from, value}), each recognized by its keys.
"""

import json
from collections.abc import Callable, Mapping
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
WEIGHT = "weight"  # 0 in an answer that is given, and not learned
_WEIGHTS = (WEIGHT, "train", "training", "loss")  # what data sets call it
_TEXT_PARTS = ("text", "input_text", "output_text")  # kinds of parts of a content


def messages_of(value: Any, field: str, place: str) -> list[Message]:
    """The messages of a field: a list of objects, or JSON text of it, as csv has it.

    Answers that are given, and not learned, have the `WEIGHT` 0.

    An object of lists, as `datasets` gives a sequence of objects, is the same.

    Raises:
        DataError: It is no such list or is empty, or a message has no known role, no text, or an
            unknown weight.
    """
    said = from_json(value, place)
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
    learned = _is_learned(given, where) if role == "assistant" else True
    content_key = next((key for key in _KEYS.values() if key in given), _KEYS[role_key])
    calls = _calls_of(given, where)
    content = given.get(content_key) or ("" if calls else given.get(content_key))
    used = {role_key, content_key, "tool_calls", "function_call"}
    used |= {*_WEIGHTS} if role == "assistant" else set()
    rest = {key: value for key, value in given.items() if key not in used}
    rest |= {} if learned else {WEIGHT: 0}
    rest |= {"tool_calls": calls} if calls else {}
    return {"role": role, "content": _text(content, role, content_key, where), **rest}


def _is_learned(given: Mapping[str, Any], where: str) -> bool:
    """Whether an answer is learned: as OpenAI (``weight``) and trainers of others say it."""
    said = {name: given[name] for name in _WEIGHTS if name in given}
    for name, value in said.items():
        if value not in (0, 1):  # False and True are
            raise DataError(
                f"{where} has the {name} {value!r:.20}; give 1 (it is learned, as by default) or 0"
                " (it is not)"
            )
    return all(said.values())


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
    said = from_json(given.get("tool_calls"), where)
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
    return [_with_arguments(call, lambda value: from_json(value, where, "{")) for call in said]


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


def without_nothing(value: Any) -> Any:
    """JSON without the keys that hold null: in parquet every object has the keys of all."""
    if isinstance(value, Mapping):
        return {key: without_nothing(item) for key, item in value.items() if item is not None}
    return [without_nothing(item) for item in value] if isinstance(value, list) else value


def from_json(value: Any, place: str, opening: str = "[") -> Any:
    """A list, or an object, that is written as JSON text; any other value as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith(opening):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return whole_letters(found, place)
