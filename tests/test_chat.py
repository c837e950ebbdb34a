"""Prompts in a chat template: its own pieces, cut ones, whole runs, and faults."""

import json

import pytest
from conftest import PIECES, make_model, make_text
from transformers import AutoTokenizer

from limbeck.build import check, prepare
from limbeck.data.prompts import Prompt
from limbeck.errors import DataError
from limbeck.run import distill
from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer
from limbeck.tokenization.prompts import encode_prompts

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] | trim }}\n"
    "{% endfor %}{% if add_generation_prompt %}[answer] {% endif %}"
)


@pytest.fixture(scope="module")
def chatting(tmp_path_factory):
    """A decoder whose tokenizer has a chat template."""
    folder = tmp_path_factory.mktemp("chatting")
    tokenizer = learn_tokenizer(
        make_text(300), blank_tokenizer("bytes", lowercase=False), size=PIECES
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    make_model("llama", vocabulary=PIECES).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def raw(raw_recipe, chatting, prompts):
    raw_recipe["teacher"] = chatting
    raw_recipe["data"] = {"prompts": prompts, "length": 64, "response": 16, "chat": True}
    stage = {"policy": "switch", "objectives": {"output": {}}, "steps": 2, "batch_size": 4}
    raw_recipe["stages"] = [stage]
    return raw_recipe


def test_prompts_are_those_of_the_template(chatting):
    tokenizer = AutoTokenizer.from_pretrained(chatting)
    texts = [" the old garden", "Дом у реки\nи сад", ""]
    rows = [Prompt(text, ("an answer",)) for text in texts]
    table = encode_prompts(rows, tokenizer, length=99, response=16, chat=True)
    for text, pieces in zip(texts, table.prompts, strict=True):
        said = [{"role": "user", "content": text}]
        rendered = tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=True)
        assert pieces.tolist() == rendered["input_ids"]
    assert table.cut_prompts == 0
    assert tokenizer.decode(table.responses[0][:-1]) == "an answer"


def test_a_long_prompt_loses_its_beginning_and_keeps_the_template(chatting):
    tokenizer = AutoTokenizer.from_pretrained(chatting)
    rows = [Prompt("the old garden " * 40 + "and the river", ("yes",))]
    table = encode_prompts(rows, tokenizer, length=60, response=16, chat=True)
    text = tokenizer.decode(table.prompts[0])
    assert table.cut_prompts == 1 and len(table.prompts[0]) == 44
    assert text.startswith(f"{tokenizer.bos_token}[user] ")
    assert text.endswith("garden and the river\n[answer] ")


def test_no_room_for_a_template(chatting):
    tokenizer = AutoTokenizer.from_pretrained(chatting)
    with pytest.raises(DataError, match="leave no room for a prompt in 24"):
        encode_prompts([Prompt("a", ("b",))], tokenizer, length=24, response=16, chat=True)


def test_a_run_asks_in_the_template_when_it_measures_too(raw, prompts, tmp_path):
    raw["evaluation"] |= {"tasks": [prompts], "seeds": 1, "writing": {"response": 8, "rows": 4}}
    assert prepare(raw).recipe.evaluation.writing.chat
    run = distill(raw, tmp_path / "run")
    assert AutoTokenizer.from_pretrained(run.student).chat_template == TEMPLATE
    report = json.loads((tmp_path / "run" / "report" / "report.json").read_text("utf-8"))
    assert report["quality"]["toy"]["student"] is not None


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "has no chat template"),
        ("{% for m in messages %}[{{ m['role'] }}]{% endfor %}", "leaves out what a user says"),
        ("{{ raise_exception('only systems speak') }}", "only systems speak"),
    ],
)
def test_templates_that_cannot_be_used(chatting, template, message):
    tokenizer = AutoTokenizer.from_pretrained(chatting)
    tokenizer.chat_template = template
    with pytest.raises(DataError, match=message):
        encode_prompts([Prompt("a", ("b",))], tokenizer, length=64, response=16, chat=True)


def test_a_recipe_whose_tokenizer_has_no_template(raw, decoder):
    raw["teacher"] = decoder
    assert "has none" in dict(check(raw)[1])["data.chat"]
