"""The sizes of a student that is made: given, its teacher's, or its family's."""

from collections.abc import Mapping

from transformers import PreTrainedTokenizerFast

from ..errors import Problem
from ..models.architecture import Architecture
from ..models.shapes import Shape
from ..token_ids import TokenIds
from .models_part import StudentPart
from .sides import ModelSide, same_tokens

_SIZES = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
_LIMITED = ("table", "rotary")  # positions


def own_shape(
    student: StudentPart,
    teacher: ModelSide | None,
    relative: ModelSide | None,
    like: Shape,
    architecture: Architecture,
    tokenizer: PreTrainedTokenizerFast,
) -> tuple[Shape | None, list[Problem]]:
    """The sizes that the student names; those that it leaves out are the teacher's.

    Args:
        student: As the recipe has it.
        teacher: None where there is none.
        relative: The teacher, where it is of the same family.
        like: The sizes of the teacher of the same family, or those that the family has by default.
        architecture: Of the family.
        tokenizer: The student's.

    Returns:
        None where a size is missing; and all problems.
    """
    given = {name: getattr(student, name) for name in _SIZES}
    sizes = {
        name: getattr(teacher.shape, name) if size is None and teacher else size
        for name, size in given.items()
    }
    if not architecture.intermediate_field and not student.intermediate_size:
        sizes["intermediate_size"] = sizes["hidden_size"] and 4 * sizes["hidden_size"]
    if missing := [name for name, size in sizes.items() if size is None]:
        message = "is missing; without a teacher every size must be given"
        return None, [(f"student.{name}", message) for name in missing]
    ids = TokenIds.of(tokenizer)
    rows = ids.end
    if teacher and same_tokens(teacher.tokenizer, tokenizer):
        rows = max(teacher.shape.vocab_size, rows)
    shape = Shape(
        **sizes,
        vocab_size=student.vocab_size or rows,
        max_position_embeddings=student.max_position_embeddings
        or _positions(None if relative else teacher, like, architecture),
        num_key_value_heads=_key_value_heads(student, sizes["num_attention_heads"], teacher, like),
        head_dim=_head_size(sizes, relative.shape if relative else None),
        causal=like.causal,
        tokens=len(ids),
        absent=ids.absent,
    )
    return shape, []


def _positions(other: ModelSide | None, like: Shape, architecture: Architecture) -> int:
    """The family's, or those of a teacher of another one, as far as the student's can be as many.

    A table of positions is not made longer than the family has it: it costs parameters.
    """
    own = like.max_position_embeddings
    if other is None or other.architecture.positions not in _LIMITED:
        return own
    theirs = other.shape.max_position_embeddings
    return {"rotary": theirs, "table": min(theirs, own)}.get(architecture.positions, own)


def _key_value_heads(
    student: StudentPart, heads: int, teacher: ModelSide | None, like: Shape
) -> int | None:
    """As given, or with as many query heads each as in the teacher, or a few less.

    One head for all where the family has one, and None where it does not group them.
    """
    if student.num_key_value_heads or like.num_key_value_heads in (None, 1):
        return student.num_key_value_heads or like.num_key_value_heads
    own = teacher.shape if teacher else like
    shared = own.num_attention_heads // (own.num_key_value_heads or own.num_attention_heads)
    return grouped_heads(heads, shared)


def grouped_heads(heads: int, shared: int) -> int:
    """Heads of keys and values, each for so many query heads or a few less."""
    return heads // max(n for n in range(1, shared + 1) if heads % n == 0)


def _head_size(sizes: Mapping[str, int], teacher: Shape | None) -> int | None:
    """The teacher's, where it is not hidden / heads, or where the student has both alike."""
    if teacher is None or teacher.head_dim is None:
        return None
    alike = (sizes["hidden_size"], sizes["num_attention_heads"]) == (
        teacher.hidden_size,
        teacher.num_attention_heads,
    )
    # Gemma's and Qwen 3's heads have a width of their own, which a narrower student keeps.
    own = teacher.query_width != teacher.hidden_size
    return teacher.head_dim if alike or own else None
