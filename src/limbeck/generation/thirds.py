"""Where in its text a token stands: in the first, the middle or the last third."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_THIRDS = 3


def thirds_of(lengths: Int[Tensor, " texts"]) -> Int[Tensor, "texts longest"]:
    """The third that each place of each text stands in, 0 to 2; -1 after its end.

    >>> thirds_of(torch.tensor([4, 3])).tolist()
    [[0, 0, 1, 2], [0, 1, 2, -1]]
    """
    places = torch.arange(int(lengths.max()), device=lengths.device)
    thirds = places * _THIRDS // lengths[:, None].clamp_min(1)
    return torch.where(places < lengths[:, None], thirds, -1)


def means_by_third(
    values: Float[Tensor, "*places"] | Bool[Tensor, "*places"], thirds: Int[Tensor, "*places"]
) -> list[float]:
    """The mean over the places of each third; 0 for a third without places."""
    found = []
    for third in range(_THIRDS):
        here = values[thirds == third].float()
        found.append(float(here.mean()) if len(here) else 0.0)
    return found
