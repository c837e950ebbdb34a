"""A tokenizer learned from text: WordPiece, BPE or Unigram, as a transformers folder has it.

`tokenizers` does the learning. This module decides how text is normalized and split into words, and
which special tokens there are: those of a given tokenizer, or the usual ones of encoders of the
BERT family and of decoders of the GPT family.

Source: WordPiece, Schuster & Nakajima 2012; BPE, Sennrich et al. 2016, arXiv:1508.07909;
Unigram, Kudo 2018, arXiv:1804.10959.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from itertools import islice, pairwise
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from ..errors import DataError
from .post_processor import renumber_frame

_ENCODER_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_DECODER_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
_SETTINGS = ("chat_template", "padding_side", "truncation_side", "clean_up_tokenization_spaces")
_AT_ONCE = 1000  # documents in a batch
# The trainer of Unigram goes through every different word some thirty times: 30M characters of
# novels take minutes, and need hardly fewer tokens for a text (docs/results/vocabulary.md).
UNIGRAM_SAMPLE = 3_000_000


def learn_tokenizer(
    documents: Iterable[str], like: PreTrainedTokenizerFast, *, vocab_size: int
) -> PreTrainedTokenizerFast:
    """A tokenizer of another size that treats text like another tokenizer, learned from documents.

    Args:
        documents: Strings; they are read once.
        like: A model's tokenizer, or a `blank_tokenizer`, whose kind, normalizer, splitting into
            words, special tokens and other added tokens are used.
        vocab_size: Number of tokens, special tokens included.

    Raises:
        DataError: ``vocab_size`` is smaller than the number of letters in the documents, or
            larger than the number of tokens that can be learned from them.
    """
    learned = train_like(like, _batches(iter(documents)), vocab_size)
    check_size(len(learned), vocab_size)
    return learned


def train_like(
    like: PreTrainedTokenizerFast, texts: Iterator[list[str]], vocab_size: int, **options: Any
) -> PreTrainedTokenizerFast:
    """A tokenizer of the same kind, trained by `tokenizers`; the caller must check its size.

    Raises:
        DataError: ``vocab_size`` is too small for the letters of a Unigram tokenizer, or the kind
            of tokenizer has tokens for single bytes, which would be lost.
    """
    settings = json.loads(like.backend_tokenizer.to_str())
    if settings["model"].get("byte_fallback"):
        raise DataError(
            "this tokenizer has tokens of single bytes for unknown letters (byte_fallback), and"
            " such tokens cannot be learned; learn one of `--kind bytes`, or keep some of its"
            " tokens (`limbeck vocabulary trim`)"
        )
    # transformers keeps added tokens that are special, and makes all of them special for Unigram.
    ordinary = {t["content"] for t in settings["added_tokens"] if not t["special"]}
    train: Any = _with_special(like, ordinary, special=True).train_new_from_iterator
    try:
        learned: PreTrainedTokenizerFast = train(texts, vocab_size, show_progress=False, **options)
    except Exception as error:  # tokenizers raises no narrower class
        if not _says_too_few_for_letters(error):
            raise
        raise DataError(
            f"{vocab_size} tokens are fewer than the letters and special tokens that the text"
            " needs; give a larger size, or leave rare letters out of the text"
        ) from error
    learned = _with_special(learned, ordinary, special=False)
    for name in _SETTINGS:  # transformers keeps none of them, and saves what is in init_kwargs
        learned.init_kwargs[name] = getattr(like, name)
        setattr(learned, name, getattr(like, name))
    renumber_frame(learned)  # transformers does not do so if the frame is one of several steps
    return learned


def _with_special(
    tokenizer: PreTrainedTokenizerFast, names: Set[str], *, special: bool
) -> PreTrainedTokenizerFast:
    """A tokenizer of which some added tokens are special, or are not."""
    if not names:
        return tokenizer
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    for token in settings["added_tokens"]:
        if token["content"] in names:
            token["special"] = special
    return as_transformers(Tokenizer.from_str(json.dumps(settings)), like=tokenizer)


def is_unigram(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether a tokenizer is of the kind that is learned slowly."""
    return isinstance(tokenizer.backend_tokenizer.model, models.Unigram)


def evenly_spaced(documents: Iterable[str], characters: int) -> list[str]:
    """About so many characters of documents, evenly spaced among all; all where there are fewer.

    The documents are read once, and no more than twice as many characters are held.

    >>> evenly_spaced(["a", "b", "c", "d", "e", "f"], 2), evenly_spaced(["a", "b"], 9)
    (['c', 'e'], ['a', 'b'])
    """
    kept: list[str] = []
    step, size = 1, 0
    for number, document in enumerate(documents):
        if number % step:
            continue
        kept.append(document)
        size += len(document)
        while size > 2 * characters and len(kept) > 1:
            kept, step = kept[::2], 2 * step
            size = sum(map(len, kept))
    share = min(1.0, characters / max(1, size))
    places = [int(number * share) for number in range(len(kept) + 1)]
    return [text for text, (one, two) in zip(kept, pairwise(places), strict=True) if two > one]


def _says_too_few_for_letters(error: Exception) -> bool:
    """Whether the trainer of Unigram failed because the size is below the number of letters.

    `tokenizers` raises a bare Exception for every failure and counts the letters only while it
    trains, so the text of its message is the only sign. tests/tokenization/test_learn.py fails when
    it changes.
    """
    return "not large enough to contain all chars" in str(error)


def check_size(found: int, vocab_size: int) -> None:
    """Refuse a vocabulary of another size than requested.

    Raises:
        DataError: The sizes differ; the message says what to change.
    """
    if found > vocab_size:
        raise DataError(
            f"{vocab_size} tokens are fewer than the letters and special tokens that the text needs"
            f" ({found}); give a larger size, or leave rare letters out of the text"
        )
    if found < vocab_size:
        raise DataError(
            f"the text gives {found} tokens, and {vocab_size} were requested; give a smaller size,"
            " or more text"
        )


def blank_tokenizer(kind: str, *, lowercase: bool) -> PreTrainedTokenizerFast:
    """A tokenizer without ordinary tokens, as the argument ``like`` of `learn_tokenizer`.

    Args:
        kind: A name in ``KINDS``.
        lowercase: Text is converted to lower case; for ``wordpiece``, accents are removed too.
    """
    return KINDS[kind](lowercase)


def as_transformers(
    tokenizer: Tokenizer,
    special: Mapping[str, str] | None = None,
    *,
    like: PreTrainedTokenizerFast | None = None,
) -> PreTrainedTokenizerFast:
    """A tokenizer as a transformers object.

    Args:
        tokenizer: The tokenizer to wrap.
        special: Special tokens by role, e.g. ``mask_token``.
        like: A tokenizer whose special tokens, chat template, model inputs, maximum length and
            ways to pad, truncate and decode are used instead.
    """
    fast: Any = PreTrainedTokenizerFast
    options: dict[str, Any] = dict(special or {})
    if like is not None:
        options = {
            **like.special_tokens_map,
            "model_max_length": like.model_max_length,
            "model_input_names": like.model_input_names,
            **{name: getattr(like, name) for name in _SETTINGS},
        }
    wrapped: PreTrainedTokenizerFast = fast(tokenizer_object=tokenizer, **options)
    return wrapped


def _wordpiece(lowercase: bool) -> PreTrainedTokenizerFast:
    """As BERT: words at spaces and punctuation, ## before a token that continues a word."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return _encoder(tokenizer)


def _unigram(lowercase: bool) -> PreTrainedTokenizerFast:
    """As XLM-R: spaces are part of tokens, and the most likely tokenization is used."""
    # With one token, so that the trainer knows the unknown token.
    tokenizer = Tokenizer(models.Unigram([("[UNK]", 0.0)], unk_id=0))
    steps = [normalizers.NFKC(), *([normalizers.Lowercase()] if lowercase else [])]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return _encoder(tokenizer)


def _bytes(lowercase: bool) -> PreTrainedTokenizerFast:
    """As GPT-2: pairs of bytes are merged, so that any text can be tokenized."""
    tokenizer = Tokenizer(models.BPE())
    if lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens(list(_DECODER_TOKENS.values()))
    return as_transformers(tokenizer, _DECODER_TOKENS)


def _encoder(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    tokens = list(_ENCODER_TOKENS.values())
    tokenizer.add_special_tokens(tokens)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, tokens.index(name)) for name in ("[CLS]", "[SEP]")],
    )
    return as_transformers(tokenizer, _ENCODER_TOKENS)


KINDS: dict[str, Callable[[bool], PreTrainedTokenizerFast]] = {
    "wordpiece": _wordpiece,
    "unigram": _unigram,
    "bytes": _bytes,
}


def _batches(documents: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(documents, _AT_ONCE)):
        yield batch
