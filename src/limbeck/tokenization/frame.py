"""Special tokens around a sequence, and between the documents in it: one frame everywhere."""

from typing import NamedTuple

from transformers import PreTrainedTokenizerFast

from .post_processor import own_frame, usual_frame


class Frame(NamedTuple):
    """Special tokens at both ends of a sequence, and between two documents in it."""

    first: tuple[int, ...]
    last: tuple[int, ...]
    between: int

    @property
    def begin(self) -> tuple[int, ...]:
        """What a text begins with that is to be continued: at least one token."""
        return self.first or (self.between,)


def frame_of(tokenizer: PreTrainedTokenizerFast) -> Frame:
    """The tokenizer's own frame, else both ends where it has marks for them, else the beginning.

    A decoder's sequence has no mark at its end unless its tokenizer puts one there: it is
    truncated there, and its text continues. Without any special token there is no frame, and
    token 0 stands between documents.
    """
    first, last = own_frame(tokenizer.backend_tokenizer) or usual_frame(tokenizer)
    ends = (tokenizer.sep_token_id if last else None, tokenizer.eos_token_id)
    others = (*last, *first, tokenizer.pad_token_id, tokenizer.unk_token_id, 0)
    between = next(number for number in (*ends, *others) if number is not None)
    return Frame(first, last, between)
