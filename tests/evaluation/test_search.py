"""Learning rate and length are chosen on training rows alone, once, with one budget for all."""

import random
from collections import Counter
from dataclasses import replace

import pytest
from conftest import make_model, make_text, make_tokenizer
from pydantic import TypeAdapter, ValidationError

from limbeck.errors import EvaluationError
from limbeck.evaluation.finetune import finetune
from limbeck.evaluation.finetuning import search as module
from limbeck.evaluation.finetuning.search import search, successive_halving
from limbeck.evaluation.finetuning.validation import with_validation
from limbeck.evaluation.kept_seeds import KeptSeeds
from limbeck.evaluation.seeds import evaluate_tasks
from limbeck.evaluation.settings import FinetuneSettings, SearchSettings
from limbeck.evaluation.task_model import NotFiniteError
from limbeck.evaluation.tasks import Example, Task, TaskKind
from limbeck.reports.search_results import Trial

HOW = SearchSettings(learning_rates=(1e-3, 1e-4, 1e-2), num_train_epochs=2.0)
SETTINGS = FinetuneSettings(batch_size=16, max_length=32, precision="float32", search=HOW)


def classes(rows: int = 80, test: int = 20) -> Task:
    """A text is of class a where it holds a garden."""
    chance, lines = random.Random(0), make_text(rows + test)
    found = []
    for line in lines:
        label = chance.choice("ab")
        found.append(Example(text=f"{'garden ' * 3 * (label == 'a')}{line}", label=label))
    kind = TaskKind.CLASSIFICATION
    return Task("texts", kind, "accuracy", None, found[:rows], found[rows:], "dev", ("a", "b"), ())


def labelled(labels: str) -> Task:
    rows = [Example(text=f"row {n}", label=label) for n, label in enumerate(labels)]
    kind = TaskKind.CLASSIFICATION
    known = tuple(sorted(set(labels)))
    return Task("many", kind, "accuracy", None, rows, rows[:1], "dev", known, ())


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder, tokens = tmp_path_factory.mktemp("model"), make_tokenizer("wordpiece")
    make_model(vocabulary=len(tokens)).save_pretrained(folder)
    tokens.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def whole(model):
    """An evaluation that nothing has interrupted."""
    return evaluate_tasks(model, [classes()], settings=SETTINGS, seeds=[0])["texts"]


def curve(rate: float, epochs: float) -> Trial:
    """A plain stand-in for training: 1e-3 is best, and nothing is gained after 10 epochs."""
    score = {1e-4: 0.2, 3e-4: 0.6, 1e-3: 0.9, 3e-3: 0.7}[rate] * min(epochs, 10) / 10
    return Trial(rate, epochs, score, 1 - score, 0.0)


def test_half_of_the_rates_are_tried_twice_as_long_until_longer_is_no_better():
    trials = successive_halving(curve, SearchSettings())
    assert [(trial.learning_rate, trial.num_train_epochs) for trial in trials] == [
        *[(1e-3, 2.5), (3e-3, 2.5), (3e-4, 2.5), (1e-4, 2.5)],
        *[(1e-3, 5.0), (3e-3, 5.0)],
        (1e-3, 10.0),
        (1e-3, 20.0),
    ]
    stopped = successive_halving(curve, SearchSettings(num_train_epochs=80.0))
    assert [trial.num_train_epochs for trial in stopped] == [10.0] * 4 + [20.0] * 2


def test_equal_scores_are_decided_by_the_loss_and_a_loss_that_is_not_finite_is_the_worst():
    def tried(rate: float, epochs: float) -> Trial:
        if rate == 3e-3:
            return Trial(rate, epochs, None, None, 0.0)
        return Trial(rate, epochs, 0.5, 1 / rate / epochs, 0.0)

    trials = successive_halving(tried, SearchSettings())
    assert trials[3].learning_rate == 3e-3
    assert {trial.learning_rate for trial in trials[4:]} == {3e-4, 1e-3}


@pytest.mark.parametrize("rows", [12, 60, 400, 3000])
def test_validation_rows_are_stratified_and_every_label_is_learned(rows):
    chance = random.Random(1)
    task = labelled("z" + "".join(chance.choices("abcd", (60, 30, 9, 1), k=rows - 1)))
    held = with_validation(task, fraction=0.1, seed=0)
    assert not {row.text for row in held.train} & {row.text for row in held.test}
    assert Counter(held.train) + Counter(held.test) == Counter(task.train)
    assert len(held.test) == max(rows // 10, min(100, rows // 4))
    whole, learned, scored = (
        Counter(row.label for row in part) for part in (task.train, held.train, held.test)
    )
    assert learned.keys() == whole.keys()
    assert "z" not in scored  # its only row is learned from
    if rows >= 60:
        assert scored.keys() == {label for label, count in whole.items() if count > 1}
    for label, count in scored.items():
        assert abs(count - whole[label] * len(held.test) / rows) <= 2
    assert held == with_validation(task, fraction=0.1, seed=0)
    assert held.test_split == "validation"


def test_rows_of_tags_are_stratified_by_their_rarest_tag():
    rows = [Example(words=(f"w{n}", "b"), tags=("O", "B-X" if n % 8 else "B-Y")) for n in range(80)]
    task = Task(
        "words", TaskKind.TAGGING, "span_f1", None, rows, rows[:1], "dev", (), ("B-X", "B-Y", "O")
    )
    held = with_validation(task, fraction=0.1, seed=0)
    counted = Counter(row.tags[1] for row in held.test)
    assert counted["B-Y"] == 3 and counted["B-X"] == 17


def test_no_more_rows_are_set_apart_than_tell_anything():
    assert len(with_validation(labelled("ab" * 3000), fraction=0.5, seed=0).test) == 2000


@pytest.mark.parametrize("labels", ["a", "ab", "abc"])
def test_too_few_rows_to_set_any_apart_are_refused(labels):
    with pytest.raises(EvaluationError, match=f"many has {len(labels)} training rows, of which"):
        with_validation(labelled(labels), fraction=0.5, seed=0)


def test_the_best_validation_score_is_chosen_and_scored_rows_are_never_read(model):
    task = classes()
    settings, found = search(model, task, SETTINGS)
    held = with_validation(task, fraction=0.1, seed=0)
    assert (found.training_rows, found.validation_rows) == (len(held.train), len(held.test))
    for trial in found.trials:  # each is a plain fine-tuning on the other training rows
        fixed = FinetuneSettings(
            batch_size=16,
            max_length=32,
            precision="float32",
            learning_rate=trial.learning_rate,
            num_train_epochs=trial.num_train_epochs,
        )
        plain = finetune(model, held, settings=fixed, seed=0)
        assert plain.score(held).metrics["accuracy"] == trial.score
        assert plain.loss(held) == pytest.approx(trial.loss)
    best = max(found.trials, key=lambda trial: (trial.score, -trial.loss))
    chosen = settings.learning_rate, settings.num_train_epochs
    assert chosen == (best.learning_rate, best.num_train_epochs)
    assert settings == replace(
        SETTINGS, search=None, learning_rate=chosen[0], num_train_epochs=chosen[1]
    )
    swapped = [replace(row, label="ab"[row.label == "a"]) for row in task.test]
    again_settings, again = search(model, replace(task, test=swapped), SETTINGS)
    assert again_settings == settings
    assert [replace(trial, seconds=0.0) for trial in again.trials] == [
        replace(trial, seconds=0.0) for trial in found.trials
    ]


def test_all_seeds_are_trained_on_all_rows_with_what_was_chosen_once(model, monkeypatch):
    ran = []
    real = module.finetune
    monkeypatch.setattr(module, "finetune", lambda *a, **k: ran.append(a) or real(*a, **k))
    task = classes()
    score = evaluate_tasks(model, [task], settings=SETTINGS, seeds=[0, 1])["texts"]
    assert score.search is not None and len(ran) == len(score.search.trials)
    chosen = score.search.chosen
    fixed = replace(
        SETTINGS,
        search=None,
        learning_rate=chosen.learning_rate,
        num_train_epochs=chosen.num_train_epochs,
    )
    plain = evaluate_tasks(model, [task], settings=fixed, seeds=[0, 1])["texts"]
    assert plain.search is None and "search" not in plain.to_json()
    assert [s.metrics for s in score.seeds] == [s.metrics for s in plain.seeds]
    assert score.to_json()["search"]["learning_rates"] == [1e-4, 1e-3, 1e-2]


@pytest.mark.parametrize("stop", [1, 3, 6])
def test_an_interrupted_search_resumes_with_the_same_scores(
    model, whole, tmp_path, monkeypatch, stop
):
    real, ran = module.finetune, []

    def killed(*args, **options):
        if len(ran) == stop:
            raise KeyboardInterrupt
        ran.append(args)
        return real(*args, **options)

    task = classes()
    options = {"settings": SETTINGS, "seeds": [0], "results": {"texts": tmp_path / "texts.json"}}
    monkeypatch.setattr(module, "finetune", killed)
    trials = len(whole.search.trials)
    if stop < trials:
        with pytest.raises(KeyboardInterrupt):
            evaluate_tasks(model, [task], **options)
    monkeypatch.setattr(module, "finetune", lambda *a, **k: ran.append(a) or real(*a, **k))
    resumed = evaluate_tasks(model, [task], **options)["texts"]
    assert len(ran) == trials  # none was run again
    assert resumed.seeds[0].metrics == whole.seeds[0].metrics
    assert resumed.search.chosen.rank == whole.search.chosen.rank
    monkeypatch.setattr("limbeck.evaluation.seeds.finetune", killed)
    again = evaluate_tasks(model, [task], **options)["texts"]
    assert again == resumed and len(ran) == trials


def test_results_of_the_fixed_protocol_that_were_kept_before_are_found(model, tmp_path):
    task, file = classes(), tmp_path / "texts.json"
    fixed = replace(SETTINGS, search=None, num_train_epochs=1.0)
    first = evaluate_tasks(model, [task], settings=fixed, seeds=[0], results={"texts": file})
    assert KeptSeeds(file, model, task, fixed, []).scores[0] == first["texts"].seeds[0]
    other = replace(fixed, num_train_epochs=2.0)
    assert not KeptSeeds(file, model, task, other, []).scores


def test_a_joint_task_is_chosen_by_labels_and_tags(model):
    rows = []
    for number, row in enumerate(classes(40, 8).train):
        words = tuple(row.text.rstrip(".").split())[:8]
        tags = tuple("B-X" if word == "garden" else "O" for word in words)
        rows.append(replace(row, words=words, tags=tags, label="ab"[number % 2]))
    task = Task(
        "both", TaskKind.JOINT, "intent_accuracy", None, rows, rows[:4], "dev", ("a", "b"),
        ("B-X", "O"),
    )  # fmt: skip
    how = SearchSettings(learning_rates=(1e-3,), num_train_epochs=8.0)
    settings, found = search(model, task, replace(SETTINGS, search=how))
    held = with_validation(task, fraction=0.1, seed=0)
    metrics = finetune(model, held, settings=settings, seed=0).score(held).metrics
    expected = (metrics["intent_accuracy"] + metrics["span_f1"]) / 2
    assert found.chosen.score == pytest.approx(expected)
    assert found.metric == "intent_accuracy and span_f1"


def test_a_rate_that_breaks_a_model_is_the_worst_and_is_not_tried_again(
    model, tmp_path, monkeypatch
):
    how = SearchSettings(learning_rates=(1e-3, 10.0), num_train_epochs=2.0)
    real, ran = module.finetune, []

    def breaking(*args, settings, **options):
        ran.append(settings.learning_rate)
        if settings.learning_rate == 10.0:
            raise NotFiniteError("not finite")
        return real(*args, settings=settings, **options)

    monkeypatch.setattr(module, "finetune", breaking)
    settings = replace(SETTINGS, search=how)
    file = tmp_path / "texts.json"
    chosen, found = search(model, classes(), settings, results=file)
    assert chosen.learning_rate == 1e-3 and ran.count(10.0) == 1
    broken = next(trial for trial in found.trials if trial.learning_rate == 10.0)
    assert broken.score is None
    before = len(ran)
    assert search(model, classes(), settings, results=file) == (chosen, found)
    assert len(ran) == before
    only = replace(settings, search=replace(how, learning_rates=(10.0,)))
    with pytest.raises(EvaluationError, match="not finite at any of the learning rates 10; give"):
        search(model, classes(), only)


def test_every_model_has_the_same_budget(model, tmp_path):
    tokens = make_tokenizer("wordpiece")
    make_model(vocabulary=len(tokens), hidden=16, layers=1).save_pretrained(tmp_path)
    tokens.save_pretrained(tmp_path)
    for name in (model, str(tmp_path)):
        _, found = search(name, classes(), SETTINGS)
        tried = Counter(trial.num_train_epochs for trial in found.trials)
        expected = {0.25: 3, 0.5: 2, 1.0: 1, 2.0: 1}
        assert tried == {length: expected[length] for length in tried}
        assert found.epochs <= 4.75


def test_settings_that_a_search_would_replace_are_refused():
    read = TypeAdapter(FinetuneSettings).validate_python
    assert read({"search": True}) == FinetuneSettings(search=SearchSettings())
    assert read({"search": False}) == read({}) == FinetuneSettings()
    assert read({"search": {"learning_rates": ["1e-4", 3e-4]}}).search.learning_rates == (
        1e-4,
        3e-4,
    )
    for wrong in (
        {"search": True, "learning_rate": 2e-4},
        {"search": {}, "num_train_epochs": 5},
    ):
        with pytest.raises(ValidationError, match="are chosen by the search; leave them out, or"):
            read(wrong)
    for wrong in ({"learning_rates": []}, {"learning_rates": [0]}, {"validation_fraction": 0.9}):
        with pytest.raises(ValidationError):
            read({"search": wrong})


def test_one_fine_tuning_has_one_learning_rate(model):
    with pytest.raises(EvaluationError, match="one fine-tuning has one learning rate"):
        finetune(model, classes(), settings=SETTINGS, seed=0)
    with pytest.raises(EvaluationError, match="the settings hold no search"):
        search(model, classes(), replace(SETTINGS, search=None))
