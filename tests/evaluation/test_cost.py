"""What a model costs: counted by hand, and measured apart from the process that asks."""

import json
import sys
from pathlib import Path

import pytest
import torch
from conftest import FAMILIES, make_model
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaModel

from limbeck.errors import EvaluationError, ModelError
from limbeck.evaluation.cost import Cost, Latency, measure_cost, model_size
from limbeck.models.families import ARCHITECTURES
from limbeck.models.modules import longest_text, parameter_counts
from limbeck.models.shapes import shape_of


def quick(model: Path, **options) -> Cost:
    given = {"batches": (1,), "lengths": (16,), "threads": 1, "seconds_each": 0.0}
    return measure_cost(str(model), minimum_runs=2, **{**given, **options})


def test_parameters_are_those_counted_by_hand():
    model = make_model("bert", vocabulary=200, layers=3, hidden=24)
    tables = 24 * (200 + 80 + 2)
    layer = 4 * (24 * 24 + 24) + (24 * 48 + 48) + (48 * 24 + 24) + 4 * 24
    total, embeddings = parameter_counts(model.bert)
    assert embeddings == tables
    assert total == tables + 2 * 24 + 3 * layer


def test_tied_weights_count_once():
    model = make_model("bert")
    head = model.cls.predictions
    assert head.decoder.weight is model.bert.embeddings.word_embeddings.weight
    body, body_tables = parameter_counts(model.bert)
    total, tables = parameter_counts(model)
    assert tables == body_tables
    assert total == body + 24 * 24 + 24 + 2 * 24 + 200  # transform, norm, bias of the vocabulary


@pytest.mark.parametrize("family", FAMILIES)
def test_size_without_a_clock_is_that_of_what_is_used(family, tmp_path):
    """A decoder with its vocabulary head, the body of an encoder or of a decoder without one."""
    causal = ARCHITECTURES[family].causal
    model = make_model(family, **({"tie_word_embeddings": False} if causal else {}))
    model.save_pretrained(tmp_path)
    size = model_size(str(tmp_path))
    used = model if causal else model.base_model
    assert (size["parameters"], size["embedding_parameters"]) == parameter_counts(used)
    model.base_model.save_pretrained(tmp_path / "body")
    alone = model_size(str(tmp_path / "body"))
    assert alone["parameters"] == parameter_counts(model.base_model)[0]
    assert size["vocabulary_size"] == 200
    assert size["megabytes"] == (tmp_path / "model.safetensors").stat().st_size / 1e6


@pytest.mark.usefixtures("warm_python")
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_decoders_write_and_encoders_do_not(family, tmp_path):
    make_model(family).save_pretrained(tmp_path)
    found = quick(tmp_path).cpu_ms_per_written_piece
    assert (found is not None) == ARCHITECTURES[family].causal
    assert found is None or found > 0


@pytest.mark.usefixtures("warm_python")
def test_a_decoder_without_a_head_generates_nothing(tmp_path):
    make_model("llama").base_model.save_pretrained(tmp_path)
    assert quick(tmp_path).cpu_ms_per_written_piece is None


@pytest.mark.usefixtures("warm_python")
def test_a_cost_is_whole_and_goes_through_json(teacher_folder):
    cost = quick(teacher_folder, batches=(1, 3), lengths=(8, 16, 81))
    assert [(x.batch, x.length) for x in cost.latencies] == [
        (1, 8),
        (1, 16),
        (1, 64),
        (3, 8),
        (3, 16),
    ]
    assert all(0 < x.p50 <= x.p95 for x in cost.latencies)
    assert cost.cpu_ms_per_sentence == 1000 * cost.latencies[2].p50
    assert (cost.threads, cost.precision) == (1, "float32")
    assert cost.pieces_per_sentence == 64
    read = json.loads(json.dumps(cost.to_json()))
    assert Cost(**{**read, "latencies": tuple(Latency(**x) for x in read["latencies"])}) == cost


@pytest.mark.usefixtures("warm_python")
@pytest.mark.parametrize(("asked", "read"), [(20, 20), (1000, 80)])
def test_a_sentence_may_have_more_or_fewer_tokens(teacher_folder, asked, read):
    cost = quick(teacher_folder, batches=(1,), lengths=(8,), sentence=asked)
    assert cost.pieces_per_sentence == read
    assert [x.length for x in cost.latencies] == [8, read]


def test_peak_memory_is_the_models_however_large_the_parent_was(tmp_path):
    LlamaModel(
        LlamaConfig(
            vocab_size=60_000,
            hidden_size=256,
            intermediate_size=128,
            num_hidden_layers=1,
            num_attention_heads=4,
        )
    ).save_pretrained(tmp_path)
    ballast = bytearray(600_000_000)
    cost = quick(tmp_path)
    weights, peak = 4 * cost.parameters, cost.peak_memory_bytes
    if sys.platform == "win32":  # which cannot be asked
        assert peak is None
        return
    assert len(ballast) > weights + 150e6
    assert weights < peak < weights + 150e6


@pytest.mark.parametrize("family", FAMILIES)
def test_the_longest_text_can_be_read_and_no_longer_one_is_tried(family):
    body, architecture = make_model(family).base_model, ARCHITECTURES[family]
    longest = longest_text(body)
    if not hasattr(body.config, "max_position_embeddings"):
        assert architecture.positions in ("relative", "alibi") and longest == sys.maxsize
        return
    with torch.no_grad():
        assert body(input_ids=torch.full((1, longest), 7)).last_hidden_state.shape[1] == longest
    # RoBERTa's first usable position is the one after the padding id, which is 0 here.
    assert longest == shape_of(body.config, architecture).max_position_embeddings
    assert longest == 80 or architecture.positions_after_padding


@pytest.mark.usefixtures("warm_python")
def test_a_process_that_fails_says_why(teacher_folder, tmp_path):
    (tmp_path / "config.json").write_bytes((teacher_folder / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="is damaged"):
        quick(tmp_path)
    save_file({f"of_none.{n}": torch.zeros(2) for n in range(9)}, tmp_path / "model.safetensors")
    with pytest.raises(EvaluationError, match="could not be measured") as caught:
        quick(tmp_path)
    assert "lack" in str(caught.value)


def test_a_module_that_lies_about_is_not_imported(teacher_folder, tmp_path, monkeypatch):
    (tmp_path / "h2.py").write_text("raise SystemExit('was run')")
    (tmp_path / "argparse.py").write_text("raise SystemExit('was run')")
    monkeypatch.chdir(tmp_path)
    fast = {"minimum_runs": 1, "seconds_each": 0.0, "batches": (1,), "lengths": (8,)}
    assert measure_cost(str(teacher_folder), **fast).parameters > 0


def test_mistakes_are_told_before_a_process_is_started(teacher_folder, tmp_path):
    with pytest.raises(EvaluationError, match="threads 0"):
        quick(teacher_folder, threads=0)
    with pytest.raises(EvaluationError, match=r"batches \[0\]"):
        quick(teacher_folder, batches=(0,))
    with pytest.raises(ModelError, match="does not exist"):
        quick(tmp_path / "nothing" / "here")
    with pytest.raises(ModelError, match="cannot read the configuration of 'no-such-model'"):
        quick(Path("no-such-model"))
