import re
from pathlib import Path

import pytest
import yaml
from conftest import make_model, make_tokenizer

from limbeck.errors import RecipeError
from limbeck.recipe.check import check, prepare
from limbeck.recipe.parse import parse_recipe
from limbeck.recipe.read import dump_recipe, keys_of, read_recipe
from limbeck.recipe.schema import Recipe
from limbeck.tokenization.load import load_tokenizer

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


def problems_of(raw) -> dict[str, str]:
    setup, problems = check(raw)
    assert setup is None
    return dict(problems)


@pytest.mark.parametrize("file", RECIPES, ids=lambda f: f.stem)
def test_every_recipe_of_the_house_parses(file):
    recipe, problems = parse_recipe(read_recipe(file))
    assert problems == []
    again, problems = parse_recipe(yaml.safe_load(dump_recipe(recipe)))
    assert problems == [] and again == recipe


def test_a_recipe_becomes_plain_objects(raw_recipe):
    setup = prepare(raw_recipe)
    assert setup.models.student.shape.hidden_size == 16
    objective = setup.stages[0].objectives["relations"]
    assert (objective.teacher_layer, objective.student_layer, objective.heads) == (2, 1, 8)
    assert setup.maskings == [None] and not setup.has_trained_head
    assert isinstance(setup.recipe, Recipe)


def test_every_problem_is_found_at_once_with_its_path(raw_recipe):
    raw_recipe["data"]["text"] = "nowhere.txt"
    raw_recipe["student"]["num_attention_heads"] = 3
    raw_recipe["training"]["precison"] = "float32"
    raw_recipe["training"]["logging_steps"] = 0
    raw_recipe["evaluation"]["tasks"] = ["nowhere/task"]
    raw_recipe["evaluation"]["baseline"] = "no/such/run"
    raw_recipe["stages"][0]["objectives"] = {"relations": {"heds": 3}, "relation": {}}
    raw_recipe["stages"].append({"objectives": {"labels": {"weight": -1}}, "max_steps": 1})
    found = problems_of(raw_recipe)
    assert found["data.text.0"].startswith("the text file nowhere.txt does not exist")
    assert "does not divide hidden_size=16" in found["student.num_attention_heads"]
    assert found["training.precison"] == "unknown key; did you mean 'precision'?"
    assert "greater than or equal to 1" in found["training.logging_steps"]
    assert "evaluation.tasks.0" in found
    assert "does not exist" in found["evaluation.baseline"]
    assert "did you mean 'heads'" in found["stages.0.objectives.relations.heds"]
    assert "did you mean 'relations'" in found["stages.0.objectives.relation"]
    assert "above 0" in found["stages.1.objectives.labels.weight"]
    with pytest.raises(RecipeError, match=r"the recipe has 9 problems"):
        prepare(raw_recipe)


@pytest.mark.parametrize(
    ("path", "value", "field", "message"),
    [
        ("student.hiden", 3, "student.hiden", "did you mean 'hidden_size'"),
        ("stages.0.optimizer", {"learning_rat": 1}, "stages.0.optimizer.learning_rat", "rate"),
        ("stages.0.masking", {"whole_wrd": 1}, "stages.0.masking.whole_wrd", "mean 'whole_word'"),
        ("data.text", [{"pth": "x"}], "data.text.0.pth", "did you mean 'path'"),
        ("data.max_length", 500, "data.max_length", "the student reads 80 at most"),
        ("seed", 2**63, "seed", "less than 9223372036854775808"),
        (
            "stages.0.max_steps",
            None,
            "stages.0",
            "give one of tokens, max_steps and num_train_epochs",
        ),
        ("stages.0.micro_batch_size", 9, "stages.0.micro_batch_size", "above batch_size=4"),
        ("stages.0.objectives.relations", {"heads": 5}, None, r"use one of \[1, 2, 4, 8\]"),
        ("stages.0.objectives.relations", {"teacher_layer": 3}, None, "use 0 to 2"),
        (
            "student.init_from_teacher",
            {"layers": [0, 3]},
            "student.init_from_teacher.layers",
            "there are 3: 0 to 2",
        ),
        (
            "student.init_from_teacher",
            {"layers": [0]},
            "student.init_from_teacher.layers",
            "1 teacher layers for 2",
        ),
        (
            "student.init_from_teacher",
            {"layers": [0, []]},
            "student.init_from_teacher.layers",
            "no teacher layer for",
        ),
        ("student.model_type", "mamba", "student.model_type", "is not known"),
        ("teacher", None, "student.tokenizer", "without a teacher one must be named"),
        ("teacher", "/nowhere/at/all", "teacher.model", "does not exist"),
        ("student.num_hidden_layers", 0, "student.num_hidden_layers", "greater than or equal to 1"),
        (
            "stages.0.optimizer",
            {"lr_scheduler_type": "linaer"},
            "stages.0.optimizer.lr_scheduler_type",
            "'linear'",
        ),
        ("stages.0.optimizer", {"learning_rate": -1}, "stages.0.optimizer.learning_rate", "than 0"),
        ("stages.0.optimizer", {"max_grad_norm": 0}, "stages.0.optimizer.max_grad_norm", "than 0"),
        ("stages.0.optimizer", {"adam_beta2": 1.5}, "stages.0.optimizer.adam_beta2", "less than 1"),
        ("stages.0.optimizer", {"warmup_ratio": 5}, "stages.0.optimizer.warmup_ratio", "to 1"),
        (
            "stages.0.masking",
            {"mlm_probability": 0},
            "stages.0.masking.mlm_probability",
            "greater than 0",
        ),
        ("data.text", ["x.txt"] * 1001, "data.text", "names 1,001 texts, and may name 1,000"),
        ("data.text", [{"path": "x", "weight": -1}], "data.text.0.weight", "greater than 0"),
        ("evaluation.finetuning", {"dropout": 3}, "evaluation.finetuning.dropout", "less than 1"),
        ("evaluation.generation", {"batch_size": 0}, "evaluation.generation.batch_size", "to 1"),
        ("training.torch_compile", "maybe", "training.torch_compile", "'auto', True or False"),
        ("data.packing", "some", "data.packing", "'all', True or False"),
    ],
)
def test_problems_say_what_to_change(raw_recipe, path, value, field, message):
    here = raw_recipe
    *parents, last = path.split(".")
    for key in parents:
        here = here[int(key)] if isinstance(here, list) else here[key]
    here[last] = value
    found = problems_of(raw_recipe)
    assert any(
        (field is None or field == place) and re.search(message, said)
        for place, said in found.items()
    ), found


def test_a_student_larger_than_its_teacher_is_warned_of(raw_recipe):
    raw_recipe["student"] = {
        "num_hidden_layers": 4,
        "hidden_size": 48,
        "num_attention_heads": 4,
        "intermediate_size": 32,
    }
    warnings = prepare(raw_recipe).warnings
    assert [w.split("(")[0] for w in warnings] == [
        "the student's num_hidden_layers ",
        "the student's hidden_size ",
    ]


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        ("猫 犬 鳥\n\n" * 5, "student.tokenizer", r"100.0% of the tokens of .* 猫 犬 鳥\); learn"),
        ("\u0301\n\n" * 5, "data.text.0", "has no letter that the student's tokenizer keeps"),
    ],
)
def test_texts_that_the_student_cannot_write(raw_recipe, tmp_path, text, field, message):
    file = tmp_path / "text.txt"
    file.write_text(text, encoding="utf-8")
    raw_recipe["data"]["text"] = str(file)
    assert re.search(message, problems_of(raw_recipe)[field])


def test_overrides_that_are_no_yaml(tmp_path, raw_recipe):
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(raw_recipe), encoding="utf-8")
    with pytest.raises(RecipeError, match="name=.*the value is not YAML"):
        read_recipe(file, ["name=["])


def test_overrides_reach_any_field(tmp_path, raw_recipe):
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(raw_recipe), encoding="utf-8")
    sets = [
        "stages.0.max_steps=9",
        "training.device=cpu",
        "student.init_from_teacher={layers: last}",
    ]
    raw = read_recipe(file, sets)
    assert raw["stages"][0]["max_steps"] == 9 and raw["student"]["init_from_teacher"] == {
        "layers": "last"
    }
    for wrong, named in (
        ("stages.5.max_steps=1", "no place 'stages.5.max_steps'"),
        ("data.text.path=1", "no place 'data.text.path'"),
        ("nothing", "'nothing' has no `=`"),
    ):
        with pytest.raises(RecipeError, match=named):
            read_recipe(file, [wrong])


def test_a_recipe_is_an_object_a_mapping_or_a_file(tmp_path, raw_recipe):
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(raw_recipe))
    expected = prepare(raw_recipe).recipe
    for given in (file, str(file), raw_recipe, Recipe.model_validate(raw_recipe)):
        assert prepare(keys_of(given)).recipe == expected
    with pytest.raises(RecipeError, match="the recipe is a list; give a mapping, a `Recipe`, or"):
        keys_of([raw_recipe])
    with pytest.raises(RecipeError, match="cannot read the recipe nowhere.yaml"):
        keys_of("nowhere.yaml")


def test_paths_of_a_mapping_may_be_objects(raw_recipe):
    paths = {"teacher": Path(raw_recipe["teacher"])}
    paths["data"] = raw_recipe["data"] | {"text": (Path(raw_recipe["data"]["text"]),)}
    assert prepare(keys_of(raw_recipe | paths)).recipe == prepare(raw_recipe).recipe


def test_the_parts_of_a_mapping_may_be_objects(raw_recipe):
    expected = prepare(raw_recipe).recipe
    parts = {"stages": expected.stages, "student": expected.student, "data": expected.data}
    assert prepare(keys_of(raw_recipe | parts)).recipe == expected


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"rank": 2, "lora_alpha": 4}, "lora_alpha: is for `kind: lora`"),
        ({"kind": "lora", "rank": 2, "whiten": False}, "whiten: is for `kind: factorize`"),
    ],
)
def test_options_of_the_other_kind_of_low_rank_layers(raw_recipe, given, field):
    raw_recipe["student"]["low_rank"] = given
    with pytest.raises(RecipeError, match=f"student.low_rank.{field}"):
        prepare(raw_recipe)


@pytest.mark.parametrize(
    ("low_rank", "stage", "said"),
    [
        ({"kind": "lora"}, {}, r"kind: is lora, which trains adapters, and all else"),
        ({}, {"trainable": "low_rank"}, r"0\.trainable: is low_rank, as in .*, and all else"),
    ],
)
def test_new_weights_beside_low_rank_layers_that_alone_learn(
    raw_recipe, task_recipe, tmp_path, low_rank, stage, said
):
    make_model(hidden=16).base_model.save_pretrained(tmp_path)
    load_tokenizer(raw_recipe["teacher"]).save_pretrained(tmp_path)
    student = {"model": str(tmp_path), "low_rank": {"rank": 2, **low_rank}}
    for raw in (raw_recipe, task_recipe()):
        raw["student"] = student
        raw["stages"][0] |= stage | ({"objectives": {"labels": {}}} if raw is raw_recipe else {})
        assert prepare(raw).new_parts == {"head"}
        raw["student"] = {"num_hidden_layers": 2, "low_rank": student["low_rank"]}
        with pytest.raises(RecipeError, match=said):
            prepare(raw)
    raw["student"] = {"init_from_teacher": {}, "low_rank": student["low_rank"]}
    setup = prepare(raw)
    assert setup.learns_low_rank_alone and not setup.new_parts


def test_files_that_are_no_recipes(tmp_path):
    file = tmp_path / "recipe.yaml"
    with pytest.raises(RecipeError, match="cannot read the recipe"):
        read_recipe(file)
    file.write_text("a: [1", encoding="utf-8")
    with pytest.raises(RecipeError, match="is not YAML"):
        read_recipe(file)
    file.write_text("- 1", encoding="utf-8")
    with pytest.raises(RecipeError, match="a recipe is a mapping"):
        read_recipe(file)


def test_a_key_that_stands_twice_is_refused(tmp_path):
    """The last of two arms, or of two learning rates, was read alone."""
    file = tmp_path / "recipe.yaml"
    file.write_text("arms:\n  kl: {a: 1}\n  kl: {a: 2}\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"'kl' stands twice .* first in line 2[^$]*line 3"):
        read_recipe(file)
    # What `<<` brings is replaced by a mapping's own keys, as YAML has it.
    text = "a: &a {<<: &b {k: 1, j: 2}, k: 3}\nc: {<<: *a, k: 4}\n"
    file.write_text(text, encoding="utf-8")
    assert read_recipe(file) == yaml.safe_load(text) and read_recipe(file)["c"]["k"] == 4


def test_another_vocabulary_cannot_be_compared_token_by_token(raw_recipe, tmp_path):
    make_tokenizer(vocabulary=120).save_pretrained(tmp_path)
    make_model().config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    raw_recipe["student"]["tokenizer"] = str(tmp_path)
    message = problems_of(raw_recipe)["stages.0.objectives"]
    assert "the student has 120 tokens and the teacher 200" in message
    assert "begin with a `mixed` stage" in message


def test_a_teacher_without_a_tokenizer_is_a_problem(raw_recipe, vocabulary, tmp_path):
    make_model(vocabulary=200).save_pretrained(tmp_path)
    raw_recipe["teacher"] = str(tmp_path)
    for student in (raw_recipe["student"], {**raw_recipe["student"], "tokenizer": vocabulary}):
        raw_recipe["student"] = student
        assert "has no tokenizer.json" in problems_of(raw_recipe)["teacher.model"]


def test_dropout_that_a_student_does_not_have_is_told(raw_recipe, decoder):
    raw_recipe["stages"][0]["dropout"] = True
    assert prepare(raw_recipe).warnings == []  # BERT's tenth
    raw_recipe |= {"teacher": decoder}
    (said,) = prepare(raw_recipe).warnings
    assert "stages.0.dropout: the student's configuration has no dropout above 0" in said
    assert "(attention_dropout)" in said
    raw_recipe["stages"][0]["dropout"] = False
    assert prepare(raw_recipe).warnings == []
