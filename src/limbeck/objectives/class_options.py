"""The options of objectives over the heads of tasks; torch is not imported here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..errors import Problem
from ..system.numbers import Number
from .measures import divergence_problems
from .schedule import NumberOrRamp, temperature_problems


@dataclass(frozen=True)
class ClassLogitsOptions:
    """Divergence of class probabilities, summed over texts or words; of scores, squared error.

    Of classes that do not exclude one another, that of each, summed over classes too.

    Attributes:
        divergence: The measure; ``limbeck list divergences`` names all.
        divergence_options: Its options, as {alpha: 0.1}.
        temperature: Both models' logits are divided by it, and the divergence is multiplied by
            its square so that gradients keep their size; a number, or a ramp over the stage.
    """

    divergence: str = "forward_kl"
    divergence_options: Mapping[str, Number] = field(default_factory=dict)
    temperature: NumberOrRamp = 1.0

    def problems(self) -> list[Problem]:
        """Measures, options and temperatures that are impossible for any two models."""
        found = divergence_problems(self.divergence, self.divergence_options)
        return found + temperature_problems(self.temperature)


@dataclass(frozen=True)
class ClassLabelsOptions:
    """Cross-entropy against classes, summed over texts or words; of scores, squared error.

    Of classes that do not exclude one another, that of each, summed over classes too.

    Attributes:
        labels_from: ``gold`` takes the labels of the rows, and leaves out rows without one;
            ``teacher`` the class that the teacher finds most likely, for every row.
    """

    labels_from: Literal["gold", "teacher"] = "gold"

    def problems(self) -> list[Problem]:
        """None for any two models."""
        return []


@dataclass(frozen=True)
class MarginMseOptions:
    """Squared difference of margins, summed over pairs of documents of one query."""

    def problems(self) -> list[Problem]:
        """None: it has no options."""
        return []
