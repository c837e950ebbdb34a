"""A model without the tokens that no text uses: the same answers, in the same files."""

import json
from dataclasses import replace

import pytest
import torch
from conftest import FAMILIES, HEADS, make_model, make_text, make_tokenizer, with_task_head
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder, SentenceTransformer
from tokenizers import processors
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from typer.testing import CliRunner

from limbeck.cli.app import app
from limbeck.deploy.source import load_source
from limbeck.errors import LimbeckError, ModelError, RecipeError, StudentError
from limbeck.export.card import LOW_RANK
from limbeck.export.sentence_transformers import SentenceSettings, export_sentence_model
from limbeck.models.families import ARCHITECTURES
from limbeck.models.load import load_body, load_config, load_model
from limbeck.models.low_rank_layers import low_rank_ranks
from limbeck.models.sentence_transformers import Pooling, sentence_model
from limbeck.models.sentences.vectors import Dense, SentenceVectors
from limbeck.run import trim
from limbeck.run.trim import trim_model
from limbeck.student.low_rank import Rank, chosen_layers, factorize_layers
from limbeck.tokenization.load import load_tokenizer

KEPT = 120


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "some.txt"
    file.write_text("\n".join(make_text(40)), encoding="utf-8")
    return str(file)


def model_folder(folder, family):
    """A tiny model of a family with its tokenizer, and rows that belong to no token."""
    architecture = ARCHITECTURES[family]
    tokenizer = make_tokenizer(padding_id=architecture.padding_id or 3)
    if architecture.causal:
        tokenizer.eos_token = "[SEP]"
    model = make_model(family, vocabulary=len(tokenizer) + 7)
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    model.config.get_text_config().eos_token_id = tokenizer.sep_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def both_answer(name, other, texts):
    """What two models say of texts whose tokens both have."""
    said = []
    for place in (name, other):
        tokenizer = load_tokenizer(place)
        architecture = ARCHITECTURES[load_config(place).model_type]
        model = load_model(place, architecture=architecture)
        given = tokenizer(texts, return_tensors="pt", padding=True)
        given.pop("token_type_ids", None)
        with torch.inference_mode():
            found = model(**given)[0]
        said.append((tokenizer, given, found))
    return said


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_answers_as_before(family, text, tmp_path):
    whole = model_folder(tmp_path / "whole", family)
    report = trim_model(whole, [text], tmp_path / "small", vocab_size=KEPT)
    small = str(tmp_path / "small")
    sizes = report["model"]
    assert sizes["after"]["parameters"] < sizes["before"]["parameters"]
    config = load_config(small).get_text_config()
    assert config.vocab_size == KEPT == len(load_tokenizer(small))
    texts = [
        line
        for line in make_text(40)
        if load_tokenizer(small).tokenize(line) == load_tokenizer(whole).tokenize(line)
    ][:8]
    assert len(texts) > 2
    (before, given, old), (after, read, new) = both_answer(whole, small, texts)
    assert before.convert_ids_to_tokens(given["input_ids"][0]) == after.convert_ids_to_tokens(
        read["input_ids"][0]
    )
    if old.shape[-1] != new.shape[-1]:  # logits of all tokens
        tokens = [before.convert_tokens_to_ids(t) for t in after.convert_ids_to_tokens(range(KEPT))]
        old = old[..., tokens]
    real = read["attention_mask"].bool()
    torch.testing.assert_close(new[real], old[real], rtol=1e-5, atol=1e-5)
    assert config.pad_token_id == after.pad_token_id


def test_all_other_weights_are_the_same_bits(text, tmp_path):
    """In the file's names and precision, also of what limbeck does not use."""
    whole = tmp_path / "whole"
    model_folder(whole, "bert")
    stored = {n: w.bfloat16() for n, w in load_file(whole / "model.safetensors").items()}
    stored["bert.pooler.dense.weight"] = torch.randn(24, 24)
    save_file(stored, whole / "model.safetensors", metadata={"format": "pt"})
    trim_model(str(whole), [text], tmp_path / "small", vocab_size=KEPT)
    written = load_file(tmp_path / "small" / "model.safetensors")
    assert written.keys() == stored.keys()
    before, after = (load_tokenizer(str(place)) for place in (whole, tmp_path / "small"))
    tokens = before.convert_tokens_to_ids(after.convert_ids_to_tokens(range(KEPT)))
    shorter = 0
    for name, weight in written.items():
        expected = stored[name] if weight.shape == stored[name].shape else stored[name][tokens]
        shorter += weight.shape != stored[name].shape
        assert weight.dtype == stored[name].dtype and torch.equal(weight, expected), name
    assert shorter >= 2  # the table and the bias of logits


def test_files_in_shards(text, tmp_path):
    tokenizer = make_tokenizer()
    make_model("bert", vocabulary=len(tokenizer)).save_pretrained(
        tmp_path / "whole", max_shard_size="20KB"
    )
    tokenizer.save_pretrained(tmp_path / "whole")
    assert len(list((tmp_path / "whole").glob("*.safetensors"))) > 1
    trim_model(str(tmp_path / "whole"), [text], tmp_path / "small", vocab_size=KEPT)
    assert len(list((tmp_path / "small").glob("*.safetensors"))) > 1
    index = json.loads((tmp_path / "small" / "model.safetensors.index.json").read_text())
    size = sum(
        w.nbytes for f in (tmp_path / "small").glob("*.safetensors") for w in load_file(f).values()
    )
    assert index["metadata"]["total_size"] == size


def test_low_rank_layers_stay_and_the_card_says_how_they_are_loaded(text, tmp_path):
    whole = model_folder(tmp_path / "whole", "bert")
    model, architecture = load_body(whole), ARCHITECTURES["bert"]
    factorize_layers(model, chosen_layers(model, architecture, "feed_forward"), Rank(number=4))
    model.save_pretrained(whole)
    trim_model(whole, [text], tmp_path / "small", vocab_size=KEPT)
    assert low_rank_ranks(load_config(str(tmp_path / "small"))) == low_rank_ranks(model.config)
    assert LOW_RANK in (tmp_path / "small" / "README.md").read_text(encoding="utf-8")


def test_a_classifier_keeps_its_head(text, tmp_path):
    tokenizer = make_tokenizer()
    model = with_task_head(make_model("bert", vocabulary=len(tokenizer)), HEADS["labels"])
    model.save_pretrained(tmp_path / "whole")
    tokenizer.save_pretrained(tmp_path / "whole")
    trim_model(str(tmp_path / "whole"), [text], tmp_path / "small", vocab_size=KEPT)
    said = []
    for place in ("whole", "small"):
        found = AutoModelForSequenceClassification.from_pretrained(tmp_path / place).eval()
        given = AutoTokenizer.from_pretrained(tmp_path / place)(
            "the red house", return_tensors="pt"
        )
        with torch.inference_mode():
            said.append(found(input_ids=given["input_ids"]).logits)
        assert tuple(found.config.id2label.values()) == HEADS["labels"].labels
    card = (tmp_path / "small" / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: text-classification" in card
    torch.testing.assert_close(*said, rtol=1e-5, atol=1e-6)


def test_a_cross_encoder_stays_one(text, tmp_path):
    """Version 6 of the library lists its transformer as a module, as that of an embedding model."""
    tokenizer = make_tokenizer()
    tokenizer.model_max_length = 24
    model = with_task_head(make_model("bert", vocabulary=len(tokenizer)), HEADS["scores"])
    model.save_pretrained(tmp_path / "plain")
    tokenizer.save_pretrained(tmp_path / "plain")
    whole, small = str(tmp_path / "whole"), str(tmp_path / "small")
    library = CrossEncoder(str(tmp_path / "plain"), device="cpu", activation_fn=torch.nn.Tanh())
    library.save_pretrained(whole)
    assert (tmp_path / "whole" / "modules.json").is_file()
    assert sentence_model(whole) is None
    trim_model(whole, [text], small, vocab_size=KEPT)
    again = CrossEncoder(small, device="cpu")
    assert isinstance(again.activation_fn, torch.nn.Tanh)
    pairs = [("the red", "old house"), ("the house", "the red")]
    assert again.predict(pairs) == pytest.approx(library.predict(pairs), abs=1e-5)
    assert load_source(whole).kind == load_source(str(tmp_path / "plain")).kind


def test_a_folder_of_sentence_transformers_stays_one(teacher_folder, text, tmp_path):
    whole, small = tmp_path / "whole", tmp_path / "small"
    settings = SentenceSettings(
        max_length=24, prompts={"query": "the old: "}, default_prompt="query", lowercase=True
    )
    export_sentence_model(
        load_body(str(teacher_folder)),
        load_tokenizer(str(teacher_folder)),
        SentenceVectors(24, pooling=Pooling(("mean",)), normalize=True),
        whole,
        settings=settings,
        card="",
    )
    done = CliRunner().invoke(
        app,
        [
            "vocabulary",
            "trim",
            str(whole),
            text,
            "-o",
            str(small),
            "--fraction",
            "1",
            "--with-model",
        ],
    )
    assert done.exit_code == 0, done.output
    assert "none of them changed" in " ".join(done.output.split())
    chains = [sentence_model(str(place)) for place in (whole, small)]
    assert replace(chains[1], transformer=whole) == chains[0] and chains[0].lowercase
    texts = make_text(40)[:5]
    old, new = (SentenceTransformer(str(f), device="cpu").encode(texts) for f in (whole, small))
    assert abs(old - new).max() < 1e-6
    assert "`" + str(whole) + "`" in (small / "README.md").read_text(encoding="utf-8")
    trim_model(str(whole), [text], small, fraction=1.0)  # replaces what it made


def test_dense_layers_keep_their_precision(teacher_folder, text, tmp_path):
    whole = tmp_path / "whole"
    export_sentence_model(
        load_body(str(teacher_folder)),
        load_tokenizer(str(teacher_folder)),
        SentenceVectors(24, dense=[Dense(24, 8)]),
        whole,
        settings=SentenceSettings(24),
        card="",
    )
    file = whole / "2_Dense" / "model.safetensors"
    save_file({name: weight.half() for name, weight in load_file(file).items()}, file)
    trim_model(str(whole), [text], tmp_path / "small", fraction=0.9)
    written = load_file(tmp_path / "small" / "2_Dense" / "model.safetensors")
    assert all(torch.equal(written[name], weight) for name, weight in load_file(file).items())
    assert {weight.dtype for weight in written.values()} == {torch.float16}


def test_the_tokens_of_prompts_stay(teacher_folder, tmp_path):
    """Whatever the texts use: else the model would read its own prompts otherwise."""
    text = tmp_path / "russian.txt"
    text.write_text("красный старый дом\n" * 30, encoding="utf-8")
    whole, prompts = tmp_path / "whole", {"query": "the river: ", "document": "old house: "}
    tokenizer = load_tokenizer(str(teacher_folder))
    export_sentence_model(
        load_body(str(teacher_folder)),
        tokenizer,
        SentenceVectors(24),
        whole,
        settings=SentenceSettings(24, prompts=prompts),
        card="",
    )
    trim_model(str(whole), [str(text)], tmp_path / "small", fraction=0.9)
    small = load_tokenizer(str(tmp_path / "small"))
    assert len(small) < len(tokenizer)
    assert small.tokenize("evening") != tokenizer.tokenize("evening")
    for prompt in prompts.values():
        assert small.tokenize(prompt) == tokenizer.tokenize(prompt)
    before, after = (
        SentenceTransformer(str(place), device="cpu").encode_query(["красный дом"])
        for place in (whole, tmp_path / "small")
    )
    assert abs(before - after).max() < 1e-6


def test_what_cannot_be_trimmed_is_said(teacher_folder, text, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter").write_text("x")
    with pytest.raises(RecipeError, match="holds letter"):
        trim_model(str(teacher_folder), [text], tmp_path / "full", vocab_size=KEPT)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="--with-model"):
        trim_model(str(tmp_path / "model.gguf"), [text], tmp_path / "out", vocab_size=KEPT)
    # A family that read token numbers in another way too would answer otherwise.
    real = trim._answers
    monkeypatch.setattr(trim, "_answers", lambda *given: real(*given) + torch.rand(1))
    with pytest.raises(StudentError, match="answers otherwise"):
        trim_model(str(teacher_folder), [text], tmp_path / "out", vocab_size=KEPT)
    assert not list(tmp_path.glob("out*")) and issubclass(StudentError, LimbeckError)


def test_a_tokenizer_that_puts_nothing_around_a_text_stays_so(text, tmp_path):
    """As GPT-2's and Qwen's: the weights have not learned the token that limbeck's students get."""
    tokenizer = make_tokenizer("byte_bpe")
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.eos_token = tokenizer.bos_token = "[SEP]"
    model = make_model("gpt2", vocabulary=len(tokenizer))
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "whole")
    file = tmp_path / "whole" / "generation_config.json"
    # transformers reads it, and writes it unchanged alone.
    file.write_text(json.dumps({"eos_token_id": tokenizer.eos_token_id, "temperature": 0.7}))
    trim_model(str(tmp_path / "whole"), [text], tmp_path / "small", fraction=1.0)
    said = json.loads((tmp_path / "small" / file.name).read_text())
    before, after = (AutoTokenizer.from_pretrained(tmp_path / n) for n in ("whole", "small"))
    assert len(after) < len(before)
    assert (said["eos_token_id"], said["temperature"]) == (after.eos_token_id, 0.7)
    for line in make_text(40)[:5]:
        read = [one.convert_ids_to_tokens(one(line)["input_ids"]) for one in (before, after)]
        assert read[0] == read[1] and "[SEP]" not in read[1]
    card = (tmp_path / "small" / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: text-generation" in card
