"""ExecuTorch programs of a model in torch, whose products XNNPACK computes.

Source: transformers' exporter for ExecuTorch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from ...errors import ExportError, first_line
from ...models.families.lookup import architecture_of
from ...models.quiet import quiet_exporters
from ...models.shapes import shape_of
from ...system.int8_range import Int8Range
from ..source import Source
from .native_log import native_log
from .rewriting import Rewriting

_FEWEST_ROWS, _MOST_ROWS = 2, 32  # that a program reads; fewer than 2 would fix a dimension
# Tokens that a file reads at least, where the tokenizer truncates earlier: as many as are timed.
_SHORTEST = 512
# Bytes of the largest array of a forward: for as many texts as fit, and of one text at most.
_FOR_TEXTS, _FOR_ONE = 2**25, 2**30


def executorch_program(source: Source, int8: Int8Range | None = None) -> Any:
    """The model as a program of up to 32 texts at once, of any length that it reads.

    Args:
        source: The model.
        int8: How weights are rounded to 8 bits, beside tables, and activations while it runs; None
            for float32.

    Raises:
        ExportError: An operator of the model has none in ExecuTorch, its forward cannot be traced,
            or its longest text needs too much memory.
    """
    rows, tokens = most_of(source)
    sample = source.example(_FEWEST_ROWS)
    dim = torch.export.Dim
    size = {0: dim("batch", min=1, max=rows), 1: dim("tokens", min=1, max=tokens)}
    try:
        with quiet_exporters(), native_log(), _plain_attention(source.module.model):
            exporters = import_module("transformers.exporters")
            settings = exporters.ExecutorchConfig(
                dynamic=True,
                dynamic_shapes=dict.fromkeys(sample, size),
                quantizer=Rewriting(int8),
            )
            return exporters.ExecutorchExporter().export(source.module, sample, settings).program
    except Exception as error:  # of torch.export and executorch, without a base
        raise ExportError(
            f"{source.name!r} cannot be written for ExecuTorch: {first_line(error)}; export it to"
            " another of the --formats"
        ) from error


def write_program(program: Any, file: Path) -> None:
    """Write a program in one file, weights inside."""
    with file.open("wb") as out:
        program.write_to_file(out)


def most_of(source: Source) -> tuple[int, int]:
    """Texts at once, and tokens of a text, that a program plans its memory for.

    It is taken when the file is loaded, whatever is read then.

    Raises:
        ExportError: The longest text needs more than 1 GiB for one array.
    """
    tokens = min(source.longest, max(source.reader.limit, _SHORTEST))
    heads = shape_of(source.config, architecture_of(source.config)).num_attention_heads
    width = source.vocabulary if source.kind in ("masked", "causal") else 0
    each = 4 * tokens * max(heads * tokens, width)
    if each > _FOR_ONE:
        raise ExportError(
            f"{source.name!r} reads {tokens} tokens, and an ExecuTorch file takes memory for its"
            f" longest text when it is loaded: {each / 1e9:.1f} GB for one array. Set a smaller"
            " model_max_length in tokenizer_config.json, or export to another of the --formats"
        )
    return max(_FEWEST_ROWS, min(_MOST_ROWS, _FOR_TEXTS // each)), tokens


@contextmanager
def _plain_attention(model: Any) -> Iterator[None]:
    """Attention as products and a softmax, which XNNPACK has.

    The operator for all of it becomes many more, to keep rows without any token finite.
    """
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
