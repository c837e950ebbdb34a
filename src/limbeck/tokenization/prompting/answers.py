"""Where the answers of a conversation are in a chat template.

Which letters the assistant says is found exactly. Where the template marks them
({% generation %}), they are what it marks. Otherwise a conversation is rendered up to each answer
and with it: the answer is what the second text has more than the first, and it must stand in the
same way in the whole. Templates that write earlier answers otherwise than the last one, e.g.
without its thinking, leave the last one to be learned.

Source: {% generation %} and masks of assistant tokens, the chat templates of transformers.
"""

import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any, NamedTuple, TypeVar

from transformers import PreTrainedTokenizerFast

from ...data.chats import Conversation
from ...data.messages import Message, with_text_arguments
from ...errors import DataError
from ..chat import (
    after_answer,
    rendered,
    rendered_with_marks,
    template_of,
    turn_end,
)
from ..plain_text import disguised

Span = tuple[int, int]
Said = TypeVar("Said")


class RenderedConversation(NamedTuple):
    """A conversation in a chat template, with special tokens that messages spell disguised.

    Attributes:
        text: Up to the end of the last answer.
        earlier: Where earlier answers that are learned begin and end, in letters.
        start: Where the last answer begins.
        rewritten: Whether earlier answers stand otherwise in it, so that only the last is learned.
        as_text: Number of tool calls and tools that were written as text.
    """

    text: str
    earlier: list[Span]
    start: int
    rewritten: bool
    as_text: int


@dataclass(frozen=True)
class ChatTemplate:
    """The chat template of a tokenizer, for conversations.

    Attributes:
        tokenizer: That has it.
        end: The token with which the template ends an answer, as text; None where it has none.
        after: The text that it puts after an answer.
    """

    tokenizer: PreTrainedTokenizerFast
    end: str | None
    after: str
    _shown: set[object] = field(default_factory=set)  # shapes of which every message is shown

    @staticmethod
    def of(tokenizer: PreTrainedTokenizerFast) -> "ChatTemplate":
        """The template of a tokenizer.

        Raises:
            DataError: It has none, or one that takes no answer.
        """
        end, after = turn_end(tokenizer), after_answer(tokenizer)
        name = None if end is None else str(tokenizer.convert_ids_to_tokens(end))
        return ChatTemplate(tokenizer, name, after)

    def render(self, conversation: Conversation) -> RenderedConversation:
        """A conversation in the template, and where its answers are.

        Raises:
            DataError: The template fails for it, drops a message, or writes its last answer so
                that it cannot be found.
        """
        return self._taken(conversation, self._rendered)

    def asked(self, conversation: Conversation) -> str:
        """The text of a conversation up to the place where its last answer is generated.

        Raises:
            DataError: The template fails for it.
        """
        return self._taken(conversation, self._asked)

    def _taken(self, conversation: Conversation, said: Callable[[Conversation], Said]) -> Said:
        """What is said of a conversation, whose calls have their arguments as the template can."""
        try:
            return said(conversation)
        except DataError as error:
            # A few templates put the arguments of calls into the text as they are.
            if any(message.get("tool_calls") for message in conversation.messages):
                texts = tuple(map(with_text_arguments, conversation.messages))
                with suppress(DataError):
                    return said(replace(conversation, messages=texts))
            where = f"{conversation.place}: " if conversation.place else ""
            raise DataError(f"{where}{error}") from error

    def _asked(self, conversation: Conversation) -> str:
        found, _ = self._readable(conversation)
        return rendered(self.tokenizer, found.messages[:-1], generate=True, tools=found.tools)

    def _rendered(self, conversation: Conversation) -> RenderedConversation:
        found, as_text = self._readable(conversation)
        whole, marks = rendered_with_marks(self.tokenizer, found.messages, tools=found.tools)
        self._check_shown(found)
        if marks:
            return self._marked(found, whole, marks)._replace(as_text=as_text)
        return self._by_beginnings(found, whole)._replace(as_text=as_text)

    def _by_beginnings(self, said: Conversation, whole: str) -> RenderedConversation:
        """Answers found by rendering the conversation up to each of them, and with it."""
        *earlier, last = said.answers
        start, end = self._answer(said, last, whole)
        spans = []
        for number in earlier:
            shown = rendered(
                self.tokenizer, said.messages[: number + 1], generate=False, tools=said.tools
            )
            try:
                span = self._answer(said, number, shown)
            except DataError:
                break
            if not whole.startswith(shown[: span[1]]):
                break
            spans.append(span)
        rewritten = len(spans) < len(earlier)
        return RenderedConversation(whole[:end], [] if rewritten else spans, start, rewritten, 0)

    def _answer(self, said: Conversation, number: int, shown: str) -> Span:
        """Where the last answer of a text begins and ends."""
        asked = rendered(self.tokenizer, said.messages[:number], generate=True, tools=said.tools)
        if not shown.startswith(asked):
            opened = asked[_alike(asked, shown) :]
            raise DataError(
                f"the chat template of {self._name} has {opened!r:.60} where an answer is to be"
                " generated, and not where one is given, so the answer is not found; mark it in"
                " the template ({% generation %}), or give rows of prompt and response"
            )
        return len(asked), self._end(shown, len(asked), len(shown))

    def _end(self, text: str, start: int, stop: int) -> int:
        """Where an answer ends that the template has between two places: after its end token."""
        if self.end is not None:
            # What ends the whole may be the same token once more.
            if self.after and text.endswith(self.after, start, stop):
                return stop - len(self.after) + self.after.index(self.end) + len(self.end)
            if (found := text.rfind(self.end, start, stop)) >= 0:
                return found + len(self.end)
            if text.startswith(self.end, stop):
                return stop + len(self.end)
        return start + len(text[start:stop].removesuffix(self.after))

    def _marked(self, said: Conversation, whole: str, marks: list[Span]) -> RenderedConversation:
        """Answers as the template marks them."""
        last = said.answers[-1]
        answer = said.messages[last]["content"]
        # Its last word alone: a template may write thinking and answer otherwise.
        if "".join(answer.split()[-1:]) not in whole[marks[-1][0] : marks[-1][1]]:
            raise DataError(
                f"the chat template of {self._name} does not mark the last answer"
                f" ({answer!r:.60}) as generated; correct its {{% generation %}}"
            )
        spans = [(start, self._end(whole, start, stop)) for start, stop in marks]
        if given := [n for n in _said_by_assistant(said) if n not in said.answers]:
            begins = self._beginnings(said, whole)
            if begins is None:
                return RenderedConversation(whole[: spans[-1][1]], [], spans[-1][0], True, 0)
            spans = [span for span in spans if _answer_at(span, begins) not in given]
        return RenderedConversation(whole[: spans[-1][1]], spans[:-1], spans[-1][0], False, 0)

    def _beginnings(self, said: Conversation, whole: str) -> dict[int, int] | None:
        """Where each answer begins; None where the template writes earlier messages otherwise."""
        found = {}
        for number in _said_by_assistant(said):
            asked = said.messages[:number]
            shown = rendered(self.tokenizer, asked, generate=True, tools=said.tools)
            if not whole.startswith(shown):
                return None
            found[number] = len(shown)
        return found

    def _readable(self, said: Conversation) -> tuple[Conversation, int]:
        """The conversation as the template can read it, and what of tools has become text."""
        count, messages, tools = 0, list(said.messages), said.tools
        template = template_of(self.tokenizer, tools=bool(tools))
        for number, message in enumerate(messages):
            if (calls := message.get("tool_calls")) and "tool_calls" not in template:
                rest = {key: value for key, value in message.items() if key != "tool_calls"}
                count += len(calls)
                messages[number] = {**rest, "content": _lines(message["content"], calls)}
        begins = messages[0]["role"] == "system"
        if tools and not re.search(r"\btools\b", template):
            own = messages[0]["content"] if begins else ""
            system = {"role": "system", "content": _lines(own, tools)}
            messages[: int(begins)] = [system]
            count, tools = count + len(tools), ()
        shifted = tuple(n + len(messages) - len(said.messages) for n in said.answers)

        def disguise(text: str) -> str:
            return disguised(self.tokenizer, text)

        plain = tuple({**_each_text(m, disguise), "role": m["role"]} for m in messages)
        tools = tuple(_each_text(tool, disguise) for tool in tools)
        return replace(said, messages=plain, tools=tools, answers=shifted), count

    def _check_shown(self, said: Conversation) -> None:
        """See that the template drops no message; tried once for messages of the same roles."""
        shape = tuple(
            (m["role"], bool(m["content"]), bool(m.get("tool_calls"))) for m in said.messages
        )
        if (shape, bool(said.tools)) in self._shown:
            return
        tried: list[Message] = [
            {**message, "content": f"limbeck{number}x" if message["content"] else ""}
            for number, message in enumerate(said.messages)
        ]
        text = rendered(self.tokenizer, tried, generate=False, tools=said.tools)
        for message, given in zip(tried, said.messages, strict=True):
            if message["content"] not in text:
                raise DataError(
                    f"the chat template of {self._name} drops a message of the role"
                    f" {message['role']} ({given['content']!r:.60}); name a tokenizer whose"
                    " template shows it, or leave such messages out"
                )
        self._shown.add((shape, bool(said.tools)))

    @property
    def _name(self) -> str:
        return repr(self.tokenizer.name_or_path)


def _said_by_assistant(said: Conversation) -> list[int]:
    """The numbers of all messages of the assistant, learned or not."""
    return [n for n, message in enumerate(said.messages) if message["role"] == "assistant"]


def _answer_at(span: Span, begins: dict[int, int]) -> int:
    """The number of the answer to which a marked part belongs."""
    return max((n for n, start in begins.items() if start <= span[0]), default=-1)


def _alike(one: str, other: str) -> int:
    """How many letters two texts begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _lines(text: str, items: Sequence[Any]) -> str:
    """A text, and JSON values on lines of their own."""
    return "\n".join([*filter(None, [text]), *(json.dumps(i, ensure_ascii=False) for i in items)])


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    """JSON with all its texts changed, but not its keys."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _each_text(item, change) for key, item in value.items()}
    return [_each_text(item, change) for item in value] if isinstance(value, list) else value
