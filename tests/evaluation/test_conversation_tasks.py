"""Conversations as tasks: read from any file, their last answers scored, and what is refused."""

import json
import math
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import CHAT_TURNS, make_chatting, make_text
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from limbeck.cli.evaluate import evaluate
from limbeck.data.prompt_sources import PromptTaskSource, parse_task
from limbeck.data.prompts import Prompt
from limbeck.data.rows import RowSource
from limbeck.errors import DataError, EvaluationError
from limbeck.evaluation.by_position import positions_of_task
from limbeck.evaluation.generation_scores import score_generation
from limbeck.evaluation.rouge import rouge_l
from limbeck.evaluation.settings import GenerationSettings
from limbeck.evaluation.task_files import (
    content_of_task,
    is_generation_task,
    load_task,
    name_of_task,
)
from limbeck.evaluation.tasks import TaskKind
from limbeck.evaluation.text_generator import TextGenerator
from limbeck.recipe.check import check
from limbeck.recipe.parse import parse_evaluation, parse_recipe
from limbeck.recipe.read import dump_recipe
from limbeck.run.distill import distill
from limbeck.run.evaluate import evaluate_model

ROLES = ("system", "user", "assistant", "user", "assistant")
SETTINGS = GenerationSettings(max_new_tokens=40, chat_template=True, batch_size=3)


@pytest.fixture(scope="module")
def chatting(tmp_path_factory):
    return make_chatting(tmp_path_factory.mktemp("chatting"), positions=512)


def talks(count, seed=5):
    """Conversations of two answers and a system message; some end with a user's message."""
    texts = iter(make_text(5 * count, seed=seed))
    rows = [
        [{"role": role, "content": next(texts)[: 20 + n]} for role in ROLES] for n in range(count)
    ]
    rows[0].append({"role": "user", "content": "thanks"})
    return rows


def put(folder, name, rows):
    (folder / name).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(folder / name)


def shapes_of(folder):
    """The same conversations in every shape that they are read in, as tasks."""
    rows = talks(6)
    other = {"system": "system", "user": "human", "assistant": "gpt"}
    shared = [
        {"conversations": [{"from": other[m["role"]], "value": m["content"]} for m in row]}
        for row in rows
    ]
    trl = [{"prompt": row[:4], "completion": row[4:5]} for row in rows]
    table = pa.table({"talk": [json.dumps(row) for row in rows], "label": [1] * 6})
    pq.write_table(table, folder / "table.parquet")
    for split in ("train", "test"):
        put(folder, f"named.{split}.jsonl", [{"messages": row} for row in rows])
    return {
        "messages": put(folder, "messages.jsonl", [{"messages": row, "id": 3} for row in rows]),
        "ShareGPT": put(folder, "shared.jsonl", shared),
        "TRL": put(folder, "trl.jsonl", trl),
        "mapped": {"path": str(folder / "table.parquet"), "messages": "talk"},
        "task files": str(folder / "named"),
    }


@pytest.mark.parametrize("shape", ["messages", "ShareGPT", "TRL", "mapped", "task files"])
def test_conversations_of_every_shape_are_a_generation_task(tmp_path, shape):
    location = shapes_of(tmp_path)[shape]
    task = load_task(location)
    assert is_generation_task(location) and task.kind is TaskKind.GENERATION
    assert (task.headline, len(task.test)) == ("rouge_l", 6)
    for row, prompt in zip(talks(6), task.prompts, strict=True):
        assert prompt.references == (row[4]["content"],)
        said = prompt.conversation.messages
        assert [(m["role"], m["content"]) for m in said] == [
            (m["role"], m["content"]) for m in row[:5]
        ]
    assert len(content_of_task(location)) > 20


def test_instructions_are_a_task_too_and_need_no_template(tmp_path):
    rows = [{"instruction": t, "input": "", "output": t[:9], "text": t} for t in make_text(9)]
    task = load_task(put(tmp_path, "alpaca.jsonl", rows))
    assert [p.references[0] for p in task.prompts] == [row["output"] for row in rows]
    assert not any(prompt.conversation for prompt in task.prompts)


def test_which_split_is_scored(tmp_path):
    for split, count in (("train", 8), ("validation", 3), ("test", 4)):
        put(tmp_path, f"{split}.jsonl", [{"messages": row} for row in talks(count)])
    folder = str(tmp_path)
    assert (load_task(folder).test_split, len(load_task(folder).test)) == ("dev", 3)
    assert len(load_task(folder, test_split="test").test) == 4
    asked = {"path": folder, "messages": "messages"}
    assert len(load_task(asked | {"split": "train"}).test) == 8
    assert len(load_task(asked | {"split": "test.jsonl"}).test) == 4
    assert len(load_task(asked | {"split": {"dev": "test"}}).test) == 4
    held_out = load_task(asked | {"split": {"dev": 0.25}})
    assert (len(held_out.test), held_out.train, held_out.notes) == (2, [], ())
    alone = load_task(str(tmp_path / "train.jsonl"))
    assert (len(alone.test), alone.train) == (8, [])
    assert "names no rows to be scored, so all 8" in str(alone.notes)
    with pytest.raises(DataError, match="has no split 'other'; there are"):
        load_task(asked, test_split="other")


def test_descriptions_and_their_names():
    said = "{path: chats.parquet, messages: talk, split: {dev: 0.1}, task_name: mine}"
    source = parse_task(said)
    assert isinstance(source, PromptTaskSource) and name_of_task(source) == "mine"
    assert isinstance(parse_task("{path: a.csv, text: body}"), RowSource)
    part = parse_evaluation({"tasks": [said, "DIR/other"]})
    assert part.tasks == [source, "DIR/other"]
    raw = {
        "student": "x",
        "data": {"text": "a"},
        "stages": [{"max_steps": 1, "objectives": {"labels": {}}}],
        "evaluation": {"tasks": [said]},
    }
    recipe, problems = parse_recipe(raw)
    assert not problems and "task_name: mine" in dump_recipe(recipe)
    again, _ = parse_recipe(json.loads(json.dumps(recipe.model_dump(mode="json", by_alias=True))))
    assert again.evaluation.tasks == [source]
    with pytest.raises(DataError, match="unknown key 'mesages'"):
        parse_task({"path": "a", "mesages": "b", "system": "c"})


def _by_hand(folder, row):
    """Nats and bytes of each answer, by transformers alone; an answer ends with its end token."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    found = []
    for place in (2, 4):
        asked = tokenizer.apply_chat_template(
            row[:place], tokenize=False, add_generation_prompt=True
        )
        text = asked + row[place]["content"].strip() + "<|im_end|>"
        both = [tokenizer(t, add_special_tokens=False)["input_ids"] for t in (asked, text)]
        assert both[1][: len(both[0])] == both[0]
        with torch.no_grad():
            logs = model(torch.tensor([both[1]])).logits[0].log_softmax(-1)
        ids = both[1][len(both[0]) :]
        nats = [-float(logs[len(both[0]) + n - 1, id_]) for n, id_ in enumerate(ids)]
        said = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ends = [end for _, end in said["offset_mapping"][len(both[0]) : -1]]
        ends = [len(text[len(asked) : end].encode()) for end in ends]
        assert ends[-1] == len(row[place]["content"].strip().encode())
        sizes = [b - a for a, b in zip([0, *ends], [*ends, ends[-1]], strict=True)]
        found.append((nats, sizes))
    return found


def test_the_scores_are_those_of_transformers(tmp_path, chatting):
    rows = talks(7)
    task = load_task(put(tmp_path, "chats.jsonl", [{"messages": row} for row in rows]))
    metrics = score_generation(chatting, task, settings=SETTINGS, seed=0).metrics
    earlier, last = zip(*(_by_hand(chatting, row) for row in rows), strict=True)

    def bits(pairs):
        return sum(n for n, _ in pairs) / math.log(2) / sum(size for _, size in pairs)

    def flat(answers):
        return [pair for answer in answers for pair in zip(*answer, strict=True)]

    assert metrics["bits_per_byte"] == pytest.approx(bits(flat(last)), rel=1e-5)
    every = bits([*flat(last), *flat(earlier)])
    assert metrics["bits_per_byte_all_answers"] == pytest.approx(every, rel=1e-5)
    assert every != pytest.approx(metrics["bits_per_byte"], rel=1e-3)
    nats = [n for n, _ in flat(last)]
    assert metrics["perplexity"] == pytest.approx(math.exp(sum(nats) / len(nats)), rel=1e-5)
    for third, name in enumerate(("first", "middle", "last")):
        some = [
            pair
            for answer in last
            for place, pair in enumerate(zip(*answer, strict=True))
            if place * 3 // len(answer[0]) == third
        ]
        assert metrics[f"bits_per_byte_{name}_third"] == pytest.approx(bits(some), rel=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(chatting)
    model = AutoModelForCausalLM.from_pretrained(chatting)
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids("<|im_end|>")
    best = []
    for row in rows:
        asked = tokenizer.apply_chat_template(
            row[:4], return_tensors="pt", add_generation_prompt=True, return_dict=True
        )
        made = model.generate(**asked, max_new_tokens=40, do_sample=False, pad_token_id=0)
        text = tokenizer.decode(made[0, asked["input_ids"].shape[1] :], skip_special_tokens=True)
        best.append(rouge_l([row[4]["content"]], text))
    assert metrics["rouge_l"] == pytest.approx(sum(best) / len(best))


def test_tasks_of_prompts_alone_have_no_bits_of_earlier_answers(prompts, decoder):
    settings = GenerationSettings(max_new_tokens=8)
    metrics = score_generation(decoder, load_task(prompts), settings=settings, seed=0).metrics
    assert "bits_per_byte_all_answers" not in metrics and metrics["bits_per_byte_last_third"] > 0


def test_a_command_scores_conversations(tmp_path, chatting, capsys):
    file = put(tmp_path, "chats.jsonl", [{"talk": row} for row in talks(5)])
    source = f"{{path: {file}, messages: talk}}"
    evaluate(
        chatting,
        [source],
        seeds=1,
        max_new_tokens=8,
        chat_template=True,
        teacher=chatting,
        output=tmp_path / "out",
    )
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert found["chats"]["metric"] == "rouge_l" and found["chats"]["test_rows"] == 5
    assert found["by_position"]["chats"]["agreement_on_references"] == [1.0] * 3
    assert "so all 5 are" in " ".join(capsys.readouterr().out.split())


def test_a_recipe_measures_conversations(tmp_path, chatting, raw_recipe):
    rows = [{"messages": row} for row in talks(60)]
    learned, scored = (
        put(tmp_path, name, some)
        for name, some in (("learned.jsonl", rows[:50]), ("scored.jsonl", rows[50:]))
    )
    raw = raw_recipe | {
        "teacher": chatting,
        "data": {"prompts": learned, "chat_template": True, "max_length": 256},
        "stages": [{"objectives": {"labels": {}}, "max_steps": 2, "batch_size": 2}],
    }
    raw["evaluation"] |= {"tasks": [scored], "seeds": 1, "generation": {"max_new_tokens": 8}}
    quality = distill(raw, tmp_path / "run").report["quality"]["scored"]
    assert {"student", "teacher"} <= quality["metrics"].keys()
    assert quality["metrics"]["student"]["bits_per_byte_all_answers"] > 0
    assert "bits per byte last third" in (tmp_path / "run/report/report.md").read_text()


def test_what_cannot_be_asked_is_refused_before_any_model_is_loaded(
    tmp_path, chatting, decoder, monkeypatch
):
    monkeypatch.setattr("limbeck.evaluation.text_generator.load_model", None)
    rows = [{"messages": row} for row in talks(4)]
    task = put(tmp_path, "chats.jsonl", rows)
    plain = parse_evaluation({"tasks": [task], "seeds": 1})
    said = parse_evaluation({"tasks": [task], "generation": {"chat_template": True}})
    quiet = Console(quiet=True)
    with pytest.raises(EvaluationError, match=r"chats: line 1 of .* is a conversation.*--chat-t"):
        evaluate_model(chatting, plain.tasks, plain, console=quiet)
    with pytest.raises(DataError, match="has no chat template; name one that has"):
        evaluate_model(decoder, said.tasks, said, console=quiet)
    with pytest.raises(DataError, match="has no chat template"):
        positions_of_task(chatting, decoder, load_task(task), SETTINGS)
    tokenizer = AutoTokenizer.from_pretrained(chatting)
    tokenizer.chat_template = CHAT_TURNS.replace(
        "<|im_start|>{{ m['role'] }}",
        "{{ raise_exception('no system') if m.role == 'system' }}<|im_start|>{{ m['role'] }}",
    )
    tokenizer.save_pretrained(tmp_path / "other")
    AutoModelForCausalLM.from_pretrained(chatting).save_pretrained(tmp_path / "other")
    with pytest.raises(DataError, match=r"line 1 of .*no system"):
        evaluate_model(str(tmp_path / "other"), said.tasks, said, console=quiet)
    unanswered = put(tmp_path, "asked.jsonl", [*rows, {"messages": talks(1)[0][:2]}])
    with pytest.raises(DataError, match=r"line 5 of .*no message is the assistant's"):
        load_task(unanswered)


def test_a_recipe_names_what_cannot_be_asked(tmp_path, chatting, decoder, raw_recipe, prompts):
    task = put(tmp_path, "chats.jsonl", [{"messages": row} for row in talks(4)])
    raw = raw_recipe | {
        "teacher": decoder,
        "data": {"prompts": prompts, "max_length": 32},
        "stages": [{"objectives": {"labels": {}}, "max_steps": 2, "batch_size": 2}],
    }
    raw["evaluation"] |= {"tasks": [task]}
    place, said = "evaluation.generation.chat_template", "is needed for chats, of which line 1 of"
    assert said in dict(check(raw)[1])[place]
    raw["evaluation"] |= {"generation": {"chat_template": True}}
    assert "asks all models in their chat template" in dict(check(raw)[1])[place]
    tokenizer = AutoTokenizer.from_pretrained(chatting)
    tokenizer.chat_template = CHAT_TURNS.replace("in messages", "in messages if m.role != 'system'")
    tokenizer.save_pretrained(tmp_path / "drops")
    AutoModelForCausalLM.from_pretrained(chatting).save_pretrained(tmp_path / "drops")
    raw["teacher"] = str(tmp_path / "drops")
    said = [message for field, message in check(raw)[1] if field == "evaluation.tasks.0"]
    assert re.search("of the student: line 1 .* drops a message", said[0]) and len(said) == 2


def test_answers_that_leave_no_room_for_a_prompt_are_a_problem_of_the_recipe(
    tmp_path, chatting, decoder, raw_recipe, prompts
):
    """It names the model that reads least, and the longest answers that it can be measured with."""
    limit = AutoModelForCausalLM.from_pretrained(decoder).config.max_position_embeddings
    field = "evaluation.generation.max_new_tokens"
    raw = raw_recipe | {
        "teacher": decoder,
        "data": {"prompts": prompts, "max_length": 32},
        "stages": [{"objectives": {"labels": {}}, "max_steps": 2, "batch_size": 2}],
    }
    raw["evaluation"] = {"tasks": [prompts]}  # answers of 256 tokens, which nobody has set
    said = dict(check(raw)[1])[field]
    assert said.startswith(f"is 256, and the student reads {limit} tokens with the prompt; give")
    most = int(re.search(r"give (\d+) at most \(the responses .* up to 16\)", said)[1])

    def problems(**generation):
        raw["evaluation"]["generation"] = generation
        return dict(check(raw)[1])

    assert most == limit - 2 and field in problems(max_new_tokens=most + 1)
    assert not problems(max_new_tokens=most)
    row = Prompt("the garden", ("a river",))
    measured = TextGenerator.load(decoder)
    assert len(measured.table([row], GenerationSettings(most))) == 1
    with pytest.raises(EvaluationError, match=f"leave no room .*smaller .{most} at most"):
        measured.table([row], GenerationSettings(most + 1))
    # A chat template takes room, too, and a shorter length leaves less.
    limit = 512
    raw["teacher"] = chatting
    raw["data"] |= {"chat_template": True, "max_length": 128}
    told = problems(max_new_tokens=limit)[field]
    inside = int(re.search(r"give (\d+) at most", told)[1])
    assert inside < limit - 2 and not problems(max_new_tokens=inside)
    table = TextGenerator.load(chatting).table(
        [row], GenerationSettings(inside, chat_template=True)
    )
    assert len(table.prompts[0]) + inside == limit
    assert "of which its chat template leaves none" in problems(max_length=4)[field]
    # The other models are measured with the same answers.
    short = AutoModelForCausalLM.from_pretrained(decoder)
    short.config.max_position_embeddings = 40
    short.save_pretrained(tmp_path / "short")
    AutoTokenizer.from_pretrained(decoder).save_pretrained(tmp_path / "short")
    raw["teacher"], raw["data"] = decoder, {"prompts": prompts, "max_length": 32}
    raw["evaluation"]["baseline"] = str(tmp_path / "short")
    told = problems(max_new_tokens=39)[field]
    assert f"and {tmp_path / 'short'} reads 40 tokens with the prompt; give 38 at most" in told
