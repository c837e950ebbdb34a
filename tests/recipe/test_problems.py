"""What pydantic says as problems: one for each place, without the names of its types."""

import pytest

from limbeck.errors import RecipeError
from limbeck.recipe.parse import parse
from limbeck.study.schema import parse_study


def problems(raw, part, value):
    place, *path = part
    here = raw[place]
    for step in path[:-1]:
        here = here[step]
    here[path[-1]] = value
    return parse(raw)[1]


@pytest.mark.parametrize(
    ("part", "value", "path", "said"),
    [
        (
            ("stages", 0, "objectives"),
            {"hidden_states": {"layers": 3}},
            "stages.0.objectives.hidden_states.layers",
            "Input should be a valid string or a valid list or a valid dictionary (given: 3)",
        ),
        (
            ("student", "init_from_teacher"),
            {"layers": "skip"},
            "student.init_from_teacher.layers",
            "Input should be 'uniform', 'first', 'last' or 'mean' or a valid list (given: 'skip')",
        ),
        (
            ("student", "init_from_teacher"),
            {"layers": [1, "y"]},
            "student.init_from_teacher.layers.1",
            "must be a number, and is text; Input should be a valid list (given: 'y')",
        ),
        (
            ("training", "precision"),
            "bfloat",
            "training.precision",
            "'bfloat16' or 'float32' (given: 'bfloat'; did you mean 'bfloat16'?)",
        ),
        (("data", "text"), 3, "data.text.0", "Input should be a dictionary (given: 3)"),
        (("data", "text"), [{"path": 3}], "data.text.0.path", "should be a valid string"),
        (("student", "list[int]"), 3, "student.list[int]", "unknown key"),
        (("student", "str"), 3, "student.str", "unknown key"),
        (("stages", 0, "max_stepss"), 3, "stages.0.max_stepss", "did you mean 'max_steps'?"),
    ],
)
def test_a_value_of_none_of_the_types_is_one_problem(raw_recipe, part, value, path, said):
    (found,) = problems(raw_recipe, part, value)
    assert found[0] == path and said in found[1]


@pytest.mark.parametrize(
    ("equal", "said"),
    [
        ({"seconds": 0}, "1 problem:\n  equal.seconds: Input should be greater than 0 (given: 0)"),
        ({"second": 3}, "equal.second: unknown key; did you mean 'seconds'?"),
        (
            "token",
            "should be 'tokens' or a valid dictionary (given: 'token'; did you mean 'tokens'?)",
        ),
        ("clock", "equal: Input should be 'tokens' or a valid dictionary (given: 'clock')"),
    ],
)
def test_a_choice_of_a_word_and_a_part(raw_recipe, equal, said):
    arms = {"a": {}, "b": {"stages.0.max_steps": 2}}
    raw = {"name": "s", "recipe": raw_recipe, "students": {"s": {}}, "arms": arms, "control": "a"}
    with pytest.raises(RecipeError) as caught:
        parse_study(raw | {"equal": equal})
    assert said in str(caught.value)
    with pytest.raises(RecipeError, match="arms: has 1 entry; give 2 or more"):
        parse_study(raw | {"arms": {"a": {}}})
