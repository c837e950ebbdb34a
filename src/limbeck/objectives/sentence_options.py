"""The options of objectives over vectors of texts; torch is not imported here."""

from dataclasses import dataclass
from typing import Literal

from ..errors import Problem
from ..system.numbers import Whole


@dataclass(frozen=True)
class SentenceVectorsOptions:
    """Distance of the vectors of texts, summed over texts and averaged over widths.

    Attributes:
        measure: ``cosine`` is one minus the cosine; ``mse`` the mean squared difference of
            coordinates.
        matryoshka_dims: Compare prefixes of these widths, so that vectors may be truncated to any
            of them; by default the whole vectors alone.
    """

    measure: Literal["cosine", "mse"] = "cosine"
    matryoshka_dims: tuple[Whole, ...] = ()

    def problems(self) -> list[Problem]:
        """Widths that are none."""
        wrong = [width for width in self.matryoshka_dims if width < 1]
        if not wrong:
            return []
        return [("matryoshka_dims", f"has {', '.join(map(str, wrong))}; give 1 or more")]
