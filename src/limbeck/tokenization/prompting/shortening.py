"""Conversations that are too long: without their oldest messages, or with shorter ones.

A message is shortened within its own turn, so that nobody's words stand in the turn of another.
"""

from bisect import bisect_left
from collections.abc import Collection
from dataclasses import replace

from ...data.chats import Conversation
from ...errors import DataError
from ..plain_text import marked, plain_tokenizer
from .answers import ChatTemplate
from .conversations import TokenizedConversation, tokenize_conversations

_ASKS = ("tool", "user")  # their messages may lose their beginning, and no answer does
_PART_KEPT = 16  # a shortened message keeps this part of the room, while others can be dropped


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
    fits = bisect_left(later, True, key=lambda one: _size(template, one) <= room)
    if fits < len(later) and (found := _fitted(template, later[fits], (), least=1, room=room)):
        return found
    least = room // _PART_KEPT
    some = _with_fewer_answers(later[-1] if later else conversation)
    fits = bisect_left(some, True, key=lambda one: _least_size(template, one, least) <= room)
    for one in some[fits:]:
        for roles in (_ASKS[:1], _ASKS):
            if found := _fitted(template, one, roles, least=least, room=room):
                return found
    if found := _fitted(template, some[-1], _ASKS, least=1, room=room):
        return found
    raise DataError(
        f"{conversation.place}: template, system and tools take"
        f" {_least_size(template, some[-1], 0)} tokens, and a prompt may have {room}; make"
        " `max_length` larger, or `max_new_tokens` smaller"
    )


def _size(template: ChatTemplate, conversation: Conversation) -> int:
    """Tokens of the prompt."""
    text = marked(template.tokenizer, template.asked(conversation))
    return len(plain_tokenizer(template.tokenizer).encode(text, add_special_tokens=False).ids)


def _least_size(template: ChatTemplate, conversation: Conversation, least: int) -> int:
    """Tokens of the prompt, about, whose messages have been shortened to so many tokens each."""
    lengths = _lengths(template, conversation, _numbers(conversation, _ASKS))
    return _size(template, conversation) - sum(max(0, length - least) for length in lengths)


def _later_beginnings(conversation: Conversation) -> list[Conversation]:
    """The conversation from each of its questions on but the first, with the system."""
    first = _first(conversation)
    roles = [message["role"] for message in conversation.messages]
    asked = [number for number, role in enumerate(roles) if role == "user" and number > first]
    return [_without(conversation, first, number) for number in asked]


def _with_fewer_answers(conversation: Conversation) -> list[Conversation]:
    """The conversation; then without its oldest answers to the question, until the last is left."""
    behind = _first(conversation) + 1
    roles = [message["role"] for message in conversation.messages]
    answers = [n for n, role in enumerate(roles) if role == "assistant" and n >= behind]
    return [conversation, *(_without(conversation, behind, number) for number in answers[1:])]


def _first(conversation: Conversation) -> int:
    """The number of the first message that is not the system's."""
    roles = (message["role"] for message in conversation.messages)
    return next(number for number, role in enumerate(roles) if role != "system")


def _without(conversation: Conversation, start: int, stop: int) -> Conversation:
    """The conversation without its messages from one number up to another."""
    messages, fewer = conversation.messages, stop - start
    left = (n for n in conversation.answers if not start <= n < stop)
    return replace(
        conversation,
        messages=(*messages[:start], *messages[stop:]),
        answers=tuple(n if n < start else n - fewer for n in left),
    )


def _fitted(
    template: ChatTemplate,
    conversation: Conversation,
    roles: Collection[str],
    *,
    least: int,
    room: int,
) -> TokenizedConversation | None:
    """The conversation with shorter messages of some roles, so that it fits; None if it cannot."""
    while True:
        # Beside other letters a text may have other tokens, so it is measured each time.
        if (excess := _size(template, conversation) - room) <= 0:
            [tokens] = tokenize_conversations(template, [conversation])
            if (excess := len(tokens.prompt.ids) - room) <= 0:
                return tokens
        shorter = _with_shorter(template, conversation, roles, least=least, excess=excess)
        if shorter is None:
            return None
        conversation = shorter


def _with_shorter(
    template: ChatTemplate,
    conversation: Conversation,
    roles: Collection[str],
    *,
    least: int,
    excess: int,
) -> Conversation | None:
    """The conversation without so many tokens, which the longest messages lose at their beginning.

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
