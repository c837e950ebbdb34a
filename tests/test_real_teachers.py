"""Real teachers, where LIMBECK_TEACHERS names the folder that holds them: a step with each.

benchmarks/real_teachers.py says which they are, and measures them.
"""

import json
import math
import os
from pathlib import Path

import pytest

import limbeck
from limbeck.run.distill import distill

TEACHERS = Path(os.environ.get("LIMBECK_TEACHERS", "."))
SMALL = {"hidden_size": 96, "num_attention_heads": 12, "intermediate_size": 192}
STUDENTS = {
    "e5-small": {"num_hidden_layers": 3, **SMALL},
    "mpnet-base": {"num_hidden_layers": 6, **SMALL},
    "smollm2-135m-instruct": {"num_hidden_layers": 15},
}
OBJECTIVES = {
    "e5-small": {"relations": {}, "hidden_states": {}},
    "mpnet-base": {"relations": {}, "hidden_states": {}},
    "smollm2-135m-instruct": {"logits": {}, "relations": {}},
}


@pytest.mark.skipif("LIMBECK_TEACHERS" not in os.environ, reason="no real teachers are here")
@pytest.mark.parametrize("name", sorted(STUDENTS))
def test_a_student_learns_from_a_real_teacher(name, raw_recipe, vocabulary, tmp_path):
    stage = {"objectives": OBJECTIVES[name], "max_steps": 3, "batch_size": 2}
    student = {**STUDENTS[name], "init_from_teacher": {"layers": "uniform", "width": "cut"}}
    if name == "e5-small":  # its 250,037 tokens, aligned with a few
        stage["alignment"] = {"kind": "reduce"}
        student |= {"tokenizer": vocabulary, "embedding_init": "containing"}
        student["allow_normalizer_mismatch"] = True
    training = {**raw_recipe["training"], "logging_steps": 1}
    raw = {"teacher": str(TEACHERS / name), "student": student, "stages": [stage]}
    made = distill(raw_recipe | raw | {"training": training}, tmp_path / "run")
    lines = (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [record["loss"] for record in map(json.loads, lines) if "loss" in record]
    assert len(losses) == 3 and all(0 < loss < math.inf for loss in losses)
    model, _ = limbeck.load(str(made.student))
    assert model.config.num_hidden_layers == STUDENTS[name]["num_hidden_layers"]
