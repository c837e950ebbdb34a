"""A tokenizer with a subset of its tokens: those that a corpus uses most.

Text is normalized and split into words as before, and a word whose tokens all stay is tokenized as
before, so a token that stays can keep its row of the teacher's embeddings. Special tokens, letters
and bytes always stay, so that no known text becomes unknown.

Source: the idea of Abdaoui et al. 2020, Load What You Need, arXiv:2010.05609.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain, islice
from operator import itemgetter
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from ..errors import DataError
from .learn import as_transformers
from .merging import Merging, merge_pairs
from .plain_text import plain_tokenizer
from .post_processor import renumber
from .spelling import is_lone_byte

_AT_ONCE = 1000


def count_tokens(tokenizer: PreTrainedTokenizerFast, documents: Iterable[str]) -> Counter[str]:
    """How often the documents use each token, without the special tokens around a text."""
    counts: Counter[int] = Counter()
    rest = iter(documents)
    while batch := list(islice(rest, _AT_ONCE)):
        for found in plain_tokenizer(tokenizer).encode_batch(batch, add_special_tokens=False):
            counts.update(found.ids)
    names = {number: token for token, number in tokenizer.get_vocab().items()}
    return Counter({names[number]: times for number, times in counts.items()})


def check_trimmed_size(
    tokenizer: PreTrainedTokenizerFast, vocab_size: int | None, *, stay: Collection[str] = ()
) -> None:
    """Refuse what cannot be trimmed to a size, before any text is read.

    Args:
        tokenizer: As for `trimmed_tokenizer`, like the others.
        vocab_size: As there.
        stay: As there.

    Raises:
        DataError: As for `trimmed_tokenizer`.
    """
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    _kept_anyway(settings, tokenizer.get_vocab(), _merging(settings), vocab_size, stay)


def trimmed_tokenizer(
    tokenizer: PreTrainedTokenizerFast,
    counts: Mapping[str, int],
    *,
    vocab_size: int | None = None,
    fraction: float | None = None,
    stay: Collection[str] = (),
) -> PreTrainedTokenizerFast:
    """The tokenizer with fewer tokens, in their previous order.

    Args:
        tokenizer: A tokenizer of the kind WordPiece, BPE or Unigram.
        counts: Uses of each token; the tokens with most uses stay. With BPE, the tokens that a
            kept token is really merged from stay too.
        vocab_size: Number of tokens, special tokens included; or give ``fraction``.
        fraction: Keep the fewest tokens that make up this fraction of all uses, and the tokens
            that must stay.
        stay: Tokens that stay whatever their uses, as those of prompts.

    Raises:
        DataError: The size is larger than the vocabulary or smaller than the number of tokens
            that must stay, or the kind of tokenizer cannot be trimmed.
    """
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    model, numbers = settings["model"], tokenizer.get_vocab()
    merging = _merging(settings)
    kept = _kept_anyway(settings, numbers, merging, vocab_size, stay)
    most = len(numbers) if vocab_size is None else vocab_size
    uses, enough = 0, sum(counts.values()) * (1.0 if fraction is None else fraction)

    def order(token: str) -> tuple[int, bool, int]:
        never = merging is not None and not merging.made_of(token)
        return -counts.get(token, 0), never, numbers[token]

    for token in sorted(numbers, key=order):
        if vocab_size is None and uses >= enough:
            break
        uses += counts.get(token, 0)
        if len(more := _needed(token, merging) - kept) <= most - len(kept):
            kept |= more
    return _rebuilt(tokenizer, settings, _numbered(kept, model, numbers))


def _merging(settings: Mapping[str, Any]) -> Merging | None:
    return Merging(settings["model"]) if settings["model"]["type"] == "BPE" else None


def _kept_anyway(
    settings: Mapping[str, Any],
    numbers: Mapping[str, int],
    merging: Merging | None,
    vocab_size: int | None,
    stay: Collection[str],
) -> set[str]:
    """The tokens that stay whatever the text has.

    Raises:
        DataError: The kind of tokenizer or the size is not possible.
    """
    kind = settings["model"]["type"]
    if kind not in ("WordPiece", "BPE", "Unigram"):
        raise DataError(f"a {kind} tokenizer cannot be trimmed; learn a new one")
    most = len(numbers) if vocab_size is None else vocab_size
    if not 0 < most <= len(numbers):
        raise DataError(f"{most} tokens were requested of {len(numbers)}; give a smaller size")
    kept: set[str] = set()
    for token in chain(stay, _must_stay(settings, numbers)):
        kept |= _needed(token, merging)
    if len(kept) > most:
        raise DataError(
            f"{most} tokens were requested, but special tokens, letters, bytes and what the model"
            f" puts around texts (its prompts, its chat template) are already {len(kept)}; give a"
            " larger size, or learn a new vocabulary"
        )
    return kept


def _must_stay(settings: Mapping[str, Any], numbers: Mapping[str, int]) -> Iterator[str]:
    """Special tokens, single letters, bytes, and Unigram's least likely token."""
    model = settings["model"]
    suffix = model.get("end_of_word_suffix") or ""
    yield from (added["content"] for added in settings["added_tokens"])
    unknown = model.get("unk_token") or (
        model["vocab"][model["unk_id"]][0] if model.get("unk_id") is not None else None
    )
    prefix = model.get("continuing_subword_prefix") or ""
    for token in numbers:
        plain = token.removeprefix(prefix).removesuffix(suffix)
        if len(plain) == 1 or is_lone_byte(token) or token == unknown:
            yield token
    if model["type"] == "Unigram":
        # The score of the unknown token is relative to the least likely token, so it would change.
        yield min(model["vocab"], key=itemgetter(1))[0]


def _needed(token: str, merging: Merging | None) -> frozenset[str]:
    """A token with all tokens that must stay so that it can be made."""
    made = merging.made_of(token) if merging else frozenset[str]()
    return made or frozenset({token})  # a whole word may be a token that no merge makes


def _numbered(
    kept: set[str], model: Mapping[str, Any], numbers: Mapping[str, int]
) -> dict[str, int]:
    """New ids in the old order; added tokens follow those of the model, as when they are loaded."""
    tokens = model["vocab"]
    inside = {name for name, _ in tokens} if model["type"] == "Unigram" else tokens.keys()
    order = sorted(kept, key=lambda token: (token not in inside, numbers[token]))
    return {token: number for number, token in enumerate(order)}


def _rebuilt(
    tokenizer: PreTrainedTokenizerFast, settings: dict[str, Any], numbers: Mapping[str, int]
) -> PreTrainedTokenizerFast:
    model = settings["model"]
    if model["type"] == "Unigram":
        entries = [entry for entry in model["vocab"] if entry[0] in numbers]
        if model["unk_id"] is not None:
            unknown = model["vocab"][model["unk_id"]][0]
            model["unk_id"] = [name for name, _ in entries].index(unknown)
        model["vocab"] = entries
    else:
        inside = model["vocab"].keys()
        model["vocab"] = {token: n for token, n in numbers.items() if token in inside}
    if model["type"] == "BPE":
        joined = Merging(model).joined
        model["merges"] = [
            pair for pair in merge_pairs(model) if {*pair, joined(*pair)} <= model["vocab"].keys()
        ]
    if padding := settings.get("padding"):
        padding["pad_id"] = numbers[padding["pad_token"]]
    for added in settings["added_tokens"]:
        added["id"] = numbers[added["content"]]
    renumber(settings["post_processor"] or {}, numbers)
    return as_transformers(Tokenizer.from_str(json.dumps(settings)), like=tokenizer)
