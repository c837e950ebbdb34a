"""Text as the user wrote it: special tokens that it spells are read as text, and are counted.

A tokenizer reads ``</s>`` or ``[MASK]`` in a text as the special token, which would end a response
or mask a word. Here only the frame of a sequence and chat templates can produce special tokens;
those that a text spells are split into ordinary tokens.

There are two exceptions. A special token that is white space, or a single character that the
model's vocabulary has (e.g. "!" for padding), stays that token, because text has no other token for
it; it is not counted. A special token that begins or ends with a letter or digit (e.g. "the") is
only recognized as a separate word: not within "other".
"""

import json
import re
import secrets
from collections.abc import Collection, Iterable, Mapping, Set
from functools import lru_cache
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from .post_processor import put_frame


def _private_mark() -> str:
    """A random string of Unicode noncharacters, which occurs in no text; new in each process."""
    return "".join(chr(0xFDD0 + secrets.randbelow(32)) for _ in range(12))


# A special token is recognized only where this mark stands before its name.
MARK = _private_mark()
_DISGUISE = _private_mark()


def plain_tokenizer(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    r"""A tokenizer that reads special tokens spelled in a text as ordinary text.

    Ids and offsets are those of the given tokenizer. Names of special tokens have `MARK` before
    them, and with that mark they are recognized in a text. Special tokens are added as `frame_of`
    says. Nothing is truncated or padded, whatever the tokenizer's file contains.

    >>> from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer
    >>> text = ["[a] mask"] * 9
    >>> mine = learn_tokenizer(text, blank_tokenizer("wordpiece", lowercase=True), vocab_size=17)
    >>> plain_tokenizer(mine).encode("[MASK]").tokens[1:-1]
    ['[', 'mask', ']']
    >>> [mine.mask_token_id] == plain_tokenizer(mine).encode(MARK + "[MASK]").ids[1:-1]
    True
    """
    return _plain(tokenizer, len(tokenizer), _names(tokenizer))


def count_spelled(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> int:
    """The number of special tokens that texts spell."""
    pattern = _pattern(_names(tokenizer))
    return sum(len(pattern.findall(text)) for text in texts) if pattern else 0


def marked(tokenizer: PreTrainedTokenizerFast, text: str) -> str:
    """A trusted text, e.g. of a chat template, whose special tokens are marked to be recognized.

    Special tokens in a user's text within it stay text if the user's text was `disguised`.
    """
    pattern = _pattern(_names(tokenizer))
    found = pattern.sub(lambda found: MARK + found[0], text) if pattern else text
    return found.replace(_DISGUISE, "")


def disguised(tokenizer: PreTrainedTokenizerFast, text: str) -> str:
    """A user's text to be put into a trusted text, whose special tokens `marked` ignores."""
    if (pattern := _pattern(_names(tokenizer))) is None:
        return text
    # After the first letter, so that templates can still strip and split the text.
    return pattern.sub(lambda found: found[0][0] + _DISGUISE + found[0][1:], text)


def spelled_note(what: str, count: int) -> list[str]:
    """A sentence about special tokens that a text spells; an empty list where there are none."""
    if not count:
        return []
    said = "special token is" if count == 1 else "special tokens are"
    return [f"{what}: {count:,} {said} spelled in the text, and read as ordinary text"]


def _names(tokenizer: PreTrainedTokenizerFast) -> tuple[str, ...]:
    """The names of special tokens that are not ordinary text."""
    special = set(tokenizer.all_special_tokens)
    special |= {one.content for one in tokenizer.added_tokens_decoder.values() if one.special}
    return tuple(sorted(name for name in special if not _is_text(tokenizer, name)))


def _is_text(tokenizer: PreTrainedTokenizerFast, name: str) -> bool:
    """Whether a name is white space, or a single character of the model's vocabulary."""
    if name.isspace() or len(name) != 1:
        return not name.strip()
    return tokenizer.backend_tokenizer.model.token_to_id(name) is not None


@lru_cache(maxsize=8)
def _pattern(names: tuple[str, ...]) -> re.Pattern[str] | None:
    if not names:
        return None
    # Where one name begins with another, the longer one is meant.
    longest_first = sorted(names, key=len, reverse=True)
    # A single character can only be disguised by the mark after it.
    return re.compile(f"(?:{'|'.join(map(_as_word, longest_first))})(?!{_DISGUISE})")


def _as_word(name: str) -> str:
    """A pattern that finds a special token, but not within a word."""
    before = r"(?<!\w)" if name[0].isalnum() else ""
    behind = r"(?!\w)" if name[-1].isalnum() else ""
    return before + re.escape(name) + behind


# Size and special tokens are part of the key, because a tokenizer may get more of them later.
@lru_cache(maxsize=8)
def _plain(tokenizer: PreTrainedTokenizerFast, size: int, names: tuple[str, ...]) -> Tokenizer:
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    settings |= {"truncation": None, "padding": None}
    for token in settings["added_tokens"]:
        token["content"] = _renamed(token["content"], names)
    _rename(settings["model"], frozenset(names))
    plain = Tokenizer.from_str(json.dumps(settings))
    put_frame(tokenizer, plain)
    return plain


def _renamed(name: str, names: Collection[str]) -> str:
    return MARK + name if name in names else name


def _rename(model: dict[str, Any], names: Set[str]) -> None:
    """Rename special tokens in the model, as Unigram and WordLevel still find them in text."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, Mapping):
        model["vocab"] = {_renamed(name, names): number for name, number in vocabulary.items()}
    else:
        model["vocab"] = [[_renamed(name, names), score] for name, score in vocabulary]
    if model.get("unk_token"):
        model["unk_token"] = _renamed(model["unk_token"], names)
    if "merges" in model:
        prefix = model.get("continuing_subword_prefix") or ""
        pairs = [pair.split(" ", 1) if isinstance(pair, str) else pair for pair in model["merges"]]
        # A merge that makes a special token, or continues from one, would make it out of text.
        model["merges"] = [
            [left, right]
            for left, right in pairs
            if names.isdisjoint((left, right, left + right.removeprefix(prefix)))
        ]
