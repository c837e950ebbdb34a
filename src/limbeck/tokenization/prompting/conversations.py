"""Conversations as tokens: what is read before the last answer, and which of it is learned too.

The whole text is tokenized at once, as transformers does it, and a token that lies partly in an
answer belongs to it. Only the last answer begins with a token of its own, as it does when it is
generated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool
from numpy import ndarray
from tokenizers import Encoding

from ...data.chats import Conversation
from ..chat import answer_end
from ..plain_text import marked, plain_tokenizer
from ..text_bytes import TokenizedText, token_bytes, tokenize_texts
from .answers import ChatTemplate, RenderedConversation

Learned = Bool[ndarray, "..."]


@dataclass(frozen=True)
class TokenizedConversation:
    """A conversation as tokens.

    Attributes:
        prompt: All before the last answer, up to the place where it is generated.
        learned: True at the tokens of the prompt that belong to earlier answers.
        response: The last answer, with its end.
        rendered: As what it was rendered.
    """

    prompt: TokenizedText
    learned: Learned
    response: TokenizedText
    rendered: RenderedConversation


@dataclass(frozen=True)
class ChatCounts:
    """What is counted in conversations.

    Attributes:
        conversations: Their number.
        answers: Answers that are learned; those that a truncated prompt has lost are not counted.
        last_only: Conversations of which only the last answer is learned, because the chat
            template writes earlier ones otherwise.
        left_out: Messages before the first question and after the last learned answer, which are
            left out.
        as_text: Tool calls and tools that are written as text, as the template knows none.
    """

    conversations: int = 0
    answers: int = 0
    last_only: int = 0
    left_out: int = 0
    as_text: int = 0

    def and_one(self, conversation: Conversation, said: RenderedConversation) -> "ChatCounts":
        """The counts with another conversation."""
        return ChatCounts(
            self.conversations + 1,
            self.answers + len(said.earlier) + 1,
            self.last_only + said.rewritten,
            self.left_out + conversation.left_out,
            self.as_text + said.as_text,
        )


def tokenize_conversations(
    template: ChatTemplate, conversations: Sequence[Conversation]
) -> list[TokenizedConversation]:
    """Conversations as tokens.

    Raises:
        DataError: As `ChatTemplate.render`.
    """
    said = [template.render(one) for one in conversations]
    parts = [_parts(template, one) for one in said]
    texts = ["".join(some) for one in parts for some in (one[:-1], one)]
    plain = plain_tokenizer(template.tokenizer)
    tokens = iter(plain.encode_batch(texts, add_special_tokens=False))
    return [
        _tokenized(template, one, some, next(tokens), next(tokens))
        for one, some in zip(said, parts, strict=True)
    ]


def _parts(template: ChatTemplate, said: RenderedConversation) -> list[str]:
    """The text divided where answers that are learned begin and end, special tokens marked."""
    places = [place for span in said.earlier for place in span]
    borders = [0, *places, said.start, len(said.text)]
    return [marked(template.tokenizer, said.text[start:end]) for start, end in pairwise(borders)]


def _tokenized(
    template: ChatTemplate,
    said: RenderedConversation,
    parts: Sequence[str],
    asked: Encoding,
    together: Encoding,
) -> TokenizedConversation:
    """A conversation of the tokens of all before its last answer, and of the whole."""
    before, whole = "".join(parts[:-1]), "".join(parts)
    sizes = token_bytes(before, asked, spaces=True)
    prompt = TokenizedText(np.array(asked.ids, dtype=np.int64), sizes)
    if together.ids[: len(asked.ids)] == asked.ids:
        sizes = token_bytes(whole, together, spaces=True)[len(asked.ids) :]
        response = TokenizedText(np.array(together.ids[len(asked.ids) :], dtype=np.int64), sizes)
    else:  # a token would lie across the place where the answer begins
        [response] = tokenize_texts(template.tokenizer, parts[-1:])
    if template.end is None or not said.text.endswith(template.end):
        last = np.array([answer_end(template.tokenizer, chat=True)])
        response = TokenizedText(last, np.array([0])).after(response)
    learned = np.zeros(len(asked.ids), dtype=np.bool_)
    offsets = np.array(asked.offsets, dtype=np.int64).reshape(-1, 2)
    ends = np.cumsum([len(part) for part in parts[:-1]]).tolist()
    for start, end in zip(ends[0:-1:2], ends[1::2], strict=True):  # every second part is an answer
        learned |= (offsets[:, 0] < end) & (offsets[:, 1] > start)
    return TokenizedConversation(prompt, learned, response, said)
