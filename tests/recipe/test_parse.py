"""What is wrong with a recipe's form is said at once, before any model or text is opened."""

import math

import pytest

from limbeck.errors import RecipeError
from limbeck.objectives.options import OPTIONS
from limbeck.recipe.check import check
from limbeck.recipe.parse import check_form, parse_recipe
from limbeck.recipe.parse_objective import parse_objective
from limbeck.recipe.read import with_home

PLACE = ("stages", "0", "objectives")


def recipe_of(objective, options):
    stage = {"max_steps": 2, "objectives": {objective: options}}
    return {"teacher": "minilm-demo", "student": {}, "data": {}, "stages": [stage]}


def test_every_problem_of_an_objective_is_found_at_once():
    options = {"divergence": "skewd_kl", "temperature": 0, "top_k": 0, "signal": "top_k"}
    with pytest.raises(RecipeError) as refused:
        check_form(recipe_of("logits", options))
    told = str(refused.value)
    assert "3 problems" in told
    place = "stages.0.objectives.logits"
    assert f"{place}.divergence: no measure is called 'skewd_kl'; did you mean 'skewed_kl'?" in told
    assert f"{place}.temperature: is 0; give 0.001 to 1000" in told
    assert f"{place}.top_k: is 0; give 1 or more" in told


@pytest.mark.parametrize(
    ("name", "options", "field", "message"),
    [
        ("logits", {"divergence_options": {"alpha": 1}}, "divergence_options.alpha", "no options"),
        (
            "logits",
            {"divergence": "skewed_kl", "divergence_options": {"alhpa": 0.1}},
            "divergence_options.alhpa",
            "did you mean 'alpha'",
        ),
        (
            "logits",
            {"divergence": "skewed_kl", "divergence_options": {"alpha": 1}},
            "divergence_options.alpha",
            "skewed_kl takes 0 to 0.95",
        ),
        ("logits", {"temperature": {"start": 4, "end": 0}}, "temperature.end", "0.001 to 1000"),
        ("logits", {"temperature": math.nan}, "temperature", "is nan"),
        ("logits", {"signal": "top_k", "top_k": -5}, "top_k", "give 1 or more"),
        ("logits", {"signal": "sampled", "divergence": "reverse_kl"}, "signal", "unbiased"),
        ("span_likelihood", {"temperature": 0}, "temperature", "give 0.001 to 1000"),
        ("span_likelihood", {"temperature": math.inf}, "temperature", "is inf"),
        ("uld", {"top_k": 0}, "top_k", "give 1 or more"),
        ("relations", {"heads": 0}, "heads", "give 1 or more"),
        ("relations", {"pairs": {}}, "pairs", "name at least one"),
        ("relations", {"pairs": {"QX": 1}}, "pairs.QX", "no pair of Q, K and V"),
        ("relations", {"pairs": {"QQ": 0}}, "pairs.QQ", "above 0"),
        ("relations", {"teacher_layer": "lsat"}, "teacher_layer", "'lsat' names no layer"),
        ("relations", {"student_layer": -1}, "student_layer", "-1 is no layer"),
        ("qkv", {"heads": -2}, "heads", "give 1 or more"),
        ("qkv", {"student_layer": "last-"}, "student_layer", "'last-' names no layer"),
        ("attention_scores", {"heads": 0}, "heads", "give 1 or more"),
        ("attention_scores", {"layers": "unifrom"}, "layers", "no layer map is called 'unifrom'"),
        ("hidden_states", {"layers": "last-x"}, "layers", "'last-x' names no layer"),
        ("hidden_states", {"layers": "0:1,2"}, "layers", "is no pair"),
        (
            "hidden_states",
            {"layers": "lst:1"},
            "layers",
            "the student's layer 'lst' names no layer",
        ),
        (
            "hidden_states",
            {"layers": {0: ["last", "lats"]}},
            "layers",
            "no layer map is called 'lats'",
        ),
        ("hidden_states", {"layers": {0: []}}, "layers", "has no teacher layer"),
        ("hidden_states", {"layers": {}}, "layers", "has no teacher layer"),
        ("hidden_states", {"layers": [-1, 0]}, "layers", "the teacher's layer -1 is no layer"),
    ],
)
def test_what_no_two_models_could_have_is_refused_without_them(
    name, options, field, message, raw_recipe
):
    place = f"stages.0.objectives.{name}.{field}"
    _, problems = parse_recipe(recipe_of(name, options))
    ((where, said),) = problems
    assert where == place and message in said
    # With both models at hand it is said as often.
    raw_recipe["stages"] = [{"max_steps": 2, "objectives": {name: options}}]
    _, problems = check(raw_recipe)
    assert problems.count((where, said)) == 1
    assert [said for path, said in problems if path == place] == [said]


@pytest.mark.parametrize("name", OPTIONS)
def test_every_objective_is_without_problems_as_it_is(name):
    found, problems = parse_objective(name, {}, (*PLACE, name))
    assert problems == [] and found.options.problems() == []


def test_what_cannot_be_read_hides_nothing_else():
    options = {"temperature": True, "weight": -1, "sginal": "dense", "num_samples": 0}
    _, problems = parse_objective("logits", options, ("logits",))
    assert sorted(field for field, _ in problems) == [
        "logits.num_samples",
        "logits.num_samples",
        "logits.sginal",
        "logits.temperature",
        "logits.weight",
    ]


BACKWARDS = {"start": 0.2, "end": 0.4, "begins": 0.9, "ends": 0.1}


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (BACKWARDS, "begins at 0.9 and ends at 0.1; let it end no earlier"),
        ({"start": 0, "end": 7}, "must stay above 0 and below 1"),
        ({"start": 0.5, "end": 1}, "must stay above 0 and below 1"),
        (0, "must stay above 0 and below 1"),
        (1.5, "must stay above 0 and below 1"),
        (math.nan, "must stay above 0 and below 1"),
    ],
)
def test_fractions_of_mixed_stages(share, message):
    raw = {"teacher": "x", "student": {}, "data": {}}
    raw["stages"] = [{"max_steps": 2, "mixed": {"student_fraction": share}}]
    ((place, said),) = parse_recipe(raw)[1]
    assert place == "stages.0.mixed.student_fraction" and message in said


@pytest.mark.parametrize(
    ("ramp", "place"),
    [
        (BACKWARDS, ""),
        ({"start": 1, "end": 2, "begins": -0.1}, ".begins"),
        ({"start": 1, "end": 2, "ends": 1.1}, ".ends"),
        ({"start": 1, "end": 2, "ends": "1"}, ".ends"),
        ({"start": 1}, ".end"),
    ],
)
def test_ramps_stay_within_their_stage_and_run_forwards(ramp, place):
    for field in ("weight", "temperature"):
        _, problems = parse_objective("logits", {field: ramp}, ("logits",))
        assert [where for where, _ in problems] == [f"logits.{field}{place}"]


@pytest.mark.parametrize("temperature", [math.inf, math.nan, 1e38, 100.5, -1, 1e-38])
def test_temperatures_of_generation_have_one_range(temperature):
    stage = {"max_steps": 2, "objectives": {"labels": {}}}
    stage["policy"] = {"kind": "student", "temperature": temperature}
    raw = {"student": {}, "data": {}, "stages": [stage]}
    raw["evaluation"] = {"generation": {"temperature": temperature}}
    problems = dict(parse_recipe(raw)[1])
    message = f"is {temperature:g}; give 0 (greedy), or 0.001 to 100"
    assert problems["stages.0.policy.temperature"] == message
    assert problems["evaluation.generation.temperature"].startswith(message)


def test_the_home_folder_is_put_into_paths_alone(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    source = {"path": "~/rows.jsonl", "prompt": "~/ask", "split": {"dev": 0.1}}
    raw = {
        "teacher": {"model": "~/teacher", "prompt": "~/query: ", "cache": "~/cache"},
        "student": {"model": "~/student", "tokenizer": "~/tokenizer"},
        "data": {
            "text": ["~/a.txt", {"path": "~/b.csv", "column": "~/b"}],
            "prompts": source,
            "rows": "~/rows.csv",
            "separator": "~/",
        },
        "stages": [{"policy": {"kind": "student", "vllm_command": "~/bin/vllm"}}],
        "evaluation": {"tasks": ["~/task", source], "generation": {"separator": "~/"}},
    }
    found = with_home(raw)
    assert found == {
        "teacher": {
            "model": "/home/ada/teacher",
            "prompt": "~/query: ",
            "cache": "/home/ada/cache",
        },
        "student": {"model": "/home/ada/student", "tokenizer": "/home/ada/tokenizer"},
        "data": {
            "text": ["/home/ada/a.txt", {"path": "/home/ada/b.csv", "column": "~/b"}],
            "prompts": source | {"path": "/home/ada/rows.jsonl"},
            "rows": "/home/ada/rows.csv",
            "separator": "~/",
        },
        "stages": [{"policy": {"kind": "student", "vllm_command": "/home/ada/bin/vllm"}}],
        "evaluation": {
            "tasks": ["/home/ada/task", source | {"path": "/home/ada/rows.jsonl"}],
            "generation": {"separator": "~/"},
        },
    }
    assert with_home({"teacher": "~/teacher", "student": "~/student"}) == {
        "teacher": "/home/ada/teacher",
        "student": "/home/ada/student",
    }


def test_a_cache_that_is_not_there_is_one_problem(tmp_path):
    recipe = recipe_of("labels", {}) | {"teacher": {"cache": str(tmp_path / "nowhere")}}
    _, problems = parse_recipe(recipe)
    [(place, message)] = problems
    assert place == "teacher.cache" and "holds no cached signals" in message
    _, problems = parse_recipe(recipe_of("labels", {}) | {"teacher": {"quantize": "int8"}})
    assert problems == [("teacher.model", "is missing")]
