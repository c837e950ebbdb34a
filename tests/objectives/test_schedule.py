import pytest

from limbeck.objectives.logits import Logits
from limbeck.objectives.presets import PRESETS
from limbeck.objectives.schedule import Ramp, at_progress, number, temperature_problems
from limbeck.recipe.parse_objective import parse_objective


def test_ramps():
    ramp = Ramp(4.0, 1.0, begins=0.2, ends=0.6)
    assert [ramp.at(p) for p in (0.0, 0.2, 0.4, 0.6, 1.0)] == pytest.approx([4, 4, 2.5, 1, 1])
    curved = Ramp(0.0, 1.0, form="cosine")
    assert [curved.at(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([0, 0.5, 1])
    assert curved.at(0.1) < 0.1 and curved.at(0.9) > 0.9
    assert Ramp(1.0, 0.0, begins=0.5, ends=0.5).at(0.6) == 0.0
    assert number(2.0) == 2.0 and number(ramp, 0.0) == 4.0


def test_objectives_at_one_point_of_a_stage_hold_numbers():
    output = Logits(temperature=Ramp(4.0, 2.0))
    assert at_progress(output, 0.5).temperature == 3.0
    plain = Logits()
    assert at_progress(plain, 0.5) is plain


def test_temperatures_and_ramps_at_their_limits():
    assert temperature_problems(0.001) == temperature_problems(Ramp(1000.0, 0.001)) == []
    assert [field for field, _ in temperature_problems(Ramp(1000.1, 0.0))] == [
        "temperature.start",
        "temperature.end",
    ]
    step = {"start": 4, "end": 1, "begins": 0.5, "ends": 0.5}
    found, problems = parse_objective("logits", {"temperature": step}, ("stages", "0"))
    assert problems == [] and found.options.temperature.at(0.4) == 4


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_is_made_of_known_objectives_and_options(name):
    for objective, options in PRESETS[name].objectives.items():
        assert parse_objective(objective, dict(options), ("stages", "0"))[1] == []
