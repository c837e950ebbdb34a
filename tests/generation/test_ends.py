"""Where a text ends: every end that a model's files, tokenizer and chat template name."""

import io
import json
from pathlib import Path

import pytest
import torch
from conftest import TOKENS, make_model, make_text
from rich.console import Console
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from limbeck.data.prompts import Prompt
from limbeck.errors import EvaluationError, ModelError
from limbeck.evaluation.generation_scores import score_generation
from limbeck.evaluation.seeds import evaluate_tasks
from limbeck.evaluation.settings import FinetuneSettings, GenerationSettings
from limbeck.evaluation.task_files import load_task
from limbeck.evaluation.text_generator import TextGenerator
from limbeck.generation.ends import ends_notes, ends_of, save_with_ends
from limbeck.recipe.check import check, prepare
from limbeck.recipe.parse_policy import KINDS
from limbeck.recipe.prompts import ends_of_recipe
from limbeck.recipe.schema import EvaluationPart
from limbeck.run.accelerator import build_accelerator
from limbeck.run.distill import distill
from limbeck.run.evaluate import evaluate_model
from limbeck.run.generate_answers import generate_answers
from limbeck.run.generate_samples import generate_samples
from limbeck.run.prompt_batches import generated_batches, prompt_batches
from limbeck.tokenization.chat import turn_end
from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer
from limbeck.tokenization.prompts import encode_prompts

END = 1  # of the tokenizer
ADDED = ["<|im_start|>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|end|>s"]
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FILES = ("config", "generation_config")
TURN = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}@{% endfor %}"


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """Makes a decoder's folder that names its ends in the places given."""
    tokenizer = learn_tokenizer(
        make_text(300), blank_tokenizer("bytes", lowercase=False), vocab_size=TOKENS
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ADDED})
    model = make_model("llama", vocabulary=TOKENS + len(ADDED), seed=3)

    def made(*, generation=None, config=None, template=None, eos="</s>"):
        folder = tmp_path_factory.mktemp("decoder")
        tokenizer.chat_template, tokenizer.eos_token = template, eos
        model.config.eos_token_id = config
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        file = folder / "generation_config.json"
        file.unlink()
        if generation is not None:
            file.write_text(json.dumps({"eos_token_id": generation}), encoding="utf-8")
        return str(folder)

    return made


def rewrite(folder, content):
    """Another generation configuration."""
    Path(folder, "generation_config.json").write_text(content, encoding="utf-8")


def id_of(folder, token):
    return AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(token)


def greedy_without_end(folder, prompts, longest=24):
    """The greedy text of the model after each prompt, with no end at all."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.generation_config.eos_token_id = None
    return stopped_at(model, None, prompts, longest)


def stopped_at(model, ends, prompts, longest=24):
    """Where transformers stops: greedy, one prompt at a time."""
    found = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        options = {} if ends is None else {"eos_token_id": ends}
        text = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=longest,
            do_sample=False,
            pad_token_id=0,
            **options,
        )
        found.append(text[0, len(prompt) :].tolist())
    return found


PROMPTS = [[1, n, n + 7] for n in range(20, 180, 20)]


def ends_within(texts):
    """Three tokens that end texts at many different places."""
    counts = {token: sum(token in text[2:] for text in texts) for text in texts for token in text}
    return sorted(counts, key=counts.get, reverse=True)[:3]


@pytest.mark.parametrize("place", ["generation", "config"])
def test_texts_end_where_those_of_transformers_end(folder_of, place):
    plain = folder_of(config=1)
    ends = [END, *ends_within(greedy_without_end(plain, PROMPTS))]
    folder = folder_of(**{"config": 1, place: ends})
    model = AutoModelForCausalLM.from_pretrained(folder)
    expected = stopped_at(model, None, PROMPTS)
    assert len({len(text) for text in expected}) > 2 and min(map(len, expected)) < 24
    assert {text[-1] for text in expected} & set(ends[1:]) != set()
    generator = TextGenerator.load(folder)
    assert set(generator.ends) == set(ends)
    for size in (1, 3, 16):
        settings = GenerationSettings(max_new_tokens=24, batch_size=size)
        texts, ended = generator.answers(PROMPTS, settings, seed=0)
        assert texts == expected
        assert ended == [text[-1] in ends for text in expected]


def test_evaluate_and_generate_end_where_transformers_ends(folder_of, prompts, tmp_path):
    plain = folder_of(config=1)
    task = load_task(prompts)
    settings = GenerationSettings(max_new_tokens=24)
    table = TextGenerator.load(plain).table(
        [Prompt(e.text, e.references) for e in task.test], settings
    )
    prompt_ids = [prompt.tolist() for prompt in table.prompts]
    ends = [END, *ends_within(greedy_without_end(plain, prompt_ids))]
    folder = folder_of(config=1, generation=ends)
    texts = stopped_at(AutoModelForCausalLM.from_pretrained(folder), None, prompt_ids)
    score = score_generation(folder, task, settings=settings, seed=0)
    ended = [text[-1] in ends for text in texts]
    assert score.metrics["ended"] == pytest.approx(sum(ended) / len(texts)) and sum(ended) > 1
    assert (
        score.metrics["ended"]
        > score_generation(plain, task, settings=settings, seed=0).metrics["ended"]
    )
    generate_answers(folder, tmp_path / "out", prompts=prompts, max_new_tokens=24, temperature=0.0)
    lines = (tmp_path / "out.dev.jsonl").read_text("utf-8").splitlines()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    expected = [
        tokenizer.decode(text[:-1] if end else text, skip_special_tokens=True)
        for text, end in zip(texts, ended, strict=True)
    ]
    said = [json.loads(line)["references"][0] for line in lines]
    assert said == [text for text in expected if text.strip()]


def test_kept_scores_are_those_of_the_same_ends(folder_of, prompts, tmp_path):
    folder = folder_of(config=1)
    options = {
        "settings": FinetuneSettings(),
        "generation": GenerationSettings(max_new_tokens=24, max_eval_samples=4),
        "seeds": [0],
        "results": {"toy": tmp_path / "toy.json"},
    }
    task = load_task(prompts)
    before = evaluate_tasks(folder, [task], **options)["toy"].means()
    rewrite(folder, json.dumps({"eos_token_id": list(range(TOKENS))}))
    after = evaluate_tasks(folder, [task], **options)["toy"].means()
    assert after["ended"] == 1.0 > before["ended"]


def test_ends_are_those_of_the_generation_configuration_else_of_the_configuration(folder_of):
    folder = folder_of(generation=[5, 9, 5], config=[END, 11], template=CHAT)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    turn = id_of(folder, "<|im_end|>")
    assert ends_of(tokenizer, folder) == (tokenizer.eos_token_id, turn, 5, 9)
    assert ends_of(tokenizer) == (tokenizer.eos_token_id, turn)
    for nothing in ("{}", '{"eos_token_id": null}', '{"eos_token_id": []}'):
        rewrite(folder, nothing)
        assert ends_of(tokenizer, folder) == (tokenizer.eos_token_id, turn, 11)
    tokenizer = AutoTokenizer.from_pretrained(alone := folder_of(generation=-1))
    assert ends_of(tokenizer, alone) == (tokenizer.eos_token_id,)


def test_a_generation_configuration_is_alone_as_with_transformers(folder_of):
    plain = folder_of(config=1)
    first, second, third = ends_within(greedy_without_end(plain, PROMPTS))
    folder = folder_of(config=[first, second], generation=[END, third])
    generator = TextGenerator.load(folder)
    assert generator.ends == (END, third)
    texts, _ = generator.answers(PROMPTS, GenerationSettings(max_new_tokens=24), seed=0)
    assert texts == stopped_at(AutoModelForCausalLM.from_pretrained(folder), None, PROMPTS)


def test_the_end_of_a_configuration_class_is_none_of_the_file(folder_of):
    folder = folder_of()
    file = Path(folder, "config.json")
    said = json.loads(file.read_text("utf-8"))
    assert said.pop("eos_token_id", None) is None
    file.write_text(json.dumps(said), encoding="utf-8")
    assert AutoConfig.from_pretrained(folder).eos_token_id == 2
    generator = TextGenerator.load(folder)
    assert generator.ends == (END,)
    texts, _ = generator.answers(PROMPTS, GenerationSettings(max_new_tokens=24), seed=0)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.generation_config.eos_token_id is None
    assert texts == stopped_at(model, [END], PROMPTS)


BEYOND = [99999, 10**30, TOKENS + len(ADDED)]


@pytest.mark.parametrize("never", BEYOND)
@pytest.mark.parametrize("place", ["generation", "config"])
def test_ends_without_a_token_are_left_out_and_named(folder_of, never, place):
    folder = folder_of(**{place: [never, 9]})
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert ends_of(tokenizer, folder) == (END, 9) == TextGenerator.load(folder).ends
    [note] = ends_notes(tokenizer, folder)
    name = "generation_config.json" if place == "generation" else "config.json"
    assert note.startswith(f"{name} of {folder!r} names ") and note.endswith("texts end at 1, 9")
    assert (str(never) if never < 10**12 else "1e+30") in note
    assert ends_notes(tokenizer, folder_of(generation=[-1, 9])) == []


def test_the_first_end_that_is_a_token_is_that_of_the_tokenizer(folder_of):
    folder = folder_of(generation=[99999, 9])
    file = Path(folder, "tokenizer_config.json")
    known = json.loads(file.read_text("utf-8"))
    del known["eos_token"]
    file.write_text(json.dumps(known), encoding="utf-8")
    generator = TextGenerator.load(folder)
    assert generator.ends == (9,) and generator.tokenizer.eos_token_id == 9
    rewrite(folder, '{"eos_token_id": [99999]}')
    with pytest.raises(EvaluationError, match=r"ends a text \(generation_config.* names 99999"):
        TextGenerator.load(folder)


def test_ends_without_a_token_are_noted_wherever_texts_are_generated(raw, prompts, tmp_path):
    rewrite(raw["teacher"], json.dumps({"eos_token_id": [1, 99999, 9, 10**30]}))
    setup = prepare(raw)
    assert [w for w in setup.warnings if "names 99999, 1e+30 as an end" in w]
    assert ends_of_recipe(setup.recipe, setup.models)[0] == 1
    assert max(ends_of_recipe(setup.recipe, setup.models)) < TOKENS + len(ADDED)
    said = Console(record=True, file=io.StringIO(), width=1000)
    options = {"max_new_tokens": 8, "rows": 2, "console": said}
    generate_answers(raw["teacher"], tmp_path / "out", prompts=prompts, **options)
    generate_samples(raw["teacher"], tmp_path / "free", **options)
    part = EvaluationPart(
        seeds=1, generation=GenerationSettings(max_new_tokens=8, max_eval_samples=2)
    )
    evaluate_model(raw["teacher"], [prompts], part, console=said)
    assert said.export_text().count("names 99999, 1e+30 as an end") == 3


@pytest.mark.parametrize("padding", [0, -1])
def test_settings_that_transformers_saves_only_unchanged_stay_beside_the_ends(
    folder_of, tmp_path, padding
):
    """As many models on the hub have them: a temperature without sampling, padding -1 (Llama)."""
    name = folder_of()
    rewrite(name, json.dumps({"temperature": 0.7, "pad_token_id": padding}))
    model = AutoModelForCausalLM.from_pretrained(name)
    for ends in ((END, 7), (END,)):
        save_with_ends(model, tmp_path, ends)
        said = AutoModelForCausalLM.from_pretrained(tmp_path).generation_config
        assert (said.temperature, said.pad_token_id) == (0.7, padding)
        assert said.eos_token_id == (list(ends) if ends[1:] else END)


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (CHAT, "<|im_end|>"),
        (CHAT.replace("<|im_end|>\n", "<|eot_id|>"), "<|eot_id|>"),
        (CHAT.replace("<|im_end|>", "\n<end_of_turn>"), "<end_of_turn>"),
        (CHAT.replace("<|im_end|>", " {{ eos_token }}"), "</s>"),
        (CHAT.replace("<|im_end|>", "<|end|>s"), "<|end|>s"),
        (TURN, None),
        (CHAT.replace("{{ m['content'] }}", "{{ m['content'] if m.role == 'user' }}"), None),
        ("{{ raise_exception('only users speak') }}", None),
        (None, None),
    ],
)
def test_the_end_of_a_turn_is_that_of_the_template(folder_of, template, end):
    tokenizer = AutoTokenizer.from_pretrained(folder_of())
    tokenizer.chat_template = template
    found = turn_end(tokenizer)
    assert (found and tokenizer.convert_ids_to_tokens(found)) == end


def test_answers_are_learned_to_end_as_the_template_ends_them(folder_of):
    tokenizer = AutoTokenizer.from_pretrained(folder_of(template=CHAT))
    rows = [Prompt("the garden", ("a river",)), Prompt("", ("stone",))]
    for chat, end in ((True, "<|im_end|>"), (False, "</s>")):
        table = encode_prompts(
            rows, tokenizer, max_length=60, max_new_tokens=20, chat_template=chat
        )
        assert [tokenizer.convert_ids_to_tokens(int(r[-1])) for r in table.responses] == [end] * 2
    tokenizer.chat_template = TURN
    table = encode_prompts(rows, tokenizer, max_length=60, max_new_tokens=20, chat_template=True)
    assert {int(r[-1]) for r in table.responses} == {tokenizer.eos_token_id}


def test_an_end_that_is_no_special_token_is_left_out_of_the_text(folder_of):
    folder = folder_of(generation=[END, 40, 41])
    generator = TextGenerator.load(folder)
    assert generator.text([45, 46, 40]) == generator.text([45, 46]) == generator.text([45, 46, END])
    assert generator.text([]) == "" and generator.text([45, 40, 46]) != generator.text([45, 46])


def test_the_ends_of_the_files_do_where_the_tokenizer_has_none(folder_of, prompts):
    folder = folder_of(generation=[END, 9])
    file = Path(folder, "tokenizer_config.json")
    known = json.loads(file.read_text("utf-8"))
    del known["eos_token"]
    file.write_text(json.dumps(known), encoding="utf-8")
    settings = GenerationSettings(max_new_tokens=8, max_eval_samples=4)
    assert TextGenerator.load(folder).ends == (END, 9)
    score_generation(folder, load_task(prompts), settings=settings, seed=0)
    rewrite(folder, "{}")
    with pytest.raises(EvaluationError, match="ends a text"):
        TextGenerator.load(folder)


@pytest.fixture
def raw(raw_recipe, folder_of, prompts):
    """A recipe whose teacher names more ends than its student."""
    teacher = folder_of(generation=list(range(3, 120)), config=1, template=CHAT)
    raw_recipe["teacher"] = teacher
    raw_recipe["data"] = {"prompts": prompts, "max_length": 40, "max_new_tokens": 16}
    stage = {"policy": "student", "objectives": {"logits": {}}, "max_steps": 2, "batch_size": 4}
    raw_recipe["stages"] = [stage]
    return raw_recipe


@pytest.mark.parametrize("own", [False, True])
def test_a_run_takes_the_ends_of_the_files_where_the_tokenizer_has_none(
    raw, folder_of, own, tmp_path
):
    """Of the teacher, whose tokenizer the student has, and of a student that is a model."""
    folder = folder_of(generation=[9, 11])
    file = Path(folder, "tokenizer_config.json")
    known = json.loads(file.read_text("utf-8"))
    del known["eos_token"]
    file.write_text(json.dumps(known), encoding="utf-8")
    raw["teacher"] = folder
    if own:
        raw["student"] = {"model": folder}
    setup = prepare(raw)
    assert setup.models.student.tokenizer.eos_token_id == 9
    assert ends_of_recipe(setup.recipe, setup.models) == (9, 11)
    raw["stages"][0]["max_steps"] = 1
    run = distill(raw, tmp_path / "run")
    saved = AutoTokenizer.from_pretrained(run.student)
    assert saved.eos_token_id == 9
    rewrite(folder, "{}")
    assert "has no eos_token" in str(check(raw)[1])


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"corpus"}))
def test_every_policy_stops_at_every_end_of_both(raw, folder_of, kind):
    mine, theirs = [END, *range(120, 180)], list(range(3, 120))
    raw["student"] = {"model": folder_of(generation=mine, config=1)}
    raw["stages"][0]["policy"] = {"kind": kind, "fraction": 1.0}
    setup = prepare(raw)
    ends = set(ends_of_recipe(setup.recipe, setup.models))
    assert ends == {*mine, *theirs, id_of(raw["teacher"], "<|im_end|>")}
    models = [
        AutoModelForCausalLM.from_pretrained(name).eval()
        for name in (raw["student"]["model"], raw["teacher"])
    ]
    with torch.no_grad():
        for weight in models[0].parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    read = prompt_batches(setup, held_out=False, size=16)
    batches = generated_batches(
        setup, 0, read, *models, build_accelerator(setup.recipe.training, ".")
    )
    tokens = batches.batch(0).student
    last = set()
    for labels, real in zip(tokens.labels, tokens.predicted, strict=True):
        text = labels[real].tolist()
        assert not ends & set(text[:-1]) and (text[-1] in ends or len(text) == 16)
        last.add(text[-1])
    assert len(last & ends) > 1


def test_an_exported_student_names_the_ends_at_which_it_stops(raw, tmp_path):
    raw["student"] = {"num_hidden_layers": 2, "init_from_teacher": {"layers": "first"}}
    run = distill(raw, tmp_path / "run")
    files = [json.loads((run.student / f"{n}.json").read_text()) for n in FILES]
    assert files[0]["eos_token_id"] == files[1]["eos_token_id"]
    generator = TextGenerator.load(str(run.student))
    teacher = TextGenerator.load(raw["teacher"])
    assert set(files[0]["eos_token_id"]) == set(generator.ends) == set(teacher.ends)
    model = AutoModelForCausalLM.from_pretrained(run.student)
    texts, _ = generator.answers(PROMPTS, GenerationSettings(max_new_tokens=24), seed=0)
    assert texts == stopped_at(model, None, PROMPTS)
    assert min(map(len, texts)) < 24


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"eos_token_id": [2', "generation_config.json"),
        ('{"eos_token_id": ["</s>"]}', "give a token id, or a list of them"),
        ('{"eos_token_id": true}', "has the eos_token_id True"),
        ("[2]", "generation_config.json"),
    ],
)
def test_generation_configurations_that_cannot_be_read(raw, content, message):
    rewrite(raw["teacher"], content)
    with pytest.raises(ModelError, match=message):
        TextGenerator.load(raw["teacher"])
    setup, problems = check(raw)
    assert setup is None and message in dict(problems)["teacher.model"]


@pytest.mark.parametrize("whose", ["student", "teacher"])
def test_a_problem_of_a_file_stands_where_its_model_is_named(raw, folder_of, whose):
    raw["student"] = {"model": folder_of(generation=[END], config=1)}
    broken = {"student": raw["student"]["model"], "teacher": raw["teacher"]}[whose]
    rewrite(broken, '{"eos_token_id": ["</s>"]}')
    _, problems = check(raw)
    [(field, message)] = problems
    assert field == f"{whose}.model" and broken in message


def test_problems_of_both_files_are_reported(raw, folder_of):
    raw["student"] = {"model": folder_of(generation=["a"], config=1)}
    rewrite(raw["teacher"], '{"eos_token_id": 1.5}')
    _, problems = check(raw)
    assert {field for field, _ in problems} == {"student.model", "teacher.model"}


@pytest.mark.parametrize("wrong", ["2", 1.5, [1, "x"], True, {"a": 1}])
def test_a_wrong_end_of_a_configuration_is_said_to_be_there(folder_of, wrong):
    folder = folder_of(config=1)
    file = Path(folder, "config.json")
    said = {**json.loads(file.read_text("utf-8")), "eos_token_id": wrong}
    file.write_text(json.dumps(said), encoding="utf-8")
    with pytest.raises(ModelError, match="configuration.*eos_token_id") as caught:
        TextGenerator.load(folder)
    assert "tokenizer.json" not in str(caught.value) and repr(wrong) in str(caught.value)
