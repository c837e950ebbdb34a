"""Rows of a task as batches: each model reads them in its own tokens, and says the same of them.

A row is read as `evaluation` reads it. Where the whole text is classified one token of each row is
marked as predicted, its first; where words are tagged, the first token of each word that both
models still read. So predictions of two models belong together, whatever their tokens are. Where a
stage compares more than predictions, equal tokens of the same letters are linked.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int64

from ..batch import UNLABELED, Batch, Links, Tokens
from ..data.corpus import SeededOrder
from ..data.query_pairs import QueryPairs, pairs_first, query_numbers
from ..errors import RecipeError
from ..evaluation.examples import Reading, Span, multi_hot
from ..evaluation.tasks import Example
from ..models.task_heads import TaskHead
from ..recipe.setup import Setup
from ..recipe.stage_rows import compares_pairs, learns_labels_alone
from ..recipe.vectors import teacher_prompt
from ..tokenization.aligned import links_of
from ..tokenization.batching import ALL_ROWS, BatchSource, as_tokens
from ..tokenization.padding import padded, real_tokens
from ..tokenization.post_processor import own_frame
from ..tokenization.token_map import TokenMap
from ..training.stage import Stage
from .reader import Reader

_TOGETHER = 16  # most batches whose rows are sorted by length


@dataclass(frozen=True)
class TaskBatches(BatchSource):
    """Batches of rows in a random order, those of a batch of similar length.

    Attributes:
        table: The rows.
        head: What is said of them; its labels have the order of the student's logits.
        student: How the student reads them.
        teacher: How the teacher does; None where it reads the same tokens.
        size: Rows in a batch.
        seed: Of the order.
        shuffled: False keeps the order of the rows.
        in_pairs: Whether rows 2k and 2k+1 of a batch are of one query, a text, as far as there are
            such rows; the batches then say whose query each row is of.
        shared: The teacher's tokens in the student's vocabulary, where tokens of the same letters
            are linked; None where they are not.
    """

    table: Sequence[Example]
    head: TaskHead | None
    student: Reader
    teacher: Reader | None
    size: int
    seed: int
    shuffled: bool = True
    in_pairs: bool = False
    shared: TokenMap | None = None
    _order: SeededOrder | QueryPairs = field(init=False, repr=False)
    _queries: Int64[np.ndarray, " rows"] | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        queries = query_numbers([row.text for row in self.table]) if self.in_pairs else None
        object.__setattr__(self, "_queries", queries)
        order = SeededOrder((len(self.table),), (1.0,), self.seed)
        pairs = None if queries is None or not self.shuffled else QueryPairs(queries, self.seed)
        object.__setattr__(self, "_order", pairs or order)

    def batch(self, number: int, rows: slice = ALL_ROWS) -> Batch:
        """The batch of a number, counted from 0, or some rows of it."""
        places = self._places(number)[rows]
        chosen = [self.table[place] for place in places]
        queries = None if self._queries is None else torch.from_numpy(self._queries[places])
        mine = [self.student.read(row) for row in chosen]
        if self.teacher is None:
            words = [set(row.words) for row in mine]
            tokens = replace(self._tokens(chosen, mine, self.student, words), queries=queries)
            return Batch(tokens, tokens)
        theirs = [self.teacher.read(row) for row in chosen]
        words = [set(one.words) & set(other.words) for one, other in zip(mine, theirs, strict=True)]
        return Batch(
            replace(self._tokens(chosen, mine, self.student, words), queries=queries),
            replace(self._tokens(chosen, theirs, self.teacher, words), queries=queries),
            _links(self.shared, mine, theirs) if self.shared else None,
        )

    def _places(self, number: int) -> list[int]:
        """The rows of a batch, out of those of several batches that were sorted by length."""
        if not self.shuffled:
            order = self._unshuffled
            first = number * self.size
            return [int(order[n % len(order)]) for n in range(first, first + self.size)]
        together = _sorted_together(len(self.table), self.size)
        group, inside = divmod(number, together)
        drawn = self._drawn(group, self.size * together)
        lengths = np.array([max(_letters(self.table[n]) for n in rows) for rows in drawn])
        ordered = drawn[np.argsort(lengths, kind="stable")]
        part = np.random.default_rng((self.seed, group)).permutation(together)[inside]
        found: list[int] = np.split(ordered, together)[part].flatten().tolist()
        return found

    def _drawn(self, group: int, count: int) -> Int64[np.ndarray, "drawn together"]:
        """The rows of several batches: one by one, or in pairs."""
        if isinstance(self._order, QueryPairs):
            return self._order.pairs(group * count // 2, count // 2)
        return self._order.indices(group * count, count)[:, None]

    @cached_property
    def _unshuffled(self) -> Int64[np.ndarray, " rows"]:
        """The rows in their order; where they are read in pairs, pairs first."""
        if self._queries is None:
            return np.arange(len(self.table))
        return pairs_first(self._queries)

    def _tokens(
        self,
        rows: Sequence[Example],
        read: Sequence[Reading],
        reader: Reader,
        words: Sequence[set[int]],
    ) -> Tokens:
        """What one model reads, and what is to be said of it.

        Args:
            rows: Of the batch.
            read: The same in the model's tokens.
            reader: Of the model.
            words: Of each row, the words that both models read.
        """
        tokens_of_rows = [row.ids for row in read]
        ids = padded(tokens_of_rows, reader.tokenizer.pad_token_id or 0, np.int64)
        real = real_tokens(tokens_of_rows)
        predicted, labels = np.zeros_like(real), np.full_like(ids, UNLABELED)
        scores = np.full(ids.shape, np.nan, dtype=np.float32)
        for number, row in enumerate(rows):
            for place, label in self._targets(row, read[number], words[number]):
                predicted[number, place] = True
                if isinstance(label, float):
                    scores[number, place] = label
                elif label is not None:
                    labels[number, place] = label
        tokens = as_tokens(ids, real, labels, predicted)
        if self.head and self.head.multi_label:
            tokens = replace(tokens, multi_hot=multi_hot(rows, self.head.labels))
        if self.head and self.head.scores:
            tokens = replace(tokens, scores=torch.from_numpy(scores))
        if reader.segments > 1:
            types = padded([row.types for row in read], 0, np.int64)
            tokens = replace(tokens, token_type_ids=torch.from_numpy(types))
        return tokens

    def _targets(
        self, row: Example, read: Reading, words: set[int]
    ) -> Iterator[tuple[int, int | float | None]]:
        """Where something is said of a row, and the class or number that is known of it."""
        head = self.head
        if head is None:
            return
        if head.kind == "sequence":
            known: int | float | None = None
            if isinstance(row.label, float):
                known = row.label
            elif isinstance(row.label, str):
                known = head.labels.index(row.label)
            yield 0, known
            return
        for place, word in enumerate(read.begins):
            if word in words:
                yield place, None if row.tags is None else head.labels.index(row.tags[word])


def _links(tokens: TokenMap, student: Sequence[Reading], teacher: Sequence[Reading]) -> Links:
    """Links between the tokens that both have for the same letters, in every row."""
    linked = []
    for mine, theirs in zip(student, teacher, strict=True):
        of_student, of_teacher = np.full(len(mine.ids), -1), np.full(len(theirs.ids), -1)
        there = place_of_each_span(theirs)
        groups = 0
        for span, place in place_of_each_span(mine).items():
            other = there.get(span)
            if other is not None and tokens.same[theirs.ids[other]] == mine.ids[place]:
                of_student[place] = of_teacher[other] = groups
                groups += 1
        linked.append((of_student, of_teacher))
    return links_of(linked)


def place_of_each_span(read: Reading) -> dict[Span, int]:
    """The tokens that stand alone for their letters; several may be bytes of one letter."""
    often = Counter(read.spans)
    return {span: n for n, span in enumerate(read.spans) if span and often[span] == 1}


def batches_of_a_pass(rows: int, size: int) -> int:
    """The first batches, out of which every one of so many rows has been read.

    >>> batches_of_a_pass(1000, 10)  # rows are sorted within 16 batches, which are read as a whole
    112
    >>> batches_of_a_pass(50, 10)  # of few rows, those of a pass
    5
    """
    together = _sorted_together(rows, size)
    return together * -(-rows // (size * together))


def _sorted_together(rows: int, size: int) -> int:
    """Batches whose rows are sorted by length, no more than a pass has.

    Rows of several passes would stand beside themselves: batches of the same few rows.
    """
    return max(1, min(_TOGETHER, rows // size))


def _letters(row: Example) -> int:
    """About how long a row is."""
    texts = row.words or (row.text or "", row.text_pair or "")
    return sum(map(len, texts)) + len(texts)


def task_batches(
    setup: Setup, *, held_out: bool, size: int, seed: int = 0, stage: Stage | None = None
) -> TaskBatches:
    """The rows of a recipe's task that are learned from, or those that are held out.

    Args:
        setup: A checked recipe.
        held_out: Which of the two.
        size: Rows in a batch; even where the stage compares pairs of rows.
        seed: Of the order.
        stage: Whose objectives may compare pairs of rows of one query, or tokens of the same text.
    """
    rows, models = setup.rows, setup.models
    if rows is None:
        raise RecipeError("the recipe has no rows of a task; give `data.task`")
    if stage is not None and learns_labels_alone(stage.objectives.values()):
        rows = rows.labelled
    mine = Reader.of(models.student, setup.recipe.data.max_length)
    theirs = teacher_reader(setup) if models.teacher else None
    alike = theirs is None or (
        not models.two_vocabularies
        and own_frame(theirs.tokenizer.backend_tokenizer)
        == own_frame(mine.tokenizer.backend_tokenizer)
        and replace(theirs, tokenizer=mine.tokenizer) == mine
    )
    return TaskBatches(
        table=rows.held_out if held_out else rows.train,
        head=models.student.head,
        student=mine,
        teacher=None if alike else theirs,
        size=size,
        seed=seed,
        shuffled=not held_out,
        in_pairs=stage is not None and compares_pairs(stage.objectives.values()),
        shared=models.tokens if stage is not None and stage.alignment else None,
    )


def teacher_reader(setup: Setup) -> Reader:
    """How the teacher of a recipe reads rows.

    Raises:
        RecipeError: There is no teacher.
    """
    found = Reader.of(setup.models.required_teacher(), setup.recipe.data.max_length)
    if setup.learns_vectors and setup.recipe.teacher:
        return replace(found, prompt=teacher_prompt(setup.recipe.teacher))
    return found
