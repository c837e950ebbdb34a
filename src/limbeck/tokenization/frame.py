"""Special tokens around a sequence, and between the documents in it."""

from typing import NamedTuple

from transformers import PreTrainedTokenizerFast


class Frame(NamedTuple):
    """Special tokens at both ends of a sequence, and between two documents in it."""

    first: tuple[int, ...]
    last: tuple[int, ...]
    between: int


def frame_of(tokenizer: PreTrainedTokenizerFast) -> Frame:
    """Both ends are marked where the tokenizer has marks for them, else the beginning alone.

    A decoder's sequence has no mark at its end: it is cut there, and its text goes on.
    """
    if tokenizer.cls_token_id is not None and tokenizer.sep_token_id is not None:
        return Frame((tokenizer.cls_token_id,), (tokenizer.sep_token_id,), tokenizer.sep_token_id)
    end = tokenizer.eos_token_id
    begin = end if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    return Frame((begin,), (), end)
