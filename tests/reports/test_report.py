import copy
import json
import math
import re
from pathlib import Path

import pytest
import torch
from conftest import make_batch, make_model, make_text, make_tokenizer
from results import NOTHING
from torch.nn.functional import cross_entropy

from limbeck.batch import Tokens
from limbeck.errors import ModelError
from limbeck.evaluation.agreement import dropped_mass, top_agreement
from limbeck.evaluation.bits_per_byte import masked_bits_per_byte, predicted_bytes
from limbeck.evaluation.cost import measure_cost, model_size
from limbeck.models.families import ARCHITECTURES
from limbeck.reports import report as report_module
from limbeck.reports.page import cell
from limbeck.reports.quality import mean_scores
from limbeck.reports.report import (
    as_html,
    as_markdown,
    headline,
    summary_table,
    tables,
    write_report,
)
from limbeck.reports.run_results import RunResult
from limbeck.token_ids import TokenIds
from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer


def cost(parameters: int, milliseconds: float) -> dict:
    return {
        "name": "<model>",
        "parameters": parameters,
        "embedding_parameters": parameters // 2,
        "megabytes": parameters * 4e-6,
        "vocabulary_size": 30522,
        "peak_memory_bytes": None,
        "threads": 1,
        "precision": "float32",
        "pieces_per_sentence": 64,
        "cpu_ms_per_sentence": milliseconds,
        "latencies": [{"batch": 1, "length": 16, "p50": 0.01, "p95": 0.02}],
        "cpu_ms_per_written_piece": None,
    }


ROWS = {"test_split": "test", "training_rows": 1000, "test_rows": 700}


@pytest.fixture
def report() -> dict:
    roles = {"teacher": 0.9, "student": 0.855, "no_distillation": 0.8}
    return {
        **NOTHING,
        "name": "a <b>test</b> отчёт",
        "limbeck_version": "0.1.0",
        "teacher": cost(20_000_000, 12.0),
        "student": cost(5_000_000, 4.0),
        "no_distillation": cost(5_000_000, 4.0),
        "quality": {
            "snips": {
                "metric": "intent_accuracy",
                **ROWS,
                **roles,
                "seeds": {role: [value - 0.01, value + 0.01] for role, value in roles.items()},
                "spread": dict.fromkeys(roles, 0.01),
                "metrics": {role: {"intent_accuracy": value} for role, value in roles.items()},
            }
        },
        "training": {
            "tokens": 1000,
            "seconds": 2.0,
            "tokens_per_second": 500.0,
            "peak_memory_bytes": None,
            "trainable_parameters": None,
            "stages": [],
        },
        "held_out": {"relations": {"before": 2.0, "after": 0.5, "unit": "nats"}},
        "notes": ["a note"],
    }


RECORDS = [
    {"stage": "s", "step": 0, "tokens": 0, "held_out": {"relations": 2.0}},
    {"stage": "s", "step": 5, "tokens": 500, "objectives": {"relations": 1.0}},
    {"stage": "s", "step": 5, "tokens": 500, "held_out": {"relations": 0.5}},
]


def test_the_headline_is_computed_from_the_numbers(report):
    assert headline(RunResult.from_json(report)) == (
        "The student has 5.00M parameters (25% of the teacher), runs 3.0 times as fast and keeps"
        " 95.0% of the teacher's mean score (no distillation: 88.9%)."
    )
    report["quality"], report["teacher"] = {}, None
    assert headline(RunResult.from_json(report)) == "The student has 5.00M parameters."


def test_three_files_whole_and_self_contained(report, tmp_path):
    write_report(RunResult.from_json(report), RECORDS, tmp_path)
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
    write_report(RunResult.from_json(report), RECORDS, tmp_path)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == before


def test_what_was_not_measured_is_left_out(report, tmp_path):
    bare = {
        **NOTHING,
        "name": "bare",
        "limbeck_version": "0.1.0",
        "student": report["student"],
    }
    write_report(RunResult.from_json(bare), [], tmp_path)
    assert len(summary_table(RunResult.from_json(bare))) == 2
    report["quality"]["snips"]["teacher"] = None
    assert mean_scores(RunResult.from_json(report)).keys() == {"student", "no_distillation"}


@pytest.mark.usefixtures("warm_python")
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
    with pytest.raises(ModelError, match="model.safetensors"):
        measure_cost(str(tmp_path))


@pytest.mark.parametrize("kind", ["wordpiece", "byte_bpe", "unigram"])
def test_bytes_of_predicted_tokens_are_those_of_the_text(kind):
    tokenizer = make_tokenizer(kind)
    read = tokenizer(["красный house дом", "river"], padding=True, return_tensors="pt")
    special = [tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id]
    ids, mask = read["input_ids"], read["attention_mask"].bool()
    predicted = mask & ~torch.isin(ids, torch.tensor(special))
    tokens = Tokens(input_ids=ids, mask=mask, labels=ids, predicted=predicted)
    assert predicted_bytes(tokenizer, tokens) == len("красныйhouseдомriver".encode())


def test_the_end_of_a_text_has_no_bytes_and_spaces_have():
    """What eos is called does not change a figure that is to compare vocabularies."""
    blank = blank_tokenizer("bytes", lowercase=False)
    tokenizer = learn_tokenizer(make_text(100), blank, vocab_size=300)
    ids = torch.tensor([[*tokenizer("the old house")["input_ids"], tokenizer.eos_token_id]])
    every = torch.ones_like(ids, dtype=torch.bool)
    tokens = Tokens(input_ids=ids, mask=every, labels=ids, predicted=every)
    assert predicted_bytes(tokenizer, tokens, spaces=True) == len("the old house")


def test_agreement_and_bits_per_byte():
    model, batches = make_model(), [make_batch(seed=n) for n in range(2)]
    bert, tokenizer = ARCHITECTURES["bert"], make_tokenizer()
    assert top_agreement(model, bert, model, bert, batches, tokens=200) == 1.0
    assert top_agreement(model, bert, make_model(seed=9), bert, batches, tokens=200) < 0.5
    assert top_agreement(model, bert, model, bert, batches, tokens=1) == 1.0
    shares = [dropped_mass(model, bert, batches, tokens=n) for n in (200, 100, 0)]
    assert shares == pytest.approx(sorted(shares)) and shares[0] == 0.0
    assert shares[2] == pytest.approx(1.0)
    wide = make_model(vocabulary=len(tokenizer) + 20)  # with rows of no token
    nats, outside, places, size = 0.0, 0.0, 0, 0
    for tokens in (batch.student for batch in batches):
        with torch.no_grad():
            logits = wide(input_ids=tokens.input_ids, attention_mask=tokens.mask.long()).logits
        predicted = logits[tokens.predicted]
        nats += float(
            cross_entropy(
                predicted[:, : len(tokenizer)], tokens.labels[tokens.predicted], reduction="sum"
            )
        )
        others = [7, *range(len(tokenizer), len(tokenizer) + 20)]
        outside += float(predicted.softmax(-1)[:, others].sum())
        places += len(predicted)
        size += predicted_bytes(tokenizer, tokens)
    found = masked_bits_per_byte(wide, bert, tokenizer, [b.student for b in batches])
    assert found == pytest.approx(nats / math.log(2) / size, rel=1e-5)
    some = TokenIds(len(tokenizer), (7,))
    found = dropped_mass(wide, bert, batches, tokens=some)
    assert found == pytest.approx(outside / places, rel=1e-5)


def full_cost(name: str, parameters: int, milliseconds: float) -> dict:
    return {
        "name": name,
        "parameters": parameters,
        "embedding_parameters": parameters // 2,
        "megabytes": 4 * parameters / 1e6,
        "vocabulary_size": 30_522,
        "peak_memory_bytes": 6 * parameters,
        "threads": 2,
        "precision": "float32",
        "pieces_per_sentence": 64,
        "cpu_ms_per_sentence": milliseconds,
        "latencies": [
            {"batch": batch, "length": 64, "p50": batch * milliseconds / 1000, "p95": batch * 0.02}
            for batch in (1, 32)
        ],
        "cpu_ms_per_written_piece": None,
    }


def scores(metric: str, teacher: float, student: float, control: float) -> dict:
    by_role = {"teacher": teacher, "student": student, "no_distillation": control}
    return {
        "metric": metric,
        **ROWS,
        **by_role,
        "seeds": {role: [value - 0.01, value + 0.01] for role, value in by_role.items()},
        "spread": dict.fromkeys(by_role, 0.0123),
        "metrics": {role: {metric: value, "other": 0.5} for role, value in by_role.items()},
    }


@pytest.fixture
def full() -> dict:
    return {
        **NOTHING,
        "name": "small <b>student</b> & школа",
        "limbeck_version": "0.1.0",
        "teacher": full_cost("MiniLM <i>teacher</i>", 20_000_000, 9.3),
        "student": full_cost("student", 5_000_000, 3.0),
        "no_distillation": full_cost("control", 5_000_000, 3.0),
        "quality": {
            "sst2": scores("accuracy", 0.9, 0.8, 0.7),
            "тест|<u>": scores("span_f1", 0.5, 0.4, 0.3),
        },
        "training": {
            "tokens": 8_192_000,
            "seconds": 4000.0,
            "tokens_per_second": 2048.0,
            "peak_memory_bytes": 1_500_000_000,
            "trainable_parameters": 5_100_000,
            "device": "a processor",
            "precision": "float32",
            "stages": [{"name": "связи", "steps": 10, "tokens": 4096, "seconds": 75.0}],
        },
        "held_out": {"relations": {"before": 1.5, "after": 0.5, "unit": "nats per token"}},
        "held_out_text": {"bits_per_byte": 1.234},
        "notes": ["a note with <script>alert(1)</script>"],
    }


@pytest.fixture
def records() -> list[dict]:
    found: list[dict] = [
        {"stage": "one", "step": 0, "tokens": 0, "held_out": {"relations": 1.5}},
        *(
            {
                "stage": "one",
                "step": step,
                "tokens": 4096 * step,
                "loss": 1.5 / step,
                "objectives": {"relations": 1.5 / step},
            }
            for step in range(1, 21)
        ),
    ]
    found[-1]["held_out"] = {"relations": 0.5}
    return found


def test_the_headline_says_size_speed_and_what_was_kept(full):
    assert headline(RunResult.from_json(full)) == (
        "The student has 5.00M parameters (25% of the teacher), runs 3.1 times as fast and keeps"
        " 85.7% of the teacher's mean score (no distillation: 71.4%)."
    )


def test_the_headline_leaves_out_what_is_not_there(full):
    full["no_distillation"] = None
    for row in full["quality"].values():
        row["no_distillation"] = None
    assert headline(RunResult.from_json(full)).endswith("keeps 85.7% of the teacher's mean score.")
    full["quality"] = {}
    assert headline(RunResult.from_json(full)).endswith(
        "(25% of the teacher) and runs 3.1 times as fast."
    )
    full["teacher"] = None
    assert headline(RunResult.from_json(full)) == "The student has 5.00M parameters."


def test_a_teacher_without_a_positive_score_gives_no_share(full):
    for row in full["quality"].values():
        row["teacher"] = 0.0
    assert "keeps" not in headline(RunResult.from_json(full))
    write = dict(tables(RunResult.from_json(full)))
    quality = next(table for heading, table in write.items() if heading.startswith("Quality"))
    assert [row[5] for row in quality[1:]] == ["", "", ""]


def test_metrics_have_a_column_for_each_model_that_was_scored(full):
    for row in full["quality"].values():
        row["no_distillation"] = None
        del row["metrics"]["no_distillation"]
    shown = dict(tables(RunResult.from_json(full)))
    (table,) = (table for heading, table in shown.items() if heading.startswith("Every metric"))
    assert table[0] == ["task", "metric", "teacher", "student"]


def test_means_are_of_models_scored_on_every_task(full):
    full["quality"]["sst2"]["teacher"] = None
    assert mean_scores(RunResult.from_json(full)) == pytest.approx(
        {"student": 0.6, "no_distillation": 0.5}
    )


def test_the_summary_has_a_row_a_model(full):
    table = summary_table(RunResult.from_json(full))
    assert table[0] == [
        *["", "parameters", "embeddings", "MB", "ms a sentence"],
        *["sst2 (accuracy)", "тест|<u> (span f1)", "mean"],
    ]
    assert [row[0] for row in table[1:]] == ["teacher", "student", "no distillation"]
    assert table[2] == ["student", "5.00M", "2.50M", "20", "3", "80.0 ± 1.2", "40.0 ± 1.2", "60.0"]
    assert {len(row) for row in table} == {8}


def test_one_seed_has_no_deviation(full):
    full["quality"]["sst2"]["seeds"]["student"] = [0.8]
    full["quality"]["sst2"]["spread"]["student"] = 0.0
    assert summary_table(RunResult.from_json(full))[2][5] == "80.0"


def test_every_table_is_rectangular_and_in_markdown_and_page(full, records):
    markdown, html = (
        as_markdown(RunResult.from_json(full), records),
        as_html(RunResult.from_json(full), records),
    )
    found = tables(RunResult.from_json(full), records)
    assert len(found) == 9
    for heading, table in found:
        assert len({len(row) for row in table}) == 1, heading
        assert f"## {heading}\n" in markdown
        assert f"<h2>{heading}</h2>" in html


def test_what_the_plots_show_stands_in_tables(full, records):
    found = dict(tables(RunResult.from_json(full), records))
    time = next(table for heading, table in found.items() if heading.startswith("Time"))
    assert time[1:] == [
        ["1 × 64", "9.3", "20", "3", "20", "3", "20"],
        ["32 × 64", "9.3", "20", "3", "20", "3", "20"],
    ]
    losses = found["Losses along the way"]
    assert ["relations", "held out", "0", "1.5"] in losses
    assert losses[5] == ["relations", "training", "81,920", "0.075"]


def test_every_line_has_its_name_beside_it_and_every_axis_its_unit(full, records):
    html = as_html(RunResult.from_json(full), records)
    losses = re.findall(r'aria-label="Loss: (\w+)">.*?<svg(.*?)</svg>', html, re.DOTALL)
    assert losses
    for name, drawing in losses:
        texts = re.findall(r">([^<>]+)</text>", drawing)
        unit = full["held_out"][name]["unit"].partition(",")[0]
        assert {"training", "held out", "tokens learned from", unit} <= set(texts)
        assert "legend" not in drawing


def test_stages_keep_their_curves_apart(full, records):
    records += [{**record, "stage": "two <s>"} for record in records]
    html = as_html(RunResult.from_json(full), records)
    assert html.count("<svg") == 5
    assert "Loss: one: relations" in html and "Loss: two &lt;s&gt;: relations" in html


def test_the_page_needs_nothing_outside_it(full, records):
    html = as_html(RunResult.from_json(full), records)
    assert html.count("<svg") == 4
    references = re.findall(r'(?:src|href|url|action|data)\s*=\s*["\']?([^"\'\s>]+)', html)
    references += re.findall(r"url\(([^)]+)\)", html)
    assert references and all(reference.startswith("#") for reference in references)
    outside = set(re.findall(r"https?://[^\"'\s<)]+", html))
    assert outside <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not re.search(r"<(script|link|img|iframe|object|image|metadata)\b|@import", html)


def test_names_are_text_wherever_they_stand(full, records):
    html, markdown = (
        as_html(RunResult.from_json(full), records),
        as_markdown(RunResult.from_json(full), records),
    )
    for tag in ("<b>", "<i>", "<u>", "<script>"):
        assert tag not in html and tag not in markdown
    assert "<h1>small &lt;b&gt;student&lt;/b&gt; &amp; школа</h1>" in html
    assert "тест\\|&lt;u&gt;" in markdown


@pytest.mark.parametrize(
    "absent",
    [
        {"teacher": None},
        {"no_distillation": None},
        {"quality": {}},
        {"quality": None, "training": {}, "held_out": {}, "held_out_text": {}, "notes": []},
        {"teacher": None, "no_distillation": None, "quality": {}},
    ],
)
@pytest.mark.parametrize("logged", [True, False])
def test_the_page_leaves_out_what_was_not_measured(full, records, absent, logged, tmp_path):
    write_report(RunResult.from_json(full | absent), records if logged else [], tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert ("Losses along the way" in html) is logged
    assert not re.search(r">(None|nan|null|\{\}|\[\])<", html)


def test_a_cost_without_a_clock_is_enough(full):
    keys = ("name", "parameters", "embedding_parameters", "megabytes", "vocabulary_size")
    for role in ("teacher", "student", "no_distillation"):
        full[role] = {key: full[role][key] for key in keys}
    assert "times as fast" not in headline(RunResult.from_json(full))
    html = as_html(RunResult.from_json(full))
    assert "Quality against size" in html and "Quality against time" not in html
    assert "Time on the CPU" not in html


def test_the_three_files_and_nothing_else(full, records, tmp_path):
    before = copy.deepcopy(full)
    write_report(RunResult.from_json(full), records, tmp_path / "run" / "report")
    assert full == before
    folder = tmp_path / "run" / "report"
    assert sorted(f.name for f in folder.iterdir()) == ["report.html", "report.json", "report.md"]
    assert json.loads((folder / "report.json").read_text(encoding="utf-8")) == full


def test_json_stays_json_when_a_number_is_not_finite(full, records, tmp_path):
    full["held_out"]["relations"]["after"] = float("nan")
    full["training"]["tokens_per_second"] = float("inf")
    write_report(RunResult.from_json(full), records, tmp_path)
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    read = json.loads(text, parse_constant=pytest.fail)
    assert read["held_out"]["relations"]["after"] is None
    assert read["training"]["tokens_per_second"] is None


def test_a_disk_that_fails_leaves_the_old_report(full, records, tmp_path, monkeypatch):
    write_report(RunResult.from_json(full), records, tmp_path)
    old = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    write_text = Path.write_text

    def failing(file: Path, *given, **named) -> int:
        if "html" in file.name:
            raise OSError(28, "No space left on device")
        return write_text(file, *given, **named)

    monkeypatch.setattr(Path, "write_text", failing)
    with pytest.raises(OSError, match="No space left"):
        write_report(RunResult.from_json({**full, "name": "another"}), records, tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == old


def test_a_page_that_cannot_be_made_leaves_the_old_report(full, records, tmp_path, monkeypatch):
    write_report(RunResult.from_json(full), records, tmp_path)
    old = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    monkeypatch.setattr(report_module, "page", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(RunResult.from_json({**full, "name": "another"}), records, tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == old


def test_the_same_numbers_give_the_same_bytes(full, records):
    assert as_html(RunResult.from_json(full), records) == as_html(
        RunResult.from_json(copy.deepcopy(full)), list(records)
    )


@pytest.mark.parametrize(
    ("value", "key", "text"),
    [
        (5_974_656, "parameters", "5.97M"),
        (23_456, "embedding_parameters", "0.0235M"),
        (1_234_567_890, "parameters", "1,235M"),
        (99_990_000, "parameters", "100M"),
        (1_610_612_736, "peak_memory_bytes", "1.61 GB"),
        (107_913_216, "peak_memory_bytes", "108 MB"),
        (59.9, "seconds", "1 min 0 s"),
        (7384.0, "seconds", "2 h 3 min"),
        (90.868376, "megabytes", "90.87"),
        (81_920, "tokens", "81,920"),
        (12_345.6, "", "12,346"),
        (None, "", ""),
    ],
)
def test_numbers_as_a_reader_wants_them(value, key, text):
    assert cell(value, key) == text
