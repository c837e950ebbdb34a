"""Conversations that are too long: without their oldest messages, or with shorter ones.

A message is shortened within its own turn, so that nobody's words stand in the turn of another.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterator
from dataclasses import replace

from ...data.chats import Conversation
from ...errors import DataError
from ..plain_text import plain_tokenizer
from .answers import ChatTemplate
from .conversations import TokenizedConversation, tokenize_conversations

_ASKS = ("tool", "user")  # their messages may lose their beginning, and no answer does
_LEAST_KEPT = 64  # tokens of a shortened message, as long as older messages can be dropped


def shortened(
    template: ChatTemplate, conversation: Conversation, *, room: int
) -> TokenizedConversation:
    """A conversation whose prompt is too long, without its oldest messages after the system's.

    It begins with the first question from which on it fits. If it is too long even from the last
    question on, the longest results of tools lose their beginning, then the question, too; and if
    too little of these would be left, the oldest answers to the question are dropped, with what
    tools said to them.

    Args:
        template: That it is put into.
        conversation: Too long.
        room: Tokens of the prompt at most.

    Raises:
        DataError: What has to be kept leaves no room for anything else.
    """
    later = _later_beginnings(conversation)
    fits = bisect_left(later, True, key=lambda one: _excess(_tokenized(template, one), room) <= 0)
    if fits < len(later):
        return _tokenized(template, later[fits])
    last = later[-1] if later else conversation
    for last in _with_fewer_answers(last):
        tokens = _tokenized(template, last)
        for roles in (_ASKS[:1], _ASKS):
            if found := _fitted(template, last, tokens, roles, least=_LEAST_KEPT, room=room):
                return found
    if found := _fitted(template, last, tokens, _ASKS, least=1, room=room):
        return found
    asked = sum(_lengths(template, last, _numbers(last, _ASKS)))
    raise DataError(
        f"{conversation.place}: template, system and tools take {len(tokens.prompt.ids) - asked}"
        f" tokens, and a prompt may have {room}; make `max_length` larger, or `max_new_tokens`"
        " smaller"
    )


def _tokenized(template: ChatTemplate, conversation: Conversation) -> TokenizedConversation:
    return tokenize_conversations(template, [conversation])[0]


def _excess(tokens: TokenizedConversation, room: int) -> int:
    return len(tokens.prompt.ids) - room


def _later_beginnings(conversation: Conversation) -> list[Conversation]:
    """The conversation from each of its questions on but the first, with the system."""
    first = _first(conversation)
    roles = [message["role"] for message in conversation.messages]
    asked = [number for number, role in enumerate(roles) if role == "user" and number > first]
    return [_without(conversation, first, number) for number in asked]


def _with_fewer_answers(conversation: Conversation) -> Iterator[Conversation]:
    """The conversation; then without its oldest answers to the question, until the last is left."""
    yield conversation
    behind = _first(conversation) + 1
    roles = [message["role"] for message in conversation.messages]
    answers = [n for n, role in enumerate(roles) if role == "assistant" and n >= behind]
    for number in answers[1:]:
        yield _without(conversation, behind, number)


def _first(conversation: Conversation) -> int:
    """The number of the first message that is not the system's."""
    roles = (message["role"] for message in conversation.messages)
    return next(number for number, role in enumerate(roles) if role != "system")


def _without(conversation: Conversation, start: int, stop: int) -> Conversation:
    """The conversation without its messages from one number up to another."""
    messages, learned = conversation.messages, conversation.learned_from
    return replace(
        conversation,
        messages=(*messages[:start], *messages[stop:]),
        learned_from=learned if learned < start else max(start, learned - stop + start),
    )


def _fitted(
    template: ChatTemplate,
    conversation: Conversation,
    tokens: TokenizedConversation,
    roles: Collection[str],
    *,
    least: int,
    room: int,
) -> TokenizedConversation | None:
    """The conversation with shorter messages of some roles, so that it fits; None if it cannot."""
    while (excess := _excess(tokens, room)) > 0:
        # Of the letters around it, a shorter text may have other tokens: it is measured again.
        shorter = _with_shorter(template, conversation, roles, least=least, excess=excess)
        if shorter is None:
            return None
        conversation, tokens = shorter, _tokenized(template, shorter)
    return tokens


def _with_shorter(
    template: ChatTemplate,
    conversation: Conversation,
    roles: Collection[str],
    *,
    least: int,
    excess: int,
) -> Conversation | None:
    """The conversation with so many tokens less, which its longest messages lose at their beginning.

    None where these would be left with fewer than ``least`` tokens.
    """
    numbers = _numbers(conversation, roles)
    lengths = _lengths(template, conversation, numbers)

    def falls_short(most: int) -> bool:
        return sum(max(0, length - most) for length in lengths) < excess

    most = bisect_left(range(max(lengths, default=0)), True, key=falls_short) - 1
    if most < least:
        return None
    messages = list(conversation.messages)
    plain = plain_tokenizer(template.tokenizer)
    for number, length in zip(numbers, lengths, strict=True):
        if length > most:
            text = messages[number]["content"]
            places = plain.encode(text, add_special_tokens=False).offsets
            # Behind the letter that the last token left out ends with: the text is never the same.
            kept = text[max(1, places[-most - 1][1]) :]
            if not kept.strip():
                return None
            messages[number] = {**messages[number], "content": kept}
    return replace(conversation, messages=tuple(messages))


def _numbers(conversation: Conversation, roles: Collection[str]) -> list[int]:
    """The numbers of the messages of some roles."""
    return [n for n, message in enumerate(conversation.messages) if message["role"] in roles]


def _lengths(template: ChatTemplate, conversation: Conversation, numbers: list[int]) -> list[int]:
    """How many tokens the contents of messages have."""
    contents = [conversation.messages[number]["content"] for number in numbers]
    found = plain_tokenizer(template.tokenizer).encode_batch(contents, add_special_tokens=False)
    return [len(one.ids) for one in found]
