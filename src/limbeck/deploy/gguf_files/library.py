"""Models and contexts of llama.cpp, by the functions of llama-cpp-python that are those of C."""

import ctypes
import sys
import weakref
from collections import deque
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from ...errors import ExportError
from ..formats import need_engine

_ERROR = 4  # llama.cpp's level of errors
_ERRORS: deque[str] = deque(maxlen=1)  # what it printed last


def library() -> Any:
    """llama-cpp-python, which prints nothing.

    Raises:
        MissingExtraError: It is not installed.
    """
    need_engine("llama.cpp", "running a GGUF file")
    found: Any = import_module("llama_cpp")
    found.llama_log_set(_keep_errors(), None)
    return found


@cache  # llama.cpp calls it as long as the process lives
def _keep_errors() -> Any:

    def keep(level: int, text: bytes, _: Any) -> None:
        if level == _ERROR:
            _ERRORS.append(text.decode(errors="replace").strip())

    return import_module("llama_cpp").llama_log_callback(keep)


class Model:
    """A file that llama.cpp has loaded.

    Args:
        file: Of GGUF.
        vocabulary_only: Load no weights.

    Attributes:
        pointer: llama.cpp's.
        vocabulary: The same of its tokenizer.

    Raises:
        ExportError: It cannot be loaded.
        MissingExtraError: llama-cpp-python is not installed.
    """

    def __init__(self, file: Path, *, vocabulary_only: bool = False) -> None:
        self._library = library()
        settings = self._library.llama_model_default_params()
        settings.vocab_only, settings.n_gpu_layers = vocabulary_only, 0
        settings.use_extra_bufts = not _has_tiles()
        self.pointer = self._library.llama_model_load_from_file(str(file).encode(), settings)
        if not self.pointer:
            raise ExportError(
                f"llama.cpp cannot load {file.name}: {' '.join(_ERRORS) or 'it does not say why'};"
                " export it again, or with other --formats"
            )
        weakref.finalize(self, self._library.llama_model_free, self.pointer)
        self.vocabulary = self._library.llama_model_get_vocab(self.pointer)

    @property
    def tokens(self) -> int:
        """The number of tokens that it knows."""
        return int(self._library.llama_vocab_n_tokens(self.vocabulary))

    @property
    def width(self) -> int:
        """Coordinates of a hidden state."""
        return int(self._library.llama_model_n_embd(self.pointer))

    def said(self, key: str) -> str:
        """What the file says under a key; empty where it says nothing."""
        found = ctypes.create_string_buffer(64)
        size = self._library.llama_model_meta_val_str(self.pointer, key.encode(), found, 64)
        return found.value.decode() if size > 0 else ""

    def ends(self, token: int) -> bool:
        """Whether a token ends a generated text."""
        return bool(self._library.llama_vocab_is_eog(self.vocabulary, token))

    def tokenized(self, text: str) -> list[int]:
        """The ids of a text with the special tokens around it; those that it spells are text."""
        data = text.encode()
        found = (self._library.llama_token * (len(data) + 8))()
        count = self._library.llama_tokenize(
            self.vocabulary, data, len(data), found, len(found), True, False
        )
        return list(found[:count])


class Context:
    """Room for the tokens of some texts, empty at first.

    Args:
        model: That runs.
        tokens: Of all texts together, at most.
        texts: At most.
        threads: That compute.
        embeddings: Give hidden states or vectors instead of logits.

    Attributes:
        tokens: As many as were given, or a few more.
        texts: As given.

    Raises:
        ExportError: There is not enough memory.
    """

    def __init__(
        self, model: Model, *, tokens: int, texts: int, threads: int, embeddings: bool
    ) -> None:
        tokens = -(-tokens // texts) * texts  # llama.cpp aborts if it is no multiple
        self._library, self.tokens, self.texts = library(), tokens, texts
        self._model = model  # is freed after its contexts
        settings = self._library.llama_context_default_params()
        settings.n_ctx = settings.n_batch = settings.n_ubatch = tokens
        settings.n_threads = settings.n_threads_batch = threads
        settings.n_seq_max, settings.kv_unified = texts, True
        settings.embeddings = embeddings
        self._pointer = self._library.llama_init_from_model(model.pointer, settings)
        if not self._pointer:
            raise ExportError(f"llama.cpp has no room for {tokens:,} tokens; give shorter texts")
        weakref.finalize(self, self._library.llama_free, self._pointer)

    def clear(self) -> None:
        """Forget all texts; an encoder remembers none."""
        if memory := self._library.llama_get_memory(self._pointer):
            self._library.llama_memory_clear(memory, False)

    def run(
        self, texts: Sequence[Int[ndarray, "..."]], *, first: int = 0, last_only: bool = False
    ) -> None:
        """Run the model on texts, one after another in one batch.

        Args:
            texts: Tokens of each.
            first: The position of the first token of each.
            last_only: Give the output of the last token alone.

        Raises:
            ExportError: llama.cpp fails.
        """
        total, place = sum(map(len, texts)), 0
        batch = self._library.llama_batch_init(total, 0, 1)
        try:
            for number, text in enumerate(texts):
                for position, token in enumerate(text, first):
                    batch.token[place], batch.pos[place] = int(token), position
                    batch.n_seq_id[place], batch.seq_id[place][0] = 1, number
                    batch.logits[place] = not last_only or place == total - 1
                    place += 1
            batch.n_tokens = total
            failed = self._library.llama_decode(self._pointer, batch)
        finally:
            self._library.llama_batch_free(batch)
        if failed:
            raise ExportError(f"llama.cpp could not compute {total} tokens (its code is {failed})")

    def logits(self, count: int) -> Float[ndarray, "count vocabulary"]:
        """The logits of so many tokens that were run last."""
        return self._numbers(self._library.llama_get_logits, count, self._model.tokens)

    def states(self, count: int) -> Float[ndarray, "count width"]:
        """The hidden states of so many tokens that were run last."""
        return self._numbers(self._library.llama_get_embeddings, count, self._model.width)

    def vector(self, text: int) -> Float[ndarray, " width"]:
        """The pooled vector of a text, by its number among those that were run last."""

        def read(pointer: Any) -> Any:
            return self._library.llama_get_embeddings_seq(pointer, text)

        found: ndarray = self._numbers(read, 1, self._model.width)[0]
        return found

    def _numbers(self, read: Any, count: int, width: int) -> ndarray:
        """A copy of numbers that llama.cpp holds."""
        held = np.ctypeslib.as_array(read(self._pointer), (count * width,))
        found: ndarray = held.reshape(count, width).copy()
        return found


@cache
def _has_tiles() -> bool:
    """Whether the processor has AMX, whose instructions some virtual machines name and refuse.

    A refused one would end the process; llama.cpp then computes with AVX-512 and VNNI.
    """
    if sys.platform != "linux":
        return False
    return "amx_tile" in Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
