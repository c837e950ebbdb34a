"""The special tokens around a sequence and between its documents, the same everywhere."""

from typing import NamedTuple

from transformers import PreTrainedTokenizerFast

from .post_processor import own_frame, usual_frame


class Frame(NamedTuple):
    """The special tokens before and after a sequence, and between two documents in it."""

    first: tuple[int, ...]
    last: tuple[int, ...]
    between: int

    @property
    def begin(self) -> tuple[int, ...]:
        """The tokens at the beginning of a text that is to be continued: at least one."""
        return self.first or (self.between,)


def frame_of(tokenizer: PreTrainedTokenizerFast) -> Frame:
    """The tokenizer's own frame, or the usual frame of its kind where it has none.

    It is around the text of a language model, also of one that gets a new head in `evaluation`. A
    model that comes with the head of a task or makes vectors has learned its tokenizer's own frame,
    or none: the rows of tasks and the texts of vectors are read in `own_frame` alone, by teacher
    and student alike, whose tokenizers are saved as they are (`save_tokenizer`). Language models
    are saved with this frame in their tokenizer (`save_framed`), so that what learns from such a
    student reads the same.

    The sequence of a decoder has no special token at its end unless its tokenizer puts one there,
    because it is truncated and its text continues. Without any special token there is no frame,
    and token 0 separates documents.
    """
    first, last = own_frame(tokenizer.backend_tokenizer) or usual_frame(tokenizer)
    ends = (tokenizer.sep_token_id if last else None, tokenizer.eos_token_id)
    others = (*last, *first, tokenizer.pad_token_id, tokenizer.unk_token_id, 0)
    between = next(number for number in (*ends, *others) if number is not None)
    return Frame(first, last, between)
