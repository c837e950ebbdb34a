"""Prompts in a chat template: its special tokens, truncation, whole runs, and problems."""

import re

import pytest
from conftest import TOKENS, make_model, make_text
from transformers import AutoTokenizer

from limbeck.data.prompts import Prompt
from limbeck.errors import DataError, RecipeError
from limbeck.evaluation.text_generator import TextGenerator
from limbeck.recipe.check import check, prepare
from limbeck.recipe.read import override
from limbeck.run.cacheable import manifest_of
from limbeck.run.distill import distill
from limbeck.study.arms import prepare_study
from limbeck.teacher.manifest import Kind
from limbeck.tokenization.chat import as_said
from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer
from limbeck.tokenization.prompts import encode_prompts

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] | trim }}\n"
    "{% endfor %}{% if add_generation_prompt %}[answer] {% endif %}"
)
DATED = "[{{ strftime_now('%d %b %Y') }}] " + TEMPLATE


@pytest.fixture(scope="module")
def chatting(tmp_path_factory):
    """A decoder whose tokenizer has a chat template."""
    folder = tmp_path_factory.mktemp("chatting")
    tokenizer = learn_tokenizer(
        make_text(300), blank_tokenizer("bytes", lowercase=False), vocab_size=TOKENS
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    make_model("llama", vocabulary=TOKENS).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def raw(raw_recipe, chatting, prompts):
    lengths = {"max_length": 64, "max_new_tokens": 16}
    stage = {"policy": "switch", "objectives": {"logits": {}}, "max_steps": 2, "batch_size": 4}
    return raw_recipe | {
        "teacher": chatting,
        "data": {"prompts": prompts, **lengths, "chat_template": True},
        "stages": [stage],
    }


def test_prompts_equal_those_of_transformers(chatting):
    tokenizer = AutoTokenizer.from_pretrained(chatting)
    texts = [" the old garden", "Дом у реки\nи сад", ""]
    rows = [Prompt(text, ("an answer",)) for text in texts]
    table = encode_prompts(rows, tokenizer, max_length=99, max_new_tokens=16, chat_template=True)
    for text, tokens in zip(texts, table.prompts, strict=True):
        said = [{"role": "user", "content": text}]
        rendered = tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=True)
        assert tokens.tolist() == rendered["input_ids"]
    assert table.truncated_prompts == 0
    assert tokenizer.decode(table.responses[0][:-1]) == "an answer"


def test_a_long_prompt_loses_its_beginning_and_keeps_the_template(chatting):
    tokenizer = AutoTokenizer.from_pretrained(chatting)
    rows = [Prompt("the old garden " * 40 + "and the river", ("yes",))]
    table = encode_prompts(rows, tokenizer, max_length=60, max_new_tokens=16, chat_template=True)
    text = tokenizer.decode(table.prompts[0])
    assert table.truncated_prompts == 1 and len(table.prompts[0]) == 44
    assert text.startswith(f"{tokenizer.bos_token}[user] ")
    assert text.endswith("garden and the river\n[answer] ")


def test_a_template_with_the_date_gives_the_same_prompt_every_day(chatting):
    tokenizer = AutoTokenizer.from_pretrained(chatting)
    tokenizer.chat_template = DATED
    assert as_said(tokenizer, "a").startswith("[26 Jul 2024] ")
    tokenizer.chat_template = DATED.replace("%d %b %Y", "%Y-%m-%d")
    assert as_said(tokenizer, "a").startswith("[2024-07-26] ")


def test_no_room_for_a_template(chatting):
    tokenizer = AutoTokenizer.from_pretrained(chatting)
    with pytest.raises(DataError, match=r"leave no room for a prompt in 24 beside the \d+ of"):
        encode_prompts(
            [Prompt("a", ("b",))], tokenizer, max_length=24, max_new_tokens=16, chat_template=True
        )


def test_a_run_is_evaluated_with_the_template(raw, prompts, tmp_path):
    raw["evaluation"] |= {
        "tasks": [prompts],
        "seeds": 1,
        "generation": {"max_new_tokens": 8, "max_eval_samples": 4},
    }
    assert prepare(raw).recipe.evaluation.generation.chat_template
    run = distill(raw, tmp_path / "run")
    assert AutoTokenizer.from_pretrained(run.student).chat_template == TEMPLATE
    writer, row = TextGenerator.load(str(run.student)), Prompt("the garden", ("a river",))
    table = writer.table([row], prepare(raw).recipe.evaluation.generation)
    assert writer.tokenizer.decode(table.prompts[0]).endswith("[user] the garden\n[answer] ")
    assert any("behind an answer" in note for note in run.report["notes"])


def test_the_cached_text_depends_on_the_template(raw, tmp_path, chatting):
    raw["stages"][0] |= {"policy": "corpus"}
    before = manifest_of(prepare(raw), Kind("exact")).identity
    assert "chat" in before["data"] and before["student.chat_template"] == TEMPLATE
    raw["data"]["chat_template"] = False
    plain = manifest_of(prepare(raw), Kind("exact")).identity
    assert "chat" not in plain["data"] and "student.chat_template" not in plain


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "has no chat template"),
        ("{% for m in messages %}[{{ m['role'] }}]{% endfor %}", "drops the message of the user"),
        ("{{ raise_exception('only systems speak') }}", "only systems speak"),
    ],
)
def test_unusable_templates(chatting, template, message):
    tokenizer = AutoTokenizer.from_pretrained(chatting)
    tokenizer.chat_template = template
    with pytest.raises(DataError, match=message):
        encode_prompts(
            [Prompt("a", ("b",))], tokenizer, max_length=64, max_new_tokens=16, chat_template=True
        )


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"teacher": "DECODER"}, "data.chat_template", "has no chat template"),
        (
            {"data.max_length": 30},
            "data.max_new_tokens",
            r"of which the chat template takes \d+; leave room",
        ),
        ({"data.prompts": [], "data.text": "TEXT"}, "data.chat_template", "is for prompts"),
        (
            {"data.prompts": [], "data.text": "TEXT", "data.loss_on": "all"},
            "data.loss_on",
            "always so of text",
        ),
        (
            {"teacher": "DECODER", "student": "CHATTING", "evaluation.tasks": ["PROMPTS"]},
            "evaluation.generation.chat_template",
            "and the teacher has none",
        ),
    ],
)
def test_recipes_without_a_usable_template(
    raw, decoder, chatting, prompts, text_file, changes, field, message
):
    named = {"DECODER": decoder, "CHATTING": chatting, "TEXT": str(text_file)}
    for path, value in changes.items():
        value = [prompts] if value == ["PROMPTS"] else value
        override(raw, path, named.get(value, value) if isinstance(value, str) else value)
    if not raw["data"]["prompts"]:
        del raw["stages"][0]["policy"]
    setup, problems = check(raw)
    assert setup is None and re.search(message, dict(problems)[field])


def test_all_arms_use_the_same_template(raw, prompts):
    del raw["data"]["chat_template"]
    generation = {"max_new_tokens": 8}
    raw["evaluation"] |= {"tasks": [prompts], "seeds": 1, "generation": generation}
    arms = {"plain": {}, "chat": {"data.chat_template": True}}
    study = {"recipe": raw, "arms": arms, "control": "plain"}
    with pytest.raises(RecipeError, match="changes how prompts are worded"):
        prepare_study(study)
    raw["evaluation"]["generation"] = {**generation, "chat_template": True, "separator": " "}
    assert len(prepare_study(study)[1]) == 2
