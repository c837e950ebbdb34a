"""Several processes generate one batch: each a share of the rows, and all receive the whole."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch

from .decoding import Generated


def generated_by_all(
    rows: int, process: int, processes: int, generate_rows: Callable[[range], Generated | None]
) -> Generated:
    """What all processes generate of a batch, in the order of its rows.

    Args:
        rows: Of the batch.
        process: Number of this process.
        processes: How many there are; a single one exchanges nothing.
        generate_rows: Generates some of the rows; returns None where there are none.
    """
    share = -(-rows // processes)
    mine = generate_rows(range(min(rows, process * share), min(rows, (process + 1) * share)))
    if processes == 1 and mine is not None:
        return mine
    sent = {f.name: getattr(mine, f.name).cpu() for f in fields(mine)} if mine else None
    found: list[Any] = [None] * processes
    torch.distributed.all_gather_object(found, sent)
    parts = [part for part in found if part]
    return Generated(**{f.name: torch.cat([p[f.name] for p in parts]) for f in fields(Generated)})
