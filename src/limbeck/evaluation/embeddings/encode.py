"""Vectors of texts by any model folder, batched by length."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ...errors import EvaluationError, ModelError
from ...models.families.lookup import architecture_of
from ...models.load import load_body, load_config
from ...models.sentence_transformers import Pooling, SentenceModel
from ...models.sentences.load import chain_of, sentence_vectors
from ...models.sentences.vectors import SentenceVectors
from ...models.shapes import shape_of
from ...system.choices import PrecisionChoice
from ...system.device import choose_device, choose_precision
from ...system.progress import told
from ...tokenization.load import load_tokenizer
from ...tokenization.padding import padded, real_tokens
from ...tokenization.plain_text import marked, plain_tokenizer
from ...tokenization.post_processor import Ends, own_frame

QUERY = ("query",)
DOCUMENT = ("document", "passage", "corpus")


@dataclass(frozen=True, kw_only=True)
class Encoder(ABC):
    """Makes vectors of texts: reads them alike, whatever computes the vectors.

    Attributes:
        name: As the user gave it.
        tokenizer: Of the model.
        width: Coordinates of a vector.
        max_length: Tokens of a text that are read, special tokens included.
        prompts: Of the folder, by their names.
        default_prompt: The text that is put before inputs of no role.
        lowercase: Whether texts are lower-cased first.
        notes: Sentences about what the folder does not say, or what is not computed as it says.
    """

    name: str
    tokenizer: PreTrainedTokenizerFast
    width: int
    max_length: int
    prompts: Mapping[str, str]
    default_prompt: str = ""
    lowercase: bool = False
    notes: tuple[str, ...] = ()

    @abstractmethod
    def vectors_of(self, rows: Sequence[list[int]], of_prompt: int) -> Tensor:
        """The vectors [rows, width] of some texts.

        Args:
            rows: The ids of each, without padding.
            of_prompt: Tokens of the prompt at the beginning of each, special ones included.
        """

    def prompt(self, given: str | None, role: Sequence[str] = ()) -> str:
        """The text that is put before every input.

        Args:
            given: The name of a prompt of the folder, or the text of a prompt; None for the
                prompt of the role, and without a role for the folder's default.
            role: Names of prompts for inputs of one kind, `QUERY` or `DOCUMENT`; each stands for
                the others.

        Raises:
            ModelError: A name is given, and the folder has no prompt of that name.
        """
        if given is None:
            found = (self.prompts[name] for name in role if self.prompts.get(name))
            return next(found, "" if role else self.default_prompt)
        same = DOCUMENT if given in DOCUMENT else (given,)
        for name in (given, *same):
            if name in self.prompts:
                return self.prompts[name]
        if given.isidentifier():
            known = ", ".join(self.prompts) or "it has none"
            raise ModelError(
                f"{self.name!r} has no prompt of the name {given!r} ({known}); give one of them,"
                f" or the text itself, as {given + ': '!r}"
            )
        return given

    def encode(
        self,
        texts: Sequence[str],
        *,
        prompt: str = "",
        batch_size: int = 64,
    ) -> Float[ndarray, "texts width"]:
        """The vectors of texts, float32.

        Args:
            texts: Longer ones than the model reads are truncated at their end.
            prompt: The text before each of them.
            batch_size: Texts at once.

        Raises:
            EvaluationError: A text has no tokens, a vector is not finite, or there is no text.
        """
        if not texts:
            raise EvaluationError("there is no text to encode; give one at least")
        ids = self._tokens(texts, prompt)
        of_prompt = self._prompt_tokens(prompt) if prompt else 0
        # The longest first: what does not fit the memory fails at once.
        order = sorted(range(len(ids)), key=lambda number: -len(ids[number]))
        found = np.empty((len(ids), self.width), np.float32)
        with torch.inference_mode():
            starts = range(0, len(order), batch_size)
            for start in told(starts, f"vectors by {self.name}", "batches"):
                numbers = order[start : start + batch_size]
                vectors = self.vectors_of([ids[number] for number in numbers], of_prompt)
                found[numbers] = vectors.cpu().numpy()
        if wrong := np.flatnonzero(~np.isfinite(found).all(1)).tolist():
            raise EvaluationError(
                f"{self.name!r} gives {len(wrong)} of {len(texts)} texts a vector that is not"
                f" finite, the first {texts[wrong[0]]!r:.60}; use precision float32 or look at its"
                " training"
            )
        return found

    def _tokens(self, texts: Sequence[str], prompt: str) -> list[list[int]]:
        """The ids of every text; only prompt and frame give special tokens."""
        if self.lowercase:
            texts, prompt = [text.lower() for text in texts], prompt.lower()
        before, last = marked(self.tokenizer, prompt), len(self._frame[1])
        encoded = plain_tokenizer(self.tokenizer).encode_batch(
            [before + text for text in texts], add_special_tokens=self._framed
        )
        found = []
        for text, tokens in zip(texts, encoded, strict=True):
            ids = tokens.ids
            if len(ids) > self.max_length:
                ids = [*ids[: self.max_length - last], *ids[len(ids) - last :]]
            if not ids:
                raise EvaluationError(
                    f"the tokenizer of {self.name!r} finds no token in the text {text!r:.60}, so it"
                    " has no vector; leave the text out"
                )
            found.append(ids)
        return found

    def _prompt_tokens(self, prompt: str) -> int:
        """Tokens of a prompt, with the special tokens before it."""
        encoded = plain_tokenizer(self.tokenizer).encode(
            marked(self.tokenizer, prompt), add_special_tokens=self._framed
        )
        return len(encoded.ids) - len(self._frame[1])

    @property
    def _framed(self) -> bool:
        """Whether the tokenizer itself puts special tokens around a text; none are added here."""
        return own_frame(self.tokenizer.backend_tokenizer) is not None

    @property
    def _frame(self) -> Ends:
        return own_frame(self.tokenizer.backend_tokenizer) or ((), ())


@dataclass(frozen=True, kw_only=True)
class TextEncoder(Encoder):
    """A model of torch that makes vectors of texts, on its device.

    Attributes:
        body: The transformer.
        vectors: How its states become one vector.
        half: Whether the transformer runs in bfloat16; what follows it never does.
    """

    body: PreTrainedModel
    vectors: SentenceVectors
    half: bool

    def vectors_of(self, rows: Sequence[list[int]], of_prompt: int) -> Tensor:
        """The vectors [rows, width] of some texts."""
        device = self.body.device
        table = padded(rows, self.tokenizer.pad_token_id or 0, np.int64)
        ids = torch.from_numpy(table).to(device)
        mask = torch.from_numpy(real_tokens(rows)).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.half):
            states = self.body(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        prompts = ids.new_full((len(rows),), of_prompt) if of_prompt else None
        found: Tensor = self.vectors(states, mask, prompt_tokens=prompts)
        return found


def load_text_encoder(
    name: str,
    *,
    pooling: str | None = None,
    truncate_dim: int | None = None,
    max_length: int | None = None,
    precision: PrecisionChoice = "auto",
) -> TextEncoder:
    """A model of any architecture that makes vectors of texts.

    Args:
        name: A folder of sentence-transformers or transformers, or any other name of `locate`.
        pooling: Replaces the pooling of the folder: a mode, several joined by ``+``; without
            either the mean.
        truncate_dim: Keep only so many coordinates of a vector, the first ones.
        max_length: Read at most so many tokens of a text; by default what the folder says, or all
            that the model can read.
        precision: Of the transformer; ``auto`` is bfloat16 where the device has it in hardware.

    Raises:
        ModelError: The model cannot be loaded, or as `sentence_vectors`.
    """
    chain = chain_of(name)
    modes = tuple(part.strip() for part in pooling.split("+")) if pooling else ()
    given = Pooling(modes) if modes else None
    vectors = sentence_vectors(name, pooling=given, truncate_dim=truncate_dim)
    config, tokenizer = load_config(name), load_tokenizer(name)
    readable = shape_of(config, architecture_of(config)).max_position_embeddings
    wanted = max_length or (chain and chain.max_length) or tokenizer.model_max_length
    limit = min(readable, wanted)
    special = sum(map(len, own_frame(tokenizer.backend_tokenizer) or ()))
    if limit <= special:
        raise ModelError(
            f"{name!r} is to read {limit} tokens of a text, of which {special} are special tokens;"
            f" give a max_length of {special + 1} or more"
        )
    body: Any = load_body(name)
    device = choose_device()
    body.config.use_cache = False  # a decoder would keep keys and values that nothing needs
    return TextEncoder(
        name=name,
        body=body.to(device),
        tokenizer=tokenizer,
        width=vectors.width,
        vectors=vectors.to(device),
        max_length=limit,
        half=choose_precision(precision, device).half,
        prompts=chain.prompts if chain else {},
        default_prompt=chain.prompts.get(chain.default_prompt or "", "") if chain else "",
        lowercase=bool(chain and chain.lowercase),
        notes=_notes(name, chain, by_default=not modes),
    )


def _notes(name: str, chain: SentenceModel | None, *, by_default: bool) -> tuple[str, ...]:
    """What the folder does not say of vectors, or says and is not computed."""
    if chain is None:
        said = f"{name!r} is no folder of sentence-transformers, so the vector of a text is"
        return (f"{said} the mean of its last hidden states",) if by_default else ()
    if chain.similarity in (None, "cosine"):
        return ()
    return (f"{name!r} names the similarity {chain.similarity!r}, and cosine is computed",)
