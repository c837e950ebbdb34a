"""Prompts in a tokenizer's chat template: what a user says, up to where the answer begins."""

from transformers import PreTrainedTokenizerFast

from ..errors import DataError

_SOMETHING = "limbeck"  # said by a user, to see where a template puts it


def as_said(tokenizer: PreTrainedTokenizerFast, text: str) -> str:
    """A prompt in the template, special tokens written out.

    Raises:
        DataError: There is no template, or it cannot put this prompt.
    """
    if not tokenizer.chat_template:
        raise DataError(
            f"the tokenizer {tokenizer.name_or_path!r} has no chat template; name one that has, or"
            " leave `chat` out"
        )
    try:
        said = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
        )
    except Exception as error:  # whatever a template raises
        raise DataError(
            f"the chat template of {tokenizer.name_or_path!r} cannot put the prompt {text!r:.60}:"
            f" {error}; mend the template, or leave `chat` out"
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
