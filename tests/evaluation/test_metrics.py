import math

import pytest

from limbeck.evaluation.metrics import (
    classification_metrics,
    joint_metrics,
    regression_metrics,
    tagging_metrics,
)


def test_classification_against_the_long_way():
    predicted, expected = list("aabbb"), list("aabab")
    true_a, false_a, missed_a, true_b = 2, 0, 1, 2
    scores = classification_metrics(predicted, expected, positive="a")
    f1_a = 2 * true_a / (2 * true_a + false_a + missed_a)
    f1_b = 2 * true_b / (2 * true_b + missed_a + false_a)
    matthews = (true_a * true_b - false_a * missed_a) / math.sqrt(
        (true_a + false_a) * (true_a + missed_a) * (true_b + false_a) * (true_b + missed_a)
    )
    expected_scores = {
        "accuracy": 0.8,
        "macro_f1": (f1_a + f1_b) / 2,
        "matthews": matthews,
        "f1": f1_a,
    }
    assert scores == pytest.approx(expected_scores)


def test_f1_of_one_label_only_where_one_is_meant():
    assert "f1" not in classification_metrics(["a"], ["b"])


@pytest.mark.parametrize(
    ("predicted", "expected", "accuracy"),
    [("aa", "aa", 1.0), ("bb", "bb", 1.0), ("aa", "bb", 0.0), ("aa", "ab", 0.5)],
)
def test_one_label_on_a_side_gives_no_warning_and_no_correlation(predicted, expected, accuracy):
    scores = classification_metrics(list(predicted), list(expected), positive="a")
    assert scores["accuracy"] == accuracy
    assert scores["matthews"] == 0.0
    assert all(math.isfinite(score) for score in scores.values())


def test_regression():
    rising = regression_metrics([1.0, 2.0, 9.0], [0.1, 0.2, 0.3])
    assert rising["spearman"] == pytest.approx(1.0)
    assert 0.5 < rising["pearson"] < 1.0
    assert regression_metrics([3.0, 2.0, 1.0], [1.0, 2.0, 3.0])["pearson"] == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [([2.0] * 3, [1.0, 2.0, 3.0]), ([1.0, 2.0], [5.0] * 2), ([1.0], [1.0])],
)
def test_a_constant_has_no_correlation_and_scores_zero(predicted, expected):
    assert regression_metrics(predicted, expected) == {"pearson": 0.0, "spearman": 0.0}


@pytest.mark.parametrize(
    ("predicted", "span_f1"),
    [
        (["B-X", "I-X", "O", "B-Y"], 1.0),
        (["B-X", "O", "O", "B-Y"], 0.5),  # one end is wrong
        (["B-Y", "I-Y", "O", "B-Y"], 0.5),  # the type is wrong
        (["I-X", "I-X", "O", "B-Y"], 2 / 3),  # a span does not begin with I
        (["O", "O", "O", "O"], 0.0),
    ],
)
def test_spans_count_whole_or_not_at_all(predicted, span_f1):
    scores = tagging_metrics([predicted], [["B-X", "I-X", "O", "B-Y"]])
    assert scores["span_f1"] == pytest.approx(span_f1)
    assert scores["exact_sentence"] == float(span_f1 == 1)


def test_texts_without_any_span_give_no_warning():
    assert tagging_metrics([["O"]], [["O"]]) == {"span_f1": 0.0, "exact_sentence": 1.0}
    assert tagging_metrics([["B-X"]], [["O"]]) == {"span_f1": 0.0, "exact_sentence": 0.0}


def test_a_joint_text_is_exact_only_if_intent_and_every_tag_are():
    tags = [["B-X"], ["B-X"], ["O"], ["O"]]
    scores = joint_metrics(list("abab"), list("abbb"), tags, [["B-X"], ["O"], ["O"], ["O"]])
    assert scores == pytest.approx(
        {"intent_accuracy": 0.75, "span_f1": 2 / 3, "exact_sentence": 0.5}
    )
