"""How NNCF makes the products of an OpenVINO model those of 8 bits, so that sums are exact.

Without VNNI or AMX, sums of 16 bits may saturate: weights have 7 bits there, and products of two
activations stay as they are.
"""

from importlib import import_module
from typing import Any


def rounding_options(graph: Any, *, reduced: bool) -> dict[str, Any]:
    """Options of `nncf.quantize`, for a processor that adds in 32 bits or, ``reduced``, in 16.

    Args:
        graph: An `openvino.Model`.
        reduced: As `Int8Range.reduced`.
    """
    nncf = import_module("nncf")
    fix = nncf.OverflowFix.ENABLE if reduced else nncf.OverflowFix.DISABLE
    left = nncf.IgnoredScope(names=products_of_activations(graph)) if reduced else None
    parameters = nncf.AdvancedQuantizationParameters(overflow_fix=fix)
    return {"ignored_scope": left, "advanced_parameters": parameters}


def products_of_activations(graph: Any) -> list[str]:
    """Names of the products in which no factor is stored: of queries and keys, of attention."""
    computed, found = set(), []
    for node in graph.get_ordered_ops():
        given = [value.get_node().get_friendly_name() in computed for value in node.input_values()]
        if any(given) or node.get_type_name() == "Parameter":
            computed.add(node.get_friendly_name())
        if node.get_type_name() == "MatMul" and all(given):
            found.append(node.get_friendly_name())
    return found
