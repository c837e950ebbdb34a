"""The ONNX graphs of a model: in float32, with ONNX Runtime's fusions, and in 8 bits.

All are made by transformers' exporters and by onnxruntime from one trace of the model.
"""

import re
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from ...errors import ExportError, first_line
from ...models.quiet import quiet_exporters
from ..arrays import Feed
from ..formats import FLOAT32
from ..source import Source
from .tables_in_8_bits import store_transposed, tables_in_8_bits
from .weight_only import weight_only

_LARGEST = 1_900_000_000  # bytes of a protobuf file, with room below its limit of 2 GiB
_OPERATORS = ("MatMul", "Gemm")
_OPERATOR = re.compile(r"(?:aten|prims|torchvision)[.:]+\w+(?:\.\w+)?")


def float32_graph(source: Source) -> Any:
    """The model as an `onnx_ir.Model` of any batch size and length, without metadata.

    Raises:
        ExportError: An operator of the model has none in ONNX, or its forward cannot be traced.
    """
    exporters = _exporters()
    sample = source.example()
    size = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    settings = exporters.OnnxConfig(dynamic=True, dynamic_shapes=dict.fromkeys(sample, size))
    try:
        with quiet_exporters():
            found = exporters.OnnxExporter().export(source.module, sample, settings).program
    except Exception as error:  # of torch.export, torch.onnx and onnxscript, without a base
        raise ExportError(_not_exported(source.name, error)) from error
    return stripped(found)


def fused_graph(file: Path) -> Any:
    """The graph with operators of ONNX Runtime in place of several of ONNX.

    Args:
        file: The float32 file.

    Raises:
        ExportError: It cannot be fused.
    """
    return _made(file, "the fused graph", _fused)


def int8_graph(file: Path, *, reduced: bool) -> Any:
    """The graph with weights and tables in 8 bits, whose activations are rounded while it runs.

    Args:
        file: The float32 file.
        reduced: Whether weights have 7 bits.

    Raises:
        ExportError: It cannot be quantized.
    """
    return _made(file, "the graph in 8 bits", lambda graph: _int8(graph, reduced=reduced))


def write_graph(graph: Any, file: Path) -> None:
    """Write a graph in one file; weights that do not fit one stand beside it."""
    import onnx_ir

    weights = graph.graph.initializers.values()
    size = sum(one.const_value.nbytes for one in weights if one.const_value is not None)
    beside = f"{file.name}.data" if size > _LARGEST else None
    onnx_ir.save(graph, str(file), external_data=beside)


def stripped(graph: Any) -> Any:
    """The graph without what its exporter noted in it: traces of code, names of modules."""
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    ClearMetadataAndDocStringPass()(graph)
    graph.metadata_props.clear()
    return graph


def static_int8_graph(file: Path, feeds: Sequence[Feed], *, reduced: bool) -> Any:
    """The graph in 8 bits whose ranges of activations are fixed: those of calibration texts.

    Args:
        file: The float32 file.
        feeds: The calibration texts.
        reduced: Whether weights have 7 bits.

    Raises:
        ExportError: It cannot be quantized.
    """
    what = "the graph in 8 bits with fixed ranges"
    return _made(file, what, lambda graph: _int8(graph, reduced=reduced, feeds=feeds))


def weight_only_graph(file: Path, *, bits: int, vocabulary: int) -> Any:
    """The graph of a decoder whose weights alone are rounded; see `weight_only`.

    Args:
        file: The float32 file.
        bits: Of the weights of layers, 4 or 8.
        vocabulary: Outputs of the head.

    Raises:
        ExportError: It cannot be quantized.
    """
    return _made(
        file,
        f"the graph with weights in {bits} bits",
        lambda graph: weight_only(_fused_decoder(graph), bits=bits, vocabulary=vocabulary),
    )


def _made(file: Path, what: str, change: Callable[[Any], Any]) -> Any:
    import onnx_ir

    graph = onnx_ir.load(file)
    onnx_ir.external_data.load_to_model(graph)
    try:
        with quiet_exporters():
            return stripped(change(graph))
    except Exception as error:  # of two packages, without a base
        raise ExportError(
            f"{what} cannot be made of the float32 graph: {first_line(error)}; leave it out"
            f" (--formats {FLOAT32})"
        ) from error


def _fused(graph: Any) -> Any:
    from transformers.exporters.onnxruntime_fusions import fuse_for_onnxruntime

    fuse_for_onnxruntime(graph, "cpu")
    return graph


def _fused_decoder(graph: Any) -> Any:
    """Fused, with a tied head whose weights are stored as those of other layers."""
    store_transposed(graph)
    return _fused(graph)


def _int8(graph: Any, *, reduced: bool, feeds: Sequence[Feed] | None = None) -> Any:
    """Weights in 8 bits; ranges of activations are those of texts, or of what is being read."""
    from onnxruntime.quantization import QuantType

    exporters = _exporters()
    store_transposed(graph)
    tables_in_8_bits(graph)
    shared = {
        "op_types_to_quantize": list(_OPERATORS),
        "per_channel": True,
        "reduce_range": reduced,
        "weight_type": QuantType.QInt8,
    }
    if feeds is None:
        settings, samples = exporters.OnnxRuntimeDynamicConfig(**shared), None
    else:
        settings = exporters.OnnxRuntimeStaticConfig(
            **shared,
            activation_type=QuantType.QUInt8,
            extra_options={"MatMulConstBOnly": True},  # products of activations stay in float32
        )
        samples = [{name: torch.from_numpy(one) for name, one in feed.items()} for feed in feeds]
    quantizer = exporters.OnnxRuntimeQuantizer(settings, calibration_dataset=samples)
    return quantizer.quantize(graph, {}, exporters.ExportFormat.ONNX)


def _exporters() -> Any:
    """The exporters of transformers, which names them for no type checker."""
    return import_module("transformers.exporters")


def _not_exported(name: str, error: BaseException) -> str:
    """The message of a failed export, with the operator where it is named."""
    chain: list[str] = []
    link: BaseException | None = error
    while link is not None:
        chain.append(str(link))
        link = link.__cause__ or link.__context__
    for text in reversed(chain):
        if "No ONNX function" in text and (found := _OPERATOR.search(text)):
            return (
                f"{name!r} cannot be written as ONNX, which has nothing for the operator"
                f" {found.group()}; export a model without it"
            )
    return (
        f"{name!r} cannot be written as ONNX: {first_line(error)}; `limbeck inspect` says what"
        " kind of model it is"
    )
