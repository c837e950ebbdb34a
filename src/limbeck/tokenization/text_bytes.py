"""The number of bytes of a text that each of its tokens stands for; together they are all bytes.

The names of tokens are not enough: the unknown token stands for any word, normalizers remove
letters, and white space may belong to no token.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from numpy import ndarray
from tokenizers import Encoding
from transformers import PreTrainedTokenizerFast

from .plain_text import MARK, plain_tokenizer
from .words import visible


def token_bytes(text: str, encoding: Encoding, *, spaces: bool) -> Int[ndarray, " tokens"]:
    """UTF-8 bytes of a text from the end of one token to the end of the next.

    Text after the last token is counted with that token. If a letter is split into several tokens,
    the first has all its bytes. Special tokens that are marked in the text have no bytes.

    Args:
        text: The text that was tokenized.
        encoding: Its tokens.
        spaces: Whether white space is counted.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.int64)
    sizes = 1 + (codes > 0x7F) + (codes > 0x7FF) + (codes > 0xFFFF)
    if not spaces:
        sizes = sizes * visible(text)
    offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    if not len(offsets):
        return np.zeros(0, dtype=np.int64)
    ends = np.maximum.accumulate(offsets[:, 1])
    ends[-1] = len(text)
    before = np.concatenate([[0], np.cumsum(sizes)])
    found: Int[ndarray, " tokens"] = np.diff(before[ends], prepend=0)
    if MARK in text:
        found[[text.startswith(MARK, start) for start in offsets[:, 0].tolist()]] = 0
    return found


class TokenizedText(NamedTuple):
    """A tokenized text, with the bytes of text of each token."""

    ids: Int[ndarray, " tokens"]
    utf8_bytes: Int[ndarray, " tokens"]

    def after(self, before: "TokenizedText", *, room: int | None = None) -> "TokenizedText":
        """The text after other tokens; its beginning is dropped if there is not enough room."""
        start = 0 if room is None else max(0, len(self.ids) + len(before.ids) - room)
        pairs = zip(before, self, strict=True)
        return TokenizedText(*(np.concatenate([first, own[start:]]) for first, own in pairs))


def tokenize_texts(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[TokenizedText]:
    """Users' texts as tokens, without a frame; only marked special tokens are recognized."""
    found = plain_tokenizer(tokenizer).encode_batch(list(texts), add_special_tokens=False)
    return [
        TokenizedText(np.array(one.ids, dtype=np.int64), token_bytes(text, one, spaces=True))
        for text, one in zip(texts, found, strict=True)
    ]
