"""A float32 file is compared with torch at the smallest and the largest sizes of texts."""

from collections.abc import Sequence
from dataclasses import replace

from ..errors import ExportError
from ..evaluation.examples import Reading
from .arrays import Forward
from .batches import example_of, outputs_of
from .compare import difference_of
from .source import Source

_CLOSE = 1e-3  # to torch, relative to the largest number
# Tokens of the longest text that is checked: fewer where every token has a whole vocabulary.
_CHECKED, _CHECKED_OF_VOCABULARY = 2048, 512


def check_sizes(source: Source, file: Forward) -> None:
    """See that a float32 file computes what torch does for one token and for the longest text.

    Args:
        source: The model in torch.
        file: Of it, open.

    Raises:
        ExportError: It does not, as where the batch or the length was fixed.
    """
    most = _CHECKED_OF_VOCABULARY if source.kind in ("masked", "causal") else _CHECKED
    longest = min(source.longest, source.reader.limit, most)
    text = example_of(" ".join(["the"] * longest))
    whole = replace(source.reader, limit=longest).read(text)
    short = Reading(whole.ids[:1], whole.types[:1], whole.begins[:1], whole.spans[:1])
    for readings in ([short], [whole], [whole, short]):
        found = difference_of(source, file, readings)
        if not found.largest < _CLOSE * max(1.0, _largest(source, readings)):
            lengths = [len(one.ids) for one in readings]
            raise ExportError(
                f"the float32 file of {source.name!r} differs from torch by {found.largest:.2g}"
                f" for texts of {lengths} tokens; it would be wrong, so nothing was written"
            )


def _largest(source: Source, readings: Sequence[Reading]) -> float:
    every = outputs_of(source, source.reader, readings, size=len(readings))
    return max(float(abs(one).max()) for one in every)
