"""A vocabulary learned from text that the teacher has tokenized: its tokens nest in the teacher's.

No token is learned from letters on both sides of a border between two teacher tokens. The new
tokenizer tokenizes words in the usual way of its kind, so it may still place a token across such a
border.

Source: Kolesnikova et al. 2022, arXiv:2205.02340, whose students' tokens are learned this way.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from tokenizers import Tokenizer, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ..errors import DataError
from .learn import as_transformers, check_size, train_like
from .plain_text import plain_tokenizer
from .spelling import is_lone_byte

_CONTINUES = "\ue000"  # a private character, in no text: marks a token that continues a word
_BETWEEN = "\n"
_DOCUMENTS_AT_ONCE = 1000


def learn_nested(
    documents: Iterable[str], like: PreTrainedTokenizerFast, *, vocab_size: int
) -> PreTrainedTokenizerFast:
    """A tokenizer of another size whose tokens are parts of the tokens of ``like``.

    Args:
        documents: Strings; they are read once.
        like: The tokenizer that tokenizes the text first, and whose kind, normalizer and special
            tokens are used.
        vocab_size: Number of tokens, special tokens included.

    Raises:
        DataError: As for `learn_tokenizer`; or tokens mark the ends of words.
    """
    settings = json.loads(like.backend_tokenizer.to_str())
    if suffix := settings["model"].get("end_of_word_suffix"):
        raise DataError(
            f"the tokens of this tokenizer mark the end of a word ({suffix}), and parts of them"
            " would mark ends that are none; leave `nested` out"
        )
    prefix = settings["model"].get("continuing_subword_prefix") or ""
    of_tokens = Tokenizer.from_str(json.dumps(settings | {"normalizer": None}))
    of_tokens.pre_tokenizer = pre_tokenizers.Split(_BETWEEN, "removed")
    pattern = as_transformers(of_tokens, like=like)
    lines = _teacher_tokens(iter(documents), like, prefix)
    if prefix:
        # Tokens that continue a word are learned with a mark, some of them also without it.
        learned = train_like(pattern, lines, 2 * vocab_size)
    else:
        learned = train_like(pattern, lines, vocab_size, initial_alphabet=_letters(settings))
    found = json.loads(learned.backend_tokenizer.to_str())
    found |= {name: settings[name] for name in ("normalizer", "pre_tokenizer")}
    if prefix:
        names = sorted(found["model"]["vocab"], key=found["model"]["vocab"].__getitem__)
        unmarked = dict.fromkeys(n.replace(_CONTINUES, prefix, 1) for n in names if n != _CONTINUES)
        letters = sum(len(name.removeprefix(prefix)) == 1 for name in unmarked)
        check_size(max(letters, min(vocab_size, len(unmarked))), vocab_size)
        found["model"]["vocab"] = {name: n for n, name in enumerate(islice(unmarked, vocab_size))}
    nested = as_transformers(Tokenizer.from_str(json.dumps(found)), like=learned)
    check_size(len(nested), vocab_size)
    return nested


def _teacher_tokens(
    documents: Iterator[str], like: PreTrainedTokenizerFast, prefix: str
) -> Iterator[list[str]]:
    """The documents as tokens of the teacher, one token in each line."""
    while some := list(islice(documents, _DOCUMENTS_AT_ONCE)):
        encoded = plain_tokenizer(like).encode_batch(some, add_special_tokens=False)
        yield [
            _BETWEEN.join(
                _marked(token, prefix)
                for number, token in zip(text.ids, text.tokens, strict=True)
                if number != like.unk_token_id and not is_lone_byte(token)
            )
            for text in encoded
        ]


def _marked(token: str, prefix: str) -> str:
    continues = prefix and token.startswith(prefix)
    return _CONTINUES + token.removeprefix(prefix) if continues else token


def _letters(settings: dict[str, Any]) -> list[str]:
    in_bytes = "ByteLevel" in json.dumps(settings["pre_tokenizer"])
    return sorted(pre_tokenizers.ByteLevel.alphabet()) if in_bytes else []
