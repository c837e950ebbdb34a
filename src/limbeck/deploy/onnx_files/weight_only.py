"""ONNX graphs of decoders whose weights alone are rounded, in blocks of a row: 8 or 4 bits.

A decoder that generates reads all its weights for every token, so that smaller weights are faster
ones, while activations keep their range. The vocabulary head and the embedding table stay in 8
bits; where they are tied they are one array, which both read.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...student.rounding import BLOCK  # inputs with a scale of their own, as in GGUF's Q8_0
from .tables_in_8_bits import tables_in_8_bits

_COMPUTES_IN_INT8 = 4  # ONNX Runtime's accuracy level with which activations are rounded to 8 bits


def weight_only(graph: Any, *, bits: int, vocabulary: int) -> Any:
    """The graph with rounded weights; operators are those of ONNX Runtime.

    Args:
        graph: An `onnx_ir.Model` in float32, which is changed.
        bits: Of the weights of layers, 4 or 8.
        vocabulary: Outputs of the head, which keeps 8 bits.
    """
    _gemm_as_matmul(graph)
    for number, node in enumerate(graph.graph):
        node.name = node.name or f"{node.op_type}_{number}"  # by which the quantizer chooses
    heads = [
        node.name
        for node in graph.graph
        if node.op_type == "MatMul" and _columns(node) == vocabulary
    ]
    graph = _rounded(_rounded(graph, bits, spared=heads), 8)
    _share_tied_tables(graph)
    tables_in_8_bits(graph)
    return graph


def _rounded(graph: Any, bits: int, spared: Sequence[str] = ()) -> Any:
    """Round the weights of all products but some, by the names of nodes."""
    import onnx
    import onnx_ir
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        onnx_ir.save(graph, str(file), external_data="model.onnx.data")
        quantizer = MatMulNBitsQuantizer(
            onnx.load(file),
            bits=bits,
            block_size=BLOCK,
            is_symmetric=True,
            accuracy_level=_COMPUTES_IN_INT8,
            nodes_to_exclude=list(spared),
            op_types_to_quantize=("MatMul",),
        )
        quantizer.process()
        return onnx_ir.from_proto(quantizer.model.model)


def _gemm_as_matmul(graph: Any) -> None:
    """Products with a bias, as of GPT-2, as products and sums: only those have rounded weights."""
    import onnx_ir

    stored = graph.graph.initializers
    for node in list(graph.graph):
        if node.op_type != "Gemm" or node.inputs[1].name not in stored:
            continue
        given = node.attributes
        if any(given.get_float(name, 1.0) != 1.0 for name in ("alpha", "beta")):
            continue
        if given.get_int("transA", 0):
            continue
        weight = node.inputs[1]
        if given.get_int("transB", 0):
            turned = weight.const_value.numpy().T.copy()
            name = f"{weight.name}_turned"
            weight = onnx_ir.val(name, const_value=onnx_ir.tensor(turned, name=name))
            graph.graph.register_initializer(weight)
        made = [onnx_ir.node("MatMul", [node.inputs[0], weight], name=f"{node.name}_product")]
        if len(node.inputs) > 2:
            made.append(onnx_ir.node("Add", [made[0].outputs[0], node.inputs[2]]))
        graph.graph.insert_before(node, made)
        node.outputs[0].replace_all_uses_with(made[-1].outputs[0], replace_graph_outputs=True)
        graph.graph.remove(node, safe=True)


def _columns(node: Any) -> int | None:
    """The outputs of a product with stored weights."""
    weight = node.inputs[1].const_value
    return None if weight is None or len(weight.shape) != 2 else int(weight.shape[1])


def _share_tied_tables(graph: Any) -> None:
    """Look rows of a tied embedding table up in the rounded head, so that the file has it once.

    The head's array is [vocabulary, blocks, numbers of a block]: whole numbers from 0, of which 128
    is zero, with scales [vocabulary, blocks].
    """
    stored = graph.graph.initializers
    heads = {}
    for node in graph.graph:
        if node.op_type == "MatMulNBits" and node.attributes.get_int("bits", 4) == 8:
            numbers, scales = (one.const_value.numpy() for one in node.inputs[1:3])
            shape = len(numbers), node.attributes.get_int("K", 0)
            heads[shape] = (node, numbers, scales.reshape(len(numbers), -1))
    for node in list(graph.graph):
        table = node.inputs[0] if node.op_type == "Gather" else None
        if table is None or table.name not in stored or node.attributes.get_int("axis", 0) != 0:
            continue
        rows = table.const_value.numpy()
        if rows.shape not in heads or rows.shape[1] % BLOCK:
            continue
        head, numbers, scales = heads[rows.shape]
        whole = (numbers.astype(np.float32) - 128) * scales[..., None]
        if np.abs(whole.reshape(rows.shape) - rows).max() > np.abs(scales).max():
            continue  # another table of the same size
        _look_up(graph, node, head, rows.shape[1])


def _look_up(graph: Any, node: Any, head: Any, width: int) -> None:
    """Replace a lookup by one in the array of a head."""
    import onnx_ir

    def constant(name: str, array: np.ndarray) -> Any:
        if name not in graph.graph.initializers:
            value = onnx_ir.val(name, const_value=onnx_ir.tensor(array, name=name))
            graph.graph.register_initializer(value)
        return graph.graph.initializers[name]

    table, ids = node.inputs
    scales = head.inputs[2]
    if len(scales.const_value.shape) == 1:  # of older versions: all scales in one row
        rows = scales.const_value.numpy().reshape(head.inputs[1].const_value.shape[0], -1)
        scales = constant(f"{scales.name}_rows", rows)
    to_float = {"to": int(onnx_ir.DataType.FLOAT)}
    numbers = onnx_ir.node("Gather", [head.inputs[1], ids], {"axis": 0})
    factors = onnx_ir.node("Gather", [scales, ids], {"axis": 0})
    as_float = onnx_ir.node("Cast", numbers.outputs, to_float)
    zero = constant("zero_of_8_bits", np.array(128, np.float32))
    signed = onnx_ir.node("Sub", [as_float.outputs[0], zero])
    last = constant("last_axis", np.array([-1], np.int64))
    columns = onnx_ir.node("Unsqueeze", [factors.outputs[0], last])
    scaled = onnx_ir.node("Mul", [signed.outputs[0], columns.outputs[0]])
    shape = constant("rows_of_table", np.array([0, 0, width], np.int64))
    joined = onnx_ir.node("Reshape", [scaled.outputs[0], shape])
    graph.graph.insert_before(node, [numbers, factors, as_float, signed, columns, scaled, joined])
    node.outputs[0].replace_all_uses_with(joined.outputs[0])
    graph.graph.remove(node, safe=True)
    if not table.uses():
        del graph.graph.initializers[table.name]
