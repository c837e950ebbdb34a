"""How many processes a launcher (torchrun, accelerate) has started; work for one alone."""

import os

from ..errors import TrainingError


def launched_processes() -> int:
    """How many processes run this command at once; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def check_one_process(what: str) -> None:
    """Check that a launcher has not started several processes for work that one process does.

    Args:
        what: Name of the work, for the error.

    Raises:
        TrainingError: There are several processes.
    """
    if (processes := launched_processes()) > 1:
        raise TrainingError(
            f"{what} runs in one process, not {processes}: start it without the launcher, or train"
            " a recipe with it (limbeck distill RECIPE)"
        )
