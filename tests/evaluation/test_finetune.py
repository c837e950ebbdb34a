import random
from dataclasses import replace

import pytest
from conftest import FAMILIES, make_model

from limbeck.errors import EvaluationError
from limbeck.evaluation import seeds as module
from limbeck.evaluation.finetune import FinetuneSettings, finetune
from limbeck.evaluation.metrics import (
    classification_metrics,
    joint_metrics,
    regression_metrics,
    tagging_metrics,
)
from limbeck.evaluation.seeds import evaluate_tasks, learned_together
from limbeck.evaluation.tasks import Example, Task, TaskKind

SETTINGS = FinetuneSettings(
    num_train_epochs=20.0, batch_size=16, learning_rate=3e-3, max_length=32, precision="float32"
)


def make_task(kind: TaskKind, rows: int = 160) -> Task:
    """A text is about a colour or a river; the tag marks that word."""
    chance, examples = random.Random(0), []
    for _ in range(rows):
        key = chance.choice(["красный", "river"])
        words = [chance.choice(["the", "old", "house", "сад", "тихо"]) for _ in range(6)]
        words[chance.randrange(6)] = key
        tags = tuple("B-KEY" if word == key else "O" for word in words)
        label = "colour" if key == "красный" else "water"
        tagged = kind in (TaskKind.TAGGING, TaskKind.JOINT)
        examples.append(
            Example(
                text=None if kind is TaskKind.TAGGING else " ".join(words),
                label={
                    TaskKind.REGRESSION: 4.0 if key == "river" else 1.0,
                    TaskKind.TAGGING: None,
                    TaskKind.MULTI_LABEL: ("colour", "water") if label == "colour" else (label,),
                }.get(kind, label),
                words=tuple(words) if tagged else None,
                tags=tags if tagged else None,
            )
        )
    headline = {
        TaskKind.CLASSIFICATION: "accuracy",
        TaskKind.MULTI_LABEL: "subset_accuracy",
        TaskKind.REGRESSION: "pearson",
        TaskKind.TAGGING: "span_f1",
        TaskKind.JOINT: "exact_sentence",
    }[kind]
    half = rows * 3 // 4
    return Task(
        name="toy",
        kind=kind,
        headline=headline,
        positive=None,
        train=examples[:half],
        test=examples[half:],
        test_split="dev",
        labels=() if kind in (TaskKind.REGRESSION, TaskKind.TAGGING) else ("colour", "water"),
        tags=("B-KEY", "O") if kind in (TaskKind.TAGGING, TaskKind.JOINT) else (),
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tokenizer):
    made = {}
    for family in FAMILIES:
        made[family] = tmp_path_factory.mktemp(family)
        make_model(family, vocabulary=len(tokenizer)).save_pretrained(made[family])
        tokenizer.save_pretrained(made[family])
    return made


@pytest.mark.parametrize("kind", [kind for kind in TaskKind if kind != TaskKind.GENERATION])
def test_every_kind_of_task_is_learned(folders, kind):
    task = make_task(kind)
    score = finetune(str(folders["bert"]), task, settings=SETTINGS, seed=0).score(task)
    assert score.metrics[task.headline] > 0.9


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_family_can_be_fine_tuned(folders, family, precision):
    settings = replace(SETTINGS, num_train_epochs=0.5, precision=precision)
    task = make_task(TaskKind.JOINT, rows=64)
    score = finetune(str(folders[family]), task, settings=settings, seed=0).score(task)
    assert score.metrics.keys() == {"intent_accuracy", "span_f1", "exact_sentence"}


def test_a_seed_decides_everything(folders):
    task, settings = (
        make_task(TaskKind.REGRESSION, rows=64),
        replace(SETTINGS, num_train_epochs=1.0),
    )
    one, two, other = (
        finetune(str(folders["bert"]), task, settings=settings, seed=s).score(task).metrics
        for s in (0, 0, 1)
    )
    assert one == two != other


def test_finished_seeds_are_kept_until_something_changes(folders, tmp_path, monkeypatch):
    task, settings = (
        make_task(TaskKind.CLASSIFICATION, rows=64),
        replace(SETTINGS, num_train_epochs=0.5),
    )
    ran = []
    real = module.finetune
    monkeypatch.setattr(
        module, "finetune", lambda *a, seed, **k: ran.append(seed) or real(*a, seed=seed, **k)
    )

    def run(seeds, settings=settings, task=task):
        return evaluate_tasks(
            str(folders["bert"]),
            [task],
            settings=settings,
            seeds=seeds,
            results={task.name: tmp_path / "toy.json"},
        )[task.name]

    first = run([0])
    both = run([0, 1])
    assert ran == [0, 1]
    assert both.seeds[0] == first.seeds[0]
    assert both.mean == pytest.approx(sum(both.values) / 2)
    assert first.deviation is None and both.to_json()["means"]["accuracy"] == both.mean
    run([0], settings=replace(settings, learning_rate=1e-3))
    run([0], task=replace(task, train=task.train[:20]))
    assert ran == [0, 1, 0, 0]
    run([0, 1])  # what was finished with other settings has stayed
    assert ran == [0, 1, 0, 0]


def test_tasks_that_learn_from_the_same_rows_are_learned_once(folders, tmp_path, monkeypatch):
    here = replace(make_task(TaskKind.CLASSIFICATION, rows=64), name="here")
    there = replace(here, name="there", test=here.test[::-1])
    apart = replace(here, name="apart", train=here.train[:20])
    assert learned_together([here, apart, there]) == [[here, there], [apart]]
    ran = []
    real = module.finetune
    monkeypatch.setattr(module, "finetune", lambda *a, **k: ran.append(a) or real(*a, **k))
    settings = replace(SETTINGS, num_train_epochs=0.5)
    model, options = str(folders["bert"]), {"settings": settings, "seeds": [0]}
    files = {task.name: tmp_path / f"{task.name}.json" for task in (here, there)}
    evaluate_tasks(model, [here], results=files, **options)
    both = evaluate_tasks(model, [here, there], results=files, **options)
    assert len(ran) == 2  # once for each call: the second finds `here` finished
    alone = evaluate_tasks(model, [there], **options)["there"]
    assert both["there"].seeds[0].labels == alone.seeds[0].labels
    assert both["here"].seeds[0].labels == alone.seeds[0].labels[::-1]


def test_a_loss_that_is_not_finite_names_seed_and_step(folders):
    settings = replace(SETTINGS, learning_rate=1e30)
    with pytest.raises(EvaluationError, match="not finite at step .* with seed 3; lower the"):
        finetune(
            str(folders["bert"]),
            make_task(TaskKind.REGRESSION),
            settings=settings,
            seed=3,
        )


def test_metrics_equal_their_definitions():
    scores = classification_metrics(["a", "b", "b", "b"], ["a", "b", "a", "b"], positive="b")
    assert scores["accuracy"] == 0.75 and scores["f1"] == pytest.approx(0.8)
    assert scores["matthews"] == pytest.approx(1 / 3**0.5)
    assert regression_metrics([1.0, 2.0, 3.0], [1.0, 2.0, 9.0])["spearman"] == 1.0
    assert regression_metrics([1.0, 1.0], [1.0, 2.0]) == {"pearson": 0.0, "spearman": 0.0}
    # An I- that begins a span is no span under strict IOB2.
    strict = tagging_metrics([["O", "I-X"]], [["O", "B-X"]])
    assert strict == {"span_f1": 0.0, "exact_sentence": 0.0}
    joint = joint_metrics(["a", "b"], ["a", "a"], [["B-X"], ["O"]], [["B-X"], ["O"]])
    assert joint == {"intent_accuracy": 0.5, "span_f1": 1.0, "exact_sentence": 0.5}
