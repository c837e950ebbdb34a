"""The report and the card of an export: what a person reads, and what the hub reads."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import HEADS, make_model, make_tokenizer, with_task_head
from huggingface_hub import ModelCard, metadata_load

from limbeck.cli.main import main
from limbeck.deploy.report.card import export_card
from limbeck.deploy.report.tables import export_tables, headline, report_files
from limbeck.deploy.results import Candidate, Difference, ExportResult, Scored, Times
from limbeck.export.origin import Origin
from limbeck.reports.task_results import Interval

SAME = Difference(0.1, 0.01, 0.75, None, {}, 0.0)
PLACES = (1, 16), (8, 16), (1, 512)


def scored(score: float) -> tuple[Scored, ...]:
    return (Scored("sst2", "accuracy", 872, Interval(score, score - 0.02, score + 0.02), "dev"),)


def timed(seconds: float, cold: float | None = 0.2) -> Times:
    return Times(
        cold, tuple((*place, seconds * n, 2 * seconds) for n, place in enumerate(PLACES, 1))
    )


FILE = Candidate(
    "onnx", "model.onnx", 90.9, SAME, scored(0.92), timed(0.005), 1.0, "keeps 100.00 % (accuracy on"
    " sst2)", "any processor",
)  # fmt: skip
SMALL = replace(
    FILE, format="onnx-int8", file="model_int8.onnx", megabytes=23.0, scores=scored(0.915),
    times=timed(0.002), kept=0.9946, verdict="keeps 99.46 % (accuracy on sst2)",
    exact_on="processors with VNNI",
)  # fmt: skip
BAD = replace(
    FILE, format="onnx-fused", file=None, kept=0.5, scores=scored(0.46),
    difference=replace(SAME, flips={"negative": 7}),
    verdict="not written: keeps 50.00 % (accuracy on sst2), less than the 99 % of --keep",
)  # fmt: skip
RESULT = ExportResult(
    model="student", kind="sequence", texts="256 scored rows of sst2", processor="a processor",
    int8="it has VNNI", keep=0.99, threads=2, scores=scored(0.92), times=timed(0.01, None),
    megabytes=91.0, candidates=(FILE, SMALL, BAD), default="onnx-int8",
    left_out={"openvino": "needs openvino"},
    origins=(Origin("student", ("org/teacher",), "mit", languages=("en",), datasets=("sst2",)),),
)  # fmt: skip


def read(result: ExportResult) -> ModelCard:
    """The card as the hub's library reads it, which refuses broken metadata."""
    return ModelCard(export_card(result))


def test_the_card_has_the_metadata_of_the_hub():
    card = read(RESULT)
    data = card.data
    assert (data.base_model, data.license, data.language) == (["org/teacher"], "mit", ["en"])
    assert (data.library_name, data.pipeline_tag) == ("onnx", "text-classification")
    assert (data.datasets, data.tags) == (["sst2"], ["onnx", "limbeck"])
    assert data.model_name == "student"
    found = [(one.metric_name, one.metric_value, one.dataset_name) for one in data.eval_results]
    assert found == [
        ("accuracy of model.onnx", 0.92, "sst2"),
        ("accuracy of model_int8.onnx", 0.915, "sst2"),
    ]
    assert {one.task_type for one in data.eval_results} == {"text-classification"}
    assert {one.dataset_split for one in data.eval_results} == {"dev"}
    assert "Milliseconds are medians of a processor." in card.text
    assert "| `model_int8.onnx` | 23.0 | 91.5 (89.5 to 93.5) | 2.00 | 6.00 |" in card.text
    assert "- `model_int8.onnx` is exact on processors with VNNI." in card.text
    assert "model.logits" in card.text and "Warning" not in card.text


def test_the_card_of_a_model_of_many_languages_keeps_them():
    many = Origin("org/student", ("org/student",), "mit", languages=("en", "de"))
    assert read(replace(RESULT, origins=(many,))).data.language == ["en", "de"]
    teacher = replace(many, name="org/the-student")  # the files are of its student
    assert read(replace(RESULT, origins=(teacher,))).data.language is None


def test_the_card_of_a_model_that_was_made_of_others():
    teachers = Origin("teacher", ("org/t",), "cc-by-nc-4.0", datasets=("its-own",)), Origin("next")
    card = read(replace(RESULT, origins=teachers))
    assert card.data.license == "other" and card.data.license_name == "cc-by-nc-4.0-and-unknown"
    assert card.data.datasets is None  # those of the teachers are in their cards
    assert card.text.count("**Warning:**") == 2


@pytest.mark.parametrize(("kind", "call"), [("vectors", "encode"), ("body", "hidden_states")])
def test_the_card_without_scores_and_times(kind, call):
    bare = [replace(one, scores=(), times=None) for one in RESULT.candidates]
    plain = replace(RESULT, kind=kind, scores=(), times=None, candidates=tuple(bare), origins=())
    card = read(plain)
    assert card.data.eval_results is None and card.data.license is None
    assert f"model.{call}(" in card.text and "Licence" not in card.text
    assert "illiseconds" not in card.text
    assert "Milliseconds for" not in report_files(plain)["export.html"]


def test_the_card_where_no_file_was_written():
    card = read(replace(RESULT, candidates=(BAD,), default=None))
    assert card.data.library_name is None and "Usage" not in card.text
    assert "No file keeps 99 % of student" in card.text


def test_names_are_text_and_no_html():
    score = replace(scored(0.92)[0], task="<b>", rows=6)
    result = replace(
        RESULT, model="a <i> & b", texts="6 rows of <b>", scores=(score,), notes=("<b>: few",),
        candidates=(replace(FILE, scores=(score,), verdict="keeps 100.00 % (accuracy on <b>)"),),
        default="onnx",
    )  # fmt: skip
    files = {**report_files(result), "README.md": read(result).text}
    for name in ("export.md", "export.html", "README.md"):
        outside = re.sub("`[^`]*`", "", files[name])  # code is shown as it is
        assert "<b>" not in outside and "<i>" not in outside, name
        assert "a &lt;i&gt; &amp; b" in files[name]
    assert "&lt;b&gt;: few" in files["export.md"] and "&lt;b&gt;: few" in files["export.html"]
    assert json.loads(files["export.json"])["notes"] == ["<b>: few"]


def test_the_report_says_in_a_sentence_what_came_out():
    said = headline(RESULT)
    assert "runs onnx-int8: keeps 99.46 % (accuracy on sst2), 23.0 MB (torch 91.0)" in said
    assert "2 ms for 1 text of 16 tokens (torch 10)" in said
    assert "Written, too: onnx." in said
    assert "onnx-fused was not written: keeps 50.00 %" in said


def test_the_tables_are_narrow_enough_to_read():
    tables = dict(export_tables(RESULT))
    files = tables["Files (milliseconds of 1 text of 16 tokens, 2 threads)"]
    assert files[0] == "format/file/MB/keeps/ms/torch ÷ file/cold start, ms/written".split("/")
    assert files[1] == ["torch float32", "", "91.0", "", "10.00", "", "", ""]
    assert files[3] == [
        "onnx-int8",
        "model_int8.onnx",
        "23.0",
        "99.46 %",
        "2.00",
        "5.0",
        "200",
        "yes",
    ]
    assert files[4][-1] == "no: below --keep"
    short = "Milliseconds, texts of 16 tokens, 2 threads: median, 95th percentile"
    assert tables[short][0] == ["format", "1 text", "8 texts"]
    assert tables[short][3] == ["onnx-int8", "2.00, 4.00", "4.00, 4.00"]
    assert tables[short.replace("16", "512")][0] == ["format", "1 text"]
    changed = tables["Answers that changed, by the class that torch gives"]
    assert changed == [["class", "onnx-fused"], ["negative", "7"]]
    assert tables["Where sums of 8 bits are exact"][1:] == [["onnx-int8", "processors with VNNI"]]
    assert tables["Left out"][1:] == [["openvino", "needs openvino"]]


def test_the_page_draws_times_scores_and_sizes():
    content = report_files(RESULT)["export.html"]
    assert content.count("<figure") == 4
    for title in (
        "1 text of 16 tokens",
        "1 text of 512 tokens",
        "sst2, accuracy x 100",
        "Megabytes",
    ):
        assert title in content
    assert "not written are orange" in content


def test_what_a_file_keeps_names_the_task_where_they_differ():
    def on(sst2: float, mrpc: float) -> tuple[Scored, ...]:
        return (*scored(sst2), replace(*scored(mrpc), task="mrpc"))

    files = replace(FILE, scores=on(0.9, 0.5), kept=0.978), replace(SMALL, scores=on(0.92, 0.4))
    found = export_tables(replace(RESULT, scores=on(0.92, 0.5), candidates=files))[0][1]
    assert found[2][3] == "97.80 % (accuracy on sst2)"
    assert found[3][3] == "99.46 % (accuracy on mrpc)"


def test_numbers_that_are_not_finite_are_said():
    broken = replace(
        BAD, scores=(), difference=replace(SAME, largest=float("inf")), kept=0.0,
        verdict="not written: it gives numbers that are not finite",
    )  # fmt: skip
    found = replace(RESULT, candidates=(FILE, broken), default="onnx")
    tables = export_tables(found)
    assert tables[0][1][3][3] == "" and tables[0][1][3][-1].startswith("no: it gives numbers")
    assert tables[1][1][3] == ["onnx-fused", ""]
    assert "Infinity" not in report_files(found)["export.json"]


def test_an_export_warns_of_the_licence(tmp_path, monkeypatch, capsys):
    tokenizer = make_tokenizer()
    model = with_task_head(make_model("bert", vocabulary=len(tokenizer), layers=1), HEADS["labels"])
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    card = tmp_path / "model" / "README.md"
    card.write_text("---\nlicense: cc-by-nc-4.0\nbase_model: org/big\n---\n")
    arguments = ["export", ".", "-o", "../files", "--formats", "onnx", "--no-timed"]
    monkeypatch.chdir(tmp_path / "model")
    monkeypatch.setattr(sys, "argv", ["limbeck", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    out = " ".join(capsys.readouterr().out.split())
    assert not ended.value.code, out
    assert "warning: the licence of model (cc-by-nc-4.0) forbids commercial use" in out
    files = Path("../files")
    says = metadata_load(files / "README.md")
    assert (says["license"], says["base_model"]) == ("cc-by-nc-4.0", ["org/big"])
    assert "forbids commercial use" in (files / "export.html").read_text(encoding="utf-8")
    stored = json.loads((files / "export.json").read_text(encoding="utf-8"))
    assert stored["origins"][0]["license"] == "cc-by-nc-4.0"
    assert stored["model"] == "model" and "\n# model\n" in (files / "README.md").read_text("utf-8")
