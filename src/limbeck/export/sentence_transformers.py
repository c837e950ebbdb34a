"""A model of texts as a folder of sentence-transformers, in the form of its version 2.0.

Later versions up to 6 load this form too, a Dense layer from 3.0.1 on: its weights are safetensors,
which earlier ones do not read.
"""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ..errors import ModelError, TrainingError
from ..models.quiet import quiet_transformers
from ..models.sentence_transformers import (
    MODULES,
    OF_THE_MODEL,
    OF_THE_TRANSFORMER,
    POOLING_SWITCHES,
    Pooling,
)
from ..models.sentences.load import DENSE_WEIGHTS
from ..models.sentences.vectors import ACTIVATIONS, Dense, SentenceVectors
from ..system.files import whole_folder
from ..tokenization.post_processor import save_tokenizer

_FORM = "2.0.0"
_KINDS = "sentence_transformers.models."
# Switches that version 2.0 knows; it refuses a file with others, so that those are only written
# where they are needed.
_OLDEST_SWITCHES = 4


@dataclass(frozen=True)
class SentenceSettings:
    """What such a folder says beside its modules.

    Attributes:
        max_length: Tokens of a text that are read, special tokens included.
        prompts: Texts that are put before an input, by their names.
        default_prompt: The name of the one that is used where none is given.
        similarity: How vectors are compared: cosine, dot, euclidean or manhattan.
        lowercase: Whether the library lower-cases a text before it is tokenized.
    """

    max_length: int
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    similarity: str = "cosine"
    lowercase: bool = False


def export_sentence_model(
    student: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    vectors: SentenceVectors,
    folder: Path | str,
    *,
    settings: SentenceSettings,
    card: str,
) -> None:
    """Write the transformer, its tokenizer and what makes vectors of texts; whole, or not at all.

    transformers and limbeck load the folder too, as that of the transformer alone. Vectors that
    are truncated are written with one more Dense layer, which keeps the first coordinates,
    because most versions read no other sign of it.

    Args:
        student: Its vocabulary head is left out.
        tokenizer: Written beside it; one without a padding token pads with its end of text, as the
            library cannot read several texts without one.
        vectors: What was trained with the student, or how its texts become vectors without.
        folder: Replaced if it is there.
        settings: What the folder says of texts and prompts.
        card: The text of README.md.

    Raises:
        ModelError: The form cannot hold the order of the pooling, the default prompt is none of
            the prompts, or the tokenizer has nothing to pad with.
        TrainingError: The folder could not be written, for example because the disk is full.
    """
    body: Any = student.base_model
    try:
        with whole_folder(Path(folder)) as part, quiet_transformers():
            body.save_pretrained(part)
            save_tokenizer(_with_padding(tokenizer), part)
            write_modules(vectors, settings, part)
            (part / "README.md").write_text(card, encoding="utf-8")
    except OSError as error:
        raise TrainingError(
            f"the student could not be written to {folder}: {error}; make room, and write it again"
        ) from error


def _with_padding(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The same with a padding token, which the attention mask hides from the model."""
    if tokenizer.pad_token is not None:
        return tokenizer
    padding = tokenizer.eos_token or tokenizer.unk_token
    if padding is None:
        raise ModelError(
            "the tokenizer has no token to pad texts with, so that sentence-transformers cannot"
            " read several at once; give it a pad_token (tokenizer_config.json)"
        )
    padded = copy.deepcopy(tokenizer)
    padded.pad_token = padding
    return padded


def write_modules(vectors: SentenceVectors, settings: SentenceSettings, part: Path) -> None:
    """Write what makes vectors beside a transformer and its tokenizer.

    Args:
        vectors: As for `export_sentence_model`.
        settings: As there.
        part: The transformer's folder.

    Raises:
        ModelError: As there.
    """
    pooling = _pooling(vectors)
    if settings.default_prompt is not None and settings.default_prompt not in settings.prompts:
        raise ModelError(
            f"the default prompt {settings.default_prompt!r} is none of the prompts"
            f" ({', '.join(settings.prompts) or 'there are none'}); give the text of one of that"
            " name"
        )
    layers = [layer for layer in vectors.dense if isinstance(layer, Dense)]
    if vectors.truncate_dim is not None:
        layers.append(_first_coordinates(vectors.full_width, vectors.truncate_dim))
    _name_for_all_versions(part / "tokenizer_config.json")
    kinds = [("", "Transformer"), (_write(part, 1, "Pooling", pooling), "Pooling")]
    for number, layer in enumerate(layers, 2):
        kinds.append((_write_dense(part, number, layer), "Dense"))
    if vectors.normalize:
        kinds.append((_write(part, len(kinds), "Normalize", None), "Normalize"))
    _write_json(part / MODULES, [_module(n, *kind) for n, kind in enumerate(kinds)])
    _write_json(part / OF_THE_MODEL, _of_the_model(settings))
    reading = {"max_seq_length": settings.max_length, "do_lower_case": settings.lowercase}
    _write_json(part / OF_THE_TRANSFORMER, reading)


def _name_for_all_versions(file: Path) -> None:
    """Name the class of a fast tokenizer as transformers 4 does too, on which versions to 5.1 run.

    Version 5 of transformers has a name of its own for it, and reads both.
    """
    settings = json.loads(file.read_text(encoding="utf-8"))
    if settings.get("tokenizer_class") == "TokenizersBackend":
        _write_json(file, settings | {"tokenizer_class": "PreTrainedTokenizerFast"})


def check_order(pooling: Pooling) -> None:
    """See that a folder can name the pooling: by switches, which have no order of their own.

    Raises:
        ModelError: Its modes stand in another order, or one of them twice.
    """
    ordered = tuple(mode for mode in POOLING_SWITCHES.values() if mode in pooling.modes)
    if ordered != pooling.modes:
        raise ModelError(
            f"the pooling is {' + '.join(pooling.modes)}, and a folder of sentence-transformers"
            f" concatenates {' + '.join(ordered)}; use a model with the modes in this order, each"
            " once"
        )


def _pooling(vectors: SentenceVectors) -> dict[str, Any]:
    """The pooling as switches."""
    pooling = vectors.pooling
    check_order(pooling)
    switches = {
        name: mode in pooling.modes
        for number, (name, mode) in enumerate(POOLING_SWITCHES.items())
        if number < _OLDEST_SWITCHES or mode in pooling.modes
    }
    prompt = {} if pooling.include_prompt else {"include_prompt": False}
    return {"word_embedding_dimension": vectors.hidden_size, **switches, **prompt}


def _first_coordinates(width: int, kept: int) -> Dense:
    layer = Dense(width, kept, bias=False, activation=nn.Identity.__name__)
    with torch.no_grad():
        layer.linear.weight.copy_(torch.eye(kept, width))
    return layer


def _write_dense(part: Path, number: int, layer: Dense) -> str:
    kind = ACTIVATIONS[layer.activation]
    settings = {
        "in_features": layer.in_features,
        "out_features": layer.out_features,
        "bias": layer.linear.bias is not None,
        "activation_function": f"{kind.__module__}.{kind.__qualname__}",
        # Versions before 5.7 refuse the key.
        **({"use_residual": True} if layer.adds_input else {}),
    }
    path = _write(part, number, "Dense", settings)
    weights = {n: w.detach().cpu().contiguous() for n, w in layer.state_dict().items()}
    save_file(weights, part / path / DENSE_WEIGHTS)
    return path


def _write(part: Path, number: int, kind: str, settings: Mapping[str, Any] | None) -> str:
    """Write the folder of a module, and return its path."""
    path = f"{number}_{kind}"
    (part / path).mkdir()
    if settings is not None:
        _write_json(part / path / "config.json", settings)
    return path


def _module(number: int, path: str, kind: str) -> dict[str, Any]:
    return {"idx": number, "name": str(number), "path": path, "type": f"{_KINDS}{kind}"}


def _of_the_model(settings: SentenceSettings) -> dict[str, Any]:
    versions = {
        "sentence_transformers": _FORM,
        "transformers": transformers.__version__,
        "pytorch": torch.__version__,
    }
    return {
        "__version__": versions,
        "prompts": dict(settings.prompts),
        "default_prompt_name": settings.default_prompt,
        "similarity_fn_name": settings.similarity,
    }


def _write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
