"""What a process prints that was started to measure something."""

import sys

import pytest

from limbeck.system.child import ChildError, printed_by

# A warning with a path, as a locale of Windows or an older one of Linux encodes it.
PROGRAM = (
    "import sys; sys.stderr.buffer.write('Модель'.encode('cp1251')); print('[1]'); sys.exit({})"
)


def test_what_is_said_beside_a_result_may_have_any_encoding():
    assert printed_by([sys.executable, "-c", PROGRAM.format(0)]) == [1]
    with pytest.raises(ChildError):
        printed_by([sys.executable, "-c", PROGRAM.format(3)])
