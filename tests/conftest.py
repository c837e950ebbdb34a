"""Tiny real tokenizers, models and texts, made in the process: no network, no downloads."""

import copy
import gc
import json
import os
import sys
from pathlib import Path

gc.disable()  # until all is imported, nothing of which is ever collected
# The workers of pytest-xdist and dozens of programs import the same modules.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"  # a second thread only slows models of this size down
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read as Triton is imported, which torch may do

import random
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import pytest
import torch
import warm
from accelerate import Accelerator
from rich.console import Console
from safetensors.torch import load_file
from shape_checks import check_shapes
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    AutoConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

SOURCE = Path(__file__).parents[1] / "src"
SHAPED = (path for path in SOURCE.rglob("*.py") if "from jaxtyping import" in path.read_text())
check_shapes(
    [
        ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        for path in SHAPED
    ]
)

from limbeck.activations import Needs
from limbeck.batch import Batch, Tokens
from limbeck.models.auto_classes import whole_class
from limbeck.models.families import ARCHITECTURES
from limbeck.models.sentences.attached import attach_vectors
from limbeck.models.sentences.vectors import Dense, SentenceVectors
from limbeck.models.task_heads import TaskHead, task_class
from limbeck.objectives import Objective
from limbeck.recipe.check import prepare
from limbeck.run.accelerator import build_accelerator
from limbeck.run.cache import write_cache
from limbeck.run.distill import Run, distill, train_run
from limbeck.teacher.manifest import Kind
from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer
from limbeck.training import loop

gc.freeze()
gc.enable()

# `make test-llama-cpp` compiles llama.cpp, and `make test-executorch` makes ExecuTorch files, which
# take minutes each.
_SLOW_EXTRAS = {
    "llama_cpp": "test_llama_cpp.py",
    "starlette_context": "test_llama_server.py",  # of llama-cpp-python[server]
    "executorch": "test_executorch_files.py",
}
collect_ignore = [f"deploy/{file}" for name, file in _SLOW_EXTRAS.items() if not find_spec(name)]


def pytest_configure(config):
    """The imports are there, and nothing is computed: pytest-xdist's own process runs no test."""
    if sys.platform == "linux" and config.getoption("dist", "no") == "no":
        warm.start()


def pytest_collection_finish():
    gc.freeze()


def pytest_unconfigure():
    warm.stop()


WORDS = (
    "the a red old house garden river stone letter evening morning friend answered walked looked"
    " quietly never always under over between красный старый дом сад река вечер письмо друг"
    " ответил тихо никогда всегда между"
).split()
SPECIAL = {
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "mask_token": "[MASK]",
}
FAMILIES = sorted(ARCHITECTURES)


def make_text(lines: int, seed: int = 0) -> list[str]:
    chance = random.Random(seed)
    return [
        " ".join(chance.choice(WORDS) for _ in range(chance.randint(5, 30))) + "."
        for _ in range(lines)
    ]


def make_tokenizer(
    kind: str = "wordpiece", vocabulary: int = 200, *, padding_id: int = 3
) -> PreTrainedTokenizerFast:
    special = [token for token in SPECIAL.values() if token != "[PAD]"]
    special.insert(padding_id, "[PAD]")
    if kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=special)
        tokenizer.decoder = decoders.WordPiece()
    elif kind == "byte_bpe":
        tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary + 256,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=vocabulary, special_tokens=special, unk_token="[UNK]"
        )
    tokenizer.train_from_iterator(make_text(200), trainer)
    cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", cls), ("[SEP]", sep)],
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)


# What a tiny model of a family needs beside its sizes.
OF_FAMILY: dict[str, dict] = {
    "mpnet": {"pad_token_id": 1},
    "electra": {"embedding_size": 24},
    "albert": {"embedding_size": 8, "num_hidden_groups": 1},
    "deberta-v2": {
        "relative_attention": True,
        "pos_att_type": ["c2p", "p2c"],
        "position_buckets": 8,
        "norm_rel_ebd": "layer_norm",
        "conv_kernel_size": 3,
        "conv_act": "gelu",
        "position_biased_input": False,
        "share_att_key": True,
        "pooler_hidden_size": 24,
    },
    "t5": {"d_kv": 6, "num_decoder_layers": 1},
    "mt5": {"d_kv": 6, "num_decoder_layers": 1},
    "umt5": {"d_kv": 6, "num_decoder_layers": 1},
    "gemma2": {"query_pre_attn_scalar": 6, "sliding_window": 4, "final_logit_softcapping": 2.0},
    "gemma3_text": {
        "query_pre_attn_scalar": 6,
        "sliding_window": 4,
        "final_logit_softcapping": 2.0,
    },
    "smollm3": {"no_rope_layers": [1, 0, 1]},
    "granite": {
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.5,
        "attention_multiplier": 0.2,
        "logits_scaling": 4.0,
    },
    "falcon": {"num_kv_heads": 2, "new_decoder_architecture": True, "bias": True},
    "opt": {"word_embed_proj_dim": 16},
    "qwen3_5_text": {
        "linear_key_head_dim": 6,
        "linear_value_head_dim": 6,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
    },
}
KINDS_OF_LAYERS = {
    "modernbert": ("full_attention", "sliding_attention"),
    "gemma2": ("sliding_attention", "full_attention"),
    "gemma3_text": ("sliding_attention", "full_attention"),
    "qwen3_5_text": ("full_attention", "linear_attention"),
}


def make_model(
    family: str = "bert",
    *,
    vocabulary: int = 200,
    layers: int = 3,
    hidden: int = 24,
    seed: int = 0,
    **fields: Any,
) -> PreTrainedModel:
    """A tiny random model of a family; ``fields`` of its configuration may be given."""
    architecture = ARCHITECTURES[family]
    config = AutoConfig.for_model(family)
    known = config.to_dict()
    config.num_hidden_layers = layers
    config.hidden_size = hidden
    config.num_attention_heads = 4
    if architecture.intermediate_field:
        setattr(config, architecture.intermediate_field, 48)
    config.vocab_size = vocabulary
    if architecture.positions in ("table", "rotary"):
        config.max_position_embeddings = 80
    config.pad_token_id = 0
    if family == "modernbert":
        for field in ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"):
            setattr(config, field, 1)
    if architecture.causal:
        if "num_key_value_heads" in known:
            config.num_key_value_heads = 2
        config.bos_token_id, config.eos_token_id = 1, 2
    elif "num_key_value_heads" in known:
        config.num_key_value_heads = 4
    if "head_dim" in known:
        config.head_dim = hidden // 4
    if known.get("layer_types"):
        kinds = KINDS_OF_LAYERS.get(family, ("full_attention",))
        config.layer_types = [kinds[n % len(kinds)] for n in range(layers)]
    for field, value in {**OF_FAMILY.get(family, {}), **fields}.items():
        setattr(config, field, value)
    if family == "smollm3":
        config.no_rope_layers = [1, 0, 1, 1][:layers]
    torch.manual_seed(seed)
    model = whole_class(architecture).from_config(config)
    # Larger than a real initialization, so that a wrong layer or head shows in every number.
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2 and "linear_attn" not in name:
            parameter.data.mul_(4)
        elif "norm" in name.lower() and parameter.dim() == 1:
            parameter.data.add_(torch.linspace(-0.1, 0.1, len(parameter)))
    return model.eval()


def with_full_attention(family: str, **fields: Any) -> PreTrainedModel:
    """A tiny decoder in which every layer sees all of the text."""
    if family in KINDS_OF_LAYERS:
        fields["layer_types"] = ["full_attention"] * 3
    model = make_model(family, **fields)
    # Gemma makes the mask of a window though no layer uses it.
    model.config.sliding_window = 80 if family in KINDS_OF_LAYERS else None
    return model


def all_needs(family: str) -> Needs:
    """Everything that a model of a family has, at a layer that attends."""
    layer = frozenset({2})
    return Needs(
        predictions=bool(ARCHITECTURES[family].head),
        embeddings=True,
        hidden=frozenset({0, 1, 2}),
        queries=layer,
        keys=layer,
        values=layer,
    )


def make_batch(
    rows: int = 4, length: int = 12, *, vocabulary: int = 200, padded: bool = True, seed: int = 0
) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, vocabulary, (rows, length), generator=generator)
    mask = torch.ones(rows, length, dtype=torch.bool)
    if padded:
        for row in range(rows):
            mask[row, length - 2 * row :] = False
    predicted = (torch.rand(rows, length, generator=generator) < 0.3) & mask
    predicted[:, 1] = True
    predicted &= mask
    seen = torch.where(predicted, 4, ids)
    queries = torch.arange(rows) // 2  # as if rows were pairs of documents
    tokens = Tokens(seen, mask, labels=ids, predicted=predicted, queries=queries)
    return Batch(student=tokens, teacher=tokens)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer()


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory, tokenizer) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    make_model(vocabulary=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def text_file(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("text") / "corpus.txt"
    file.write_text("\n".join(make_text(600)), encoding="utf-8")
    return file


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def warm_python(monkeypatch):
    """What starts Python processes starts forks, which share the imports of the tests."""
    monkeypatch.setattr(sys, "executable", warm.PYTHON)


@pytest.fixture
def raw_recipe(teacher_folder, text_file) -> dict:
    return {
        "teacher": str(teacher_folder),
        "student": {
            "num_hidden_layers": 2,
            "hidden_size": 16,
            "num_attention_heads": 4,
            "intermediate_size": 32,
        },
        "data": {
            "text": str(text_file),
            "max_length": 16,
            "held_out": {"fraction": 0.1, "sequences": 8},
        },
        "stages": [{"objectives": {"relations": {}}, "max_steps": 6, "batch_size": 4}],
        "training": {"precision": "float32", "device": "cpu"},
        "evaluation": {"cost": False},
    }


SMALL_VOCABULARY = 95


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory) -> str:
    """The folder of a tokenizer other than that of the teacher."""
    folder = tmp_path_factory.mktemp("vocabulary")
    blank = blank_tokenizer("wordpiece", lowercase=True)
    learn_tokenizer(make_text(300), blank, vocab_size=SMALL_VOCABULARY).save_pretrained(folder)
    return str(folder)


def rows_are_those_of_the_whole(source, number):
    """The rows that each of two processes makes are those of one process that makes them all."""
    whole = source.batch(number)
    count = len(whole.student.mask)
    for start, stop in ((0, count // 2), (count // 2, count)):
        part, there = source.batch(number, slice(start, stop)), whole.rows(start, stop)
        for mine, theirs in ((part.student, there.student), (part.teacher, there.teacher)):
            for row in range(stop - start):
                one, other = mine.rows(row, row + 1), theirs.rows(row, row + 1)
                assert torch.equal(one.input_ids[one.mask], other.input_ids[other.mask])
                assert torch.equal(one.predicted[one.mask], other.predicted[other.mask])
                assert torch.equal(one.labels[one.predicted], other.labels[other.predicted])
        if whole.links is not None:
            assert part.links.groups.mask.sum() == there.links.groups.mask.sum()
            assert (part.links.student >= 0).sum() == (there.links.student >= 0).sum()


def train(raw: dict, folder: Path) -> Path:
    """A run folder with a trained student; measuring it would tell what a test knows already."""
    setup = prepare(raw)
    accelerator = build_accelerator(setup.recipe.training, folder)
    train_run(setup, folder, Console(quiet=True), accelerator)
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of a trained run of a recipe, which all tests of the same recipe share."""
    found: dict[str, Path] = {}

    def of(raw: dict) -> Path:
        key = json.dumps(raw, sort_keys=True)
        if key not in found:
            found[key] = train(raw, tmp_path_factory.mktemp("trained"))
        return found[key]

    return of


def stop_at(count, monkeypatch):
    """Interrupt the training after ``count`` steps."""
    real, steps = loop.train_step, []

    def failing(*arguments):
        if len(steps) == count:
            raise KeyboardInterrupt
        steps.append(1)
        return real(*arguments)

    monkeypatch.setattr(loop, "train_step", failing)


def stopped_and_whole(raw, folder, monkeypatch, count):
    """The students of an uninterrupted run, and of one that was stopped after ``count`` steps."""
    train(raw, folder / "whole")
    stopped_and_resumed(raw, folder / "stopped", monkeypatch, count)
    names = ("whole", "stopped")
    return tuple(load_file(folder / name / "student" / "model.safetensors") for name in names)


def stopped_and_resumed(raw, folder, monkeypatch, count):
    with monkeypatch.context() as stopping:
        stop_at(count, stopping)
        with pytest.raises(KeyboardInterrupt):
            distill(raw, folder)
    train(raw, folder)


def resumed_and_cached(raw: dict, folder: Path, monkeypatch, *, rounding: float = 0.0) -> Run:
    """A run in ``whole``; stopped and resumed, and from cached signals, it is the same.

    A cache has one signal for a text that occurs in several batches. Where the last bits of a
    product depend on the rest of the batch, weights differ by ``rounding`` at most; held-out losses
    differ in their last bits on processors where those of any product do.
    """
    run = distill(raw, folder / "whole")
    stopped_and_resumed(raw, folder / "stopped", monkeypatch, 2)
    same_run(folder / "whole", folder / "stopped")
    write_cache(prepare(raw), folder / "signals", Kind(), Accelerator(cpu=True))
    named = raw["teacher"] if isinstance(raw["teacher"], dict) else {"model": raw["teacher"]}
    teacher = {**named, "cache": str(folder / "signals")}
    train(raw | {"teacher": teacher}, folder / "cached")
    same_run(folder / "whole", folder / "cached", rounding=rounding, of_losses=1e-5)
    return run


def losses(folder: Path) -> list:
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        [r["stage"], r["step"], r["tokens"], r.get("objectives"), r.get("held_out")]
        for r in map(json.loads, lines)
    ]


def same_run(one: Path, other: Path, *, rounding: float = 0.0, of_losses: float = 0.0) -> None:
    of_losses = max(of_losses, rounding)
    ours, theirs = (load_file(f / "student" / "model.safetensors") for f in (one, other))
    assert ours.keys() == theirs.keys()
    assert all((ours[name] - theirs[name]).abs().max() <= rounding for name in ours)
    for mine, yours in zip(losses(one), losses(other), strict=True):
        assert mine[:3] == yours[:3]
        for a, b in zip(mine[3:], yours[3:], strict=True):
            assert a == (pytest.approx(b, rel=of_losses, abs=rounding) if b else b)


def alike(folder: Path, other: Path) -> None:
    """The same losses at every step and the same student, to what float32 rounds."""
    for ours, theirs in zip(losses(folder), losses(other), strict=True):
        assert ours[:3] == theirs[:3]
        for mine, yours in zip(ours[3:], theirs[3:], strict=True):
            assert mine == (yours if yours is None else pytest.approx(yours, rel=1e-3, abs=1e-6))
    one, two = (load_file(f / "student" / "model.safetensors") for f in (folder, other))
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-2, atol=2e-4)


def launcher(processes: int, *, fsdp: bool = False) -> tuple[list[str], dict[str, str]]:
    """The start of a command that runs several processes like torchrun, and its environment.

    The processes share their imports with the tests; torchrun itself is the launcher of one test.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
        "ACCELERATE_USE_FSDP": str(fsdp).lower(),
        "FSDP_VERSION": "2",
    }
    script = str(Path(__file__).parent / "forked.py")
    return [warm.PYTHON, script, str(processes)], environment


TOKENS = 300


@pytest.fixture(scope="session")
def decoder(tmp_path_factory):
    """A decoder whose padding token is its end-of-text token."""
    folder = tmp_path_factory.mktemp("decoder")
    tokenizer = learn_tokenizer(
        make_text(300), blank_tokenizer("bytes", lowercase=False), vocab_size=TOKENS
    )
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(folder)
    make_model("llama", vocabulary=TOKENS).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def prompts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prompts")
    texts = make_text(120, seed=1)
    rows = [{"prompt": " ".join(t.split()[:3]), "references": [t, t[:9]]} for t in texts]
    for split, some in (("train", rows[:100]), ("dev", rows[100:])):
        lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in some)
        (folder / f"toy.{split}.jsonl").write_text(lines, encoding="utf-8")
    return str(folder / "toy")


LABELS = ("statement", "question", "order")
TAGS = ("O", "B-X", "I-X")


def with_task_head(model: PreTrainedModel, head: TaskHead, seed: int = 0) -> PreTrainedModel:
    """The body of a tiny model with the head of a task, random and larger than a real one."""
    config = copy.deepcopy(model.config)
    head.set_on(config)
    torch.manual_seed(seed)
    found = task_class(head).from_config(config)
    found.base_model.load_state_dict(model.base_model.state_dict(), strict=False)
    inside = {id(parameter) for parameter in found.base_model.parameters()}
    for parameter in found.parameters():
        if id(parameter) not in inside:
            parameter.data.mul_(20)
    return found.eval()


def small_groups(objective: Objective) -> Objective:
    """The objective; one that compares the rows of a group, with groups of three."""
    return replace(objective, group_size=3) if hasattr(objective, "group_size") else objective


def with_vectors(teacher: PreTrainedModel, student: PreTrainedModel) -> None:
    """Let both make vectors of texts of the teacher's width."""
    wide, narrow = (model.config.hidden_size for model in (teacher, student))
    attach_vectors(teacher, SentenceVectors(wide))
    dense = [] if wide == narrow else [Dense(narrow, wide, bias=False, activation="Identity")]
    attach_vectors(student, SentenceVectors(narrow, dense=dense))


@pytest.fixture(scope="session")
def task_files(tmp_path_factory) -> Path:
    """Small tasks, one for each of `HEADS`, and rows without labels."""
    folder = tmp_path_factory.mktemp("tasks")
    words = make_text(400, seed=3)
    rows: dict[str, list[dict]] = {name: [] for name in HEADS}
    for number, text in enumerate(words[:240]):
        label = LABELS[len(text.split()) % 3]
        rows["labels"].append({"text": text, "label": label})
        held = [one for place, one in enumerate(LABELS) if len(text) >> place & 1]
        rows["several"].append({"text": text, "label": held})
        other = words[number + 1]
        rows["pairs"].append({"text": text, "text_pair": other, "label": label})
        rows["scores"].append({"text": text, "label": len(text) / 10})
        tokens = text.split()
        tags = ["B-X" if len(word) > 4 else "O" for word in tokens]
        rows["tags"].append({"tokens": tokens, "tags": tags})
    for name, found in rows.items():
        for split, some in (("train", found[:200]), ("dev", found[200:])):
            lines = "\n".join(map(json.dumps, some))
            (folder / f"{name}.{split}.jsonl").write_text(lines, encoding="utf-8")
    plain = [{"text": text} for text in words[200:320]]
    lines = "\n".join(map(json.dumps, plain))
    (folder / "plain.train.jsonl").write_text(lines, encoding="utf-8")
    return folder


HEADS = {
    "labels": TaskHead("sequence", LABELS),
    "several": TaskHead("sequence", LABELS, multi_label=True),
    "pairs": TaskHead("sequence", LABELS),
    "scores": TaskHead("sequence", ("score",)),
    "tags": TaskHead("token", ("B-X", "O")),
}


@pytest.fixture
def task_recipe(raw_recipe, task_files, tmp_path, tokenizer):
    """A recipe whose teacher has learned a task, by the task's name and the family."""

    def of(task: str = "labels", family: str = "bert", **head: Any) -> dict:
        folder = tmp_path / f"teacher-{task}-{family}"
        reader, architecture = tokenizer, ARCHITECTURES[family]
        if architecture.padding_id is not None:
            reader = make_tokenizer(padding_id=architecture.padding_id)
        if architecture.causal:
            reader = make_tokenizer()
            reader.eos_token = "[SEP]"
        model = make_model(family, vocabulary=len(reader))
        model.config.pad_token_id = reader.pad_token_id
        wanted = TaskHead(**{**vars(HEADS[task]), **head})
        with_task_head(model, wanted).save_pretrained(folder)
        reader.save_pretrained(folder)
        objectives: dict = {"class_logits": {}, "class_labels": {"weight": 0.5}}
        stage = {"objectives": objectives, "max_steps": 4, "batch_size": 8}
        data = {
            "task": str(task_files / task),
            "max_length": 24,
            "held_out": {"fraction": 0.1, "sequences": 8},
        }
        student = {**raw_recipe["student"]}
        return {
            **raw_recipe,
            "teacher": str(folder),
            "student": student,
            "data": data,
            "stages": [stage],
        }

    return of


CHAT_TURNS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_chatting(folder: Path, *, positions: int) -> str:
    """A decoder whose tokenizer has turns of a chat."""
    tokenizer = learn_tokenizer(
        make_text(300), blank_tokenizer("bytes", lowercase=False), vocab_size=TOKENS - 2
    )
    turns = [AddedToken(f"<|im_{side}|>", special=True) for side in ("start", "end")]
    tokenizer.add_special_tokens({"additional_special_tokens": turns})
    tokenizer.chat_template = CHAT_TURNS
    tokenizer.save_pretrained(folder)
    model = make_model("llama", vocabulary=TOKENS)
    model.config.max_position_embeddings = positions
    model.save_pretrained(folder)
    return str(folder)
