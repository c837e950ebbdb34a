"""What a user writes becomes a checked, plain description, or every problem at once.

The parts of a recipe as typed objects are imported from here.
"""

from typing import TYPE_CHECKING

from ..system.lazy import lazily

if TYPE_CHECKING:
    from .models_part import CopyPart, LowRankPart, StudentPart, TeacherPart
    from .read import read_recipe
    from .schema import DataPart, EvaluationPart, HeldOutPart, Recipe, TrainingPart
    from .stage_part import AlignmentPart, MixedPart, StagePart

__all__ = [
    "AlignmentPart",
    "CopyPart",
    "DataPart",
    "EvaluationPart",
    "HeldOutPart",
    "LowRankPart",
    "MixedPart",
    "Recipe",
    "StagePart",
    "StudentPart",
    "TeacherPart",
    "TrainingPart",
    "read_recipe",
]

__getattr__ = lazily(
    __name__,
    {
        "AlignmentPart": ".stage_part",
        "CopyPart": ".models_part",
        "DataPart": ".schema",
        "EvaluationPart": ".schema",
        "HeldOutPart": ".schema",
        "LowRankPart": ".models_part",
        "MixedPart": ".stage_part",
        "Recipe": ".schema",
        "StagePart": ".stage_part",
        "StudentPart": ".models_part",
        "TeacherPart": ".models_part",
        "TrainingPart": ".schema",
        "read_recipe": ".read",
    },
)
