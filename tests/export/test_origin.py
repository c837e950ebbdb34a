"""What a card says of a model's licence, and what that means for models made of it."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from limbeck.export import origin
from limbeck.export.metadata import card_of, evaluation, licence_lines, metadata_of
from limbeck.export.origin import Origin, licence_warnings, origin_of


def card(folder: Path, *lines: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text("\n".join(["---", *lines, "---", "", "# A model"]))
    return str(folder)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (["license: apache-2.0"], None),
        (["license: [mit]"], None),
        (["license: cc-by-sa-4.0"], None),
        (["license: cc-by-nc-nd-4.0"], "forbids commercial use and forbids passing changed"),
        (["license: llama3.1"], "conditions of use"),
        (["license: other", "license_name: gemma-terms"], "conditions of use"),
        (["license: bigscience-openrail-m"], "forbids some uses"),
        (["license: other", "license_name: qwen-research"], "research alone"),
        (["license: other", "license_name: mit-and-more"], "none that limbeck knows"),
        (["license: apple-amlr"], "none that limbeck knows"),
        (["license: unknown"], "is not known"),
        (["license: 7"], "is not known"),
        (["language: en"], "is not known"),
        (["license: : :"], "is not known"),
        (["- license"], "is not known"),
    ],
)
def test_a_licence_that_restricts_is_said(tmp_path, fields, said):
    found = origin_of(card(tmp_path / "model", *fields))
    assert found.name == "model"
    warnings = licence_warnings([found])
    assert bool(warnings) is (said is not None)
    assert said is None or said in warnings[0]
    assert "(unknown)" not in "".join(warnings)


def test_a_folder_without_a_card_has_no_licence(tmp_path):
    assert origin_of(str(tmp_path)) == Origin(tmp_path.name)
    assert "is not known" in licence_warnings([origin_of(str(tmp_path))])[0]


def test_what_a_card_names_is_handed_on(tmp_path):
    run = tmp_path / "run"
    lines = ["base_model: [org/teacher, ../else where]", "language: [de]", "datasets: org/texts"]
    card(run / "student", *lines, "license: other", "license_name: own", "license_link: LICENSE")
    found = Origin("run", ("org/teacher",), "other", "own", "LICENSE", ("de",), ("org/texts",))
    assert origin_of(str(run)) == origin_of(str(run / "student")) == found


def test_a_run_of_a_study_is_not_called_by_its_seed(tmp_path):
    """The licence of 0 was warned of."""
    student = card(tmp_path / "sizes" / "arms" / "small" / "plain" / "0" / "student")
    found = origin_of(student)
    assert found.name == origin_of(str(Path(student).parent)).name == "sizes/arms/small/plain/0"
    assert origin_of(card(tmp_path / "2024")).name == "2024"
    assert "the licence of sizes/arms/small/plain/0 is not known" in licence_warnings([found])[0]


def test_a_model_on_the_hub(tmp_path, monkeypatch):
    place = Path(card(tmp_path, "license: mit", "base_model: org/older")) / "README.md"
    monkeypatch.setattr(origin, "try_to_load_from_cache", lambda *_: str(place))
    assert origin_of("org/model") == Origin("org/model", ("org/model",), "mit")
    assert origin_of("minilm-demo").hub_names == ("sentence-transformers/all-MiniLM-L6-v2",)
    assert origin_of("org/never-seen-model").license == "mit"
    monkeypatch.setattr(origin, "try_to_load_from_cache", lambda *_: None)
    assert origin_of("org/not-there") == Origin("org/not-there", ("org/not-there",))


def made_of(*origins: Origin):
    """The card's metadata as the hub's library reads it."""
    scores = [evaluation("sst2", "accuracy", 0.91), evaluation("sts", "spearman", 0.8)]
    metadata = metadata_of(
        "student", origins, library="x", pipeline_tag="fill-mask", tags=["a"], results=scores
    )
    read = ModelCard(card_of(metadata, ["# student", *licence_lines(origins)]))
    assert [one.metric_value for one in read.data.eval_results] == [0.91, 0.8]
    return read


def test_the_metadata_is_that_of_the_hub():
    one = Origin("a", ("org/a",), "cc-by-nc-4.0", languages=("en",))
    read = made_of(one)
    assert read.data.base_model == ["org/a"]
    assert read.data.license == "cc-by-nc-4.0"
    assert read.data.language == ["en"]
    assert "**Warning:** the licence of a (cc-by-nc-4.0) forbids commercial use." in read.text


def test_licences_of_several_teachers():
    english, many = ("en",), ("en", "de")
    read = made_of(Origin("a", ("org/a",), "mit", languages=english), Origin("b", license="mit"))
    assert (read.data.license, read.data.base_model, read.data.language) == ("mit", ["org/a"], None)
    read = made_of(Origin("a", license="mit", languages=many), Origin("b", languages=many))
    assert (read.data.license, read.data.license_name) == ("other", "mit-and-unknown")
    assert read.data.language is None  # the student may have learned one of them alone
    assert "license" not in made_of().data.to_dict()
