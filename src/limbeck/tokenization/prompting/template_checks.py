"""What a chat template makes of conversations, seen before anything starts."""

from collections import Counter
from collections.abc import Iterable

from transformers import PreTrainedTokenizerFast

from ...data.chats import Conversation
from ..chat import rendered
from .answers import ChatTemplate

_MARK = "limbeck0x"


def check_conversations(
    tokenizer: PreTrainedTokenizerFast, conversations: Iterable[Conversation]
) -> None:
    """See that the chat template takes conversations: one for each sequence of roles.

    Raises:
        DataError: There is no template, or it does not.
    """
    shapes: dict[object, Conversation] = {}
    for one in conversations:
        said = ((message["role"], *sorted(message)) for message in one.messages)
        shapes.setdefault((bool(one.tools), *said), one)
    if shapes:
        template = ChatTemplate.of(tokenizer)
        for one in shapes.values():
            template.render(one)


def unshown_fields(
    tokenizer: PreTrainedTokenizerFast, conversations: Iterable[Conversation]
) -> Counter[str]:
    """Texts of messages beside their content that the chat template does not write, counted.

    Args:
        tokenizer: With a template that takes the conversations.
        conversations: In which a message may have more than a role, a content and calls of tools,
            as `reasoning_content`.
    """
    shown: dict[str, bool] = {}
    found: Counter[str] = Counter()
    for one in conversations:
        given = {
            name
            for message in one.messages
            for name, value in message.items()
            if name not in ("role", "content", "tool_calls")
            and isinstance(value, str)
            and value.strip()
        }
        for name in given:
            if name not in shown:
                tried = [{**m, name: _MARK} if name in m else m for m in one.messages]
                text = rendered(tokenizer, tried, generate=False, tools=one.tools)
                shown[name] = _MARK in text
            found[name] += not shown[name]
    return +found
