"""The options of objectives over vectors of texts; torch is not imported here."""

from dataclasses import dataclass
from typing import Literal

from ..errors import Problem
from ..system.numbers import Number, Whole


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


@dataclass(frozen=True)
class SentenceSimilaritiesOptions:
    """Divergence of the similarities of each text to the others of its group, summed over texts.

    Attributes:
        temperature: Cosines are divided by it before they become a distribution.
        group_size: Consecutive texts of a batch that are compared with one another; the batch has
            whole groups.
    """

    temperature: Number = 0.05
    group_size: Whole = 32

    def problems(self) -> list[Problem]:
        """Temperatures and groups that are impossible."""
        found: list[Problem] = []
        if self.temperature <= 0:
            found.append(("temperature", f"is {self.temperature:g}; give a number above 0"))
        if self.group_size < 3:  # among two texts there is nothing to choose
            found.append(("group_size", f"is {self.group_size}; give 3 or more"))
        return found
