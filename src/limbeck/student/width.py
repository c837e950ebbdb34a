"""The ways to make weights narrower, separate so that a recipe is checked without torch."""

from enum import StrEnum


class Width(StrEnum):
    """How a narrower student is initialized from wider weights."""

    CUT = "cut"  # the first coordinates of every axis
    SVD = "svd"  # the main directions of the teacher's hidden states
    IMPORTANCE = "importance"  # the coordinates, heads and units that are most active on text
