import pytest
import torch

from limbeck.evaluation.neighbours import neighbours

NAMES = ["new", "b", "a"], ["a", "b", "c", "d"]


def test_by_hand():
    teacher = torch.eye(4)
    student = torch.tensor([[0.9, 0.1, 0.0, 0.0], [0.0, 2.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    found = neighbours(student, teacher, {1: 1, 2: 0}, names=NAMES, shown=[0, 2], count=2)
    assert (found.shared, found.itself) == (2, 0.5)  # b is nearest to b, a to d
    assert [name for name, _ in found.nearest] == ["new", "a"]
    assert [token for token, _ in found.nearest[0][1]] == ["a", "b"]
    assert found.nearest[1][1][0] == ("d", pytest.approx(1.0))


def test_nothing_shared():
    found = neighbours(torch.eye(3, 4), torch.eye(4), {}, names=NAMES, shown=[])
    assert (found.shared, found.itself, found.nearest) == (0, 0.0, [])
