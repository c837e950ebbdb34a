"""Whether the tokenizers of a recipe suit its text, and each other."""

from collections.abc import Iterator
from itertools import islice

from ..data.prompts import read_prompts
from ..data.rows import path_of
from ..data.text import read_documents
from ..errors import Problem
from ..evaluation.reading_notes import empty_notes, truncation_notes
from ..objectives.logits import vocabularies_differ
from ..tokenization.normalizers import distinguished_by_one, share_normalized_differently
from ..tokenization.plain_text import count_spelled, spelled_note
from ..tokenization.text_coverage import Coverage, coverage
from .models_part import StudentPart
from .schema import DataPart
from .sides import Models, ModelSide
from .stage_part import StagePart
from .task_rows import BEGINNING, TaskRows, text_of

_DOCUMENTS_LOOKED_AT, _LETTERS_LOOKED_AT = 200, 5000  # of a text, and of each document
_UNKNOWN_AT_MOST = 0.05  # of the tokens of a text, and of its letters
_LETTERS_NAMED, _LETTERS_SHOWN = 10, 30  # in a message; of each word in it
_SPECIAL_TOKENS = 5  # which every two encoders share


def coverage_problems(
    models: Models, data: DataPart, rows: TaskRows | None = None
) -> list[Problem]:
    """What the student's tokenizer cannot represent of texts, prompts and rows."""
    problems = []
    read = _beginnings(data)
    for field, beginning in rows.beginnings.items() if rows else ():
        texts = (text_of(row)[:_LETTERS_LOOKED_AT] for row in beginning.rows)
        if beginning.rows:
            read[field] = beginning.name, texts
    for field, (path, documents) in read.items():
        text = coverage(models.student.tokenizer, documents)
        if text.tokens == 0:
            message = f"{path} has no letter that the student's tokenizer keeps"
            problems.append((field, f"{message}; give another text or tokenizer"))
        elif (share := max(text.unknown_letters_share, text.unknown_share)) > _UNKNOWN_AT_MOST:
            what = f"{share:.1%} of the letters"
            if text.unknown_share > _UNKNOWN_AT_MOST:
                what = f"{text.unknown_share:.1%} of the tokens"
            message = (
                f"turns {what} of {path} into unknown ones, and at most {_UNKNOWN_AT_MOST:.0%} may"
                f" be ({_unknown(text)}); learn one from this text"
            )
            problems.append(("student.tokenizer", message))
    return problems


def _unknown(text: Coverage) -> str:
    """What became unknown tokens: letters, or words whose letters are all known."""
    if not text.letters_not_covered:
        words = ", ".join(f"{word:.{_LETTERS_SHOWN}}" for word in text.unknown_words)
        return f"as {words}, whose letters are known, but not as parts"
    letters = " ".join(text.letters_not_covered[:_LETTERS_NAMED])
    return f"{text.letters_not_covered_count} letters are in no token: {letters}"


def truncation_warnings(models: Models, data: DataPart, rows: TaskRows | None) -> list[str]:
    """Rows of which a model reads the beginning alone, or of which it loses a text or word.

    The first rows of each source are looked at.
    """
    found: list[str] = []
    for field, beginning in rows.beginnings.items() if rows else ():
        first = f", first {BEGINNING} rows" if len(beginning.rows) == BEGINNING else ""
        name = f"{field} ({beginning.name}{first})"
        tagged = rows is not None and rows.kind == "token"
        for whose, side in _readers(models, data):
            of = name if whose == "student" else f"{name}, in the tokens of the teacher"
            found += empty_notes(of, beginning.rows, side.tokenizer, tagged=tagged)
            found += truncation_notes(
                of,
                beginning.rows,
                side.tokenizer,
                max_length=data.max_length,
                positions=side.shape.max_position_embeddings,
                whose=f"the {whose}",
            )
    return found


def _readers(models: Models, data: DataPart) -> list[tuple[str, ModelSide]]:
    """The student, and a teacher that reads other tokens or fewer of them."""
    readers, teacher = [("student", models.student)], models.teacher
    if teacher is not None and (
        models.two_vocabularies or teacher.shape.max_position_embeddings < data.max_length
    ):
        readers.append(("teacher", teacher))
    return readers


def spelled_warnings(models: Models, data: DataPart) -> list[str]:
    """Special tokens that texts and prompts spell, by the beginnings of some."""
    found: list[str] = []
    for path, documents in _beginnings(data).values():
        count = count_spelled(models.student.tokenizer, documents)
        found += spelled_note(f"{path} (first {_DOCUMENTS_LOOKED_AT} documents)", count)
    return found


def _beginnings(data: DataPart) -> dict[str, tuple[str, Iterator[str]]]:
    """Where each text and file of prompts lies, and its first documents, by its field."""
    most = _LETTERS_LOOKED_AT
    read = {
        f"data.text.{number}": (source.path, (text[:most] for text in read_documents(source)))
        for number, source in enumerate(data.text)
    }
    for number, place in enumerate(data.prompts):
        rows = (f"{row.text[:most]} {row.references[0][:most]}" for row in read_prompts(place))
        read[f"data.prompts.{number}"] = path_of(place), rows
    return {
        field: (path, islice(documents, _DOCUMENTS_LOOKED_AT))
        for field, (path, documents) in read.items()
    }


def comparison_problems(models: Models, stage: str) -> list[Problem]:
    """Why a stage that compares student and teacher token by token cannot, if so."""
    if models.teacher is None or not models.two_vocabularies:
        return []
    theirs, mine = models.teacher.tokenizer.get_vocab(), models.student.tokenizer.get_vocab()
    shared = len(theirs.keys() & mine.keys())
    message = f"{vocabularies_differ(len(mine), len(theirs))} ({shared} tokens are spelled alike)"
    return [(stage, message)]


def alignment_problems(
    part: StagePart, number: int, models: Models, data: DataPart
) -> list[Problem]:
    """Why a stage with an alignment cannot compare the two vocabularies."""
    if part.alignment is None:
        return []
    place = f"stages.{number}"
    if models.teacher is None or not models.two_vocabularies:
        message = "is for a student with tokens that the teacher does not read; leave it out"
        return [(f"{place}.alignment", message)]
    needed = [
        (
            models.student.architecture.causal == (part.alignment.kind == "boundaries"),
            f"{place}.alignment.kind",
            f"is {part.alignment.kind}; encoders take match or reduce, decoders boundaries",
        ),
        (
            data.packing or not data.text,
            "data.packing",
            "must be true where vocabularies are aligned",
        ),
        (
            part.alignment.teacher_input == "everything" or not models.student.architecture.causal,
            f"{place}.alignment.teacher_input",
            "is masked, but decoders read everything; leave it out",
        ),
        (
            part.alignment.teacher_input == "everything" or part.alignment.kind != "reduce",
            f"{place}.alignment.teacher_input",
            "is masked, but with reduce the student is compared on a view in which nothing is"
            " hidden; leave it out, or use match",
        ),
        (
            part.alignment.logit_pooling == "pool" or part.alignment.columns == "mapped",
            f"{place}.alignment.logit_pooling",
            "is for `columns: mapped`; shared tokens have no parts",
        ),
        (
            part.alignment.columns == "all"
            or int((models.tokens.same >= 0).sum()) > _SPECIAL_TOKENS,
            "student.tokenizer",
            "shares no token with the teacher's; learn it from text in the teacher's language",
        ),
    ]
    return [(field, message) for met, field, message in needed if not met]


def initialization_problems(models: Models, student: StudentPart, *, mixed: bool) -> list[Problem]:
    """What cannot be initialized from the teacher where its vocabulary is another.

    Args:
        models: Both.
        student: As the recipe has it.
        mixed: Whether the recipe begins with a mixed stage.
    """
    problems = []
    if mixed and student.model:
        message = "has embeddings already, and a `mixed` stage would replace them; leave one out"
        problems.append(("student.model", message))
    learns_from_words = mixed or student.embedding_init != "random"
    if models.two_vocabularies and models.copied_layers and not learns_from_words:
        message = "would copy embeddings of other tokens; begin with a `mixed` stage or with"
        problems.append(
            (
                "student.init_from_teacher",
                f"{message} `embedding_init: mean`, or use `init_from_teacher: null`",
            )
        )
    if student.embedding_init != "random":
        if not models.two_vocabularies:
            message = (
                f"is {student.embedding_init}, but the tokens are the teacher's own; leave it out"
            )
            problems.append(("student.embedding_init", message))
        elif models.teacher and models.student.shape.hidden_size > models.teacher.shape.hidden_size:
            message = f"is {student.embedding_init}, but the student is wider than the teacher"
            problems.append(("student.embedding_init", f"{message}; use random"))
    if (
        learns_from_words
        and not student.allow_normalizer_mismatch
        and (said := _distinguished(models))
    ):
        message = (
            f"{said}; learn it with --like, or allow it (`student.allow_normalizer_mismatch: true`)"
        )
        problems.append(("student.tokenizer", message))
    return problems


def normalizer_warnings(models: Models, student: StudentPart, data: DataPart) -> list[str]:
    """What it costs that one of the tokenizers distinguishes letters and the other does not."""
    said = _distinguished(models)
    if not models.teacher or not said or not student.allow_normalizer_mismatch or not data.text:
        return []
    text = islice(read_documents(data.text[0]), _DOCUMENTS_LOOKED_AT)
    share = share_normalized_differently(models.teacher.tokenizer, models.student.tokenizer, text)
    return [
        f"the student's tokenizer {said}: of {share:.1%} of the words (first"
        f" {_DOCUMENTS_LOOKED_AT} documents) the student learns what the teacher knows of a word"
        " spelled otherwise"
    ]


def _distinguished(models: Models) -> str:
    if models.teacher is None:
        return ""
    apart = distinguished_by_one(models.teacher.tokenizer, models.student.tokenizer)
    verbs = {"student": "distinguishes", "teacher": "does not distinguish"}
    said = [
        f"{verb} {' and '.join(what for what, owner in apart.items() if owner == whose)}"
        for whose, verb in verbs.items()
        if whose in apart.values()
    ]
    return f"{', '.join(said)}, unlike the teacher's" if said else ""
