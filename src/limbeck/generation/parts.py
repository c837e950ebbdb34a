"""Where in its text a token stands: in the first, the middle or the last third."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

PARTS = 3


def parts_of(lengths: Int[Tensor, " texts"]) -> Int[Tensor, "texts longest"]:
    """The part that each place of each text stands in, 0 to 2; -1 behind its end.

    >>> parts_of(torch.tensor([4, 3])).tolist()
    [[0, 0, 1, 2], [0, 1, 2, -1]]
    """
    places = torch.arange(int(lengths.max()), device=lengths.device)
    parts = places * PARTS // lengths[:, None].clamp_min(1)
    return torch.where(places < lengths[:, None], parts, -1)


def means_by_part(
    values: Float[Tensor, "*places"] | Bool[Tensor, "*places"], parts: Int[Tensor, "*places"]
) -> list[float]:
    """The mean over the places of each part; 0 for a part that nothing stands in."""
    found = []
    for part in range(PARTS):
        here = values[parts == part].float()
        found.append(float(here.mean()) if len(here) else 0.0)
    return found
