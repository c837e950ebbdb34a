"""The divergences by name, with the range of each option and the reason for that range.

Separate from the code that computes them, so that a recipe is checked without torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import nearest

_ENDS = "nearer to either end it is almost 0 for every student, and nothing is learned"
_JENSEN_SHANNON = (
    f"{_ENDS}. Its limits are forward_kl, where beta is 0, and reverse_kl, where it is 1"
)
_SKEWED = "nearer to 1 it is almost 0 for every student, and nothing is learned. With 0 it is {}"
_FAMILY = (
    "below 0 it is infinite where a probability is 0, and nearer to 0 the limit itself is meant,"
    " which is 0"
)


@dataclass(frozen=True)
class Option:
    """A number that a divergence takes.

    Attributes:
        default: The value where none is given.
        least: The smallest value, apart from 0 where `or_zero` allows it.
        most: The largest value.
        why: Why the range ends there, as the end of a sentence.
        or_zero: Whether 0 is allowed too.
    """

    default: float
    least: float
    most: float
    why: str = ""
    or_zero: bool = False

    @property
    def range(self) -> str:
        """The range in words.

        >>> Option(0.2, 0.01, 2.0, or_zero=True).range
        '0, or 0.01 to 2'
        """
        return ("0, or " if self.or_zero else "") + f"{self.least:g} to {self.most:g}"

    def allows(self, value: float) -> bool:
        """Whether the option may have this value; NaN is never allowed."""
        return self.least <= value <= self.most or (self.or_zero and value == 0)


@dataclass(frozen=True)
class Measure:
    """A divergence: a sentence on what it is, and its options."""

    about: str
    options: Mapping[str, Option] = field(default_factory=dict)


MEASURES: dict[str, Measure] = {
    "forward_kl": Measure(
        "KL(teacher || student): the student covers all that the teacher finds possible."
    ),
    "reverse_kl": Measure(
        "KL(student || teacher): the student keeps to what the teacher finds likely."
    ),
    "total_variation": Measure("Half the sum of absolute differences; never above 1."),
    "jensen_shannon": Measure(
        "KL of both to their mixture, whose share beta is the teacher's.",
        {"beta": Option(0.5, 0.01, 0.99, _JENSEN_SHANNON)},
    ),
    "skewed_kl": Measure(
        "KL(teacher || mixture), where the share alpha of the mixture is the teacher's.",
        {"alpha": Option(0.1, 0.0, 0.95, _SKEWED.format("forward_kl"))},
    ),
    "skewed_reverse_kl": Measure(
        "KL(student || mixture), where the share alpha of the mixture is the student's.",
        {"alpha": Option(0.1, 0.0, 0.95, _SKEWED.format("reverse_kl"))},
    ),
    "alpha_beta": Measure(
        "The alpha-beta family: (1, 0) is the forward KL, (0, 1) the reverse.",
        {
            "alpha": Option(0.2, 0.01, 2.0, _FAMILY, or_zero=True),
            "beta": Option(0.7, 0.01, 2.0, _FAMILY, or_zero=True),
        },
    ),
    "adaptive_kl": Measure(
        "Forward and reverse KL, weighted by where the student is wrong.",
        {"head": Option(0.5, 0.0, 1.0, "it is a share of the teacher's probability")},
    ),
}


def divergence_problems(name: str, options: Mapping[str, float]) -> list[tuple[str, str]]:
    """What is wrong with a measure's name and options, as (field, message)."""
    if name not in MEASURES:
        return [("divergence", f"no measure is called {name!r}{nearest(name, MEASURES)}")]
    known, found = MEASURES[name].options, []
    for option, value in options.items():
        place = f"divergence_options.{option}"
        if option not in known:
            said = nearest(option, known) if known else "; leave it out"
            has = "has no such option" if known else "has no options"
            found.append((place, f"{name} {has}{said}"))
        elif not known[option].allows(value):
            allowed = known[option]
            found.append((place, f"is {value:g}; {name} takes {allowed.range}: {allowed.why}"))
    return found
