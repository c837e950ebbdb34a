"""Words replaced by what a masked language model predicts at their places.

Source: Jiao et al. 2020, TinyBERT, arXiv:1909.10351, algorithm 1. Here the model has a candidate
for a word of several tokens too, which is masked by one token; and a few words that stand apart are
masked at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ..activations import Needs, OutputMap, Predictions
from ..batch import Tokens
from ..errors import ModelError
from ..models.architecture import Architecture
from ..models.capture import capture, output_map
from ..models.families.lookup import architecture_of
from ..models.load import load_config, load_model, no_head
from ..models.locate import model_of_run
from ..models.shapes import shape_of
from ..system.device import choose_device, choose_precision
from ..system.progress import told
from ..tokenization.frame import frame_of
from ..tokenization.load import load_tokenizer
from ..tokenization.padding import padded, real_tokens
from ..tokenization.plain_text import MARK, plain_tokenizer
from .row_texts import Words, is_han
from .settings import AugmentSettings
from .word_tokens import WordTokens, in_case_of, word_tokens

_APART = 5  # a fifth of the words is masked, not far from what such models are trained with
_AT_ONCE = 512  # rows of words x vocabulary
# Of each place, the words that may stand there; places without any are left out.
Candidates = dict[int, tuple[str, ...]]


@dataclass(frozen=True)
class MaskedModel:
    """An encoder that predicts masked words, on its device.

    Attributes:
        name: As the user gave it.
        model: With its vocabulary head.
        architecture: Of its family.
        tokenizer: Of the model.
        max_length: Tokens of a text that are read, special tokens included.
        half: Whether it runs in bfloat16.
    """

    name: str
    model: PreTrainedModel
    architecture: Architecture
    tokenizer: PreTrainedTokenizerFast
    max_length: int
    half: bool

    def candidates(
        self, texts: Sequence[Words], *, top_k: int, batch_size: int
    ) -> list[Candidates]:
        """The words that the model finds most likely at each place of each text.

        Those are whole words of its vocabulary and never the word itself. Each place is masked by
        one token, however many tokens its word has, together with every fifth place after it.
        A place has no candidates where the vocabulary has no word of its script, and beyond what
        the model reads.

        Args:
            texts: Of rows; the texts of a pair are read one by one.
            top_k: Candidates of a place at most, the most likely one first.
            batch_size: Texts at once.
        """
        masked = [
            (number, text.places[first :: min(_APART, len(text.places))])
            for number, text in enumerate(texts)
            for first in range(min(_APART, len(text.places)))
        ]
        ids = self._ids([texts[number].changed(self._masks(p)).text for number, p in masked])
        # The longest first: what does not fit the memory fails at once.
        order = sorted(range(len(ids)), key=lambda n: -len(ids[n]))
        found: list[Candidates] = [{} for _ in texts]
        for start in told(range(0, len(order), batch_size), f"words by {self.name}", "batches"):
            some = order[start : start + batch_size]
            places = [
                (masked[n][0], place)
                for n in some
                # Masks that are truncated are the last ones.
                for place in masked[n][1][: ids[n].count(self._mask)]
            ]
            words = [texts[number].parts[place] for number, place in places]
            drawn = self._most_likely([ids[n] for n in some], words, top_k)
            for (number, place), words_there in zip(places, drawn, strict=True):
                if words_there:
                    found[number][place] = words_there
        return found

    @property
    def _mask(self) -> int:
        return int(self.tokenizer.mask_token_id)

    def _masks(self, places: Sequence[int]) -> dict[int, str]:
        return dict.fromkeys(places, f"{MARK}{self.tokenizer.mask_token}")

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of texts, of which the end is truncated before the special tokens there."""
        last = len(frame_of(self.tokenizer).last)
        found = [one.ids for one in plain_tokenizer(self.tokenizer).encode_batch(list(texts))]
        limit = self.max_length
        return [
            ids if len(ids) <= limit else [*ids[: limit - last], *ids[len(ids) - last :]]
            for ids in found
        ]

    def _most_likely(
        self, rows: Sequence[list[int]], words: Sequence[str], top_k: int
    ) -> list[tuple[str, ...]]:
        """The words that are most likely at every mask of the rows, in order."""
        found: list[tuple[str, ...]] = [()] * len(words)
        if not words:
            return found
        predictions = self._predictions(rows)
        for han, vocabulary in self._vocabularies.items():
            chosen = [number for number, word in enumerate(words) if is_han(word) == han]
            if not len(vocabulary.ids):
                continue
            for start in range(0, len(chosen), _AT_ONCE):
                some = chosen[start : start + _AT_ONCE]
                logits = self._logits(predictions, some, han=han)
                own = np.array([vocabulary.key(words[number]) for number in some])
                tokens = top_tokens(logits, own, vocabulary, top_k=top_k)
                for number, best in zip(some, tokens, strict=True):
                    letters = (vocabulary.letters[token] for token in best)
                    found[number] = tuple(in_case_of(words[number], one) for one in letters)
        return found

    def _predictions(self, rows: Sequence[list[int]]) -> Predictions:
        """What the model says at the masks."""
        ids = torch.from_numpy(padded(rows, self.tokenizer.pad_token_id or 0, np.int64))
        real = torch.from_numpy(real_tokens(rows))
        tokens = Tokens(ids, real, ids, (ids == self._mask) & real).to(self.model.device)
        with torch.inference_mode(), self._precision:
            found = capture(self.model, self.architecture, tokens, Needs(predictions=True))
        if found.predictions is None:
            raise ModelError(f"{self.name!r} gave no predictions")
        return found.predictions

    def _logits(
        self, predictions: Predictions, rows: Sequence[int], *, han: bool
    ) -> Float[Tensor, "rows tokens"]:
        """Float32 logits of some masks over the tokens of a vocabulary alone."""
        weight, bias, _ = self._outputs[han]
        features = predictions.features[torch.tensor(rows, device=weight.device)]
        part = replace(predictions, features=features.to(weight.dtype), weight=weight, bias=bias)
        with torch.inference_mode():
            return part.logits().float()

    @property
    def _precision(self) -> torch.autocast:
        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.half)

    @cached_property
    def _vocabularies(self) -> dict[bool, WordTokens]:
        """Tokens that replace words, and those that replace Chinese characters."""
        return {han: word_tokens(self.tokenizer, han=han) for han in (False, True)}

    @cached_property
    def _outputs(self) -> dict[bool, OutputMap]:
        """The map to the logits of each of them, in the precision of the model."""
        whole = output_map(self.model, self.architecture)
        kind = torch.bfloat16 if self.half else torch.float32
        found = {}
        for han, vocabulary in self._vocabularies.items():
            ids = torch.from_numpy(vocabulary.ids).to(self.model.device)
            bias = None if whole.bias is None else whole.bias.detach()[ids].to(kind)
            found[han] = OutputMap(whole.weight.detach()[ids].to(kind), bias, whole.soft_cap)
        return found


def load_masked_model(name: str, settings: AugmentSettings) -> MaskedModel:
    """An encoder with a masked-language-model head.

    Args:
        name: A model folder, run folder or hub name.
        settings: Its device and precision, and what it reads at most.

    Raises:
        ModelError: It is a decoder, has no such head or no mask token, reads fewer tokens than it
            is to read, or cannot be loaded.
    """
    name = model_of_run(name)
    config, tokenizer = load_config(name), load_tokenizer(name)
    architecture = architecture_of(config)
    if architecture.causal:
        raise ModelError(
            f"{name!r} is a decoder, which reads nothing behind the word that it predicts; give an"
            " encoder with a masked-language-model head"
        )
    if not architecture.head:
        raise ModelError(no_head(name))
    if tokenizer.mask_token_id is None:
        raise ModelError(
            f"the tokenizer of {name!r} has no mask token; name it in its tokenizer_config.json"
            ' ("mask_token": "[MASK]"), or give a model that was trained with one'
        )
    readable = shape_of(config, architecture).max_position_embeddings
    limit = min(readable, settings.max_length)
    if settings.max_length not in (limit, AugmentSettings.max_length):
        raise ModelError(
            f"{name!r} reads {readable} tokens of a text, and max_length is"
            f" {settings.max_length}; give {readable} or less"
        )
    frame = frame_of(tokenizer)
    if limit <= (special := len(frame.first) + len(frame.last)):
        raise ModelError(
            f"{name!r} is to read {limit} tokens of a text, of which {special} are special tokens;"
            f" give a max_length of {special + 1} or more"
        )
    device = choose_device(settings.device)
    half = choose_precision(settings.precision, device).half
    model: Any = load_model(name, architecture=architecture, with_head=True)
    return MaskedModel(name, model.to(device), architecture, tokenizer, limit, half)


def top_tokens(
    logits: Float[Tensor, "rows tokens"],
    own: Int[ndarray, " rows"],
    vocabulary: WordTokens,
    *,
    top_k: int,
) -> list[list[int]]:
    """The columns of the largest logits of each row, without those of the row's own word.

    Args:
        logits: A column for each token of the vocabulary.
        own: The key of each row's word.
        vocabulary: The tokens.
        top_k: Columns of a row at most.
    """
    most = min(top_k + vocabulary.most_alike, logits.shape[1])
    columns = logits.topk(most).indices.cpu().numpy()
    others = vocabulary.keys[columns] != own[:, None]
    return [row[keep][:top_k].tolist() for row, keep in zip(columns, others, strict=True)]


def replaced(
    texts: Sequence[Words],
    candidates: Sequence[Candidates],
    chance: np.random.Generator,
    *,
    replace_prob: float,
) -> list[Words] | None:
    """The texts of a row with some of their words replaced: at least one; None where none can be.

    Args:
        texts: Of the row.
        candidates: Of each text.
        chance: Each place draws two numbers: whether it is replaced, and by which candidate.
        replace_prob: Probability that a word is replaced.
    """
    places = [(text, place) for text, some in enumerate(candidates) for place in sorted(some)]
    if not places:
        return None
    drawn = chance.random((len(places), 2))
    # Where no word is drawn, the one that was nearest to it is replaced.
    bound = max(replace_prob, float(np.nextafter(drawn[:, 0].min(), 1)))
    new: list[dict[int, str]] = [{} for _ in texts]
    for (text, place), (whether, which) in zip(places, drawn, strict=True):
        if whether < bound:
            words = candidates[text][place]
            new[text][place] = words[int(which * len(words))]
    return [text.changed(words) for text, words in zip(texts, new, strict=True)]
