"""openvino and nncf without their telemetry.

Both count what they do through the package openvino_telemetry: where nobody has declined, it writes
an identity in the home folder as soon as one of them is imported, and sends over the network.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch


@contextmanager
def without_telemetry() -> Iterator[None]:
    """While it lasts, nothing is sent and no identity is made, by what is imported in it neither.

    No option of either package does this for one process: the choice is a file in the home folder,
    which belongs to the user. What is replaced is private, so a test sees that nothing is sent.
    """
    if find_spec("openvino_telemetry") is None:
        yield
        return
    checker = import_module("openvino_telemetry.utils.opt_in_checker")
    sender = import_module("openvino_telemetry.utils.sender").TelemetrySender

    def declined(*_: Any, **__: Any) -> Any:
        return checker.ConsentCheckResult.DECLINED

    def unsent(*_: Any, **__: Any) -> None:
        return None

    with (
        patch.object(checker.OptInChecker, "check", declined),
        patch.object(sender, "send", unsent),
    ):
        yield


def openvino_module() -> Any:
    """The package openvino, imported without telemetry."""
    with without_telemetry():
        return import_module("openvino")
