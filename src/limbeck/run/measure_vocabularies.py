"""What a run with two vocabularies shows of its tokens, for a person to judge."""

from operator import itemgetter
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ..data.corpus import held_out_below, split_documents
from ..data.text import read_documents
from ..errors import ModelError
from ..evaluation.neighbours import neighbours
from ..evaluation.two_readings import TokenizedModel, two_readings
from ..export.both import both_folder, load_both
from ..models.load import load_model
from ..recipe.setup import Setup
from ..recipe.sides import ModelSide
from ..reports.vocabulary_results import NearestTokens, SentenceInBoth, TokenizedTwice
from ..token_ids import TokenIds
from ..tokenization.spelling import spellings
from .text_counts import counts_of_two_tokenizations

_LONG = 4  # letters of a token whose neighbours a person can judge
_SHOWN = 12  # such tokens that are new, and as many that the teacher has too
_CHARACTERS = 90  # of the sentence that is shown


def neighbours_of_run(setup: Setup, folder: Path) -> NearestTokens | None:
    """Of a mixed stage: the teacher's tokens nearest to the student's, in a sample."""
    teacher = setup.models.teacher
    if teacher is None or not both_folder(folder).is_dir():
        return None
    theirs, mine = teacher.tokenizer, setup.models.student.tokenizer
    both, first = load_both(folder, architecture=teacher.architecture)
    table: Any = both.get_input_embeddings()
    named, known = spellings(mine), spellings(theirs)
    of_mine, of_theirs = TokenIds.of(mine), TokenIds.of(theirs)
    place = {int(number): n for n, number in enumerate(of_theirs.present)}
    shared = {number: place[known[s]] for s, number in named.items() if s in known}
    long = [n for s, n in sorted(named.items(), key=itemgetter(1)) if len(s.letters) >= _LONG]
    new, old = ([n for n in long if (n in shared) == kept] for kept in (False, True))
    names = [
        [str(tokenizer.convert_ids_to_tokens(int(n))) for n in ids]
        for tokenizer, ids in ((mine, range(of_mine.end)), (theirs, of_theirs.present))
    ]
    return neighbours(
        table.weight.detach()[first : first + of_mine.end],
        table.weight.detach()[of_theirs.columns(table.weight.device)],
        shared,
        names=(names[0], names[1]),
        shown=[n for some in (new, old) for n in some[:: max(1, len(some) // _SHOWN)][:_SHOWN]],
    )


def readings_of_run(setup: Setup, folder: Path) -> SentenceInBoth | None:
    """Of two vocabularies: a held-out sentence as both models tokenize it, and what they expect."""
    teacher, mine, data = setup.models.teacher, setup.models.student, setup.recipe.data
    if teacher is None or not setup.models.two_vocabularies or not data.text:
        return None
    below = held_out_below(read_documents(data.text[0]), share=data.held_out.fraction)
    held_out = split_documents(read_documents(data.text[0]), below=below, held_out=True)
    text = next((text for text in held_out if len(text) >= _CHARACTERS // 2), "")
    if len(text) > _CHARACTERS:
        text = text[:_CHARACTERS].rsplit(maxsplit=1)[0]
    if not text.strip():
        return None
    student = None
    if setup.has_trained_head:
        place = str(folder / "student")
        student = load_model(place, architecture=mine.architecture, with_head=True)
    readers = {
        "teacher": TokenizedModel(
            teacher.tokenizer, with_trained_head(teacher), teacher.architecture
        ),
        "student": TokenizedModel(mine.tokenizer, student, mine.architecture),
    }
    return two_readings(text, readers)


def counts_of_run(setup: Setup) -> dict[str, TokenizedTwice]:
    """Counts of the training text in both tokenizations, for each stage that reads it so."""
    counted = counts_of_two_tokenizations(setup)
    return {stage: TokenizedTwice(**counts) for stage, counts in counted.items()}


def with_trained_head(teacher: ModelSide) -> PreTrainedModel | None:
    """The teacher, where it has a trained vocabulary head."""
    name, architecture = teacher.name, teacher.architecture
    try:
        return load_model(name, architecture=architecture, with_head=True, stored=True)
    except ModelError:
        return None  # a teacher without a trained head has nothing to agree with
