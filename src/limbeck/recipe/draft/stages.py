"""What each kind of student learns, and why, as parts of a recipe with their comments."""

from typing import Any, NamedTuple

from ...data.prompts import are_conversations
from ...evaluation.settings import GenerationSettings
from .answers import Answers, parse_location

_OF_DECODERS = 16  # sequences in a step
_OF_WIDE_LAYERS, _OF_OTHER_LAYERS = 3e-4, 1e-3  # learning rates of rows


class Section(NamedTuple):
    """A part of a recipe.

    Attributes:
        key: At the top of the recipe.
        why: Sentences before it, as comments.
        value: As YAML has it.
    """

    key: str
    why: list[str]
    value: Any


def data_section(answers: Answers, *, length: int) -> Section:
    """What is read, in sequences of so many tokens."""
    value: dict[str, Any] = {}
    why = []
    if answers.kind in ("student", "decoder") and answers.text:
        value["text"] = _one_or_many(answers.text)
        why.append("A hundredth of the documents is held out and never learned from.")
    if answers.prompts:
        value["prompts"] = [parse_location(place) for place in answers.prompts]
        why.append("Only responses are predicted; half of max_length is theirs.")
        if any(map(are_conversations, answers.prompts)):
            value["chat_template"] = True
            why.append("Conversations stand in the chat template of the tokenizer.")
    if answers.task and answers.kind in ("classifier", "tagger"):
        value["task"] = parse_location(answers.task)
        why.append("Labels are matched with those of the teacher by name.")
        if answers.kind == "tagger":
            value["predict"] = "tags"
    if answers.rows:
        value["rows"] = [parse_location(place) for place in answers.rows]
        said = "its vectors" if answers.kind == "embeddings" else "the labels"
        why.append(f"Of `rows` the teacher gives {said}; what is also scored is left out.")
    value["max_length"] = length
    return Section("data", why, value)


def stages_section(
    answers: Answers,
    *,
    length: int,
    new_vocabulary: bool,
    nearly_as_wide: bool,
    has_head: bool,
    gives_numbers: bool,
) -> Section:
    """What is learned, and for how long.

    Args:
        answers: What the user has and wants.
        length: Tokens of a sequence.
        new_vocabulary: Whether the student's tokens are not the teacher's.
        nearly_as_wide: Whether the student is nearly as wide as its teacher, so that what is copied
            of its layers must not be undone by large steps.
        has_head: Whether the teacher has a vocabulary head.
        gives_numbers: Whether the teacher has a head that gives a number, which has no temperature.
    """
    if answers.kind == "student":
        return _of_text(answers, new_vocabulary=new_vocabulary)
    if answers.kind == "decoder":
        return _of_decoder(answers, length=length, has_head=has_head)
    rate = _OF_WIDE_LAYERS if nearly_as_wide else _OF_OTHER_LAYERS
    return _of_rows(answers, learning_rate=rate, gives_numbers=gives_numbers)


def _of_text(answers: Answers, *, new_vocabulary: bool) -> Section:
    relations = {
        "objectives": {"relations": {}},
        "tokens": answers.tokens,
        "batch_size": 32,
        "optimizer": {"learning_rate": 6e-4},
    }
    why = [
        "`relations` of the last layer suits any width and leaves nothing to decide; for others:"
        " limbeck list objectives."
    ]
    if not new_vocabulary:
        return Section("stages", why, [relations])
    mixed = {
        "name": "both vocabularies",
        "mixed": {"student_fraction": 0.5},
        "tokens": max(1, answers.tokens // 5),
        "optimizer": {"learning_rate": 2e-4},
    }
    first = [
        "First the teacher learns the student's tokens beside its own, then the student learns"
        " from this teacher token by token (mixed-vocabulary training)."
    ]
    return Section("stages", first + why, [mixed, {"name": "student", **relations}])


def _of_decoder(answers: Answers, *, length: int, has_head: bool) -> Section:
    objectives: dict[str, Any] = {"labels": {"weight": 0.5}}
    why = ["What the text says and what the teacher expects, at equal weight."]
    if has_head:
        objectives["logits"] = {"weight": 0.5, "temperature": 2.0}
    else:
        objectives["hidden_states"] = {"layers": "uniform"}
        why = ["The teacher has no vocabulary head, so its hidden states are learned."]
    stage: dict[str, Any] = {"objectives": objectives}
    if answers.prompts:
        steps = max(1, answers.tokens // (_OF_DECODERS * length))
        stage = {"policy": "corpus", **stage, "max_steps": steps}
        why.append(
            "`policy: switch` lets both generate the responses, which is slower and nearer to how"
            " the student will be used."
        )
    else:
        stage["tokens"] = answers.tokens
    stage |= {"batch_size": _OF_DECODERS, "optimizer": {"learning_rate": 5e-4}}
    return Section("stages", why, [stage])


def _of_rows(answers: Answers, *, learning_rate: float, gives_numbers: bool) -> Section:
    stage: dict[str, Any] = {
        "num_train_epochs": answers.num_train_epochs,
        "batch_size": 32,
        "optimizer": {"learning_rate": learning_rate, "warmup_ratio": 0.1},
    }
    if answers.kind == "embeddings":
        why = ["The teacher's vectors of texts, with its pooling, Dense and prompts."]
        return Section("stages", why, [{"preset": "embeddings", **stage}])
    if answers.task is None or gives_numbers:
        objectives: dict[str, Any] = {"class_logits": {} if gives_numbers else {"temperature": 2.0}}
        why = ["There are no labels, so the teacher's answers are learned alone."]
        if answers.task is not None:
            objectives["class_labels"] = {"weight": 0.5}
            why = ["The teacher's numbers, and those of the labels at half the weight."]
        return Section("stages", why, [{"objectives": objectives, **stage}])
    why = ["The teacher's class probabilities at temperature 2, and the labels at half the weight."]
    return Section("stages", why, [{"preset": answers.kind, **stage}])


def evaluation_section(answers: Answers, *, length: int, positions: int) -> Section | None:
    """The task that is scored; a recipe that learns a task is scored on it in any case.

    Args:
        answers: What the user has and wants.
        length: Tokens of a sequence.
        positions: Tokens that the teacher reads at most.
    """
    if answers.kind not in ("student", "decoder") or not answers.task:
        return None
    why = ["Student and teacher are fine-tuned on it alike, with three seeds."]
    if answers.kind == "decoder":
        why = ["Student and teacher answer its prompts."]
    value: dict[str, Any] = {"tasks": [parse_location(answers.task)]}
    if answers.kind == "decoder" and 2 * GenerationSettings.max_new_tokens > positions:
        value["generation"] = {"max_new_tokens": length // 2}
        why.append("Answers are as long as the responses that are learned, to leave room.")
    return Section("evaluation", why, value)


def _one_or_many(places: tuple[str, ...]) -> Any:
    return places[0] if len(places) == 1 else list(places)
