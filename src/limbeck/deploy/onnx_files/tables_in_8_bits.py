"""Embedding tables of an ONNX graph in 8 bits, with a scale for each row.

One scale for a whole table, as quantizers of graphs have it, leaves a row of small numbers a few
levels: the largest number of a vocabulary is often twenty times the typical one.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int8
from numpy import ndarray

_LARGEST = 127  # of a signed number of 8 bits, so that 0 is in the middle


def rounded_rows(
    table: Float[ndarray, "rows width"],
) -> tuple[Int8[ndarray, "rows width"], Float[ndarray, "rows 1"]]:
    """A table as whole numbers of 8 bits, and the scale of each row.

    Args:
        table: In float32.
    """
    scales = np.abs(table).max(1, keepdims=True) / _LARGEST
    scales[scales == 0] = 1
    return np.rint(table / scales).astype(np.int8), scales.astype(np.float32)


def tables_in_8_bits(graph: Any) -> None:
    """Store the float32 tables that rows are looked up in as 8 bits; in place.

    Args:
        graph: An `onnx_ir.Model`.
    """
    import onnx_ir

    stored = graph.graph.initializers
    for node in list(graph.graph):
        table = node.inputs[0] if node.op_type == "Gather" else None
        if table is None or table.name not in stored or node.attributes.get_int("axis", 0) != 0:
            continue
        numbers = table.const_value.numpy()
        if numbers.ndim != 2 or numbers.dtype != np.float32:
            continue
        rows, ids = [], node.inputs[1]
        for suffix, array in zip(("int8", "scales"), rounded_rows(numbers), strict=True):
            name = f"{table.name}_{suffix}"
            if name not in stored:
                value = onnx_ir.val(name, const_value=onnx_ir.tensor(array, name=name))
                graph.graph.register_initializer(value)
            rows.append(onnx_ir.node("Gather", [stored[name], ids], {"axis": 0}))
        whole = onnx_ir.node("Cast", rows[0].outputs, {"to": int(onnx_ir.DataType.FLOAT)})
        scaled = onnx_ir.node("Mul", [*whole.outputs, *rows[1].outputs])
        graph.graph.insert_before(node, [*rows, whole, scaled])
        node.outputs[0].replace_all_uses_with(scaled.outputs[0])
        graph.graph.remove(node, safe=True)
        if not table.uses():
            del stored[table.name]


def store_transposed(graph: Any) -> None:
    """Store the transposed weights of tied heads, which else would not be quantized; in place.

    The exporter leaves the transposition of a large table in the graph, and quantizers take only
    weights that are stored.

    Args:
        graph: An `onnx_ir.Model`.
    """
    import onnx_ir

    stored = graph.graph.initializers
    for node in list(graph.graph):
        if node.op_type != "Transpose" or node.inputs[0].name not in stored:
            continue
        table, order = node.inputs[0].const_value.numpy(), node.attributes.get("perm")
        turned = table.transpose(order.as_ints() if order else None).copy()
        out = node.outputs[0]
        value = onnx_ir.val(f"{out.name}_stored", const_value=onnx_ir.tensor(turned))
        graph.graph.register_initializer(value)
        out.replace_all_uses_with(value)
        graph.graph.remove(node, safe=True)
