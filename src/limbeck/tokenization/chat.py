"""Prompts in a tokenizer's chat template, up to the place where the answer begins."""

from transformers import PreTrainedTokenizerFast

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


def as_said(tokenizer: PreTrainedTokenizerFast, text: str) -> str:
    """A prompt in the chat template, with special tokens as text.

    Raises:
        DataError: There is no template, or it fails for this prompt.
    """
    return _rendered(tokenizer, [{"role": "user", "content": text}], generate=True)


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
    _, found, after = _rendered(tokenizer, messages, generate=False).rpartition(_SOMETHING)
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


def _rendered(
    tokenizer: PreTrainedTokenizerFast, messages: list[dict[str, str]], *, generate: bool
) -> str:
    if not tokenizer.chat_template:
        raise DataError(
            f"the tokenizer {tokenizer.name_or_path!r} has no chat template; name one that has, or"
            " leave `chat_template` out"
        )
    try:
        said = tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=generate,
            chat_template=_ONE_DAY + tokenizer.get_chat_template(),
        )
    except Exception as error:  # a template can raise anything
        raise DataError(
            f"the chat template of {tokenizer.name_or_path!r} fails for"
            f" {messages[-1]['content']!r:.60}: {error}; correct the template, or leave"
            " `chat_template` out"
        ) from error
    return str(said)


def before_words(tokenizer: PreTrainedTokenizerFast) -> str:
    """The text that the template puts before the message of a user.

    Raises:
        DataError: As for `as_said`, or the template drops the message.
    """
    said = as_said(tokenizer, _SOMETHING)
    before, found, _ = said.partition(_SOMETHING)
    if not found:
        raise DataError(
            f"the chat template of {tokenizer.name_or_path!r} drops the message of the user; name"
            " another tokenizer, or leave `chat_template` out"
        )
    return before
