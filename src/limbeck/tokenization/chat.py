"""Prompts in a tokenizer's chat template: what a user says, up to where the answer begins."""

from transformers import PreTrainedTokenizerFast

from ..errors import DataError

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


def after_answer(tokenizer: PreTrainedTokenizerFast) -> str:
    """What the template puts behind an answer.

    Raises:
        DataError: As for `as_said`.
    """
    turns = [("user", "?"), ("assistant", _SOMETHING)]
    messages = [{"role": role, "content": content} for role, content in turns]
    return _rendered(tokenizer, messages, asks=False).rpartition(_SOMETHING)[2]


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
