"""Text as a user wrote it: what is spelled like a special token in it is text, and is counted.

A tokenizer takes ``</s>`` or ``[MASK]`` in a text for the token itself, which would end a
response or hide a word. Special tokens come from the frame of a sequence and from chat templates
alone; those that a text spells are split into ordinary tokens.

Two kinds of special tokens are ordinary text by their very names. One letter that the model's own
vocabulary has (as "!" for padding) stays that letter, for text has no other token for it, and so
does white space; neither is counted. One that begins or ends with a letter or digit (as "the") is
only looked for where it stands as a word of its own: not in "other", nor in a chat template there.
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
    """Letters that no text has: drawn for each process, of what Unicode keeps for such a use."""
    return "".join(chr(0xFDD0 + secrets.randbelow(32)) for _ in range(12))


# A special token is one where this stands before its name.
MARK = _private_mark()
_DISGUISE = _private_mark()


def plain_tokenizer(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    r"""What tokenizes users' text as a tokenizer does, special tokens spelled in it apart.

    Ids and offsets are the tokenizer's; names of special tokens have `MARK` before them, and a
    special token so marked in the text is one. Special tokens are added as `frame_of` says.
    Nothing is truncated or padded, whatever the tokenizer's file says of its last use.

    >>> from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer
    >>> text = ["[a] mask"] * 9
    >>> mine = learn_tokenizer(text, blank_tokenizer("wordpiece", lowercase=True), size=17)
    >>> plain_tokenizer(mine).encode("[MASK]").tokens[1:-1]
    ['[', 'mask', ']']
    >>> [mine.mask_token_id] == plain_tokenizer(mine).encode(MARK + "[MASK]").ids[1:-1]
    True
    """
    return _plain(tokenizer, len(tokenizer), _names(tokenizer))


def count_spelled(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> int:
    """How many special tokens are spelled in texts."""
    pattern = _pattern(_names(tokenizer))
    return sum(len(pattern.findall(text)) for text in texts) if pattern else 0


def marked(tokenizer: PreTrainedTokenizerFast, text: str) -> str:
    """A text of our own, as that of a chat template, in which special tokens are to be real.

    Those of a user's text in it stay text where that was `disguised`.
    """
    pattern = _pattern(_names(tokenizer))
    found = pattern.sub(lambda found: MARK + found[0], text) if pattern else text
    return found.replace(_DISGUISE, "")


def disguised(tokenizer: PreTrainedTokenizerFast, text: str) -> str:
    """A user's text for a part of our own, in which `marked` leaves its special tokens alone."""
    if (pattern := _pattern(_names(tokenizer))) is None:
        return text
    # Behind its first letter, so that templates may still trim and split the text.
    return pattern.sub(lambda found: found[0][0] + _DISGUISE + found[0][1:], text)


def spelled_note(what: str, count: int) -> list[str]:
    """One sentence on special tokens that are spelled, or none where there are none."""
    if not count:
        return []
    said = "special token is" if count == 1 else "special tokens are"
    return [f"{what}: {count:,} {said} spelled in the text, and read as ordinary text"]


def _names(tokenizer: PreTrainedTokenizerFast) -> tuple[str, ...]:
    """Special tokens that no text needs."""
    special = set(tokenizer.all_special_tokens)
    special |= {one.content for one in tokenizer.added_tokens_decoder.values() if one.special}
    return tuple(sorted(name for name in special if not _is_text(tokenizer, name)))


def _is_text(tokenizer: PreTrainedTokenizerFast, name: str) -> bool:
    """Whether it is white space, or a letter that the model's own vocabulary has."""
    if name.isspace() or len(name) != 1:
        return not name.strip()
    return tokenizer.backend_tokenizer.model.token_to_id(name) is not None


@lru_cache(maxsize=8)
def _pattern(names: tuple[str, ...]) -> re.Pattern[str] | None:
    if not names:
        return None
    # Where one begins another, the longer one is meant.
    longest_first = sorted(names, key=len, reverse=True)
    # One letter is disguised as it stands, by what is behind it.
    return re.compile(f"(?:{'|'.join(map(_as_word, longest_first))})(?!{_DISGUISE})")


def _as_word(name: str) -> str:
    """What finds a special token, but not within a word."""
    before = r"(?<!\w)" if name[0].isalnum() else ""
    behind = r"(?!\w)" if name[-1].isalnum() else ""
    return before + re.escape(name) + behind


# By its size and special tokens too: a tokenizer may be given more of them later.
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
    """Unigram and whole words find a special token by its name even where it is not looked for."""
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
        # A merge that makes a special token, or goes on from one, would make it out of text.
        model["merges"] = [
            [left, right]
            for left, right in pairs
            if names.isdisjoint((left, right, left + right.removeprefix(prefix)))
        ]
