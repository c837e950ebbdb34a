import json
import re

import pytest
import torch
from conftest import make_batch, make_model, make_tokenizer

from limbeck.architectures import ANATOMIES
from limbeck.batch import Tokens
from limbeck.errors import EvaluationError
from limbeck.evaluation.agreement import top_agreement
from limbeck.evaluation.bits_per_byte import masked_bits_per_byte, predicted_bytes
from limbeck.evaluation.cost import measure_cost, model_size
from limbeck.evaluation.report import headline, mean_scores, summary_table, write_report


def cost(parameters: int, milliseconds: float) -> dict:
    return {
        "name": "<model>",
        "parameters": parameters,
        "embedding_parameters": parameters // 2,
        "megabytes": parameters * 4e-6,
        "vocabulary_size": 30522,
        "cpu_ms_per_sentence": milliseconds,
        "latencies": [{"batch": 1, "length": 16, "p50": 0.01, "p95": 0.02}],
    }


@pytest.fixture
def report() -> dict:
    roles = {"teacher": 0.9, "student": 0.855, "no_distillation": 0.8}
    return {
        "name": "a <b>test</b> отчёт",
        "teacher": cost(20_000_000, 12.0),
        "student": cost(5_000_000, 4.0),
        "no_distillation": cost(5_000_000, 4.0),
        "quality": {
            "snips": {
                "metric": "intent_accuracy",
                **roles,
                "spread": dict.fromkeys(roles, 0.01),
                "metrics": {role: {"intent_accuracy": value} for role, value in roles.items()},
            }
        },
        "training": {"tokens": 1000, "seconds": 2.0},
        "held_out": {"relations": {"before": 2.0, "after": 0.5, "unit": "nats"}},
        "notes": ["a note"],
    }


RECORDS = [
    {"stage": "s", "step": 0, "tokens": 0, "held_out": {"relations": 2.0}},
    {"stage": "s", "step": 5, "tokens": 500, "objectives": {"relations": 1.0}},
    {"stage": "s", "step": 5, "tokens": 500, "held_out": {"relations": 0.5}},
]


def test_the_headline_is_computed_from_the_numbers(report):
    assert headline(report) == (
        "The student has 5.00M parameters (25% of the teacher), runs 3.0 times as fast and keeps"
        " 95.0% of the teacher's mean score (no distillation: 88.9%)."
    )
    report["quality"], report["teacher"] = {}, None
    assert headline(report) == "The student has 5.00M parameters."


def test_three_files_whole_and_self_contained(report, tmp_path):
    write_report(report, RECORDS, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
    ]
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == report
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<b>test" not in page and "&lt;b&gt;test" in page and "отчёт" in page
    assert not re.findall(r"""(?:src|href)=["']?https?:""", page)
    assert "<script" not in page and page.count("<svg") == 4
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "85.5 ± 1.0" in markdown and "- a note" in markdown
    before = page
    write_report(report, RECORDS, tmp_path)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == before


def test_what_was_not_measured_is_left_out(report, tmp_path):
    bare = {"name": "bare", "student": report["student"], "quality": {}, "notes": []}
    write_report(bare, [], tmp_path)
    assert len(summary_table(bare)) == 2
    report["quality"]["snips"]["teacher"] = None
    assert mean_scores(report).keys() == {"student", "no_distillation"}


def test_the_cost_of_a_folder(teacher_folder):
    found = measure_cost(
        str(teacher_folder), batches=[1], lengths=[16], threads=1, seconds_each=0.0
    )
    model = make_model()
    body = sum(p.numel() for p in model.base_model.parameters())
    assert found.parameters == body
    assert found.embedding_parameters == 24 * (200 + 80 + 2)
    on_disk = (teacher_folder / "model.safetensors").stat().st_size
    assert found.megabytes == on_disk / 1e6 and found.threads == 1
    assert {(x.batch, x.length) for x in found.latencies} == {(1, 16), (1, 64)}
    assert all(0 < x.p50 <= x.p95 for x in found.latencies)
    assert found.peak_memory_bytes >= 0
    assert model_size(str(teacher_folder))["parameters"] == body


def test_a_cost_that_cannot_be_measured_says_why(tmp_path, teacher_folder):
    (tmp_path / "config.json").write_text((teacher_folder / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(EvaluationError, match="could not be measured"):
        measure_cost(str(tmp_path))


@pytest.mark.parametrize("kind", ["wordpiece", "byte_bpe", "unigram"])
def test_bytes_of_predicted_pieces_are_those_of_the_text(kind):
    tokenizer = make_tokenizer(kind)
    pieces = tokenizer(["красный house дом", "river"], padding=True, return_tensors="pt")
    special = [tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id]
    ids, mask = pieces["input_ids"], pieces["attention_mask"].bool()
    predicted = mask & ~torch.isin(ids, torch.tensor(special))
    tokens = Tokens(input_ids=ids, mask=mask, labels=ids, predicted=predicted)
    assert predicted_bytes(tokenizer, tokens) == len("красныйhouseдомriver".encode())


def test_agreement_and_bits_per_byte():
    model, batches = make_model(), [make_batch(seed=n) for n in range(2)]
    bert, tokenizer = ANATOMIES["bert"], make_tokenizer()
    assert top_agreement(model, bert, model, bert, batches) == 1.0
    assert top_agreement(model, bert, make_model(seed=9), bert, batches) < 0.5
    found = masked_bits_per_byte(model, bert, tokenizer, [b.student for b in batches])
    assert 0 < found < 100
