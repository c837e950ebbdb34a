"""Texts that a server generates: answers to prompts, in the form of OpenAI."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ...data.messages import with_text_arguments
from ...errors import ServerError
from .client import ServerClient

Message = Mapping[str, Any]
_STOPPED = {"length", "content_filter"}  # reasons to finish a text before its end


class TextOptions(NamedTuple):
    """How texts are generated.

    Attributes:
        max_new_tokens: Tokens of a text at most.
        temperature: Of the distribution that tokens are drawn from; 0 is greedy.
    """

    max_new_tokens: int
    temperature: float


def completion(
    client: ServerClient, prompt: str, options: TextOptions, *, seed: int
) -> tuple[str, bool]:
    """What the model writes after a prompt, and whether it came to its end.

    Raises:
        ServerError: The server fails, refuses, or gives no text.
    """
    choice = _choice(client, "/v1/completions", {"prompt": prompt}, options, seed)
    return _text(client, choice.get("text")), _ended(choice)


def chat_completion(
    client: ServerClient,
    messages: Sequence[Message],
    options: TextOptions,
    *,
    tools: Sequence[Any] = (),
    seed: int,
) -> tuple[str, bool]:
    """What the model answers to messages in its chat template, and whether it came to its end.

    Raises:
        ServerError: The server fails, refuses, or gives no text.
    """
    body: dict[str, Any] = {"messages": [*map(with_text_arguments, messages)]}
    body |= {"tools": list(tools)} if tools else {}
    choice = _choice(client, "/v1/chat/completions", body, options, seed)
    message = choice.get("message")
    if not isinstance(message, Mapping):
        return _text(client, message), _ended(choice)
    # A model that only calls tools, refuses, or was stopped while it thought says nothing (null).
    said = message.get("content")
    if isinstance(said, list):
        said = "".join(_text(client, part.get("text")) for part in said if _is_text(client, part))
    return _text(client, "" if said is None else said), _ended(choice)


def _choice(
    client: ServerClient, path: str, body: dict[str, Any], options: TextOptions, seed: int
) -> Mapping[str, Any]:
    told = {
        "model": client.model,
        "max_tokens": options.max_new_tokens,
        "temperature": options.temperature,
        "seed": seed,
    }
    answer = client.post(path, {**told, **body})
    try:
        choice = answer["choices"][0]
    except (KeyError, IndexError, TypeError) as error:
        raise ServerError(
            f"{client.settings.url} answers {path} without `choices`: {answer!r:.300}"
        ) from error
    if not isinstance(choice, Mapping):
        raise ServerError(f"{client.settings.url} answers {path} with choices that are no objects")
    return choice


def _text(client: ServerClient, said: object) -> str:
    if isinstance(said, str):
        # A text that stopped within a character may end with half of it, which no file can hold.
        return said.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    raise ServerError(f"{client.settings.url} answers without a text: {said!r:.60}")


def _is_text(client: ServerClient, part: object) -> bool:
    """Whether a part of an answer is text, and not a thought before it, or a refusal."""
    if not isinstance(part, Mapping):
        raise ServerError(f"{client.settings.url} answers with parts that are no objects")
    return part.get("type") == "text"


def _ended(choice: Mapping[str, Any]) -> bool:
    return choice.get("finish_reason") not in _STOPPED
