"""The graph that torch has traced, rewritten before it becomes an ExecuTorch program.

Both are done between two traces, at the place where transformers' exporter calls a quantizer.
Source: torchao, quantization by PT2E; ExecuTorch, XNNPACK quantization.
"""

from dataclasses import dataclass
from importlib import import_module
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx

from ...system.int8_range import Int8Range
from ..onnx_files.tables_in_8_bits import rounded_rows

_aten: Any = torch.ops.aten


@dataclass(frozen=True)
class Rewriting:
    """What transformers' exporter takes as its quantizer.

    Attributes:
        int8: How weights are rounded to 8 bits, beside tables, and activations while the file runs;
            None where all stays in float32.
    """

    int8: Int8Range | None
    quantizes_fx_graph = True

    def validate_environment(self, export_format: Any) -> None:
        """Nothing: the packages are installed together with ExecuTorch."""

    def quantize(self, graph: fx.GraphModule, sample: dict[str, Tensor], _: Any) -> fx.GraphModule:
        """The graph with other operators.

        Args:
            graph: Of `torch.export`.
            sample: Its inputs.
        """
        products_of_matrices(graph)
        if self.int8 is not None:
            graph = _rounded_products(graph, sample, largest=63 if self.int8.reduced else 127)
            tables_in_8_bits(graph)
        graph.graph.lint()
        graph.recompile()
        return graph


def products_of_matrices(graph: fx.GraphModule) -> None:
    """Attention's products of four axes as products of three; in place.

    ExecuTorch would copy every factor of the others, the attention of all pairs of tokens too.

    Args:
        graph: Of `torch.export`.
    """
    for node in list(graph.graph.nodes):
        if node.target is not _aten.matmul.default:
            continue
        one, other = (factor.meta["val"].shape for factor in node.args)
        heads = one[1] if len(one) == len(other) == 4 else None
        if not isinstance(heads, int) or str(one[:2]) != str(other[:2]):
            continue
        with graph.graph.inserting_before(node):
            flat = [
                graph.graph.call_function(_aten.flatten.using_ints, (factor, 0, 1))
                for factor in node.args
            ]
            product = graph.graph.call_function(_aten.bmm.default, tuple(flat))
            whole = graph.graph.call_function(_aten.unflatten.int, (product, 0, [-1, heads]))
        node.replace_all_uses_with(whole)
        graph.graph.erase_node(node)


def tables_in_8_bits(graph: fx.GraphModule) -> None:
    """Store the float32 tables that rows are looked up in as 8 bits, each row with a scale.

    Args:
        graph: Of `torch.export`, which is changed.
    """
    for node in list(graph.graph.nodes):
        if node.target is not _aten.embedding.default or node.args[0].op != "get_attr":
            continue
        named = node.args[0].target
        table = attrgetter(named)(graph)
        if table.ndim != 2 or table.dtype != torch.float32:
            continue
        rows, numbers = [], rounded_rows(table.detach().numpy())
        for suffix, array in zip(("int8", "scales"), numbers, strict=True):
            name = f"{named.replace('.', '_')}_{suffix}"
            graph.register_buffer(name, torch.from_numpy(array))
            with graph.graph.inserting_before(node):
                stored = graph.graph.get_attr(name)
                found = graph.graph.call_function(_aten.embedding.default, (stored, node.args[1]))
            rows.append(found)
        with graph.graph.inserting_before(node):
            whole = graph.graph.call_function(_aten.to.dtype, (rows[0], torch.float32))
            scaled = graph.graph.call_function(_aten.mul.Tensor, (whole, rows[1]))
        node.replace_all_uses_with(scaled)
        graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()


def _rounded_products(
    graph: fx.GraphModule, sample: dict[str, Tensor], *, largest: int
) -> fx.GraphModule:
    """The graph whose linear layers have weights of 8 bits, with a scale for each output.

    Args:
        graph: Of `torch.export`.
        sample: Its inputs.
        largest: Of the whole numbers that weights become.
    """
    pt2e = import_module("torchao.quantization.pt2e.quantize_pt2e")
    xnnpack = import_module("executorch.backends.xnnpack.quantizer.xnnpack_quantizer")
    settings = xnnpack.get_symmetric_quantization_config(
        is_per_channel=True, is_dynamic=True, weight_qmin=-largest, weight_qmax=largest
    )
    quantizer = xnnpack.XNNPACKQuantizer().set_operator_type(_aten.linear.default, settings)
    # It would make float32 of the numbers that positions are computed with, for sums that it rounds
    # only with fixed ranges.
    quantizer.transform_for_annotation = _unchanged
    prepared = pt2e.prepare_pt2e(graph, quantizer)
    with torch.no_grad():
        prepared(**sample)  # ranges of weights are read off; those of activations while it runs
    found: fx.GraphModule = pt2e.convert_pt2e(prepared)
    return found


def _unchanged(graph: fx.GraphModule) -> fx.GraphModule:
    return graph
