"""Several processes write one batch: each its share of the rows, and all have the whole of it."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch

from .write import Written


def written_by_all(
    rows: int, process: int, processes: int, write_rows: Callable[[range], Written | None]
) -> Written:
    """What the processes write of a batch, together, in the order of its rows.

    Args:
        rows: Of the batch.
        process: Which one this is.
        processes: How many there are; of one, nothing is exchanged.
        write_rows: Writes some of the rows; gives None where there are none.
    """
    share = -(-rows // processes)
    mine = write_rows(range(min(rows, process * share), min(rows, (process + 1) * share)))
    if processes == 1 and mine is not None:
        return mine
    sent = {f.name: getattr(mine, f.name).cpu() for f in fields(mine)} if mine else None
    found: list[Any] = [None] * processes
    torch.distributed.all_gather_object(found, sent)
    parts = [part for part in found if part]
    return Written(**{f.name: torch.cat([p[f.name] for p in parts]) for f in fields(Written)})
