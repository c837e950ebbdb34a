"""Losses and scores computed directly from their formulas, by plain loops in float64.

``peers.py`` compares limbeck and other packages with them. Logits are pairs of rows, the student's
and the teacher's, with one pair for each token; a loss is averaged over the pairs.

Source: Hinton et al. 2015, arXiv:1503.02531 (temperature); Agarwal et al. 2024, GKD,
arXiv:2306.13649; Boizard et al. 2024, ULD, arXiv:2402.12030; Wang et al. 2021, MiniLMv2,
arXiv:2012.15828; Lin 2004, ROUGE.
"""

import math
from collections.abc import Sequence

Row = Sequence[float]
Pairs = Sequence[tuple[Row, Row]]


def softmax(logits: Row, temperature: float = 1.0) -> list[float]:
    """Probabilities of one row of logits."""
    powers = [math.exp(value / temperature) for value in logits]
    return [power / sum(powers) for power in powers]


def kl(p: Row, q: Row) -> float:
    """KL(p || q) in nats."""
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def forward_kl(pairs: Pairs, temperature: float) -> float:
    """KL(teacher || student) times the temperature squared."""
    found = [kl(softmax(t, temperature), softmax(s, temperature)) for s, t in pairs]
    return temperature**2 * sum(found) / len(pairs)


def forward_kl_gradient(pairs: Pairs, temperature: float) -> float:
    """Euclidean norm of the gradient with respect to the student's logits: T (q - p) / tokens."""
    squares = 0.0
    for student, teacher in pairs:
        q, p = softmax(student, temperature), softmax(teacher, temperature)
        squares += sum((a - b) ** 2 for a, b in zip(q, p, strict=True))
    return temperature * math.sqrt(squares) / len(pairs)


def jensen_shannon(pairs: Pairs, temperature: float) -> float:
    """Mean of the KL of both distributions to their mean, times the temperature squared."""
    total = 0.0
    for student, teacher in pairs:
        q, p = softmax(student, temperature), softmax(teacher, temperature)
        mean = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
        total += (kl(p, mean) + kl(q, mean)) / 2
    return temperature**2 * total / len(pairs)


def uld(pairs: Pairs) -> float:
    """Absolute differences of sorted probabilities, the shorter side padded with zeros."""
    total = 0.0
    for student, teacher in pairs:
        q, p = (sorted(softmax(side), reverse=True) for side in (student, teacher))
        width = max(len(q), len(p))
        q, p = (side + [0.0] * (width - len(side)) for side in (q, p))
        total += sum(abs(a - b) for a, b in zip(p, q, strict=True))
    return total / len(pairs)


def relation_kl(student: Sequence[Row], teacher: Sequence[Row], heads: int) -> float:
    """KL of the relations between the tokens of one text, averaged over heads and tokens.

    Args:
        student: A vector for each real token.
        teacher: The same, of any width.
        heads: Number of slices of each vector, with separate relations.
    """
    found = []
    for head in range(heads):
        q, p = (_relations(side, head, heads) for side in (student, teacher))
        found += [kl(a, b) for a, b in zip(p, q, strict=True)]
    return sum(found) / len(found)


def _relations(vectors: Sequence[Row], head: int, heads: int) -> list[list[float]]:
    width = len(vectors[0]) // heads
    parts = [row[head * width : (head + 1) * width] for row in vectors]
    return [
        softmax([sum(a * b for a, b in zip(i, j, strict=True)) for j in parts], math.sqrt(width))
        for i in parts
    ]


def rouge_l(reference: Sequence[str], text: Sequence[str]) -> float:
    """F-measure of the longest common subsequence of words."""
    longest = [[0] * (len(text) + 1) for _ in range(len(reference) + 1)]
    for i, one in enumerate(reference):
        for j, other in enumerate(text):
            both = longest[i][j] + 1 if one == other else 0
            longest[i + 1][j + 1] = max(both, longest[i][j + 1], longest[i + 1][j])
    return 2 * longest[-1][-1] / (len(reference) + len(text))
