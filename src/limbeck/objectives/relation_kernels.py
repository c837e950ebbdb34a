"""GPU kernels of the relation divergence, written in Triton.

A program holds a block of tokens of one text and one head, and walks over the text's other tokens
as attention kernels do. The first kernel finds the logarithm of every softmax's denominator and
the divergence; with it, the second finds the gradients, whose scores it computes again.

Vectors lie text by text and token by token, with the slices of a token's heads side by side.
Logarithms have the base 2, as a GPU's exponential has.

Source: relations, Wang et al. 2021, MiniLMv2, arXiv:2012.15828, section 3; walking over blocks with
a running maximum, Dao et al. 2022, FlashAttention, arXiv:2205.14135.
"""

import triton
import triton.language as tl

BLOCK = 64  # tokens of a program


@triton.jit
def _slices(vectors, text, head, heads, places, tokens, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """A head's slices of the vectors at some places; 0 beyond the text and beyond the slice."""
    columns = tl.arange(0, PADDED)
    there = (places < tokens)[:, None] & (columns < WIDTH)[None, :]
    of_text = vectors + (text * tokens * heads + head) * WIDTH
    of_token = places * (heads * WIDTH)
    return tl.load(of_text + of_token[:, None] + columns[None, :], mask=there, other=0.0)


@triton.jit
def _scores(left, right, WIDTH: tl.constexpr, PRECISION: tl.constexpr):
    """Products of slices over the root of their width, in units of log2(e)."""
    return tl.dot(left, tl.trans(right), input_precision=PRECISION) * _scale(WIDTH)


@triton.jit
def _scale(WIDTH: tl.constexpr):
    return 1.4426950408889634 / tl.sqrt(float(WIDTH))


@triton.jit
def _marks(mask, documents, text, places, tokens, HIDING: tl.constexpr):
    """Which places are real tokens, and the document of each."""
    real = places < tokens
    document = places
    if HIDING[0]:
        real = real & (tl.load(mask + text * tokens + places, mask=real, other=0) != 0)
    if HIDING[1]:
        document = tl.load(documents + text * tokens + places, mask=places < tokens, other=-1)
    return real, document


@triton.jit
def _both(real, document, other_real, other_document, HIDING: tl.constexpr):
    """Whether two tokens are real and of one document."""
    both = real[:, None] & other_real[None, :]
    if HIDING[1]:
        both = both & (document[:, None] == other_document[None, :])
    return both


@triton.jit
def _joined(top, size, score, seen):
    """A running maximum and sum with more scores; how former sums shrink, and what was added."""
    highest = tl.maximum(top, tl.max(score, 1))
    shrunk = tl.exp2(top - highest)
    part = tl.where(seen, tl.exp2(score - highest[:, None]), 0.0)
    return highest, size * shrunk + tl.sum(part, 1), shrunk, part


@triton.jit
def _relation(score, log, seen):
    """The softmax of scores, given the logarithm of its denominator; 0 of a hidden pair."""
    return tl.exp2(tl.where(seen, score - log, -1.0e30))


@triton.jit
def sizes_of_block(
    sides,
    marks,
    sizes,
    values,
    tokens,
    heads,
    WIDTHS: tl.constexpr,
    PADDED: tl.constexpr,
    HIDING: tl.constexpr,
    CAUSAL: tl.constexpr,
    SIZE: tl.constexpr,
    OF_SCORES: tl.constexpr,
    OF_SLOPES: tl.constexpr,
):
    """The logarithms of both softmaxes' denominators, and the divergence of a block.

    ``sides`` are the student's and the teacher's left sides, then both right sides.
    """
    block, head, text = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    rows = block * SIZE + tl.arange(0, SIZE)
    real, document = _marks(marks[0], marks[1], text, rows, tokens, HIDING)
    mine = _slices(sides[0], text, head, heads, rows, tokens, WIDTHS[0], PADDED[0])
    theirs = _slices(sides[1], text, head, heads, rows, tokens, WIDTHS[1], PADDED[1])
    # A hidden score is -1e30: finite, because the difference of infinite numbers is NaN.
    top, of_top = tl.full((SIZE,), -1.0e30, tl.float32), tl.full((SIZE,), -1.0e30, tl.float32)
    size, of_size = tl.zeros((SIZE,), tl.float32), tl.zeros((SIZE,), tl.float32)
    expected = tl.zeros((SIZE,), tl.float32)
    end = tl.minimum(tokens, (block + 1) * SIZE) if CAUSAL else tokens
    for start in range(0, end, SIZE):
        columns = start + tl.arange(0, SIZE)
        other_real, other_document = _marks(marks[0], marks[1], text, columns, tokens, HIDING)
        seen = _both(real, document, other_real, other_document, HIDING)
        if CAUSAL:
            seen = seen & (columns[None, :] <= rows[:, None])
        other = _slices(sides[2], text, head, heads, columns, tokens, WIDTHS[0], PADDED[0])
        of_other = _slices(sides[3], text, head, heads, columns, tokens, WIDTHS[1], PADDED[1])
        score = tl.where(seen, _scores(mine, other, WIDTHS[0], OF_SCORES), -1.0e30)
        of_score = tl.where(seen, _scores(theirs, of_other, WIDTHS[1], OF_SCORES), -1.0e30)
        top, size, _, _ = _joined(top, size, score, seen)
        of_top, of_size, shrunk, part = _joined(of_top, of_size, of_score, seen)
        expected = expected * shrunk + tl.sum(part * (of_score - score), 1)
    # A row of padding has no size; it is 1 there, and its value 0.
    logs = top + tl.log2(tl.where(real, size, 1.0))
    of_logs = of_top + tl.log2(tl.where(real, of_size, 1.0))
    value = tl.where(real, expected / tl.where(real, of_size, 1.0) - of_logs + logs, 0.0)
    place, model = (text * heads + head) * tokens + rows, tl.num_programs(2) * heads * tokens
    tl.store(sizes + place, logs, mask=rows < tokens)
    tl.store(sizes + model + place, of_logs, mask=rows < tokens)
    number = (block * heads + head) * tl.num_programs(2) + text
    tl.store(values + number, tl.sum(value, 0) * 0.6931471805599453)


@triton.jit
def gradients_of_block(
    sides,
    marks,
    sizes,
    gradient,
    tokens,
    heads,
    WIDTHS: tl.constexpr,
    PADDED: tl.constexpr,
    HIDING: tl.constexpr,
    CAUSAL: tl.constexpr,
    SIZE: tl.constexpr,
    OF_SCORES: tl.constexpr,
    OF_SLOPES: tl.constexpr,
    OUT: tl.constexpr,
    INTO: tl.constexpr,
):
    """The gradient by a block of one side: of its own softmaxes (OUT), of the others' (INTO).

    ``sides`` are the student's and the teacher's of that side, then both of the other side.
    """
    block, head, text = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    rows = block * SIZE + tl.arange(0, SIZE)
    real, document = _marks(marks[0], marks[1], text, rows, tokens, HIDING)
    mine = _slices(sides[0], text, head, heads, rows, tokens, WIDTHS[0], PADDED[0])
    theirs = _slices(sides[1], text, head, heads, rows, tokens, WIDTHS[1], PADDED[1])
    logs = sizes + (text * heads + head) * tokens
    of_logs = logs + tl.num_programs(2) * heads * tokens
    depth: tl.constexpr = PADDED[0]
    found = tl.zeros((SIZE, depth), tl.float32)
    for start in range(0, tokens, SIZE):
        columns = start + tl.arange(0, SIZE)
        other_real, other_document = _marks(marks[0], marks[1], text, columns, tokens, HIDING)
        both = _both(real, document, other_real, other_document, HIDING)
        other = _slices(sides[2], text, head, heads, columns, tokens, WIDTHS[0], PADDED[0])
        of_other = _slices(sides[3], text, head, heads, columns, tokens, WIDTHS[1], PADDED[1])
        score = _scores(mine, other, WIDTHS[0], OF_SCORES)
        of_score = _scores(theirs, of_other, WIDTHS[1], OF_SCORES)
        slope = tl.zeros((SIZE, SIZE), tl.float32)
        if OUT:
            seen = both & (columns[None, :] <= rows[:, None]) if CAUSAL else both
            log = tl.load(logs + rows, mask=rows < tokens, other=0.0)[:, None]
            of_log = tl.load(of_logs + rows, mask=rows < tokens, other=0.0)[:, None]
            slope += _relation(score, log, seen) - _relation(of_score, of_log, seen)
        if INTO:
            seen = both & (rows[:, None] <= columns[None, :]) if CAUSAL else both
            log = tl.load(logs + columns, mask=columns < tokens, other=0.0)[None, :]
            of_log = tl.load(of_logs + columns, mask=columns < tokens, other=0.0)[None, :]
            slope += _relation(score, log, seen) - _relation(of_score, of_log, seen)
        found += tl.dot(slope, other.to(tl.float32), input_precision=OF_SLOPES)
    found = found * (_scale(WIDTHS[0]) * 0.6931471805599453) / heads
    places = tl.arange(0, depth)
    there = (rows < tokens)[:, None] & (places < WIDTHS[0])[None, :]
    of_text = gradient + (text * tokens * heads + head) * WIDTHS[0]
    of_token = rows * (heads * WIDTHS[0])
    tl.store(of_text + of_token[:, None] + places[None, :], found, mask=there)
