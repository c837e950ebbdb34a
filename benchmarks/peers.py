"""Losses and scores by their formulas, by limbeck and by other packages, on the same inputs.

Each quantity is computed from its formula (``formulas.py``, plain loops in float64), by limbeck's
objective or score, and by another package if it is installed. Missing packages are named.

    pip install textbrewer trl rouge-score
    pip install --no-deps bertdistiller  # requires transformers < 5; works here
    python benchmarks/peers.py
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import formulas
import peer_packages
import torch
from peer_inputs import (
    both_berts,
    logits,
    predicted,
    prompts_answered,
    response_labels,
    response_pairs,
    two_texts,
)
from torch import Tensor, nn

from limbeck.activations import Activations, Predictions
from limbeck.batch import Batch
from limbeck.evaluation.rouge import rouge_l
from limbeck.models.capture import capture
from limbeck.models.families import ARCHITECTURES
from limbeck.models.shapes import shape_of
from limbeck.objectives.contract import Objective
from limbeck.objectives.logits import Logits
from limbeck.objectives.relations import Relations
from limbeck.objectives.uld import Uld
from limbeck.student.projections import Projections

INSTALL = {
    "textbrewer": "pip install textbrewer",
    "trl": "pip install trl",
    "bertdistiller": "pip install --no-deps bertdistiller",
    "rouge-score": "pip install rouge-score",
}
SAME = 1e-4  # relative: only the formula is in float64
HOT = 4.0  # the temperature, where there is one
HEADS = 2  # of the relations

CAT, RUG, RUSSIAN_CAT = "The cat sat on the mat.", "The cat sat on the rug.", "Кот сидел у окна."
BOOKS, FISH = "Вышло 5 новых книг.", "Поймали 5 больших рыб."  # nothing in common but the number


@dataclass(frozen=True)
class Comparison:
    """One quantity, computed in three ways, and the reason if that of the package differs."""

    package: str
    quantity: str
    formula: Callable[[], float]
    limbeck: Callable[[], float]
    peer: Callable[[], float]
    why: str = ""


def comparisons() -> list[Comparison]:
    """All comparisons, package by package."""
    return [*textbrewer(), *trl(), *bertdistiller(), *rouge()]


def textbrewer() -> list[Comparison]:
    """The classic loss: forward KL of output distributions."""
    student, teacher, pairs = logits(1), logits(2), response_pairs(logits(1), logits(2))
    mine, theirs = predicted(student), predicted(teacher)
    kl, hot = Logits(), Logits(temperature=HOT)
    return [
        Comparison(
            "textbrewer",
            "forward KL, T = 1",
            lambda: formulas.forward_kl(pairs, 1.0),
            lambda: float(per_token(kl, student, teacher)),
            lambda: float(peer_packages.textbrewer_kl(mine, theirs, 1.0)),
        ),
        Comparison(
            "textbrewer",
            f"forward KL x T^2, T = {HOT:g}",
            lambda: formulas.forward_kl(pairs, HOT),
            lambda: float(per_token(hot, student, teacher)),
            lambda: float(peer_packages.textbrewer_kl(mine, theirs, HOT)),
            "no T^2: the loss shrinks as T grows",
        ),
        Comparison(
            "textbrewer",
            f"norm of its gradient, T = {HOT:g}",
            lambda: formulas.forward_kl_gradient(pairs, HOT),
            lambda: gradient_norm(lambda given: per_token(hot, given, teacher), student),
            lambda: gradient_norm(
                lambda given: peer_packages.textbrewer_kl(predicted(given), theirs, HOT), student
            ),
            "no T^2: it weighs 1/16 beside other losses",
        ),
        Comparison(
            "textbrewer",
            "forward KL, T = 1, whole padded batch",
            lambda: formulas.forward_kl(pairs, 1.0),
            lambda: float(per_token(kl, student, teacher)),
            lambda: float(peer_packages.textbrewer_kl(student, teacher, 1.0)),
            "no mask: prompts and padding count, unless the adaptor gives logits_mask",
        ),
    ]


def trl() -> list[Comparison]:
    """Generalised Jensen-Shannon (GKD), and ULD between two vocabularies (GOLD)."""
    student, teacher, other = logits(1), logits(2), logits(3, vocabulary=11)
    pairs, labels = response_pairs(student, teacher), response_labels()

    def jsd(temperature: float) -> float:
        objective = Logits(divergence="jensen_shannon", temperature=temperature)
        return float(per_token(objective, student, teacher))

    return [
        Comparison(
            "trl",
            "GKD: Jensen-Shannon, T = 1",
            lambda: formulas.jensen_shannon(pairs, 1.0),
            lambda: jsd(1.0),
            lambda: peer_packages.gkd_divergence(student, teacher, labels, 1.0),
        ),
        Comparison(
            "trl",
            f"GKD: Jensen-Shannon x T^2, T = {HOT:g}",
            lambda: formulas.jensen_shannon(pairs, HOT),
            lambda: jsd(HOT),
            lambda: peer_packages.gkd_divergence(student, teacher, labels, HOT),
            "no T^2, as in the paper's equation",
        ),
        Comparison(
            "trl",
            f"GKD: the trainer's loss, temperature {HOT:g}",
            lambda: formulas.jensen_shannon(pairs, HOT),
            lambda: jsd(HOT),
            lambda: peer_packages.gkd_trainer_loss(student, teacher, labels, HOT),
            "the temperature is for sampling only; the loss is at T = 1",
        ),
        *[
            Comparison(
                "trl",
                f'GOLD: ULD, "{strategy}"',
                lambda: formulas.uld(response_pairs(student, other)),
                lambda: float(per_token(Uld(), student, other)),
                partial(peer_packages.gold_uld, student, other, labels, strategy),
                "its default: logits are not shifted, so each stands for the token after"
                if strategy == "observed"
                else "",
            )
            for strategy in ("observed", "bayesian")
        ],
    ]


def bertdistiller() -> list[Comparison]:
    """Relations of MiniLMv2."""
    return [
        Comparison(
            "bertdistiller",
            f"MiniLMv2 relations, padding {side}",
            relations_formula,
            partial(relations, left),
            partial(peer_relations, left),
            "takes the first positions for the text, wherever the mask is" if left else "",
        )
        for side, left in (("right", 0), ("left", 3))
    ]


def rouge() -> list[Comparison]:
    """ROUGE-L of English and of Russian."""
    cases = [
        ("English, one word differs", CAT, RUG, ""),
        ("Russian, identical", RUSSIAN_CAT, RUSSIAN_CAT, "drops every letter but a to z"),
        ("Russian, one number in common", BOOKS, FISH, "only the number is left of either"),
    ]
    return [
        Comparison(
            "rouge-score",
            f"ROUGE-L: {what}",
            partial(formulas.rouge_l, plain_words(reference), plain_words(text)),
            partial(rouge_l, [reference], text),
            partial(peer_packages.rouge_score, reference, text),
            why,
        )
        for what, reference, text, why in cases
    ]


def plain_words(text: str) -> list[str]:
    """Words of a text that ends with a full stop and has no other mark."""
    return text.lower().removesuffix(".").split()


def per_token(objective: Objective, student: Tensor, teacher: Tensor) -> Tensor:
    """The loss of an objective in limbeck's step: its total divided by its count."""
    found = [
        Activations(predictions=Predictions(predicted(side), torch.eye(side.shape[-1]), None))
        for side in (student, teacher)
    ]
    tokens = prompts_answered()
    batch, no_maps = Batch(tokens, tokens), Projections({}, seed=0)
    return objective.total(found[0], found[1], batch, no_maps) / objective.count(batch)


def gradient_norm(loss: Callable[[Tensor], Tensor], student: Tensor) -> float:
    """Euclidean norm of the gradient with respect to the student's logits."""
    leaf = student.clone().requires_grad_()
    return float(torch.autograd.grad(loss(leaf), leaf)[0].norm())


@torch.no_grad()
def relations_formula() -> float:
    """Relations of queries, keys and values of the last layers, each text read without padding."""
    tokens, total = two_texts(0), 0.0
    for ids in tokens.input_ids[:, :4].split(1):
        for kind in ("query", "key", "value"):
            vectors = []
            for model in both_berts():
                states = model(ids, output_hidden_states=True).hidden_states[1]
                project: nn.Linear = getattr(model.encoder.layer[1].attention.self, kind)
                vectors.append(project(states)[0].tolist())
            total += formulas.relation_kl(vectors[0], vectors[1], HEADS)
    return total / len(tokens.mask)


@torch.no_grad()
def relations(left: int) -> float:
    """The same by limbeck's objective, with padding."""
    tokens, architecture = two_texts(left), ARCHITECTURES["bert"]
    student, teacher = both_berts()
    shapes = shape_of(student.config, architecture), shape_of(teacher.config, architecture)
    objective, batch = Relations(heads=HEADS).bound(*shapes), Batch(tokens, tokens)
    captured = capture(student, architecture, tokens, objective.student_needs())
    signals = capture(teacher, architecture, tokens, objective.teacher_needs())
    total = objective.total(captured, signals, batch, Projections({}, seed=0))
    return float(total) / objective.count(batch)


def peer_relations(left: int) -> float:
    """The same by bertdistiller's trainer."""
    tokens = two_texts(left)
    return peer_packages.bertdistiller_relations(
        *both_berts(), tokens.input_ids, tokens.mask, HEADS
    )


def installed(package: str) -> str | None:
    """The version of a package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def main() -> None:
    """Print a table and, last, one JSON object."""
    versions = {package: installed(package) for package in INSTALL}
    rows = []
    print(f"{'package':16}{'quantity':44}{'formula':>11}{'limbeck':>11}{'package':>11}")
    for case in comparisons():
        formula = case.formula()
        # limbeck's ROUGE is that of rouge-score, with other words.
        without = case.package == "rouge-score" and versions[case.package] is None
        mine = None if without else case.limbeck()
        theirs = case.peer() if versions[case.package] else None
        same = theirs is not None and math.isclose(theirs, formula, rel_tol=SAME)
        values = (formula, mine, theirs)
        shown = "".join(f"{'absent':>11}" if v is None else f"{v:11.6f}" for v in values)
        note = "the same" if same else (case.why or "differs; why is not known")
        print(f"{case.package:16}{case.quantity:44}{shown}  {'' if theirs is None else note}")
        rows.append(
            {
                "package": case.package,
                "quantity": case.quantity,
                "formula": formula,
                "limbeck": mine,
                "peer": theirs,
            }
        )
    print()
    for package, found in versions.items():
        print(f"{package} {found or 'is not installed; run: ' + INSTALL[package]}")
    print(json.dumps({"versions": versions, "comparisons": rows}))


if __name__ == "__main__":
    main()
