"""The card of a student has its scores, and the licences of the models that it was made of."""

import io
import json
import shutil

from huggingface_hub import ModelCard
from rich.console import Console

from limbeck.run.card_facts import origins_of_model
from limbeck.run.distill import distill


def test_the_card_of_a_student(raw_recipe, teacher_folder, tmp_path):
    teacher = shutil.copytree(teacher_folder, tmp_path / "large")
    card = "---\nlicense: cc-by-nc-4.0\nlanguage: en\nbase_model: org/large\n---\n# Large\n"
    (teacher / "README.md").write_text(card)
    rows = [json.dumps({"text": "old house", "label": label}) for label in ("x", "y") * 8]
    for split in ("train", "dev"):
        (tmp_path / f"toy.{split}.jsonl").write_text("\n".join(rows))
    raw_recipe["teacher"] = {"model": str(teacher)}
    settings = {"num_train_epochs": 1, "max_length": 16}
    raw_recipe["evaluation"] |= {"tasks": [str(tmp_path / "toy")], "finetuning": settings}
    said = io.StringIO()
    run = distill(raw_recipe, tmp_path / "run", console=Console(file=said, width=200))
    assert "the licence of large (cc-by-nc-4.0) forbids commercial use" in said.getvalue()

    read = ModelCard.load(run.student / "README.md")
    assert (read.data.license, read.data.language) == ("cc-by-nc-4.0", ["en"])
    assert read.data.base_model == ["org/large"]
    [found] = read.data.eval_results
    assert (found.dataset_name, found.dataset_split) == ("toy", "dev")
    assert (found.task_type, found.metric_type) == ("text-classification", "accuracy")
    assert found.metric_value == round(run.report["quality"]["toy"]["student"], 4)
    assert "**Warning:** the licence of large" in read.text

    # What is made of the student says the same; without its card the recipe knows.
    [own] = origins_of_model(str(run.folder))
    assert (own.name, own.license, own.hub_names) == ("run", "cc-by-nc-4.0", ("org/large",))
    (run.student / "README.md").unlink()
    for name in (run.folder, run.student):
        [own] = origins_of_model(str(name))
        assert (own.name, own.license, own.hub_names) == ("large", "cc-by-nc-4.0", ("org/large",))
    (run.folder / "recipe.yaml").write_text("teacher: 7")
    assert [one.license for one in origins_of_model(str(run.folder))] == [None]
