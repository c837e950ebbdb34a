"""GGUF files hold the weights, sizes and tokenizer of a model, read back without llama.cpp."""

import gguf
import numpy as np
import pytest
import torch
from conftest import make_model, make_text, make_tokenizer
from gguf import GGMLQuantizationType as Kind
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from limbeck.deploy.formats import GGUF, GGUF_Q4, formats_of, low_rank_notes
from limbeck.deploy.gguf_files.vocabulary import vocabulary_of
from limbeck.deploy.gguf_files.write import write_gguf
from limbeck.deploy.source import load_source
from limbeck.errors import ExportError
from limbeck.export.sentence_transformers import SentenceSettings, export_sentence_model
from limbeck.models.families import ARCHITECTURES
from limbeck.models.load import load_model
from limbeck.models.quiet import quiet_transformers
from limbeck.models.sentence_transformers import Pooling
from limbeck.models.sentences.vectors import Dense, SentenceVectors
from limbeck.models.weight_headers import check_weights
from limbeck.student.low_rank import Rank, chosen_layers, factorize_layers
from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer
from limbeck.tokenization.post_processor import put_frame

WIDE = {"hidden": 64, "intermediate_size": 96}


def source_of(folder, family, tokenizer=None, rank=None, **fields):
    tokenizer = tokenizer or make_tokenizer("byte_bpe")
    model = make_model(family, vocabulary=len(tokenizer), layers=1, **{**WIDE, **fields})
    model.config.pad_token_id = tokenizer.pad_token_id
    with torch.no_grad():  # nothing may stay at its neutral value
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) / 20)
    if rank:
        architecture = ARCHITECTURES[family]
        factorize_layers(model, chosen_layers(model, architecture, "all"), Rank(number=rank))
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return load_source(str(folder / "model"))


def fields_of(file):
    return {name: one.contents() for name, one in gguf.GGUFReader(file).fields.items()}


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("llama", {"tie_word_embeddings": True}),
        ("llama", {"tie_word_embeddings": False, "rms_norm_eps": 0.1}),
        ("mistral", {"sliding_window": None}),
        ("qwen2", {}),
        ("qwen3", {"head_dim": 128}),  # transformers reads no other
    ],
)
def test_a_decoder_is_read_back(tmp_path, family, fields):
    source = source_of(tmp_path, family, **fields)
    file = tmp_path / "model.gguf"
    write_gguf(source, Kind.F16, file)
    with quiet_transformers():
        again = AutoModelForCausalLM.from_pretrained(str(tmp_path), gguf_file=file.name)
        tokenizer = AutoTokenizer.from_pretrained(str(tmp_path), gguf_file=file.name)
    ids = torch.randint(5, source.vocabulary, (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = source.module.model(ids).logits, again(ids).logits.float()
    assert (expected - found).abs().max() < 5e-3 * expected.abs().max()
    text = make_text(1)[0]
    plain = source.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == plain
    names = {tensor.name for tensor in gguf.GGUFReader(file).tensors}
    assert ("output.weight" in names) == (not source.config.tie_word_embeddings)


@pytest.mark.parametrize("family", ["llama", "qwen2"])  # without biases, and with some
def test_low_rank_layers_are_multiplied_out(tmp_path, family):
    source = source_of(tmp_path, family, rank=5)
    write_gguf(source, Kind.F16, tmp_path / "model.gguf")
    again = load_model(
        str(tmp_path / "model.gguf"), architecture=ARCHITECTURES[family], with_head=True
    )
    ids = torch.randint(5, source.vocabulary, (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = source.module.model(ids).logits, again(ids).logits.float()
    assert (expected - found).abs().max() < 5e-3 * expected.abs().max()
    [note] = low_rank_notes(7, ["onnx", GGUF, GGUF_Q4])
    assert note.startswith("gguf, gguf-q4_0: 7 low-rank layers are multiplied out")
    assert not low_rank_notes(0, [GGUF]) and not low_rank_notes(7, ["onnx"])


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("qwen3", {"head_dim": 16}),
        ("qwen3", {"head_dim": 32, "num_key_value_heads": 2}),
        ("mistral", {"sliding_window": None, "head_dim": 24}),
        ("llama", {"head_dim": 32}),
        ("qwen2", {}),
    ],
)
def test_heads_of_any_width_are_read_back(tmp_path, family, fields):
    """By limbeck, which sets the width that transformers leaves out."""
    source = source_of(tmp_path, family, **fields)
    file = tmp_path / "model.gguf"
    write_gguf(source, Kind.F16, file)
    again = load_model(str(file), architecture=ARCHITECTURES[family], with_head=True)
    assert check_weights(str(file), architecture=ARCHITECTURES[family])[0] is None
    ids = torch.randint(5, source.vocabulary, (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = source.module.model(ids).logits, again(ids).logits
    assert (expected - found).abs().max() < 5e-3 * expected.abs().max()


def test_types_of_tensors(tmp_path):
    source = source_of(tmp_path, "llama", tie_word_embeddings=False, intermediate_size=48)
    sizes = {}
    for kind in (Kind.F16, Kind.Q8_0, Kind.Q4_0):
        file = tmp_path / f"{kind.name}.gguf"
        write_gguf(source, kind, file)
        found = {one.name: one for one in gguf.GGUFReader(file).tensors}
        sizes[kind] = file.stat().st_size
        assert found["blk.0.attn_v.weight"].tensor_type is kind
        assert found["blk.0.attn_norm.weight"].tensor_type is Kind.F32
        # 48 weights are no multiple of 32.
        assert found["blk.0.ffn_down.weight"].tensor_type is Kind.F16
        table = Kind.Q8_0 if kind is Kind.Q4_0 else kind
        assert found["token_embd.weight"].tensor_type is table
        assert found["output.weight"].tensor_type is table
        own = source.module.model.model.layers[0].self_attn.v_proj.weight.detach().numpy()
        tensor = found["blk.0.attn_v.weight"]
        apart = np.abs(gguf.dequantize(tensor.data, tensor.tensor_type) - own).max()
        assert apart < {Kind.F16: 1e-3, Kind.Q8_0: 1e-2, Kind.Q4_0: 0.1}[kind] * np.abs(own).max()
    assert sizes[Kind.Q4_0] < sizes[Kind.Q8_0] < sizes[Kind.F16]


def test_an_encoder_of_vectors(tmp_path):
    tokenizer = make_tokenizer()
    model = make_model("bert", vocabulary=len(tokenizer), layers=1, **WIDE)
    vectors = SentenceVectors(64, pooling=Pooling(("cls",)), normalize=True)
    folder = tmp_path / "model"
    settings = SentenceSettings(48, {}, None)
    export_sentence_model(model, tokenizer, vectors, folder, settings=settings, card="x")
    source, file = load_source(str(folder)), tmp_path / "model.gguf"
    write_gguf(source, Kind.Q8_0, file)
    said = fields_of(file)
    assert said["general.architecture"] == "bert"
    assert said["bert.pooling_type"] == gguf.PoolingType.CLS
    assert said["bert.attention.causal"] is False
    assert said["limbeck.output"] == "sentence_embedding" and said["limbeck.normalize"] is True
    assert said["tokenizer.ggml.model"] == "bert"
    assert said["tokenizer.ggml.normalizer.lowercase"] is True
    spelled = said["tokenizer.ggml.tokens"]
    for text, number in tokenizer.get_vocab().items():
        word = text if text in tokenizer.all_special_tokens else f"\u2581{text}"
        assert spelled[number] == (text[2:] if text.startswith("##") else word)
    assert said["tokenizer.ggml.bos_token_id"] == tokenizer.cls_token_id
    assert said["tokenizer.ggml.seperator_token_id"] == tokenizer.sep_token_id
    names = {tensor.name for tensor in gguf.GGUFReader(file).tensors}
    assert "position_embd.weight" in names and not any("pooler" in name for name in names)


def test_positions_behind_padding(tmp_path):
    tokenizer = make_tokenizer("byte_bpe", padding_id=1)
    model = make_model("roberta", vocabulary=len(tokenizer), layers=1, **WIDE)
    model.config.pad_token_id = 1
    model.base_model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    source, file = load_source(str(tmp_path / "model")), tmp_path / "model.gguf"
    assert source.kind == "body"
    write_gguf(source, Kind.F16, file)
    said = fields_of(file)
    [table] = [one for one in gguf.GGUFReader(file).tensors if one.name == "position_embd.weight"]
    own = source.module.model.embeddings.position_embeddings.weight.detach().numpy()
    assert table.data == pytest.approx(own[2:])
    assert said["bert.context_length"] == len(own) - 2 == source.longest
    assert said["bert.pooling_type"] == gguf.PoolingType.NONE


def byte_bpe(*steps, normalizer=None):
    tokenizer = make_tokenizer("byte_bpe")
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(list(steps))
    if normalizer:
        tokenizer.backend_tokenizer.normalizer = normalizer
    return tokenizer


LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
WORDS = pre_tokenizers.ByteLevel(add_prefix_space=False)
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


@pytest.mark.parametrize(
    ("steps", "pre"),
    [
        ([WORDS], "gpt-2"),
        ([pre_tokenizers.Digits(individual_digits=True), WORDS], "smollm"),
        ([split(LLAMA_3), BYTES], "smaug-bpe"),
        ([split(LLAMA_3.replace("{1,3}", "")), BYTES], "qwen2"),
    ],
)
def test_what_splits_a_text_has_a_name(steps, pre):
    found = vocabulary_of(byte_bpe(*steps), 1000)
    assert (found.model, found.pre) == ("gpt2", pre)
    assert found.flags == {"add_bos_token": True, "add_eos_token": True}
    assert len(found.tokens) == len(found.types) == 1000
    assert found.tokens[999] == "[PAD999]" and found.types[999] is gguf.TokenType.UNUSED


def test_tokenizers_that_limbeck_learns():
    """Of bytes they are known to llama.cpp, where its converter knows hashes of vocabularies."""
    text = make_text(200)
    learned = learn_tokenizer(text, blank_tokenizer("bytes", lowercase=False), vocab_size=300)
    assert vocabulary_of(learned, 300).flags["add_bos_token"] is False
    put_frame(learned)  # as it is exported beside a language model
    found = vocabulary_of(learned, 300)
    assert (found.model, found.pre) == ("gpt2", "gpt-2")
    assert found.flags == {"add_bos_token": True, "add_eos_token": False}
    assert found.special["bos"] == learned.bos_token_id
    assert found.special["eos"] == learned.eos_token_id
    words = learn_tokenizer(text, blank_tokenizer("wordpiece", lowercase=True), vocab_size=100)
    assert vocabulary_of(words, 100).model == "bert"
    letters = learn_tokenizer(text, blank_tokenizer("unigram", lowercase=False), vocab_size=60)
    with pytest.raises(ExportError, match="Unigram with the normalizer NFKC"):
        vocabulary_of(letters, 60)


def letters_bpe(prefixed=True):
    """Llama 2's kind, with merges of a few words."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581"]
    tokens += [*"abcdeh", "\u2581a", "he", "\u2581he", "ad"]
    merges = [("\u2581", "a"), ("h", "e"), ("\u2581", "he"), ("a", "d")]
    numbers = {token: number for number, token in enumerate(tokens)}
    options = {"unk_token": "<unk>", "byte_fallback": True, "fuse_unk": True}
    tokenizer = Tokenizer(models.BPE(numbers, merges, **options))
    spaces = normalizers.Replace(" ", "\u2581")
    steps = [normalizers.Prepend("\u2581"), spaces] if prefixed else [spaces]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback()]
    )
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


@pytest.mark.parametrize("prefixed", [True, False])
def test_bpe_of_letters(prefixed):
    tokenizer = letters_bpe(prefixed)
    found = vocabulary_of(tokenizer, len(tokenizer))
    score = dict(zip(found.tokens, found.scores, strict=True))
    assert found.model == "llama" and found.flags["add_space_prefix"] is prefixed
    assert score["\u2581a"] > score["he"] > score["\u2581he"] > score["ad"] > score["b"]
    kinds = dict(zip(found.tokens, found.types, strict=True))
    assert kinds["<0x41>"] is gguf.TokenType.BYTE and kinds["<unk>"] is gguf.TokenType.UNKNOWN


def test_unigram():
    tokenizer = make_tokenizer("unigram")
    found = vocabulary_of(tokenizer, len(tokenizer))
    assert found.model == "t5" and found.flags["add_space_prefix"] is True
    assert found.types[tokenizer.unk_token_id] is gguf.TokenType.UNKNOWN
    assert found.special["unknown"] == tokenizer.unk_token_id


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        (lambda: byte_bpe(WORDS, normalizer=normalizers.Lowercase()), "normalizer Lowercase"),
        (lambda: byte_bpe(split(r"\p{L}+"), BYTES), "splits texts by"),
        (lambda: byte_bpe(pre_tokenizers.ByteLevel(add_prefix_space=True)), "add_prefix_space"),
        (lambda: without(make_tokenizer(), "pre_tokenizer"), "pre-tokenizer none"),
        (lambda: without(make_tokenizer(), "normalizer"), "normalizer none"),
        (lambda: without(letters_bpe(), "normalizer"), "BPE of letters with the normalizer none"),
        (lambda: spelled_twice(), "one id for each of two tokens"),
    ],
)
def test_tokenizers_that_llama_cpp_lacks(tokenizer, message):
    with pytest.raises(ExportError, match=message):
        vocabulary_of(tokenizer(), 1000)


def without(tokenizer, part):
    setattr(tokenizer.backend_tokenizer, part, None)
    return tokenizer


def spelled_twice():
    """A word that begins as llama.cpp marks words, and a token that continues one."""
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["house", "##\u2581house"])
    return tokenizer


@pytest.mark.parametrize(
    ("family", "fields", "message"),
    [
        ("llama", {"hidden_act": "gelu"}, "activation gelu"),
        ("gpt2", {}, "are written of the families llama, .*, and this is gpt2"),
        ("llama", {"hidden": 24, "intermediate_size": 40}, "hidden_size is 24"),
        (
            "qwen3",
            {"layer_types": ["sliding_attention"], "sliding_window": 8},
            "layers with a sliding window",
        ),
        (
            "llama",
            {
                "rope_parameters": {
                    "rope_type": "yarn",
                    "rope_theta": 10000.0,
                    "factor": 4.0,
                    "original_max_position_embeddings": 20,
                }
            },
            "rotary positions of the type yarn",
        ),
    ],
)
def test_models_that_are_refused(tmp_path, family, fields, message):
    options = {} if family != "gpt2" else {"intermediate_size": 96}
    source = source_of(tmp_path, family, **{**options, **fields})
    with pytest.raises(ExportError, match=message):
        write_gguf(source, Kind.Q8_0, tmp_path / "model.gguf")


def test_vectors_that_are_refused(tmp_path):
    tokenizer = make_tokenizer()
    model = make_model("bert", vocabulary=len(tokenizer), layers=1, **WIDE)
    cases = {
        "Dense layers": SentenceVectors(64, dense=[Dense(64, 10)]),
        "pooling max": SentenceVectors(64, pooling=Pooling(("max",))),
        "pooling cls and mean": SentenceVectors(64, pooling=Pooling(("cls", "mean"))),
    }
    for number, (message, vectors) in enumerate(cases.items()):
        folder = tmp_path / str(number)
        settings = SentenceSettings(48, {}, None)
        export_sentence_model(model, tokenizer, vectors, folder, settings=settings, card="x")
        with pytest.raises(ExportError, match=message):
            write_gguf(load_source(str(folder)), Kind.F16, tmp_path / "model.gguf")
    export_sentence_model(
        model, tokenizer, SentenceVectors(64), tmp_path / "short", settings=settings, card="x"
    )
    source = load_source(str(tmp_path / "short"))
    source.encoder.vectors.truncate_dim = 10
    with pytest.raises(ExportError, match="truncate_dim"):
        write_gguf(source, Kind.F16, tmp_path / "model.gguf")


def test_a_weight_that_float16_cannot_hold(tmp_path):
    source = source_of(tmp_path, "llama")
    with torch.no_grad():
        source.module.model.model.layers[0].mlp.up_proj.weight[0, 0] = 1e6
    with pytest.raises(ExportError, match=r"ffn_up\.weight has the number 1e\+06"):
        write_gguf(source, Kind.F16, tmp_path / "model.gguf")


def test_formats_by_kind():
    with pytest.raises(
        ExportError, match="is for decoders, embedding models, models without a head, and not"
    ):
        formats_of("sequence", [GGUF])
    with pytest.raises(ExportError, match="is for decoders, and not for embedding models"):
        formats_of("vectors", [GGUF_Q4])
