"""A vocabulary learned from text that the teacher has cut: its tokens nest in the teacher's.

No token is learned from letters on both sides of a teacher's cut. The tokenizer itself cuts
words as its kind does, and may still put a token over a place where the teacher cuts.

Source: Kolesnikova et al. 2022, arXiv:2205.02340, whose students' tokens are learned this way.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from tokenizers import Tokenizer, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from .learn import as_transformers, check_size, train_like
from .plain_text import plain_tokenizer
from .spelling import is_lone_byte

_GOES_ON = "\ue000"  # of private use, so in no text: stands before a token that goes on with a word
_BETWEEN = "\n"
_DOCUMENTS_AT_ONCE = 1000


def learn_nested(
    documents: Iterable[str], like: PreTrainedTokenizerFast, *, vocab_size: int
) -> PreTrainedTokenizerFast:
    """A tokenizer of another size whose tokens are parts of those that ``like`` cuts text into.

    Args:
        documents: Strings; they are read once.
        like: Cuts the text, and gives the kind, the normalisation and the special tokens.
        vocab_size: Tokens, special tokens included.

    Raises:
        DataError: As `learn_tokenizer`.
    """
    settings = json.loads(like.backend_tokenizer.to_str())
    prefix = settings["model"].get("continuing_subword_prefix") or ""
    of_tokens = Tokenizer.from_str(json.dumps(settings | {"normalizer": None}))
    of_tokens.pre_tokenizer = pre_tokenizers.Split(_BETWEEN, "removed")
    pattern, cut = as_transformers(of_tokens, like=like), _cut(iter(documents), like, prefix)
    if prefix:
        # What goes on is learned with a mark before it, and some of it twice: without it too.
        learned = train_like(pattern, cut, 2 * vocab_size)
    else:
        learned = train_like(pattern, cut, vocab_size, initial_alphabet=_letters(settings))
    found = json.loads(learned.backend_tokenizer.to_str())
    found |= {name: settings[name] for name in ("normalizer", "pre_tokenizer")}
    if prefix:
        names = sorted(found["model"]["vocab"], key=found["model"]["vocab"].__getitem__)
        unmarked = dict.fromkeys(n.replace(_GOES_ON, prefix, 1) for n in names if n != _GOES_ON)
        letters = sum(len(name.removeprefix(prefix)) == 1 for name in unmarked)
        check_size(max(letters, min(vocab_size, len(unmarked))), vocab_size)
        found["model"]["vocab"] = {name: n for n, name in enumerate(islice(unmarked, vocab_size))}
    nested = as_transformers(Tokenizer.from_str(json.dumps(found)), like=learned)
    check_size(len(nested), vocab_size)
    return nested


def _cut(
    documents: Iterator[str], like: PreTrainedTokenizerFast, prefix: str
) -> Iterator[list[str]]:
    """The documents as the teacher's tokens, one a line."""
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
    goes_on = prefix and token.startswith(prefix)
    return _GOES_ON + token.removeprefix(prefix) if goes_on else token


def _letters(settings: dict[str, Any]) -> list[str]:
    in_bytes = "ByteLevel" in json.dumps(settings["pre_tokenizer"])
    return sorted(pre_tokenizers.ByteLevel.alphabet()) if in_bytes else []
