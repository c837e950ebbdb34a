"""Answers become a recipe: the sizes are chosen, every choice is explained, and all is checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

import yaml
from rich.console import Console

from ...errors import RecipeError
from ...models.task_heads import head_of, no_head_of_task
from ...models.weight_headers import has_vocabulary_head
from ...system.files import check_can_be_made, write_text
from ...tokenization.folders import learn_vocabulary
from ..check import check
from ..describe import describe_models
from ..models_part import StudentPart, TeacherPart
from ..parse import problems_message
from ..sides import ModelSide
from .answers import Answers, Kind
from .sizing import TEXT_LENGTH, Sized, keeps_layers, sized_student
from .stages import Section, data_section, evaluation_section, stages_section

_LENGTH = 128  # tokens of a sequence
_NEARLY_AS_WIDE = 0.75  # of the teacher's width; measured at 0.83 and 1
_WIDTH = 98  # characters of a line
_LONG_NUMBER = 10_000  # from which on digits are grouped
_NAMES: dict[Kind, str] = {
    "student": "A general student",
    "classifier": "A classifier",
    "tagger": "A tagger",
    "embeddings": "An embedding model",
    "decoder": "A decoder",
}


@dataclass(frozen=True)
class Draft:
    """A recipe that was written.

    Attributes:
        text: YAML with comments.
        warnings: What `limbeck plan` warns of.
    """

    text: str
    warnings: list[str]


def write_recipe(answers: Answers, output: Path, *, console: Console | None = None) -> Draft:
    """Write a recipe that `limbeck plan` accepts; returns what was written.

    Where the student needs a vocabulary of its own, it is learned from the text and stored beside
    the recipe.

    Args:
        answers: What the user has and wants.
        output: The file; nothing is ever replaced.
        console: Shows the progress of learning a vocabulary.

    Raises:
        RecipeError: The file is there, answers do not go together, the size cannot be reached, or
            the recipe would have problems, all of which the message names.
    """
    check_new(output)
    answers.check()
    teacher = _teacher(answers)
    length = answers.max_length or min(_LENGTH, teacher.shape.max_position_embeddings)
    sized = sized_student(
        teacher,
        answers.size,
        vocab_size=answers.vocab_size,
        may_learn=answers.kind == "student",
        max_length=length,
    )
    vocabulary = None
    if sized.new_vocabulary:
        vocabulary = output.with_name(f"{output.stem}-vocabulary")
        if vocabulary.exists():
            raise RecipeError(f"{vocabulary} is there already; nothing is replaced: remove it")
        learn_vocabulary(
            answers.text,
            vocabulary,
            vocab_size=sized.shape.vocab_size,
            like=answers.teacher,
            console=console,
        )
    sections = _sections(answers, teacher, sized, vocabulary, length)
    setup, problems = check({section.key: section.value for section in sections})
    if setup is None:
        raise RecipeError(problems_message(problems))
    draft = Draft(recipe_text(sections, _top(answers)), setup.warnings)
    check_new(output)  # learning tokens may have taken minutes
    write_text(output, draft.text)
    return draft


def check_new(output: Path) -> None:
    """See that a file can be written without replacing another.

    Raises:
        OSError: It cannot be made where it would lie.
        RecipeError: Something of that name is there.
    """
    if output.exists():
        raise RecipeError(f"{output} is there already, and nothing is replaced; give another name")
    check_can_be_made(output)


def recipe_text(sections: Sequence[Section], top: Sequence[str]) -> str:
    """A recipe as YAML, with comments at the top and before its parts."""
    lines = _commented(top)
    for section in sections:
        lines += _commented(section.why)
        value = {section.key: _with_short_maps(section.value)}
        shown = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH)
        lines.append(shown.rstrip("\n"))
    return "\n".join(lines) + "\n"


def _commented(sentences: Sequence[str]) -> list[str]:
    return [f"# {line}" for sentence in sentences for line in wrap(sentence, _WIDTH - 2)]


class _OnOneLine(dict[str, Any]):
    """A mapping that is written in braces."""


class _Dumper(yaml.SafeDumper):
    """Numbers and short mappings as recipes have them: 6.0e-4, 4_000_000, {layers: uniform}."""


def _with_short_maps(value: Any, depth: int = 0) -> Any:
    """The same; mappings of plain values within it are written on a line of their own."""
    if isinstance(value, list):
        return [_with_short_maps(item, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    plain = not any(isinstance(item, (dict, list)) for item in value.values())
    kind = _OnOneLine if plain and depth else dict
    return kind({name: _with_short_maps(item, depth + 1) for name, item in value.items()})


def _float(dumper: yaml.SafeDumper, value: float) -> yaml.ScalarNode:
    text = f"{value:.1e}".replace("e-0", "e-") if 0 < value < 0.01 else repr(value)
    return dumper.represent_scalar("tag:yaml.org,2002:float", text)


def _whole(dumper: yaml.SafeDumper, value: int) -> yaml.ScalarNode:
    text = f"{value:_}" if value >= _LONG_NUMBER else str(value)
    return dumper.represent_scalar("tag:yaml.org,2002:int", text)


def _mapping(dumper: yaml.SafeDumper, value: dict[str, Any]) -> yaml.MappingNode:
    return dumper.represent_mapping("tag:yaml.org,2002:map", value, isinstance(value, _OnOneLine))


_Dumper.add_representer(float, _float)
_Dumper.add_representer(int, _whole)
_Dumper.add_representer(dict, _mapping)
_Dumper.add_representer(_OnOneLine, _mapping)


def _teacher(answers: Answers) -> ModelSide:
    """The teacher before its weights are loaded.

    Raises:
        RecipeError: It cannot be used, or is not of the kind that the recipe needs.
    """
    models, problems, _ = describe_models(TeacherPart(model=answers.teacher), StudentPart())
    if models is None:
        raise RecipeError(problems_message(problems))
    teacher = models.required_teacher()
    if teacher.architecture.causal and answers.kind == "student":
        raise RecipeError(f"{answers.teacher} is a decoder; give --kind decoder")
    if not teacher.architecture.causal and answers.kind == "decoder":
        raise RecipeError(f"{answers.teacher} is an encoder; give --kind student")
    if answers.kind in ("classifier", "tagger") and head_of(teacher.config) is None:
        raise RecipeError(no_head_of_task(answers.teacher, teacher.config))
    return teacher


def _sections(
    answers: Answers, teacher: ModelSide, sized: Sized, vocabulary: Path | None, length: int
) -> list[Section]:
    head = has_vocabulary_head(answers.teacher, architecture=teacher.architecture) is not False
    task = head_of(teacher.config)
    positions = teacher.shape.max_position_embeddings
    scored = evaluation_section(answers, length=length, positions=positions)
    stages = stages_section(
        answers,
        length=length,
        new_vocabulary=sized.new_vocabulary,
        nearly_as_wide=sized.shape.hidden_size >= _NEARLY_AS_WIDE * teacher.shape.hidden_size,
        has_head=head,
        gives_numbers=task is not None and task.scores,
    )
    return [
        Section("name", [], f"{Path(answers.teacher).name.lower()}-{answers.kind}"),
        Section("teacher", [], answers.teacher),
        _student(teacher, sized, vocabulary),
        data_section(answers, length=length),
        stages,
        *([scored] if scored else []),
    ]


def _student(teacher: ModelSide, sized: Sized, vocabulary: Path | None) -> Section:
    shape = sized.shape
    value: dict[str, Any] = {
        "num_hidden_layers": shape.num_hidden_layers,
        "hidden_size": shape.hidden_size,
        "num_attention_heads": shape.num_attention_heads,
    }
    if teacher.architecture.intermediate_field:
        value["intermediate_size"] = shape.intermediate_size
    if vocabulary is not None:
        value |= {"tokenizer": str(vocabulary), "embedding_init": "mean"}
    narrower = shape.hidden_size < teacher.shape.hidden_size
    copied: dict[str, str] = {"layers": "uniform"}
    if narrower and vocabulary is None:
        copied["width"] = "importance"
    why = _why(teacher, sized)
    if narrower and not teacher.architecture.axes:
        why.append("Its layers start at random: of this type they cannot be copied narrower.")
    else:
        value["init_from_teacher"] = copied
    return Section("student", why, value)


def _why(teacher: ModelSide, sized: Sized) -> list[str]:
    shape, whole = sized.shape, teacher.shape
    size = (
        f"{sized.parameters / 1e6:.2f}M parameters, {sized.embeddings / 1e6:.2f}M of them"
        f" embeddings: {4 * sized.parameters / 1e6:.1f} MB in float32, about a quarter of that in"
        " an exported file of 8 bits."
    )
    teacher_size = f"{whole.num_hidden_layers} x {whole.hidden_size}"
    if keeps_layers(shape, whole):
        chosen = f" Some layers of {teacher_size} are copied as wide as they are."
    else:
        chosen = (
            f" Depth and width are reduced alike from {teacher_size};"
            " a head keeps its width, the feed-forward its ratio."
        )
    lines = [size + chosen]
    if sized.milliseconds is not None:
        lines.append(
            f"{sized.milliseconds:.2g} ms for a text of {TEXT_LENGTH} tokens here, in float32,"
            " measured with random weights."
        )
    if sized.new_vocabulary:
        lines.append(
            f"{shape.vocab_size:,} tokens of its own, because the table of the teacher's"
            f" {whole.vocab_size:,} would leave too little for the layers."
        )
    return lines


def _top(answers: Answers) -> list[str]:
    """What the recipe is for, and what to do with it."""
    lines = [
        f"{_NAMES[answers.kind]} of {answers.teacher} within {answers.size}, as `limbeck init`"
        " proposes it.",
        "`limbeck plan FILE` shows its steps, time and memory, `limbeck distill FILE -o RUN`"
        " carries it out.",
    ]
    scored = answers.kind in ("student", "decoder") and not answers.task
    if scored and (tasks := answers.tasks_of_its_language):
        lines.append(f"Published tasks in {answers.language}, to evaluate on: {', '.join(tasks)}.")
    return lines
