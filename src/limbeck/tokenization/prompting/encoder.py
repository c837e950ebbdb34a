"""Prompts and conversations as tokens, each with room for its response."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerFast

from ...data.chats import Conversation
from ...data.prompts import Prompt
from ...errors import DataError
from ..chat import answer_end, before_words, tokenize_said
from ..frame import frame_of
from ..plain_text import marked
from ..text_bytes import TokenizedText, tokenize_texts
from .answers import ChatTemplate, RenderedConversation
from .conversations import Learned, tokenize_conversations
from .shortening import shortened


class EncodedPrompt(NamedTuple):
    """A prompt that leaves room for its response, and the whole response.

    Attributes:
        prompt: Without its beginning if it was too long; of a conversation, as `shortened` says.
        response: With its end.
        learned: True at the tokens of the prompt that are learned.
        shortened: Whether the prompt was too long.
        rendered: Of a conversation, as what it was rendered.
    """

    prompt: TokenizedText
    response: TokenizedText
    learned: Learned
    shortened: bool
    rendered: RenderedConversation | None = None


@dataclass(frozen=True)
class PromptEncoder:
    """Tokenizes prompts; its attributes are arguments of `encode_prompts`."""

    tokenizer: PreTrainedTokenizerFast
    max_length: int
    max_new_tokens: int
    separator: str
    chat_template: bool
    generated: bool

    def encoded(self, rows: Sequence[Prompt]) -> Iterator[EncodedPrompt]:
        """The rows as tokens, in their order."""
        plain = self._plain([row for row in rows if row.conversation is None])
        chats = self._conversations([row.conversation for row in rows if row.conversation])
        for row in rows:
            yield next(chats if row.conversation else plain)

    def check_room(self) -> None:
        """Refuse lengths that leave no room for a prompt."""
        if self._room > (least := self._beginning[1]):
            return
        of_template = f" beside the {least} of the chat template" if self.chat_template else ""
        raise DataError(
            f"responses of {self.max_new_tokens} tokens leave no room for a prompt in"
            f" {self.max_length}{of_template}; make `max_new_tokens` smaller, or `max_length`"
            " larger"
        )

    def _plain(self, rows: Sequence[Prompt]) -> Iterator[EncodedPrompt]:
        begin, _ = self._beginning
        end = answer_end(self.tokenizer, chat=self.chat_template)
        ended = TokenizedText(np.array([end]), np.array([0]))
        if self.chat_template:
            asked = tokenize_said(self.tokenizer, [row.text for row in rows])
        else:
            mark = marked(self.tokenizer, self.separator)  # by the user, so it may be special
            texts = [row.text and row.text + mark for row in rows]
            asked = [prompt.after(begin) for prompt in tokenize_texts(self.tokenizer, texts)]
        answers = tokenize_texts(self.tokenizer, [row.references[0] for row in rows])
        for prompt, answer in zip(asked, answers, strict=True):
            too_long = len(prompt.ids) > self._room
            kept = prompt.after(begin, room=self._room) if too_long else prompt
            nothing = np.zeros(len(kept.ids), dtype=np.bool_)
            yield EncodedPrompt(kept, ended.after(answer), nothing, too_long)

    def _conversations(self, conversations: Sequence[Conversation]) -> Iterator[EncodedPrompt]:
        if not conversations:
            return
        if not self.chat_template:
            raise DataError(
                f"{conversations[0].place} is a conversation, which needs a chat template; say"
                " `chat_template: true`, or give rows of prompt and response"
            )
        found = tokenize_conversations(self._template, conversations)
        for conversation, tokens in zip(conversations, found, strict=True):
            room = self._room
            if not self.generated:
                room = self.max_length - min(len(tokens.response.ids), self.max_new_tokens)
            if too_long := len(tokens.prompt.ids) > room:
                tokens = shortened(self._template, conversation, room=room)
            yield EncodedPrompt(
                tokens.prompt, tokens.response, tokens.learned, too_long, tokens.rendered
            )

    @property
    def _room(self) -> int:
        return self.max_length - self.max_new_tokens

    @cached_property
    def _template(self) -> ChatTemplate:
        return ChatTemplate.of(self.tokenizer)

    @cached_property
    def _beginning(self) -> tuple[TokenizedText, int]:
        """The tokens that begin a prompt, and the number of tokens of an empty prompt."""
        if self.chat_template:
            before = marked(self.tokenizer, before_words(self.tokenizer))
            [begin] = tokenize_texts(self.tokenizer, [before])
            [empty] = tokenize_said(self.tokenizer, [""])
            return begin, len(empty.ids)
        first = frame_of(self.tokenizer).begin
        return TokenizedText(np.array(first), np.zeros(len(first), dtype=np.int64)), len(first)
