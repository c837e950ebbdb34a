"""Vectors of texts: against plain loops, and against the modules of sentence-transformers."""

import json
import math
import pickle
import shutil

import pytest
import torch
from conftest import make_model
from safetensors.torch import save_file
from sentence_transformers.base.modules import Dense as LibraryDense
from sentence_transformers.sentence_transformer.modules import Pooling as LibraryPooling
from torch import nn

from limbeck.errors import ModelError
from limbeck.evaluation.embeddings.encode import QUERY, load_text_encoder
from limbeck.models.sentence_transformers import Pooling
from limbeck.models.sentences.load import chain_of, sentence_vectors
from limbeck.models.sentences.pooling import POOLING_MODES, pooled
from limbeck.models.sentences.vectors import ACTIVATIONS, Dense, SentenceVectors

LENGTHS = (7, 4, 1)
WIDTH = 6


def padded(side, *, garbage=0.0):
    """States and mask of texts of several lengths, padded at one end."""
    generator = torch.Generator().manual_seed(0)
    states = torch.full((len(LENGTHS), max(LENGTHS), WIDTH), garbage)
    mask = torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.bool)
    for row, length in enumerate(LENGTHS):
        place = slice(0, length) if side == "right" else slice(max(LENGTHS) - length, None)
        states[row, place] = torch.randn(length, WIDTH, generator=generator)
        mask[row, place] = True
    return states, mask


def by_loops(rows, mode, left_out=0):
    """The vector of one text, from its real tokens as lists of numbers."""
    numbered = list(enumerate(rows, 1))[left_out:]
    tokens = [token for _, token in numbered]
    if mode == "cls":
        return tokens[0]
    if mode == "lasttoken":
        return tokens[-1]
    if mode == "max":
        return [max(values) for values in zip(*tokens, strict=True)]
    weights = [place if mode == "weightedmean" else 1 for place, _ in numbered]
    divisor = math.sqrt(len(tokens)) if mode == "mean_sqrt_len_tokens" else sum(weights)
    return [
        sum(w * value for w, value in zip(weights, values, strict=True)) / divisor
        for values in zip(*tokens, strict=True)
    ]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("mode", POOLING_MODES)
def test_every_mode_is_that_of_plain_loops(mode, side):
    states, mask = padded(side, garbage=math.nan)
    found = pooled(states, mask, Pooling((mode,)))
    expected = [by_loops(states[row][mask[row]].tolist(), mode) for row in range(len(LENGTHS))]
    assert torch.allclose(found, torch.tensor(expected), atol=1e-6)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("mode", POOLING_MODES)
def test_the_tokens_of_a_prompt_are_left_out(mode, side):
    states, mask = padded(side)
    states, mask = states[:2], mask[:2]
    prompts = torch.tensor([3, 1])
    found = pooled(states, mask, Pooling((mode,), include_prompt=False), prompt_tokens=prompts)
    expected = [
        by_loops(states[row][mask[row]].tolist(), mode, left_out)
        for row, left_out in enumerate(prompts.tolist())
    ]
    assert torch.allclose(found, torch.tensor(expected), atol=1e-6)
    counted = pooled(states, mask, Pooling((mode,)), prompt_tokens=prompts)
    assert torch.equal(counted, pooled(states, mask, Pooling((mode,))))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("prompt", [0, 2])
def test_modes_are_those_of_the_library(side, prompt):
    states, mask = padded(side)
    states, mask = states[:2], mask[:2]
    modes = ("lasttoken", "mean", "cls", "max", "weightedmean", "mean_sqrt_len_tokens")
    theirs = LibraryPooling(WIDTH, pooling_mode=modes, include_prompt=not prompt)
    features = {"token_embeddings": states, "attention_mask": mask.long()}
    features |= {"prompt_length": prompt} if prompt else {}
    lengths = torch.full((2,), prompt) if prompt else None
    pooling = Pooling(modes, include_prompt=not prompt)
    found = pooled(states, mask, pooling, prompt_tokens=lengths)
    assert torch.allclose(found, theirs(features)["sentence_embedding"], atol=1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("width", "residual"), [(4, False), (4, True), (WIDTH, True)])
def test_dense_layers_are_those_of_the_library(activation, width, residual):
    theirs = LibraryDense(
        WIDTH,
        width,
        activation_function=getattr(nn, activation)(),
        use_residual=residual,
        module_input_name="sentence_embedding",
    )
    mine = Dense(WIDTH, width, activation=activation, residual=residual)
    mine.load_state_dict(theirs.state_dict())  # the names are theirs
    vectors = torch.randn(5, WIDTH)
    expected = theirs({"sentence_embedding": vectors})["sentence_embedding"]
    assert torch.equal(mine(vectors), expected)


def test_vectors_are_truncated_and_then_scaled():
    states, mask = padded("right")
    dense = Dense(2 * WIDTH, 5, activation="Identity")
    vectors = SentenceVectors(
        WIDTH, pooling=Pooling(("cls", "mean")), dense=[dense], normalize=True, truncate_dim=3
    )
    assert (vectors.full_width, vectors.width) == (5, 3)
    kept = dense(pooled(states, mask, Pooling(("cls", "mean"))))[:, :3]
    found = vectors(states, mask)
    assert torch.allclose(found, kept / kept.norm(dim=1, keepdim=True), atol=1e-6)
    assert torch.allclose(found.norm(dim=1), torch.ones(3))
    assert torch.equal(SentenceVectors(WIDTH)(states, mask), pooled(states, mask, Pooling()))


def test_vectors_are_float32_within_bfloat16_and_train():
    states, mask = padded("left", garbage=math.inf)
    states = states.bfloat16().requires_grad_()
    vectors = SentenceVectors(WIDTH, dense=[Dense(WIDTH, 4)], normalize=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = vectors(states, mask)
    assert found.dtype == torch.float32
    found.sum().backward()
    assert states.grad[mask].abs().sum() > 0
    assert states.grad[~mask].abs().sum() == 0
    assert all(weight.grad.isfinite().all() for weight in vectors.parameters())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"pooling": Pooling(("meen",))}, "pooling 'meen' is not known; did you mean 'mean'"),
        ({"pooling": Pooling(())}, "names no mode; give one of cls, max, mean"),
        ({"truncate_dim": 7}, "truncate_dim is 7, and the vectors have 6 coordinates"),
        ({"truncate_dim": 0}, "give 1 to 6"),
        ({"dense": [Dense(5, 2)]}, "takes vectors of width 5, and those before it have 6"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, said):
    with pytest.raises(ModelError, match=said):
        SentenceVectors(WIDTH, **arguments)


def test_activations_are_never_looked_up():
    with pytest.raises(ModelError, match=r"'os\.system', which is never looked up"):
        Dense(2, 2, activation="os.system")


@pytest.fixture
def folder(tmp_path, tokenizer):
    """A folder of sentence-transformers with two poolings and a Dense layer."""
    make_model(vocabulary=len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    write_modules(tmp_path, "Transformer", "Pooling", "Dense", "Normalize")
    switches = {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}
    write(tmp_path / "1_Pooling", {"word_embedding_dimension": 24, **switches})
    dense = {"in_features": 48, "out_features": 8, "bias": True}
    write(tmp_path / "2_Dense", dense | {"activation_function": "torch.nn.modules.linear.Identity"})
    save_file(dict(nn.ModuleDict({"linear": nn.Linear(48, 8)}).state_dict()), weights(tmp_path))
    return tmp_path


def write_modules(folder, *kinds):
    listed = [
        {
            "idx": n,
            "name": str(n),
            "path": f"{n}_{kind}" if n else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for n, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))


def write(folder, settings):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings))


def weights(folder):
    return folder / "2_Dense" / "model.safetensors"


def test_a_folder_says_how_vectors_are_made(folder):
    found = sentence_vectors(str(folder))
    # The library concatenates in an order of its own, whatever the file's.
    assert found.pooling == Pooling(("max", "mean"))
    assert [layer.activation for layer in found.dense] == ["Identity"]
    assert (found.normalize, found.width) == (True, 8)
    assert sentence_vectors(str(folder), truncate_dim=5).width == 5
    settings = folder / "config_sentence_transformers.json"
    settings.write_text(json.dumps({"truncate_dim": 4}))
    assert sentence_vectors(str(folder)).width == 4


def in_hub_cache(cache, name, folder):
    """Where the hub's client keeps a model that it has downloaded."""
    kept, commit = cache / f"models--{name.replace('/', '--')}", "0123456789" * 4
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text(commit)
    shutil.copytree(folder, kept / "snapshots" / commit)


def test_a_model_of_the_hub_says_how_vectors_are_made(
    folder, teacher_folder, tmp_path_factory, monkeypatch
):
    """It was read as its transformer alone: the mean, without layers and prompts."""
    cache = tmp_path_factory.mktemp("hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    prompts = {"prompts": {"query": "query: "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 12}))
    in_hub_cache(cache, "organization/embedder", folder)
    mine, theirs = map(sentence_vectors, ("organization/embedder", str(folder)))
    assert (mine.pooling, mine.normalize, mine.width) == (Pooling(("max", "mean")), True, 8)
    weight = mine.dense[0].linear.weight
    assert torch.equal(weight, theirs.dense[0].linear.weight)
    encoders = [load_text_encoder(name) for name in ("organization/embedder", str(folder))]
    texts = ["the red house", "never always under " * 9]
    one, other = (each.encode(texts, prompt=each.prompt(None, QUERY)) for each in encoders)
    assert encoders[0].prompts == {"query": "query: "} and (one == other).all()
    in_hub_cache(cache, "organization/plain", teacher_folder)
    assert chain_of("organization/plain") is None


def test_a_pooling_without_settings_is_refused(folder):
    (folder / "1_Pooling" / "config.json").unlink()
    with pytest.raises(ModelError, match="1_Pooling/config.json is missing"):
        sentence_vectors(str(folder))


def test_a_plain_folder_has_the_mean(teacher_folder):
    found = sentence_vectors(str(teacher_folder))
    assert (found.pooling, list(found.dense)) == (Pooling(("mean",)), [])
    assert (found.normalize, found.width) == (False, 24)
    assert chain_of(str(teacher_folder)) is None


def test_the_demo_is_a_folder_of_sentence_transformers():
    found = sentence_vectors("minilm-demo")
    assert (found.pooling, found.normalize, found.width) == (Pooling(("mean",)), True, 384)


def test_a_folder_without_pooling(folder):
    write_modules(folder, "Transformer", "Normalize")
    with pytest.raises(ModelError, match=r"lists no Pooling.*name one of cls, max, mean"):
        sentence_vectors(str(folder))
    assert sentence_vectors(str(folder), pooling=Pooling(("cls",))).width == 24


def test_a_folder_with_a_mode_that_is_not_known(folder):
    write(folder / "1_Pooling", {"embedding_dimension": 24, "pooling_mode": "attention"})
    with pytest.raises(ModelError, match="pooling 'attention' is not known"):
        sentence_vectors(str(folder))
    write(folder / "1_Pooling", {"embedding_dimension": 24})
    write_modules(folder, "Transformer", "Pooling")
    assert sentence_vectors(str(folder)).pooling == Pooling(("mean",))


@pytest.mark.parametrize("place", ["token_embeddings", "other"])
def test_layers_of_tokens_are_not_read(folder, place):
    dense = {"in_features": 48, "out_features": 8, "module_input_name": place}
    write(folder / "2_Dense", dense)
    with pytest.raises(ModelError, match=r"does not read \(sentence_transformers\.models\.Dense\)"):
        sentence_vectors(str(folder))


def test_layers_before_pooling_are_not_read(folder):
    write_modules(folder, "Transformer", "Dense", "Pooling")
    write(folder / "1_Dense", {"in_features": 24, "out_features": 8})
    write(folder / "2_Pooling", {"embedding_dimension": 8, "pooling_mode": "mean"})
    with pytest.raises(ModelError, match="without which its vectors would be others"):
        sentence_vectors(str(folder))


def test_only_safetensors_are_read(folder):
    weights(folder).unlink()
    with pytest.raises(ModelError, match=r"holds no weights, but only safetensors"):
        sentence_vectors(str(folder))
    (folder / "2_Dense" / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(ModelError, match=r"holds pytorch_model\.bin.*call save_pretrained"):
        sentence_vectors(str(folder))


def test_weights_that_do_not_fit_are_refused(folder):
    save_file({"linear.weight": torch.zeros(8, 3)}, weights(folder))
    with pytest.raises(ModelError, match=r"model\.safetensors does not fit its config\.json"):
        sentence_vectors(str(folder))
    broken = {"linear.weight": torch.full((8, 48), math.nan), "linear.bias": torch.zeros(8)}
    save_file(broken, weights(folder))
    with pytest.raises(ModelError, match="weights that are not finite"):
        sentence_vectors(str(folder))
    weights(folder).write_bytes(b"{")
    with pytest.raises(ModelError, match="copy the model again"):
        sentence_vectors(str(folder))


def test_activations_of_others_keep_their_path(folder):
    dense = {"in_features": 48, "out_features": 8, "activation_function": "own.code.ReLU"}
    write(folder / "2_Dense", dense)
    with pytest.raises(ModelError, match=r"'own\.code\.ReLU', which is never looked up"):
        sentence_vectors(str(folder))
