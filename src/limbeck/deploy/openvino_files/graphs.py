"""OpenVINO models: of a model in torch, and in 8 bits by NNCF.

Source: transformers' exporter for OpenVINO; NNCF, post-training quantization and `OverflowFix`.
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from ...errors import ExportError, first_line
from ...models.openvino_package import openvino_module, without_telemetry
from ...models.openvino_rounding import rounding_options
from ...models.quiet import quiet_exporters
from ..arrays import Feed
from ..source import Source


def openvino_graph(source: Source) -> Any:
    """The model as an `openvino.Model` in float32, of any batch size and length.

    Raises:
        ExportError: An operator of the model has none in OpenVINO, or its forward cannot be traced.
    """
    sample = source.example()
    size = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    shapes = dict.fromkeys(sample, size)
    try:
        with quiet_exporters(), without_telemetry():
            exporters = import_module("transformers.exporters")
            settings = exporters.OpenVINOConfig(dynamic=True, dynamic_shapes=shapes, stateful=False)
            return exporters.OpenVINOExporter().export(source.module, sample, settings).program
    except Exception as error:  # of torch.export and openvino, without a base
        raise ExportError(
            f"{source.name!r} cannot be written for OpenVINO: {first_line(error)}; export it to"
            " another of the --formats"
        ) from error


def int8_openvino_graph(file: Path, feeds: Sequence[Feed], *, reduced: bool) -> Any:
    """The model with weights, tables and activations in 8 bits, with ranges that stay.

    Args:
        file: In float32.
        feeds: Arrays that the ranges of activations are read off.
        reduced: Whether weights have 7 bits, and products of two activations are left in float32:
            sums of 16 bits, of processors without VNNI, never saturate then.

    Raises:
        ExportError: It cannot be quantized.
    """
    with quiet_exporters(), without_telemetry():
        exporters = import_module("transformers.exporters")
        graph = read_openvino(file)
        options = rounding_options(graph, reduced=reduced)
        settings = exporters.NNCFQuantizationConfig(subset_size=len(feeds), **options)
        return _quantized(graph, settings, feeds)


def int8_weights_openvino_graph(file: Path) -> Any:
    """The model with weights and tables in 8 bits, which computes in float32.

    A decoder's activations lose much in 8 bits with ranges that stay.

    Args:
        file: In float32.

    Raises:
        ExportError: It cannot be compressed.
    """
    with quiet_exporters(), without_telemetry():
        nncf, exporters = import_module("nncf"), import_module("transformers.exporters")
        settings = exporters.NNCFWeightCompressionConfig(mode=nncf.CompressWeightsMode.INT8_ASYM)
        return _quantized(read_openvino(file), settings, [{}])


def read_openvino(file: Path) -> Any:
    """The `openvino.Model` in a file."""
    return openvino_module().Core().read_model(str(file))


def write_openvino(graph: Any, file: Path, *, half: bool) -> None:
    """Write a model: FILE.xml, and its weights beside it as FILE.bin.

    Args:
        graph: An `openvino.Model`, which loses what its makers noted in it.
        file: Ends in .xml.
        half: Whether weights in float32 become float16; the file computes in float32 all the same.
    """
    notes = graph.get_rt_info()
    for name in list(notes):
        del notes[name]
    openvino_module().save_model(graph, str(file), compress_to_fp16=half)


def _quantized(graph: Any, settings: Any, feeds: Sequence[Feed]) -> Any:
    exporters = import_module("transformers.exporters")
    quantizer = exporters.NNCFOpenVINOQuantizer(settings, calibration_dataset=list(feeds))
    try:
        return quantizer.quantize(graph, dict(feeds[0]), exporters.ExportFormat.OPENVINO)
    except Exception as error:  # of nncf and openvino, without a base
        raise ExportError(
            f"the OpenVINO file cannot be made in 8 bits: {first_line(error)}; leave it out of"
            " --formats"
        ) from error
