"""How weights become narrower: what a recipe may say, apart from what carries it out."""

from enum import Enum


class Width(str, Enum):
    """How a narrower student takes over wider weights."""

    CUT = "cut"  # the first coordinates of every axis
    SVD = "svd"  # the main directions of the teacher's hidden states
