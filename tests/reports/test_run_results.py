"""What a run was measured on keeps the keys of report.json and their order."""

import json

import pytest

from limbeck.reports.run_results import RunResult

SIZE = {
    "name": "student",
    "parameters": 10,
    "embedding_parameters": 5,
    "megabytes": 0.1,
    "vocabulary_size": 7,
}
TIME = {
    "peak_memory_bytes": None,
    "threads": 2,
    "precision": "float32",
    "pieces_per_sentence": 64,
    "cpu_ms_per_sentence": 1.5,
    "latencies": [{"batch": 1, "length": 64, "p50": 0.0015, "p95": 0.002}],
    "cpu_ms_per_written_piece": None,
}
TRAINING = {
    "tokens": 64,
    "seconds": 2.0,
    "tokens_per_second": 32.0,
    "peak_memory_bytes": None,
    "trainable_parameters": None,
    "device": "a processor",
    "precision": "float32",
    "stages": [{"name": "one", "steps": 4, "tokens": 64, "seconds": 2.0}],
}
QUALITY = {
    "metric": "accuracy",
    "test_split": "test",
    "training_rows": 30,
    "test_rows": 20,
    "teacher": 0.9,
    "student": 0.8,
    "no_distillation": None,
    "seeds": {"student": [0.8], "teacher": [0.9]},
    "spread": {"student": None, "teacher": None},
    "metrics": {"student": {"accuracy": 0.8}, "teacher": {"accuracy": 0.9}},
}
PLAIN = {
    "name": "toy",
    "limbeck_version": "0.1.0",
    "teacher": {**SIZE, **TIME, "name": "large"},
    "no_distillation": None,
    "student": SIZE,
    "quality": {"toy": QUALITY},
    "training": TRAINING,
    "held_out": {"labels": {"before": 3.0, "unit": "nats", "after": 2.0}},
    "held_out_text": {"bits_per_byte": 2.5, "top_agreement": 0.4},
    "neighbours": {"shared": 5, "itself": 0.8, "nearest": [["house", [["home", 0.9]]]]},
    "two_readings": {
        "text": "a house",
        "groups": [[["a"], ["a"]], [["house"], ["ho", "##use"]]],
        "hidden": "house",
        "expected": {"teacher": [[["home", 0.5]]], "student": []},
    },
    "cuts": {
        "one": {
            **{"words": 9, "to_teacher": 1, "to_student": 2, "too_long": 0},
            **{"one_to_one": 4, "grouped": 3, "alone": 0},
        }
    },
    "by_position": {"bits_per_piece": [1.0, 2.0, 3.0]},
    "notes": ["a note"],
}
NOTHING = {
    **dict.fromkeys(("teacher", "no_distillation", "neighbours", "two_readings")),
    **{"quality": {}, "training": {}, "held_out": {}, "held_out_text": {}},
    **{"cuts": {}, "by_position": {}, "notes": []},
}
UNLOGGED = {key: TRAINING[key] for key in TRAINING if key not in ("device", "precision")}


@pytest.mark.parametrize(
    "other", [{}, NOTHING, {"training": UNLOGGED}, {"student": {**SIZE, **TIME}}]
)
def test_the_keys_of_report_json_and_their_order_are_kept(other):
    plain = {**PLAIN, **other}
    assert json.dumps(RunResult.from_json(plain).to_json()) == json.dumps(plain)


def test_what_was_not_measured_is_empty_by_default():
    of = RunResult.from_json({**PLAIN, **NOTHING})
    bare = RunResult("toy", "0.1.0", None, None, of.student)
    assert json.dumps(bare.to_json()) == json.dumps(of.to_json())


def test_models_and_scores_are_those_that_were_measured():
    found = RunResult.from_json(PLAIN)
    assert list(found.models) == ["teacher", "student"]
    assert found.quality["toy"].scores == {"teacher": 0.9, "student": 0.8}
