"""The tokens of what a model puts around the texts that it reads: prompts, and a chat template.

A vocabulary that is trimmed to other texts keeps them: without them the model would read its own
words in other tokens than it has learned.
"""

from collections.abc import Iterator, Sequence

from transformers import PreTrainedTokenizerFast

from ..errors import DataError
from .chat import rendered
from .plain_text import marked, plain_tokenizer

# Of these a template may say other things around a message, as a system prompt of its own.
_CONVERSATIONS = (("user",), ("system", "user"), ("user", "assistant", "user", "assistant"))


def tokens_around(tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str] = ()) -> set[str]:
    """The tokens of prompts and of what the chat template, if there is one, puts around messages.

    Args:
        tokenizer: Of the model.
        prompts: Texts that the model puts before an input.
    """
    texts = [marked(tokenizer, text) for text in (*prompts, *_template_texts(tokenizer))]
    found = plain_tokenizer(tokenizer).encode_batch(texts, add_special_tokens=False)
    numbers = {number for text in found for number in text.ids}
    return {token for token, number in tokenizer.get_vocab().items() if number in numbers}


def _template_texts(tokenizer: PreTrainedTokenizerFast) -> Iterator[str]:
    """Conversations in the chat template, with next to nothing in their messages."""
    for roles in _CONVERSATIONS if tokenizer.chat_template else ():
        messages = [{"role": role, "content": "?"} for role in roles]
        for generate in (True, False):
            try:
                yield rendered(tokenizer, messages, generate=generate)
            except DataError:  # some templates have no system prompt
                continue
