"""Whole runs over conversations: read, packed, generated; what a plan says; and bad recipes."""

import json
import re

import datasets
import pytest
import torch
from conftest import CHAT_TURNS, TOKENS, make_chatting, make_model, make_text
from safetensors.torch import load_file
from transformers import AutoTokenizer

from limbeck.data.hub_tables import hub_tables
from limbeck.recipe.check import check, prepare
from limbeck.recipe.read import override
from limbeck.run.batches import stage_batches, stage_held_out
from limbeck.run.distill import distill
from limbeck.run.prompt_batches import held_out_prompts, prompt_batches, prompt_notes
from limbeck.run.sources import sources_of


@pytest.fixture(scope="module")
def chatting(tmp_path_factory):
    return make_chatting(tmp_path_factory.mktemp("chatting"), positions=256)


@pytest.fixture(scope="module")
def chats(tmp_path_factory):
    """A file of conversations of two turns each."""
    texts = iter(make_text(400, seed=7))
    roles = ("user", "assistant", "user", "assistant")
    rows = [
        {"talk": [{"role": role, "content": next(texts)[:24]} for role in roles]} for _ in range(60)
    ]
    for row in rows[::5]:
        row["talk"].append({"role": "user", "content": "thanks"})
    file = tmp_path_factory.mktemp("chats") / "chats.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return file


@pytest.fixture
def raw(raw_recipe, chatting, chats):
    return raw_recipe | {
        "teacher": chatting,
        "data": {
            "prompts": {"path": str(chats), "messages": "talk"},
            "chat_template": True,
            "max_length": 128,
            "max_new_tokens": 40,
            "held_out": {"fraction": 0.1, "sequences": 8},
        },
        "stages": [
            {
                "policy": "corpus",
                "objectives": {"labels": {"weight": 0.5}, "logits": {}},
                "max_steps": 3,
                "batch_size": 4,
            }
        ],
    }


def test_a_student_learns_every_answer(raw, tmp_path, chatting, chats):
    run = distill(raw, tmp_path / "run")
    notes = " ".join(run.report["notes"])
    assert re.search(r"\d+ of them are conversations, with \d+ answers to learn: [\d,]+ of", notes)
    assert re.search("after a last answer, which are left out: 1[0-2]", notes)
    assert AutoTokenizer.from_pretrained(run.student).chat_template == CHAT_TURNS
    setup = prepare(raw)
    assert sources_of(setup.recipe)["data.prompts.0"]["path"] == str(chats)
    tokenizer = AutoTokenizer.from_pretrained(chatting)
    start, end = (tokenizer.convert_tokens_to_ids(f"<|im_{side}|>") for side in ("start", "end"))
    role = tokenizer("assistant\n", add_special_tokens=False)["input_ids"]
    tokens = stage_batches(setup, 0).batch(0).student
    for row in range(4):
        ids = tokens.input_ids[row, tokens.mask[row]].tolist()
        wanted, place = [], 0
        for place in range(len(ids)):
            begun = max(i for i, id_ in enumerate(ids[: place + 1]) if id_ == start)
            answers = ids[begun + 1 : begun + 1 + len(role)] == role
            ended = end in ids[begun:place]
            wanted.append(answers and place > begun + len(role) and not ended)
        assert tokens.predicted[row, : len(ids)].tolist() == [*wanted[1:], False]
        assert ids.count(end) == 4 and sum(wanted) > 2
    prompts = prompt_batches(setup, held_out=False, size=1).table
    assert len(prompts) + len(held_out_prompts(setup)) == 60
    assert prompts.chats.answers == 2 * len(prompts) and stage_held_out(setup, 0)


def test_packed_conversations_take_fewer_rows(raw, tmp_path):
    raw["data"] |= {"packing": "all", "max_length": 250}
    setup = prepare(raw)
    [note] = [note for note in prompt_notes(setup) if "packed into" in note]
    count, sequences = map(int, re.findall(r"^(\d+) prompts .* into (\d+) ", note)[0])
    batches = stage_batches(setup, 0)
    assert sequences < count == len(batches.prompts.table)
    tokens = batches.batch(0).student
    assert tokens.positions is not None and tokens.mask.shape[1] <= 250
    run = distill(raw, tmp_path / "run")
    again = distill(raw, tmp_path / "again")
    mine, theirs = (load_file(one.student / "model.safetensors") for one in (run, again))
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert any("packed into" in note for note in run.report["notes"])


@pytest.mark.parametrize("policy", ["student", "switch"])
def test_responses_to_a_conversation_are_generated(raw, tmp_path, policy):
    raw["stages"][0]["policy"] = policy
    run = distill(raw, tmp_path / "run")
    log = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert any("written_length" in record for record in log)
    assert all(len(parts) == 3 for parts in run.report["by_position"].values())


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"data.chat_template": False}, "data.chat_template", "is needed for conversations, and l"),
        ({"teacher": "DECODER"}, "data.chat_template", "has no chat template; name one that has"),
        ({"data.prompts": "CHATS"}, "data.prompts.0", "has the fields talk; known are `messages`"),
        (
            {"data.packing": "all", "stages.0.policy": "switch"},
            "data.packing",
            "is all, and stage 0 generates responses",
        ),
        ({"data.packing": "some"}, "data.packing", "'all'"),
        (
            {"data.packing": "all", "data.prompts": [], "data.text": "TEXT"},
            "data.packing",
            "is all, which packs prompts too",
        ),
        (
            {"data.prompts": {"path": "CHATS", "messages": "talk", "split": {"dev": 0.1}}},
            "data.prompts",
            "prompts are held out by `data.held_out.fraction`",
        ),
    ],
)
def test_recipes_that_are_refused(raw, decoder, chats, text_file, changes, field, message):
    named = {"DECODER": decoder, "CHATS": str(chats), "TEXT": str(text_file)}
    for path, value in changes.items():
        if isinstance(value, dict):
            value = {**value, "path": named[value["path"]]}
        override(raw, path, named.get(value, value) if isinstance(value, str) else value)
    if not raw["data"]["prompts"]:
        raw["data"].pop("chat_template")
        raw["stages"][0].pop("policy")
    setup, problems = check(raw)
    assert setup is None
    assert any(place.startswith(field) and re.search(message, said) for place, said in problems)


def test_models_that_cannot_generate_are_refused_before_anything_starts(
    raw, chats, tmp_path, chatting
):
    folder = tmp_path / "teacher"
    AutoTokenizer.from_pretrained(chatting).save_pretrained(folder)
    model = make_model("qwen3_5_text", vocabulary=TOKENS, max_position_embeddings=256)
    model.save_pretrained(folder)
    task = {"path": str(chats), "messages": "talk", "split": {"test": "train"}}
    raw |= {
        "teacher": str(folder),
        "evaluation": {"tasks": [task], "generation": {"max_new_tokens": 8}, "cost": False},
    }
    both = ["the student", "the teacher"]
    stage = raw["stages"][0]
    for policy, place, who in (
        ("corpus", "evaluation.tasks.0", both),
        ("switch", "stages.1.policy", both),
        ("student", "stages.1.policy", both[:1]),
    ):
        raw["stages"] = [stage, {**stage, "policy": policy}]
        found = check(raw)[1]
        assert [name for name, _ in found] == [place] * len(who)
        for one in who:
            assert any(f"{one} " in said and "LinearAttentionLayer" in said for _, said in found)


def test_a_window_narrower_than_the_texts_is_no_problem(raw, tmp_path, chatting):
    folder = tmp_path / "teacher"
    AutoTokenizer.from_pretrained(chatting).save_pretrained(folder)
    model = make_model(
        "mistral",
        vocabulary=TOKENS,
        max_position_embeddings=256,
        sliding_window=raw["data"]["max_length"] // 4,
    )
    model.save_pretrained(folder)
    raw["teacher"] = str(folder)
    raw["stages"][0]["policy"] = "switch"
    assert not check(raw)[1]


def test_templates_are_tried_on_every_kind_of_conversation(raw, chats, tmp_path, chatting):
    tokenizer = AutoTokenizer.from_pretrained(chatting)
    tokenizer.chat_template = CHAT_TURNS.replace(
        "{% for m in messages %}", "{% for m in messages if m.role != 'tool' %}"
    )
    folder = tmp_path / "teacher"
    tokenizer.save_pretrained(folder)
    make_model("llama", vocabulary=TOKENS).save_pretrained(folder)
    rows = chats.read_text(encoding="utf-8").splitlines()
    tools = json.loads(rows[-1])
    tools["talk"].insert(1, {"role": "tool", "content": "a result"})
    file = tmp_path / "more.jsonl"
    file.write_text("\n".join([*rows[:-1], json.dumps(tools)]), encoding="utf-8")
    raw["data"]["prompts"]["path"], raw["teacher"] = str(file), str(folder)
    _, problems = check(raw)
    assert "line 60 of" in dict(problems)["data.chat_template"]
    assert "drops a message of the role tool ('a result')" in dict(problems)["data.chat_template"]


def test_what_is_not_learned_of_a_conversation_is_said(raw, chats, tmp_path):
    rows = [json.loads(row) for row in chats.read_text(encoding="utf-8").splitlines()]
    for row in rows[:7]:
        row["talk"][1]["reasoning_content"] = "so that it follows"
    rows = [{**row, "context": "a text that the question is about"} for row in rows]
    file = tmp_path / "more.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    raw["data"]["prompts"]["path"] = str(file)
    warned = prepare(raw).warnings
    assert any("`reasoning_content` of messages (7 of" in said for said in warned)
    assert any("more has columns that are not read (context)" in said for said in warned)


def test_chats_on_the_hub_are_read_once(raw, chats, monkeypatch):
    rows = [json.loads(line) for line in chats.read_text(encoding="utf-8").splitlines()]
    passes = []

    def stream():
        passes.append(0)
        for row in rows:
            passes[-1] += 1
            yield row

    features = datasets.Dataset.from_list(rows).features
    streamed = datasets.IterableDataset.from_generator(stream, features=features)
    monkeypatch.setattr(
        datasets,
        "load_dataset",
        lambda *_, **__: datasets.IterableDatasetDict({"train": streamed}),
    )
    hub_tables.cache_clear()
    raw["data"]["prompts"]["path"] = "someone/chats"
    setup = prepare(raw)
    table = prompt_batches(setup, held_out=False, size=1).table
    assert len(table) + len(held_out_prompts(setup)) == 60
    assert passes == [60]
    raw["data"]["prompts"]["path"] = str(chats)
    here = prompt_batches(prepare(raw), held_out=False, size=1).table
    assert all((a == b).all() for a, b in zip(here.prompts, table.prompts, strict=True))
    hub_tables.cache_clear()


def test_scored_conversations_that_are_learned_are_counted(raw, chats):
    task = {"path": str(chats), "messages": "talk"}
    raw["evaluation"] |= {"tasks": [task], "generation": {"max_new_tokens": 40}}
    warnings = " ".join(prepare(raw).warnings)
    assert re.search(r"chats: 5\d of its 60 scored rows are among `data.prompts`", warnings)
