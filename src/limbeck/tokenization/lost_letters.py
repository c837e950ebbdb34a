"""Tokens that can never occur because the normalizer removes or changes their letters.

A cased vocabulary whose tokenizer converts text to lower case (transformers does so with a
`vocab.txt` without a configuration) loses most of its words, and й becomes и. Scripts whose vowels
are marks on a letter, such as Devanagari and Thai, or that have points, lose their tokens too.
"""

import hashlib
import json
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from tokenizers import decoders
from transformers import PreTrainedTokenizerFast

from .spelling import in_bytes

_TOLERATED = 0.02  # share of a vocabulary; most vocabularies have a few tokens that never occur


@dataclass(frozen=True)
class _Vocabulary:
    """A tokenizer that equals every other one of the same file."""

    content: str
    tokenizer: PreTrainedTokenizerFast = field(compare=False)


def lost_tokens(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The ordinary tokens with a letter or mark that the normalizer removes or changes."""
    if tokenizer.backend_tokenizer.normalizer is None:
        return []
    content = tokenizer.backend_tokenizer.to_str().encode("utf-8", "surrogatepass")
    return list(_lost_tokens(_Vocabulary(hashlib.sha256(content).hexdigest(), tokenizer)))


# Cached, because a study loads the same tokenizer for every arm.
@lru_cache(maxsize=64)
def _lost_tokens(vocabulary: _Vocabulary) -> tuple[str, ...]:
    tokenizer = vocabulary.tokenizer
    backend = tokenizer.backend_tokenizer
    special = {str(token) for token in tokenizer.added_tokens_decoder.values()}
    special |= {str(token) for token in tokenizer.all_special_tokens}
    tokens = [
        token
        for token in tokenizer.get_vocab()
        if token not in special and (token[:1], token[-1:]) not in (("[", "]"), ("<", ">"))
    ]
    if in_bytes(tokenizer):
        # A single character stands for a byte, which is always in the alphabet.
        decoder = decoders.ByteLevel()
        tokens = [decoder.decode([token]) for token in tokens if len(token) > 1]
    normalize = backend.normalizer.normalize_str
    # Whole tokens are normalized, because the result for a mark depends on its letter. Most stay as
    # they are, and the letters of these need not be compared.
    changed = ((token, read) for token in tokens if (read := normalize(token)) != token)
    return tuple(token for token, read in changed if _letters(read) != _letters(token))


def _letters(text: str) -> str:
    """The letters of a text and the marks on them: vowel signs, points and accents."""
    return "".join(letter for letter in text if unicodedata.category(letter)[0] in "LM")


def letters_problem(tokenizer: PreTrainedTokenizerFast, name: str) -> str | None:
    """The problem that many tokens can never occur, and its remedy; None if few are concerned."""
    lost, count = lost_tokens(tokenizer), len(tokenizer)
    if len(lost) <= _TOLERATED * count:
        return None
    capitals = sum(any(letter.isupper() for letter in token) for token in lost) > _TOLERATED * count
    keep = {"do_lower_case": False} if capitals else {"strip_accents": False}
    some = max(lost, key=len)
    read = tokenizer.backend_tokenizer.normalizer.normalize_str(some)
    return (
        f"{len(lost)} of the {count} tokens of {name!r} can never be made, because its tokenizer"
        f" reads {some!r} as {read!r}. To keep these letters, write {json.dumps(keep)} into its"
        " tokenizer_config.json, beside vocab.txt and without a tokenizer.json"
    )


def normalizer_is_configured(tokenizer: PreTrainedTokenizerFast, folder: Path) -> bool:
    """Whether the model's files define the normalizer, rather than transformers' default."""
    if not folder.is_dir():  # a hub name: use the folder of its downloaded files
        folder = Path(str(tokenizer.init_kwargs.get("vocab_file", ""))).parent
    if (folder / "tokenizer.json").is_file():
        return True
    try:
        said = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(said, dict) and not {"do_lower_case", "strip_accents"}.isdisjoint(said)
