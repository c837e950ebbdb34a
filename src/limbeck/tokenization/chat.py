"""Prompts in a tokenizer's chat template, up to the place where the answer begins."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

from ..errors import DataError
from .plain_text import disguised, marked
from .text_bytes import TokenizedText, tokenize_texts

# Templates that print the date would give other prompts every day. The macro is put before the
# template, because transformers does not pass functions to templates.
_ONE_DAY = (
    "{% macro strftime_now(form) %}"
    "{% if form == '%Y-%m-%d' %}2024-07-26{% else %}26 Jul 2024{% endif %}"
    "{% endmacro %}"
)
_SOMETHING = "limbeck"  # a message that shows where a template puts the text of a user
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")  # begins what the assistant says

Messages = Sequence[Mapping[str, Any]]


def as_said(tokenizer: PreTrainedTokenizerFast, text: str) -> str:
    """A prompt in the chat template, with special tokens as text.

    Raises:
        DataError: There is no template, or it fails for this prompt.
    """
    return rendered(tokenizer, [{"role": "user", "content": text}], generate=True)


def tokenize_said(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[TokenizedText]:
    """Tokenized prompts in the chat template; special tokens spelled in a prompt are plain text.

    Raises:
        DataError: As for `as_said`.
    """
    said = [as_said(tokenizer, disguised(tokenizer, text)) for text in texts]
    return tokenize_texts(tokenizer, [marked(tokenizer, text) for text in said])


def after_answer(tokenizer: PreTrainedTokenizerFast) -> str:
    """The text that the template puts after an answer; empty where it drops the answer.

    Raises:
        DataError: As for `as_said`.
    """
    turns = [("user", "?"), ("assistant", _SOMETHING)]
    messages = [{"role": role, "content": content} for role, content in turns]
    _, found, after = rendered(tokenizer, messages, generate=False).rpartition(_SOMETHING)
    return after if found else ""


def turn_end(tokenizer: PreTrainedTokenizerFast) -> int | None:
    """The token with which the template ends an answer, e.g. <|im_end|>.

    None if there is no template, if it accepts no answer, or if ordinary text follows the answer.
    """
    if not tokenizer.chat_template:
        return None
    try:
        after = after_answer(tokenizer).strip()
    except DataError:
        return None
    added = {token.content: number for number, token in tokenizer.added_tokens_decoder.items()}
    first = max((token for token in added if after.startswith(token)), key=len, default=None)
    return None if first is None else added[first]


def answer_end(tokenizer: PreTrainedTokenizerFast, *, chat: bool) -> int | None:
    """The token that ends an answer in training: the end of a turn, or the end of a text.

    Args:
        tokenizer: The tokenizer of a decoder.
        chat: Prompts are put into the tokenizer's chat template.
    """
    end: int | None = tokenizer.eos_token_id
    turn = turn_end(tokenizer) if chat else None
    return end if turn is None else turn


def template_of(tokenizer: PreTrainedTokenizerFast, *, tools: bool = False) -> str:
    """The chat template; of several that which is for tools, if there are some.

    Raises:
        DataError: There is none, or of several none is named for this.
    """
    if not tokenizer.chat_template:
        raise DataError(
            f"the tokenizer {tokenizer.name_or_path!r} has no chat template; name one that has"
            " (chat_template.jinja beside its tokenizer.json), or leave `chat_template` out and"
            " give rows of prompt and response"
        )
    try:
        return str(tokenizer.get_chat_template(tools=[{}] if tools else None))
    except ValueError as error:
        raise DataError(
            f"the tokenizer {tokenizer.name_or_path!r} has the chat templates"
            f" {', '.join(tokenizer.chat_template)}, and none of them is called `default`; keep one"
            " as chat_template.jinja beside its tokenizer.json"
        ) from error


def rendered(
    tokenizer: PreTrainedTokenizerFast, messages: Messages, *, generate: bool, tools: Any = ()
) -> str:
    """Messages in the chat template.

    Args:
        tokenizer: Has the template.
        messages: At least one.
        generate: Up to the place where an answer begins.
        tools: Descriptions of tools.

    Raises:
        DataError: There is no template, or it fails for these messages.
    """
    template = template_of(tokenizer, tools=bool(tools))
    try:
        said = tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            tools=list(tools) or None,
            tokenize=False,
            add_generation_prompt=generate,
            chat_template=_ONE_DAY + template,
        )
    except Exception as error:  # a template can raise anything
        raise _failed(tokenizer, messages, error) from error
    return str(said)


def rendered_with_marks(
    tokenizer: PreTrainedTokenizerFast, messages: Messages, *, tools: Any = ()
) -> tuple[str, list[tuple[int, int]]]:
    """Messages in the chat template, and what it marks as said by the assistant.

    Returns:
        The text; and start and end of each part of it within {% generation %}, in letters: none
        where the template has no such marks. Marks without a letter between them are one part, as
        some templates mark an answer and its end separately.

    Raises:
        DataError: As for `rendered`.
    """
    template = template_of(tokenizer, tools=bool(tools))
    if not _GENERATION.search(template):
        return rendered(tokenizer, messages, generate=False, tools=tools), []
    names: dict[str, Any] = dict(tokenizer.special_tokens_map)
    try:
        # apply_chat_template gives the marks in tokens only, and of text as it tokenizes it.
        found: Any = render_jinja_template(  # a pair, whatever its annotation says
            conversations=[[dict(message) for message in messages]],
            tools=list(tools) or None,
            chat_template=_ONE_DAY + template,
            return_assistant_tokens_mask=True,
            add_generation_prompt=False,
            **names,
        )
    except Exception as error:  # as above
        raise _failed(tokenizer, messages, error) from error
    [text], [marks] = found
    parts: list[tuple[int, int]] = []
    for start, end in marks:
        begun = parts.pop()[0] if parts and parts[-1][1] == start else start
        parts += [(begun, end)] if begun < end else []
    return str(text), parts


def _failed(tokenizer: PreTrainedTokenizerFast, messages: Messages, error: Exception) -> DataError:
    return DataError(
        f"the chat template of {tokenizer.name_or_path!r} fails for"
        f" {messages[-1]['content']!r:.60}: {error}; correct the template, or leave"
        " `chat_template` out"
    )


def before_words(tokenizer: PreTrainedTokenizerFast) -> str:
    """The text that the template puts before the message of a user.

    Raises:
        DataError: As for `rendered`, or the template drops the message.
    """
    before, found, _ = as_said(tokenizer, _SOMETHING).rpartition(_SOMETHING)
    if not found:
        raise DataError(
            f"the chat template of {tokenizer.name_or_path!r} drops the message of the user; name"
            " another tokenizer, or leave `chat_template` out"
        )
    return before
