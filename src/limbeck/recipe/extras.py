"""Packages of extras that a recipe needs, told before anything is read or trained."""

from importlib.util import find_spec

from ..errors import Problem
from ..student.adapters import adapters_missing
from .parse import Parsed

_WRITES_EVENTS = ("tensorboard", "tensorboardX")  # either of which accelerate takes


def extra_problems(parsed: Parsed) -> list[Problem]:
    """Adapters and trackers whose package is not installed."""
    problems: list[Problem] = []
    low_rank = parsed.student and parsed.student.low_rank
    if low_rank and low_rank.kind == "lora" and (missing := adapters_missing()):
        problems.append(("student.low_rank.kind", f"is lora: {missing}"))
    wanted = parsed.training.report_to if parsed.training else []
    if wanted and not any(find_spec(package) for package in _WRITES_EVENTS):
        message = "names tensorboard, which is not installed; run: pip install"
        problems.append(("training.report_to", f"{message} 'limbeck[tensorboard]'"))
    return problems
