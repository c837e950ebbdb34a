"""What is kept of a file, and how weights are rounded on this processor."""

import math
import platform
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from conftest import HEADS, LABELS

from limbeck.deploy.compare import _r_squared, _Sums
from limbeck.deploy.exported_folder import chosen_format
from limbeck.deploy.results import (
    Candidate,
    Difference,
    Scored,
    Times,
    default_format,
    kept_share,
    verdict_of,
)
from limbeck.deploy.source import Source
from limbeck.errors import ExportError
from limbeck.models.task_heads import TaskHead
from limbeck.reports.task_results import Interval
from limbeck.system.int8_range import int8_range

SAME = Difference(0.1, 0.01, 0.75, None, {"order": 2}, 0.0)


def source_of(kind: str, head: TaskHead | None) -> Source:
    source = object.__new__(Source)  # only these are read
    for name, value in (("head", head), ("kind", kind)):
        object.__setattr__(source, name, value)
    return source


def scored(task: str, score: float) -> Scored:
    return Scored(task, "accuracy", 10, Interval(score, score - 0.1, score + 0.1))


def made(
    name: str, seconds: float | None, megabytes: float = 9.0, *, kept: float = 1.0
) -> Candidate:
    times = None if seconds is None else Times(1.0, ((1, 16, seconds, 1.0), (8, 16, 2.0, 3.0)))
    return Candidate(name, name, megabytes, SAME, (), times, kept, "", "any processor")


def written_to(folder, first: Candidate, *others: Candidate) -> dict:
    """What export.json says of files, the first of which is the default; they are in the folder."""
    candidates = [asdict(one) for one in (first, *others)]
    for one in candidates:
        (folder / one["file"]).write_text("x")
    return {"candidates": candidates, "keep": 0.9, "default": first.format}


def test_the_worst_task_decides():
    reference = [scored("a", 0.8), scored("b", 0.5)]
    share, of = kept_share(SAME, [scored("a", 0.8), scored("b", 0.4)], reference)
    assert share == pytest.approx(0.8)
    assert of == "accuracy on b"
    assert kept_share(SAME, [scored("a", 0.8), scored("b", -0.4)], reference)[0] == 0


@pytest.mark.parametrize("reference", [0.0, -0.1])
def test_where_torch_has_no_score_its_answers_decide(reference):
    """Of which no share can be taken; a score on another task still counts."""
    share, of = kept_share(SAME, [scored("a", 0.1)], [scored("a", reference)])
    assert (share, of) == (0.75, "answers that agree with torch")
    both = [scored("a", 0.1), scored("b", 0.4)], [scored("a", reference), scored("b", 0.8)]
    assert kept_share(SAME, *both) == (0.5, "accuracy on b")


def test_without_a_task_agreement_or_cosine_decides():
    assert kept_share(SAME, [], []) == (0.75, "answers that agree with torch")
    vectors = replace(SAME, agreement=None, cosine=0.9)
    assert kept_share(vectors, [], []) == (0.9, "mean cosine to torch's vectors")
    numbers = replace(SAME, agreement=None, r_squared=0.8)
    assert kept_share(numbers, [], []) == (0.8, "R² of its numbers for torch's")
    assert kept_share(replace(numbers, r_squared=-3.0), [], [])[0] == 0
    # Bits are better where they are fewer, and a file is never better than its model.
    for bits, kept in (((2.0, 2.5), 0.8), ((2.5, 2.0), 1.0)):
        found = kept_share(replace(SAME, bits=bits), [], [])
        assert found == (kept, "bits of the next token")


def test_what_keeps_too_little_is_refused_in_words():
    said, written = verdict_of(0.98, "accuracy on b", keep=0.99, force=False, wrong=None)
    assert not written
    assert said == "not written: keeps 98.00 % (accuracy on b), less than the 99 % of --keep"
    said, written = verdict_of(0.98, "accuracy on b", keep=0.99, force=True, wrong=None)
    assert written
    assert said.startswith("written by --force: ")
    assert verdict_of(0.99, "x", keep=0.99, force=False, wrong=None) == ("keeps 99.00 % (x)", True)
    said, written = verdict_of(1.0, "x", keep=0.0, force=True, wrong="no number")
    assert (said, written) == ("not written: no number", False)
    said, _ = verdict_of(0.989999, "x", keep=0.99, force=False, wrong=None)
    assert "keeps 98.99990 % (x), less than the 99 %" in said


def test_the_fastest_for_one_text_is_run():
    assert default_format([], keep=0.9) is None
    assert default_format([made("a", 0.2), made("b", 0.1)], keep=0.9) == "b"
    untimed = [made(name, None, megabytes) for name, megabytes in (("a", 9.0), ("b", 3.0))]
    assert default_format([*untimed, made("c", None, 5.0)], keep=0.9) == "b"


def test_a_file_that_was_forced_runs_only_where_there_is_no_other():
    slow, forced, worse = made("a", 0.2), made("b", 0.1, kept=0.5), made("c", 0.05, kept=0.4)
    unwritten = replace(made("d", 0.01), file=None)
    assert default_format([slow, forced, worse, unwritten], keep=0.9) == "a"
    assert default_format([forced, worse, unwritten], keep=0.9) == "c"
    assert default_format([unwritten], keep=0.9) is None


@pytest.mark.parametrize(
    ("kept", "forced", "expected"),
    [
        (1.0, (0.5, 1.0), "onnx"),  # exact, and it passed, though the other is faster
        (1.0, (0.5, 0.6), "onnx-int8"),  # others are worse than what may saturate
        (0.4, (0.5, 0.6), "openvino"),
    ],
)
def test_where_the_default_may_saturate_another_file_runs(
    monkeypatch, tmp_path, kept, forced, expected
):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    small = replace(made("onnx-int8", 0.1, kept=kept), exact_on="VNNI")
    others = [made("openvino", 0.2, kept=forced[0]), made("onnx", 0.3, kept=forced[1])]
    result = written_to(tmp_path, small, *others)
    assert chosen_format(str(tmp_path), result, None) == expected
    assert chosen_format(str(tmp_path), result, "onnx-int8") == "onnx-int8"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_vnni": True})
    assert chosen_format(str(tmp_path), result, None) == "onnx-int8"


def test_of_the_files_that_are_left_the_fastest_runs(tmp_path):
    others = made("openvino", 0.1, kept=0.5), made("gguf", 0.3), made("onnx", 0.2)
    result = written_to(tmp_path, made("onnx-int8", 0.05), *others)
    assert chosen_format(str(tmp_path), result, None) == "onnx-int8"
    (tmp_path / "onnx-int8").unlink()
    assert chosen_format(str(tmp_path), result, None) == "onnx"  # --force alone wrote a faster one
    with pytest.raises(ExportError, match="format 'onnx-int8'; it has openvino, gguf, onnx"):
        chosen_format(str(tmp_path), result, "onnx-int8")
    for name in ("gguf", "onnx"):
        (tmp_path / name).unlink()
    assert chosen_format(str(tmp_path), result, None) == "openvino"
    (tmp_path / "openvino").unlink()
    said = r"none of the model files that its export.json names \(onnx-int8, openvino, gguf, onnx"
    with pytest.raises(ExportError, match=said):
        chosen_format(str(tmp_path), result, None)


@pytest.mark.parametrize(
    ("machine", "flags", "reduced"),
    [
        ("x86_64", {"avx2": True}, True),
        ("x86_64", {"avx2": True, "avx512_vnni": True}, False),
        ("AMD64", {"amx_int8": True}, False),
        ("aarch64", {}, False),
    ],
)
def test_seven_bits_where_sums_would_saturate(monkeypatch, machine, flags, reduced):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags)
    found = int8_range()
    assert found.reduced is reduced
    assert found.reason
    assert (found.exact_on == "any processor") is reduced


def test_offset_and_scale_of_numbers_count():
    torchs = np.array([1.0, 2.0, 3.0])
    assert _r_squared(np.stack([torchs, torchs], 1)) == 1
    assert _r_squared(np.stack([torchs, 2 * torchs], 1)) == pytest.approx(1 - 14 / 2)
    assert _r_squared(np.stack([torchs, torchs + 0.1], 1)) == pytest.approx(1 - 0.03 / 2)
    assert _r_squared(np.array([[1.0, 1.0], [1.0, 1.0]])) == 1
    assert _r_squared(np.array([[1.0, 1.0], [1.0, 2.0]])) == 0
    sums = _Sums(source_of("sequence", HEADS["scores"]))
    sums.add(torchs[:, None], torchs[:, None] + 1)
    found = sums.difference(0.0)
    assert (found.agreement, found.r_squared) == (None, pytest.approx(1 - 3 / 2))


def test_answers_that_agree_are_counted_by_hand():
    torchs = np.array([[0.2, -1.0, 3.0], [-1.0, -2.0, 0.3], [-1.0, 2.0, 1.0]])
    files = np.array([[0.2, -1.0, -0.1], [-1.0, -2.0, 0.4], [-1.0, 0.5, 0.6]])
    several = _Sums(source_of("sequence", HEADS["several"]))
    several.add(torchs, files)
    found = several.difference(0.0)
    assert found.agreement == pytest.approx(2 / 3) and found.flips == {LABELS[2]: 1}
    assert found.largest == pytest.approx(3.1) and found.mean == pytest.approx(5.1 / 9)
    classes = _Sums(source_of("sequence", HEADS["labels"]))
    classes.add(torchs, files)
    found = classes.difference(0.0)
    assert found.agreement == pytest.approx(1 / 3) and found.flips == {LABELS[2]: 1, LABELS[1]: 1}
    text = _Sums(source_of("causal", None))
    text.add_bits([1, 0, 2], torchs, files)
    bits = [
        sum(math.log2(sum(map(math.exp, row))) - row[n] / math.log(2) for row, n in pairs)
        for pairs in ([(some[0], 0), (some[1], 2)] for some in (torchs, files))
    ]
    assert text.difference(0.0).bits == pytest.approx((bits[0] / 2, bits[1] / 2))


@pytest.mark.parametrize("wrong", [math.inf, -math.inf, math.nan])
def test_numbers_that_are_not_finite_are_infinitely_far(wrong):
    sums = _Sums(source_of("vectors", None))
    sums.add(np.ones((2, 3)), np.array([[1.0, 1.0, 1.0], [1.0, wrong, 1.0]]))
    assert sums.difference(0.0).largest == math.inf
