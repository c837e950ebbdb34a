"""Prompts in a tokenizer's chat template: what a user says, up to where the answer begins."""

from transformers import PreTrainedTokenizerFast

from ..errors import DataError
from .plain_text import disguised, marked
from .text_bytes import TokenizedText, tokenize_texts

# Templates that write the day's date would give other prompts every day. It stands before them,
# for transformers hands no function over to a template.
_ONE_DAY = (
    "{% macro strftime_now(form) %}"
    "{% if form == '%Y-%m-%d' %}2024-07-26{% else %}26 Jul 2024{% endif %}"
    "{% endmacro %}"
)
_SOMETHING = "limbeck"  # said by a user, to see where a template puts it


def as_said(tokenizer: PreTrainedTokenizerFast, text: str) -> str:
    """A prompt in the template, special tokens written out.

    Raises:
        DataError: There is no template, or it cannot put this prompt.
    """
    return _rendered(tokenizer, [{"role": "user", "content": text}], asks=True)


def tokenize_said(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[TokenizedText]:
    """Prompts in the template as tokens; special tokens that a prompt spells are ordinary text.

    Raises:
        DataError: As for `as_said`.
    """
    said = [as_said(tokenizer, disguised(tokenizer, text)) for text in texts]
    return tokenize_texts(tokenizer, [marked(tokenizer, text) for text in said])


def after_answer(tokenizer: PreTrainedTokenizerFast) -> str:
    """What the template puts behind an answer; nothing where it leaves the answer out.

    Raises:
        DataError: As for `as_said`.
    """
    turns = [("user", "?"), ("assistant", _SOMETHING)]
    messages = [{"role": role, "content": content} for role, content in turns]
    _, found, after = _rendered(tokenizer, messages, asks=False).rpartition(_SOMETHING)
    return after if found else ""


def turn_end(tokenizer: PreTrainedTokenizerFast) -> int | None:
    """The token with which the template ends an answer, as <|im_end|>.

    None without a template, and where it takes no answer or puts ordinary text behind it.
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
    """The token with which an answer is learned to end: that of the turn, or that of a text.

    Args:
        tokenizer: A decoder's.
        chat: Prompts stand in the tokenizer's chat template.
    """
    end: int | None = tokenizer.eos_token_id
    turn = turn_end(tokenizer) if chat else None
    return end if turn is None else turn


def _rendered(
    tokenizer: PreTrainedTokenizerFast, messages: list[dict[str, str]], *, asks: bool
) -> str:
    if not tokenizer.chat_template:
        raise DataError(
            f"the tokenizer {tokenizer.name_or_path!r} has no chat template; name one that has, or"
            " leave `chat` out"
        )
    try:
        said = tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=asks,
            chat_template=_ONE_DAY + tokenizer.get_chat_template(),
        )
    except Exception as error:  # whatever a template raises
        raise DataError(
            f"the chat template of {tokenizer.name_or_path!r} cannot put"
            f" {messages[-1]['content']!r:.60}: {error}; mend the template, or leave `chat` out"
        ) from error
    return str(said)


def before_words(tokenizer: PreTrainedTokenizerFast) -> str:
    """What the template puts before the words of a user.

    Raises:
        DataError: As for `as_said`, or the words are not to be found in what it makes of them.
    """
    said = as_said(tokenizer, _SOMETHING)
    before, found, _ = said.partition(_SOMETHING)
    if not found:
        raise DataError(
            f"the chat template of {tokenizer.name_or_path!r} leaves out what a user says; name"
            " another tokenizer, or leave `chat` out"
        )
    return before
