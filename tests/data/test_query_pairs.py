"""Pairs of rows of one query: complete, seeded, and the same from any place."""

from collections import Counter

import numpy as np
import pytest

from limbeck.data.query_pairs import QueryPairs, pairs_first, query_numbers, rows_alone
from limbeck.errors import DataError

QUERIES = ["x", "y", "x", "z", "y", "x", "w", "v", "v", "v", "v", "u"]  # three alone


def a_pass(order: QueryPairs, number: int) -> list[tuple[int, int]]:
    size = order.in_a_pass
    return [tuple(pair) for pair in order.pairs(number * size, size).tolist()]


def test_every_row_is_in_a_pair_of_its_query_in_every_pass():
    order = QueryPairs(query_numbers(QUERIES), seed=3)
    assert rows_alone(query_numbers(QUERIES)) == 3
    for number in range(20):
        pairs = a_pass(order, number)
        assert len(pairs) == order.in_a_pass == 2 + 1 + 2 + 2
        times = Counter(row for pair in pairs for row in pair)
        assert times.keys() == set(range(len(QUERIES)))
        twice = [row for row, count in times.items() if count > 1]
        assert len(twice) == 2 and max(times.values()) == 2  # one of x, and one of those alone
        assert all(one != other for one, other in pairs)
        of_queries = [pair for pair in pairs if QUERIES[pair[0]] == QUERIES[pair[1]]]
        assert len(of_queries) == 2 + 1 + 2
        assert {row for pair in of_queries for row in pair} == {
            row for row, query in enumerate(QUERIES) if QUERIES.count(query) > 1
        }


def test_partners_change_and_each_of_them_comes():
    order = QueryPairs(query_numbers(["x"] * 4), seed=0)
    seen = {frozenset(pair) for number in range(40) for pair in a_pass(order, number)}
    assert len(seen) == 6
    order = QueryPairs(query_numbers(QUERIES), seed=0)
    first = {QUERIES[row] for number in range(40) for row in a_pass(order, number)[0]}
    assert first == set(QUERIES)  # a pass begins with any query


def test_the_stream_is_the_same_from_any_place_and_depends_on_the_seed():
    numbers = query_numbers(QUERIES)
    whole = QueryPairs(numbers, seed=1).pairs(0, 40)
    parts = QueryPairs(numbers, seed=1)
    for start in (33, 5, 20, 0):
        assert np.array_equal(parts.pairs(start, 7), whole[start : start + 7])
    assert not np.array_equal(QueryPairs(numbers, seed=2).pairs(0, 40), whole)


def test_a_single_row_that_is_alone_comes_beside_one_of_another_query():
    queries = ["x", "x", "y"]
    pairs = a_pass(QueryPairs(query_numbers(queries), seed=0), 0)
    [alone] = [pair for pair in pairs if 2 in pair]
    assert len(pairs) == 2 and alone in ((2, 0), (2, 1))


def test_pairs_come_first_in_rows_that_are_each_read_once():
    order = pairs_first(query_numbers(QUERIES)).tolist()
    assert sorted(order) == list(range(len(QUERIES)))
    same = [QUERIES[a] == QUERIES[b] for a, b in zip(order[0::2], order[1::2], strict=True)]
    assert same == [True] * 4 + [False] * 2


def test_queries_of_one_row_each_are_refused():
    with pytest.raises(DataError, match="several text_pair"):
        QueryPairs(query_numbers(["x", "y"]), seed=0)
