"""How fast a device multiplies matrices at most: the limit of every training on it."""

import time
from functools import cache

import torch
from torch import Tensor

# Widths at which one product is long enough to be measured, and short enough to repeat it.
_WIDTH_CUDA, _WIDTH = 8192, 1024
_SECONDS, _AT_ONCE = 0.2, 8


@cache
def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """The floating-point operations a second of the fastest products of two large matrices.

    Measured once in a process, in less than a second; a product of matrices of a width w is 2 w^3
    operations.

    Args:
        device: Whose rate it is; products are queued several at a time, as a training queues them.
        dtype: Of the matrices.
    """
    width = _WIDTH_CUDA if device.type == "cuda" else _WIDTH
    together = 1 if device.type == "cpu" else _AT_ONCE
    chance = torch.Generator(device).manual_seed(0)  # a GPU multiplies zeros faster than numbers
    matrix = torch.randn(width, width, generator=chance, device=device, dtype=dtype)
    found = torch.empty_like(matrix)
    _seconds(matrix, found, 1)  # warms up
    best, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < _SECONDS:
        best = min(best, _seconds(matrix, found, together))
    return 2.0 * width**3 / best


def _seconds(matrix: Tensor, found: Tensor, together: int) -> float:
    """The time of one of several products that are queued together."""
    began = time.perf_counter()
    for _ in range(together):
        torch.matmul(matrix, matrix, out=found)
    found[0, 0].item()  # waits until the device is done
    return (time.perf_counter() - began) / together
