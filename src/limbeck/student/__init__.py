"""The smaller model: its shape, its initialization from a teacher, its low-rank layers.

Everything here works on plain transformers models and tensors; no recipe is needed.
"""

from typing import TYPE_CHECKING

from ..system.lazy import lazily

if TYPE_CHECKING:
    from ..models.families.lookup import architecture_of
    from ..models.shapes import Shape, shape_of
    from .adapters import add_adapters, merge_adapters
    from .embedding_init import mean_of_containing_tokens, mean_of_teacher_tokens, set_embeddings
    from .layer_copy import copy_layers, copy_problems
    from .low_rank import Rank, break_even, chosen_layers, factorize_layers, merge_factors
    from .projections import Projections
    from .shape import build_student, default_config, parameters_of_shape, student_config
    from .width import Width

__all__ = [
    "Projections",
    "Rank",
    "Shape",
    "Width",
    "add_adapters",
    "architecture_of",
    "break_even",
    "build_student",
    "chosen_layers",
    "copy_layers",
    "copy_problems",
    "default_config",
    "factorize_layers",
    "mean_of_containing_tokens",
    "mean_of_teacher_tokens",
    "merge_adapters",
    "merge_factors",
    "parameters_of_shape",
    "set_embeddings",
    "shape_of",
    "student_config",
]

__getattr__ = lazily(
    __name__,
    {
        "Projections": ".projections",
        "Rank": ".low_rank",
        "Shape": "..models.shapes",
        "Width": ".width",
        "add_adapters": ".adapters",
        "architecture_of": "..models.families.lookup",
        "break_even": ".low_rank",
        "build_student": ".shape",
        "chosen_layers": ".low_rank",
        "copy_layers": ".layer_copy",
        "copy_problems": ".layer_copy",
        "default_config": ".shape",
        "factorize_layers": ".low_rank",
        "mean_of_containing_tokens": ".embedding_init",
        "mean_of_teacher_tokens": ".embedding_init",
        "merge_adapters": ".adapters",
        "merge_factors": ".low_rank",
        "parameters_of_shape": ".shape",
        "set_embeddings": ".embedding_init",
        "shape_of": "..models.shapes",
        "student_config": ".shape",
    },
)
