"""A run resumes only with the text, prompts and models that it was begun with."""

import json
import os
import shutil

import pytest
from conftest import make_model, make_text

from limbeck.errors import DataError, RecipeError
from limbeck.models.locate import fingerprint
from limbeck.recipe.check import prepare
from limbeck.run.claim import claim_folder
from limbeck.run.distill import distill
from limbeck.run.sources import check_sources, sources_of


@pytest.fixture
def raw(raw_recipe, tmp_path, vocabulary):
    """With files of its own for all that a recipe can name."""
    for name, lines in (("a", 80), ("b", 90)):
        (tmp_path / f"{name}.txt").write_text("\n".join(make_text(lines)), encoding="utf-8")
    shutil.copytree(raw_recipe["teacher"], tmp_path / "teacher")
    shutil.copytree(vocabulary, tmp_path / "vocabulary")
    rows = [json.dumps({"prompt": f"ask {n}", "references": ["red house"]}) for n in range(9)]
    (tmp_path / "ask.train.jsonl").write_text("\n".join(rows))
    (tmp_path / "ask_meetings.train.jsonl").write_text(
        json.dumps({"meeting": 1, "document": "old"})
    )
    raw_recipe["teacher"] = str(tmp_path / "teacher")
    raw_recipe["stages"][0]["max_steps"] = 1
    raw_recipe["data"]["text"] = [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]
    return raw_recipe


def begun(raw, tmp_path):
    recipe = prepare(raw).recipe
    recipe = recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"prompts": [str(tmp_path / "ask")]}),
            "student": recipe.student.model_copy(
                update={"tokenizer": str(tmp_path / "vocabulary"), "model": recipe.teacher.model}
            ),
        }
    )
    check_sources(recipe, tmp_path / "run", write=True)
    return recipe


def replaced(file, data):
    """Another file in its place, of the same size and time where the size allows it."""
    state = file.stat()
    other = file.with_name("other")
    other.write_bytes(data)
    os.utime(other, ns=(state.st_atime_ns, state.st_mtime_ns))
    other.replace(file)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("a.txt", ["data.text.0"]),
        ("b.txt", ["data.text.1"]),
        ("ask.train.jsonl", ["data.prompts.0"]),
        ("ask_meetings.train.jsonl", ["data.prompts.0"]),
        ("vocabulary/tokenizer.json", ["student.tokenizer"]),
        ("teacher/config.json", ["student.model", "teacher.model"]),
        ("teacher/model.safetensors", ["student.model", "teacher.model"]),
    ],
)
def test_whatever_was_replaced_is_named(raw, tmp_path, name, fields):
    recipe = begun(raw, tmp_path)
    check_sources(recipe, tmp_path / "run", write=True)
    file = tmp_path / name
    data = file.read_bytes()
    other = data.replace(b"\n", b" ", 1)
    replaced(file, other if other != data else data[:-1] + bytes([data[-1] ^ 1]))
    for write in (True, False):
        with pytest.raises(DataError, match="begun with other content of .*Put back") as caught:
            check_sources(recipe, tmp_path / "run", write=write)
        assert [f for f in sources_of(recipe) if f"({f})" in str(caught.value)] == fields
    replaced(file, data)
    check_sources(recipe, tmp_path / "run", write=True)


OF_TOKENIZERS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "additional_chat_templates/rag.jinja",
    "merges.txt",
    "vocab.json",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "config.json",
)
OF_MODELS = ("generation_config.json", "model.safetensors")
OTHERS = (
    "README.md",
    "training_args.bin",
    "optimizer.pt",
    "optimizer.safetensors",
    "trainer_state.json",
    "all_results.json",
    ".gitattributes",
)


@pytest.mark.parametrize("name", [*OF_TOKENIZERS, *OF_MODELS, *OTHERS])
def test_every_file_that_decides_is_part_of_a_fingerprint(teacher_folder, tmp_path, name):
    """Where it comes, where it changes, and where it goes."""
    folder = tmp_path / "model"
    shutil.copytree(teacher_folder, folder)
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    before = file.read_bytes() if file.exists() else b"{}"
    file.write_bytes(before)

    def found():
        return [fingerprint(str(folder), tokenizer_only=only) for only in (False, True)]

    first = found()
    file.write_bytes(before + b" ")
    changed = [one != other for one, other in zip(first, found(), strict=True)]
    assert changed == [name not in OTHERS, name in OF_TOKENIZERS]
    file.write_bytes(before)
    assert found() == first
    if name not in ("config.json", "model.safetensors", "tokenizer.json"):
        file.unlink()
        gone = [one != other for one, other in zip(first, found(), strict=True)]
        assert gone == changed


def test_a_run_is_not_resumed_with_another_chat_template_or_end(raw, tmp_path):
    for name in ("teacher", "vocabulary"):
        (tmp_path / name / "chat_template.jinja").write_text("{{ messages }}")
    recipe = begun(raw, tmp_path)
    for name, file, old, new in (
        ("teacher", "chat_template.jinja", b"{{", b"A {{"),
        ("teacher", "tokenizer_config.json", b"[SEP]", b"[CLS]"),
        ("vocabulary", "chat_template.jinja", b"{{", b"A {{"),
        ("vocabulary", "tokenizer_config.json", b"[SEP]", b"[CLS]"),
    ):
        place = tmp_path / name / file
        data = place.read_bytes()
        assert old in data
        replaced(place, data.replace(old, new))
        with pytest.raises(DataError, match=rf"{name} \(.*Put back"):
            check_sources(recipe, tmp_path / "run", write=True)
        replaced(place, data)
    (tmp_path / "teacher" / "README.md").write_text("a card")
    check_sources(recipe, tmp_path / "run", write=True)


def test_touched_and_copied_files_are_the_same(raw, tmp_path):
    recipe = begun(raw, tmp_path)
    for file in tmp_path.rglob("*.*"):
        if file.is_file():
            replaced(file, file.read_bytes())
            os.utime(file)
    check_sources(recipe, tmp_path / "run", write=True)


def test_only_the_first_process_writes(raw, tmp_path):
    recipe = prepare(raw).recipe
    check_sources(recipe, tmp_path / "run", write=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("harm", ["", "[]", '{"data.text.0": 5}', '{"data.text.0": {}}'])
def test_a_note_of_sources_that_is_broken(raw, tmp_path, harm):
    recipe = begun(raw, tmp_path)
    (tmp_path / "run" / "sources.json").write_text(harm)
    with pytest.raises(DataError, match=r"sources\.json is not what was written"):
        check_sources(recipe, tmp_path / "run", write=True)


def test_a_run_is_neither_trained_nor_measured_on_other_text(raw, tmp_path):
    run = distill(raw, tmp_path / "run")
    file = tmp_path / "b.txt"
    text = file.read_bytes()
    replaced(file, b"\n".join(reversed(text.splitlines())))
    with pytest.raises(DataError, match=r"b\.txt \(data\.text\.1\), which has changed since"):
        distill(raw, run.folder)  # its student is there, and would be measured
    shutil.rmtree(run.student)
    with pytest.raises(DataError, match=r"b\.txt \(data\.text\.1\), which has changed since"):
        distill(raw, run.folder)
    replaced(file, text)
    distill(raw, run.folder)
    make_model(seed=1).save_pretrained(tmp_path / "teacher")
    with pytest.raises(DataError, match=r"teacher \(teacher\.model\), which has changed since"):
        distill(raw, run.folder)


def test_a_run_of_a_version_that_kept_no_sources_resumes(raw, tmp_path):
    run = distill(raw, tmp_path / "run")
    (run.folder / "sources.json").unlink()
    distill(raw, run.folder)
    assert (run.folder / "sources.json").exists()


def test_a_run_may_resume_with_other_processes_that_tokenize(raw, tmp_path):
    recipe = prepare(raw).recipe
    claim_folder(tmp_path / "run", recipe, write=True)
    part = recipe.data.model_copy(update={"num_proc": 8})
    claim_folder(tmp_path / "run", recipe.model_copy(update={"data": part}), write=True)
    part = recipe.data.model_copy(update={"max_length": 32})
    with pytest.raises(RecipeError, match="another recipe .different: data"):
        claim_folder(tmp_path / "run", recipe.model_copy(update={"data": part}), write=True)
