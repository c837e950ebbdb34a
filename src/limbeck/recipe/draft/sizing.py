"""Layers, width and vocabulary of a student of a wanted size, from its teacher's configuration.

The parameters of a candidate are counted as `limbeck plan` counts them (`student.shape`). Where
milliseconds are wanted, candidates with random weights run on this machine.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from ...errors import RecipeError
from ...models.architecture import Architecture
from ...models.shapes import Shape
from ...models.weight_headers import decodes
from ...student.layer_copy import copy_problems
from ...student.shape import build_student, parameters_of_shape, shape_problems, student_config
from ..own_shape import grouped_heads
from ..sides import ModelSide
from .answers import Size

TEXT_LENGTH = 64  # tokens of the text that milliseconds are of
_MOST_OF_TARGET = 0.85  # a student at least so near to the wanted size is near enough
_LEAST_WIDTH_SHARE = 0.25  # of the teacher's, below which a smaller vocabulary is better
_LEAST_DEPTH_SHARE = 0.5  # of the teacher's layers, to copy them as wide as they are
_TABLE_SHARE = 0.4  # of the parameters that the table of a new vocabulary may take
_VOCABULARIES = (30_000, 16_000, 8_000, 5_000, 3_000)
_TIMED_VOCABULARY, _RUNS, _WARM_UP = 1_000, 15, 2  # a text reads but few rows of the table


@dataclass(frozen=True)
class Sized:
    """A student's sizes.

    Attributes:
        shape: All of them.
        parameters: Of the body, as `limbeck plan` has them.
        embeddings: Those of them in tables of embeddings.
        milliseconds: Of one text here; None where they were not measured.
        new_vocabulary: Whether its tokens are not the teacher's.
    """

    shape: Shape
    parameters: int
    embeddings: int
    milliseconds: float | None = None
    new_vocabulary: bool = False


def sized_student(
    teacher: ModelSide, size: Size, *, vocab_size: int | None, may_learn: bool, max_length: int
) -> Sized:
    """The student of the wanted size that keeps most of its teacher's shape.

    Args:
        teacher: Before its weights are loaded.
        size: At most so large or slow.
        vocab_size: Of a vocabulary of its own; None decides by the size.
        may_learn: Whether there is text that a vocabulary could be learned from.
        max_length: Tokens of a sequence.

    Raises:
        RecipeError: The size is not below the teacher's, or no student is so small.
    """
    whole, _ = _parameters(teacher, teacher.shape)
    if size.parameters is None:
        shape = teacher.shape if vocab_size is None else _of_tokens(teacher.shape, vocab_size)
        return _fast_enough(teacher, shape, size.amount, min(max_length, TEXT_LENGTH))
    target = size.parameters
    if target >= whole:
        raise RecipeError(
            f"the wanted size is {size}, and the teacher has {whole / 1e6:.3g}M parameters"
            f" ({4 * whole / 1e6:.3g} MB); give less"
        )
    shape = teacher.shape if vocab_size is None else _of_tokens(teacher.shape, vocab_size)
    found = _within(teacher, shape, target)
    narrow = found is None or (
        found.shape.hidden_size < _LEAST_WIDTH_SHARE * teacher.shape.hidden_size
    )
    if vocab_size is None and may_learn and narrow:
        found = _with_fewer_tokens(teacher, target) or found
    if found is None:
        raise RecipeError(_too_small(teacher, shape, size, may_learn=may_learn))
    return found if vocab_size is None else replace(found, new_vocabulary=True)


def _within(
    teacher: ModelSide, shape: Shape, target: float, *, table_share: float = 1.0
) -> Sized | None:
    """The student that keeps most of its teacher, of those nearly as large as is wanted.

    Args:
        teacher: Before its weights are loaded.
        shape: The largest.
        target: Parameters at most.
        table_share: Of the target, how much the table of embeddings may take.
    """
    fitting = [
        one
        for one in _candidates(teacher, shape)
        if one.parameters <= target and one.embeddings <= table_share * target
    ]
    if not fitting:
        return None
    most = max(one.parameters for one in fitting)
    near = [one for one in fitting if one.parameters >= _MOST_OF_TARGET * most]
    if whole := [one for one in near if keeps_layers(one.shape, teacher.shape)]:
        return max(whole, key=lambda one: one.parameters)
    return min(near, key=lambda one: (_imbalance(one.shape, teacher.shape), -one.parameters))


def _with_fewer_tokens(teacher: ModelSide, target: float) -> Sized | None:
    """The same with as many tokens of its own as leave most parameters to the layers."""
    for tokens in _VOCABULARIES:
        if tokens >= teacher.shape.vocab_size:
            continue
        shape = _of_tokens(teacher.shape, tokens)
        if found := _within(teacher, shape, target, table_share=_TABLE_SHARE):
            return replace(found, new_vocabulary=True)
    return None


def _candidates(teacher: ModelSide, shape: Shape) -> Iterator[Sized]:
    """Students of every number of layers and heads, with the teacher's width of a head.

    The parameters of a width are linear in the layers, so that two models of each width are made.
    """
    for narrow in _widths(shape, teacher.architecture):
        one, two = (replace(narrow, num_hidden_layers=layers) for layers in (1, 2))
        if _cannot_be(one, teacher):
            continue
        first, embeddings = _parameters(teacher, one)
        each = _parameters(teacher, two)[0] - first
        for layers in range(1, shape.num_hidden_layers + 1):
            total = first + (layers - 1) * each
            yield Sized(replace(narrow, num_hidden_layers=layers), total, embeddings)


def _cannot_be(shape: Shape, teacher: ModelSide) -> bool:
    """Whether no such student can be made, or none that starts from its teacher's layers."""
    row = teacher.architecture
    if shape_problems(shape, row, teacher.config):
        return True
    whole = shape.num_hidden_layers * [[0]]
    return bool(row.axes) and bool(copy_problems(shape, teacher.shape, whole, rotary=row.rotary))


def _widths(shape: Shape, architecture: Architecture) -> Iterator[Shape]:
    heads, groups = shape.num_attention_heads, shape.num_key_value_heads
    ratio = shape.intermediate_size / shape.hidden_size
    own = shape.head_dim is not None and shape.query_width != shape.hidden_size
    for count in range(1, heads + 1):
        if (count * shape.hidden_size) % heads:
            continue
        hidden = count * shape.hidden_size // heads
        inner = 8 * max(1, round(ratio * hidden / 8)) if count < heads else shape.intermediate_size
        yield replace(
            shape,
            hidden_size=hidden,
            num_attention_heads=count,
            intermediate_size=inner if architecture.intermediate_field else 4 * hidden,
            num_key_value_heads=groups and grouped_heads(count, heads // groups),
            head_dim=shape.head_dim if own or count == heads else None,
        )


def keeps_layers(shape: Shape, teacher: Shape) -> bool:
    """Whether a student has enough of its teacher's layers, each of them as wide as it was.

    Copied whole they compute at first what they did, and need no more steps than as many parameters
    in more and narrower layers, which take longer.
    """
    enough = shape.num_hidden_layers >= _LEAST_DEPTH_SHARE * teacher.num_hidden_layers
    return enough and shape.hidden_size == teacher.hidden_size


def _imbalance(shape: Shape, teacher: Shape) -> float:
    """How differently depth and width are reduced; 0 where both are by the same factor."""
    depth = shape.num_hidden_layers / teacher.num_hidden_layers
    return abs(math.log(depth) - math.log(shape.hidden_size / teacher.hidden_size))


def _fast_enough(teacher: ModelSide, shape: Shape, most: float, length: int) -> Sized:
    """The largest student within so many milliseconds: the teacher's layers whole, or narrower."""
    widths = [one for one in _widths(shape, teacher.architecture) if not _cannot_be(one, teacher)]
    whole, narrower = [], []
    for layers in range(1, shape.num_hidden_layers + 1):
        some = [replace(width, num_hidden_layers=layers) for width in widths]
        whole += [one for one in some if keeps_layers(one, teacher.shape)]
        narrower.append(min(some, key=lambda one: _imbalance(one, teacher.shape)))
    best = _largest_within(teacher, whole, most, length)
    best = best or _largest_within(teacher, narrower, most, length)
    if best is None:
        taken = _milliseconds(teacher, narrower[0], length)
        raise RecipeError(
            f"the wanted time is {most:g} ms for a text of {length} tokens, and a student of one"
            f" layer takes {taken:.2g} ms here in float32; give more milliseconds, or"
            " a size (an exported file in 8 bits is several times faster: limbeck export)"
        )
    parameters, embeddings = _parameters(teacher, best[0])
    new = shape.vocab_size != teacher.shape.vocab_size
    return Sized(best[0], parameters, embeddings, best[1], new)


def _largest_within(
    teacher: ModelSide, shapes: Sequence[Shape], most: float, length: int
) -> tuple[Shape, float] | None:
    """The last of ever slower shapes that takes so many milliseconds at most, and how many."""
    best, low, high = None, 0, len(shapes)
    while low < high:
        middle = (low + high) // 2
        taken = _milliseconds(teacher, shapes[middle], length)
        if taken <= most:
            best, low = (shapes[middle], taken), middle + 1
        else:
            high = middle
    return best


def _milliseconds(teacher: ModelSide, shape: Shape, length: int) -> float:
    """Of one text on this machine in float32, with random weights.

    It is the fastest of some forwards, which other work on the machine delays least.
    """
    small = replace(shape, vocab_size=_TIMED_VOCABULARY, tokens=None, absent=())
    config = student_config(teacher.config, teacher.architecture, small)
    config.pad_token_id = 0
    model = build_student(config, seed=0, architecture=teacher.architecture).base_model
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, _TIMED_VOCABULARY, (1, length), generator=generator)
    times = []
    with torch.inference_mode():
        for _ in range(_WARM_UP + _RUNS):
            began = time.perf_counter()
            model(input_ids=ids)
            times.append(time.perf_counter() - began)
    return 1000 * min(times[_WARM_UP:])


def _parameters(teacher: ModelSide, shape: Shape) -> tuple[int, int]:
    config = student_config(teacher.config, teacher.architecture, shape)
    headed = decodes(teacher.name, architecture=teacher.architecture)
    return parameters_of_shape(config, with_head=headed, architecture=teacher.architecture)


def _of_tokens(shape: Shape, vocab_size: int) -> Shape:
    return replace(shape, vocab_size=vocab_size, tokens=None, absent=())


def _too_small(teacher: ModelSide, shape: Shape, size: Size, *, may_learn: bool) -> str:
    smallest = min(_candidates(teacher, shape), key=lambda one: one.parameters)
    least, table = smallest.parameters, smallest.embeddings
    smaller = "" if may_learn else ", or a tokenizer with fewer tokens (limbeck vocabulary trim)"
    return (
        f"the wanted size is {size}, and the smallest student with {shape.vocab_size:,} tokens, 1"
        f" layer of width {smallest.shape.hidden_size}, has {least / 1e6:.3g}M parameters"
        f" ({4 * least / 1e6:.3g} MB), {table / max(1, least):.0%} of them embeddings; give more"
        f"{smaller}"
    )
