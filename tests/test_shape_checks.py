"""The shapes that limbeck's types give are checked in the tests."""

import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float
from shape_checks import checked
from torch import Tensor

from limbeck.batch import Tokens

IDS, MASK = torch.ones(2, 5, dtype=torch.int64), torch.ones(2, 5, dtype=torch.bool)


@pytest.mark.parametrize("wrong", [MASK[:, 1:], IDS, None])
def test_a_dataclass_holds_what_its_types_say(wrong):
    Tokens(IDS, MASK, labels=IDS, predicted=MASK)
    with pytest.raises(BeartypeCallHintViolation, match="mask"):
        Tokens(IDS, wrong, labels=IDS, predicted=MASK)


def test_a_size_is_the_same_in_one_call_and_may_differ_in_the_next():
    @checked(typechecker=None)
    def first(rows: Float[Tensor, "rows width"], count: int) -> Float[Tensor, "count width"]:
        return rows[:count] if count else rows[0]

    assert first(torch.ones(3, 4), 3).shape == (3, 4)
    assert first(torch.ones(2, 5), 1).shape == (1, 5)
    for rows, count in (("no tensor", 1), (torch.ones(2, 3), 0), (torch.ones(2).int(), 1)):
        with pytest.raises(BeartypeCallHintViolation):
            first(rows, count)


def test_what_gives_no_shape_is_left_as_it_is():
    def plain(rows: Tensor) -> int:
        return len(rows)

    assert checked(typechecker=None)(plain) is plain
