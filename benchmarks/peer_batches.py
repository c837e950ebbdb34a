"""The batches of a job's folder, as other packages' trainers read them."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

Row = dict[str, Any]


def rows_of(batches: list[Row], *names: str) -> list[Row]:
    """The rows of all batches, with these tensors."""
    return [
        {name: batch[name][row] for name in names}
        for batch in batches
        for row in range(len(batch["input_ids"]))
    ]


def as_dataset(rows: list[Row]) -> Any:
    """A data set that trainers look at; they read the rows themselves."""
    from datasets import Dataset

    return Dataset.from_list(
        [{k: v.tolist() if isinstance(v, Tensor) else v for k, v in row.items()} for row in rows]
    )


def read_batches(folder: Path) -> list[Row]:
    """The batches of a job, as `peer_folders.py` has written them."""
    tensors = load_file(folder / "batches.safetensors")
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    found: list[Row] = [{"texts": some} for some in texts]
    for key, tensor in tensors.items():
        number, name = key.split(".")
        found[int(number)][name] = tensor
    return found
