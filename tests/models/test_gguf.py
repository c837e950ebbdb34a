"""GGUF files are read as transformers folders are: checked by their headers, plain once loaded."""

import gguf
import numpy as np
import pytest
import torch
from conftest import make_model, make_tokenizer
from gguf import GGMLQuantizationType as Kind
from gguf_files import tensors, write_gguf

from limbeck.errors import MissingExtraError, ModelError
from limbeck.generation.ends import ends_of
from limbeck.models import gguf as reading
from limbeck.models import locate as locating
from limbeck.models.families import ARCHITECTURES
from limbeck.models.load import load_body, load_config, load_model, load_with_head
from limbeck.models.locate import fingerprint, locate
from limbeck.models.weight_headers import check_weights, has_vocabulary_head
from limbeck.tokenization.load import load_tokenizer

SIZES = {"hidden": 64, "layers": 2, "intermediate_size": 96}
FAMILIES = {
    "llama": SIZES | {"head_dim": 16, "tie_word_embeddings": False},
    "qwen3": SIZES | {"head_dim": 128, "tie_word_embeddings": True},
    "gpt2": {"hidden": 64, "layers": 2, "n_inner": None, "max_position_embeddings": 1024},
    "gemma2": SIZES
    | {"head_dim": 16, "query_pre_attn_scalar": 256, "final_logit_softcapping": 30.0},
}
# What a file says nothing of is transformers' default: the sizes of heads in Qwen 3, scales and
# caps in Gemma 2, positions in GPT-2.


@pytest.fixture(scope="module")
def bpe():
    return make_tokenizer("byte_bpe", 60)


def model_of(family, bpe):
    fields = FAMILIES[family]
    model = make_model(family, vocabulary=len(bpe), **fields)
    model.config.pad_token_id = bpe.pad_token_id
    return model


def logits(model):
    ids = torch.arange(5, 25).view(2, 10)
    with torch.no_grad():
        return model(input_ids=ids).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_in_float32_computes_what_its_folder_computes(tmp_path, bpe, family):
    model = model_of(family, bpe)
    place = str(write_gguf(tmp_path / "model.gguf", model, bpe))
    architecture = ARCHITECTURES[family]
    assert check_weights(place, architecture=architecture)[0] is None
    assert has_vocabulary_head(place, architecture=architecture)
    loaded = load_model(place, architecture=architecture, with_head=True)
    assert torch.allclose(logits(loaded), logits(model), atol=2e-5)
    body = load_body(place)
    ids = torch.arange(5, 25).view(2, 10)
    with torch.no_grad():
        states = model.base_model(input_ids=ids).last_hidden_state
        assert torch.allclose(body(input_ids=ids).last_hidden_state, states, atol=2e-5)


def test_quantized_files_become_plain_models_that_can_be_saved(tmp_path, bpe):
    model = model_of("llama", bpe)
    place = write_gguf(tmp_path / "model.gguf", model, bpe, kind=Kind.Q8_0)
    architecture = ARCHITECTURES["llama"]
    problem, note = check_weights(str(place), architecture=architecture)
    assert problem is None
    matrices = sum(values.ndim > 1 for values in tensors(model).values())
    assert f"dequantized from Q8_0 ({matrices} of {matrices})" in note
    loaded = load_model(str(place), architecture=architecture, with_head=True, stored=True)
    original = model.model.layers[1].mlp.down_proj.weight.detach().numpy()
    rounded = gguf.dequantize(gguf.quantize(original, Kind.Q8_0), Kind.Q8_0)
    held = loaded.model.layers[1].mlp.down_proj.weight.detach().numpy()
    assert np.array_equal(held, rounded)
    assert not np.array_equal(held, original)
    loaded.save_pretrained(tmp_path / "saved")
    load_tokenizer(str(place)).save_pretrained(tmp_path / "saved")
    again = load_model(str(tmp_path / "saved"), architecture=architecture, with_head=True)
    assert torch.equal(logits(again), logits(loaded))
    assert "quantization_config" not in (tmp_path / "saved" / "config.json").read_text()


@pytest.mark.parametrize(("kind", "precision"), [("F16", torch.float16), ("BF16", torch.bfloat16)])
def test_half_precision_is_kept(tmp_path, bpe, kind, precision):
    model = model_of("llama", bpe)
    place = str(write_gguf(tmp_path / "model.gguf", model, bpe, kind=Kind[kind]))
    load = {"architecture": ARCHITECTURES["llama"], "with_head": True}
    wide, stored = (load_model(place, stored=stored, **load) for stored in (False, True))
    assert {p.dtype for p in stored.parameters() if p.dim() == 2} == {precision}
    assert {p.dtype for p in stored.parameters() if p.dim() == 1} == {torch.float32}
    assert torch.equal(logits(wide), logits(stored))
    note = check_weights(place, architecture=ARCHITECTURES["llama"])[1]
    assert f"read in {kind}" in note
    assert "quantization" not in note


def test_tokenizer_configuration_and_ends_come_from_the_file(tmp_path, bpe):
    place = str(write_gguf(tmp_path / "model.gguf", model_of("qwen3", bpe), bpe))
    tokenizer = load_tokenizer(place)
    text = "the red house, тихо"
    assert tokenizer.get_vocab() == bpe.get_vocab()
    plain = bpe(text, add_special_tokens=False).input_ids
    assert tokenizer(text, add_special_tokens=False).input_ids == plain
    config = load_config(place)
    assert (config.model_type, config.num_hidden_layers, config.vocab_size) == (
        "qwen3",
        2,
        len(bpe),
    )
    assert config.tie_word_embeddings
    assert ends_of(tokenizer, place) == (bpe.sep_token_id,)
    config.num_hidden_layers = 1
    assert load_config(place).num_hidden_layers == 2
    student = load_with_head(place, architecture=ARCHITECTURES["qwen3"], seed=0)
    assert student.lm_head.weight is student.model.embed_tokens.weight


def test_a_folder_with_one_file_stands_for_it_and_the_fingerprint_is_of_the_bytes(tmp_path, bpe):
    model = model_of("llama", bpe)
    file = write_gguf(tmp_path / "model.gguf", model, bpe)
    assert locate(str(tmp_path)) == locate(str(file)) == str(file)
    before = fingerprint(str(file))
    assert fingerprint(str(tmp_path)) == before
    with torch.no_grad():
        model.model.norm.weight.add_(1)
    write_gguf(file, model, bpe)
    assert fingerprint(str(file)) != before
    write_gguf(tmp_path / "other.gguf", model, bpe)
    with pytest.raises(ModelError, match="holds 2 GGUF files .*name the one to read"):
        locate(str(tmp_path))
    model.config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="or name the GGUF file, as .*model.gguf"):
        locate(str(tmp_path))


def test_damaged_files_are_refused(tmp_path, bpe):
    file = write_gguf(tmp_path / "model.gguf", model_of("llama", bpe), bpe)
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    with pytest.raises(ModelError, match="incomplete: its header describes .* bytes"):
        load_config(str(file))
    for length in (4, 23, 60, 700):
        file.write_bytes(whole[:length])
        with pytest.raises(ModelError, match="damaged one|incomplete"):
            load_config(str(file))
    file.write_bytes(whole[:8] + b"\xff" * 16 + whole[24:])  # endless counts
    with pytest.raises(ModelError, match="damaged one"):
        load_config(str(file))
    file.write_bytes(b"PK" + whole[2:])
    with pytest.raises(ModelError, match="only files that stand for a whole model are GGUF"):
        locate(str(file))


def test_what_transformers_cannot_read_is_refused(tmp_path, bpe):
    model = model_of("llama", bpe)
    write_gguf(tmp_path / "bert.gguf", model, bpe, architecture="bert")
    with pytest.raises(ModelError, match="architecture 'bert', and transformers reads .*llama"):
        load_config(str(tmp_path / "bert.gguf"))
    write_gguf(tmp_path / "bare.gguf", model, None)
    with pytest.raises(ModelError, match="holds no tokenizer"):
        load_tokenizer(str(tmp_path / "bare.gguf"))
    bias = {"blk.0.attn_q.bias": np.zeros(64, np.float32)}
    write_gguf(tmp_path / "more.gguf", model, bpe, extra=bias)
    with pytest.raises(ModelError, match=r"no place for: blk.0.attn_q.bias"):
        check_weights(str(tmp_path / "more.gguf"), architecture=ARCHITECTURES["llama"])
    counts = {"blk.0.counts.weight": np.zeros(64, np.int32)}
    write_gguf(tmp_path / "types.gguf", model, bpe, extra=counts)
    with pytest.raises(ModelError, match="types I32, which the installed gguf cannot"):
        load_config(str(tmp_path / "types.gguf"))


def test_what_transformers_leaves_out_is_said(tmp_path, bpe):
    stretched = {"rope_freqs.weight": np.ones(8, np.float32)}
    file = write_gguf(tmp_path / "model.gguf", model_of("llama", bpe), bpe, extra=stretched)
    problem, note = check_weights(str(file), architecture=ARCHITECTURES["llama"])
    assert problem is None
    assert "leaves out rope_freqs.weight" in note


def test_missing_and_misshapen_tensors_are_problems(tmp_path, bpe, monkeypatch):
    model = model_of("llama", bpe)
    kept = {name: values for name, values in tensors(model).items() if "blk.1.ffn_up" not in name}
    monkeypatch.setattr("gguf_files.tensors", lambda _: kept)
    file = write_gguf(tmp_path / "model.gguf", model, bpe)
    problem, _ = check_weights(str(file), architecture=ARCHITECTURES["llama"])
    assert "lacks 1 of the" in problem
    assert "that its header describes: layers.1.mlp.up_proj.weight" in problem.replace("model.", "")
    kept["blk.1.ffn_up.weight"] = np.zeros((96, 32), np.float32)
    file = write_gguf(tmp_path / "small.gguf", model, bpe)
    problem, _ = check_weights(str(file), architecture=ARCHITECTURES["llama"])
    assert "[96, 32] and should be [96, 64]" in problem


def test_the_extra_is_named_where_it_is_missing(tmp_path, bpe, monkeypatch):
    file = write_gguf(tmp_path / "model.gguf", model_of("llama", bpe), bpe)
    monkeypatch.setattr(locating, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'limbeck\[gguf\]'"):
        locate(str(file))


def test_the_private_reader_of_headers_agrees_with_the_public_one(tmp_path, bpe):
    file = write_gguf(tmp_path / "model.gguf", model_of("llama", bpe), bpe, kind=Kind.Q8_0)
    header = reading.gguf_header(file)
    public = {
        tensor.name: (tuple(reversed(tensor.shape.tolist())), tensor.tensor_type.name)
        for tensor in gguf.GGUFReader(file).tensors
    }
    assert {name: (t.shape, t.kind) for name, t in header.tensors.items()} == public
