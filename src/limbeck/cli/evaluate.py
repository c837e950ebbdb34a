"""The command that scores a model folder."""

import inspect
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import EvaluationError
from ..evaluation.settings import FinetuneSettings, GenerationSettings
from . import embeddings, exported
from .cost import show_cost
from .results_file import RESULTS, check_names, check_output, save
from .terminal import console, print_table
from .unread import Measured, check_measured, check_read

if TYPE_CHECKING:
    from ..evaluation.seeds import TaskScore
    from ..recipe.schema import EvaluationPart

_Model = Annotated[
    str,
    typer.Argument(
        help="A model folder, GGUF file, run folder, hub name or minilm-demo; or a folder of"
        " limbeck export, whose file is scored with --own-head, --similarity, --retrieval, --bitext"
        " and --cost."
    ),
]
_Task = Annotated[
    list[str] | None,
    typer.Option(
        help="DIR/NAME of a task's files; a file or folder of rows or conversations; or a mapping,"
        " as '{path: reviews.csv, text: body, label: stars, split: {dev: 0.1}}' or '{path:"
        " chats.parquet, messages: talk}'. May be repeated."
    ),
]
_Seeds = Annotated[int, typer.Option(min=1, help="Fine-tunings, each from its own seed.")]
_TrainSamples = Annotated[int | None, typer.Option(help="Use at most this many training rows.")]
_OwnHead = Annotated[
    bool,
    typer.Option(
        help="Score classifiers, taggers and scoring models with the head that they have."
    ),
]
_Search = Annotated[
    bool,
    typer.Option(
        help="Choose learning rate and epochs on a part of the training rows, so that every model"
        " is scored at its best."
    ),
]
_Epochs = Annotated[
    float | None,
    typer.Option(
        help="Passes over the training rows, 3 by default; with --search the most that are tried,"
        " 20 by default."
    ),
]
_Rate = Annotated[
    list[float] | None,
    typer.Option(
        help="1e-4 by default. With --search a rate to try, and may be repeated; by default 1e-4,"
        " 3e-4, 1e-3 and 3e-3."
    ),
]
_Length = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Tokens of a text that are read; by default 128 for tasks, and what the folder says"
        " for vectors and exported files.",
    ),
]
_Pooling = Annotated[
    str,
    typer.Option(help="What a new head reads: mean (of the last hidden states) or first (token)."),
]
_Precision = Annotated[
    str, typer.Option(help="float32, bfloat16, or auto: bfloat16 where the hardware has it.")
]
_Split = Annotated[
    str | None, typer.Option(help="dev or test; by default dev, or test where there is no dev.")
]
_NewTokens = Annotated[int, typer.Option(help="Decoder tasks: tokens of an answer at most.")]
_Temperature = Annotated[float, typer.Option(help="Decoder tasks: 0 is greedy.")]
_EvalSamples = Annotated[
    int | None, typer.Option(help="Decoder tasks: use at most this many prompts.")
]
_Chat = Annotated[bool, typer.Option(help="Decoder tasks: put prompts in the chat template.")]
_Teacher = Annotated[
    str | None,
    typer.Option(help="Decoder tasks: report agreement with this teacher by position."),
]
_Cost = Annotated[bool, typer.Option(help="Measure size, memory and latency too.")]
_Threads = Annotated[
    int | None,
    typer.Option(help="With --cost, and for a folder of limbeck export: processor threads."),
]
_Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help=f"Folder for {RESULTS}; a second call resumes there."),
]
_Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON too.")]
# Parameters of the command that are settings of an evaluation.
_FINETUNING = ("batch_size", "max_length", "pooling", "precision")
_GENERATION = ("max_new_tokens", "temperature", "max_eval_samples", "chat_template")


def evaluate(
    model: _Model,
    task: _Task = None,
    seeds: _Seeds = 3,
    max_train_samples: _TrainSamples = None,
    own_head: _OwnHead = False,
    search: _Search = False,
    num_train_epochs: _Epochs = None,
    learning_rate: _Rate = None,
    batch_size: int = FinetuneSettings.batch_size,
    max_length: _Length = None,
    pooling: _Pooling = FinetuneSettings.pooling,
    precision: _Precision = FinetuneSettings.precision,
    split: _Split = None,
    max_new_tokens: _NewTokens = GenerationSettings.max_new_tokens,
    temperature: _Temperature = GenerationSettings.temperature,
    max_eval_samples: _EvalSamples = None,
    chat_template: _Chat = False,
    teacher: _Teacher = None,
    cost: _Cost = False,
    threads: _Threads = None,
    format_: exported.Format = None,
    similarity: embeddings.Similarity = None,
    retrieval: embeddings.Retrieval = None,
    bitext: embeddings.Bitext = None,
    documents: embeddings.Documents = None,
    query_prompt: embeddings.QueryPrompt = None,
    document_prompt: embeddings.DocumentPrompt = None,
    text_prompt: embeddings.TextPrompt = None,
    sentence_pooling: embeddings.SentencePooling = None,
    truncate_dim: embeddings.TruncateDim = None,
    output: _Output = None,
    json_: _Json = False,
) -> None:
    """Score a model on tasks, or its vectors of texts as they are.

    Encoders are fine-tuned first, once for each seed, unless --own-head is given. Decoders answer
    the prompts of their tasks without fine-tuning. Vectors are scored with --similarity,
    --retrieval and --bitext, without fine-tuning. A folder of limbeck export is scored as it is, on
    the engine of its file.
    """
    given = locals()
    from ..recipe.parse import parse_evaluation

    part = parse_evaluation(_settings(given))
    form = given["format_"] = exported.scored_format(model, given)
    known = inspect.signature(evaluate).parameters
    check_names(part.tasks)
    check_read(given, known, Measured.by(given, part.tasks, of_file=form is not None))
    state = check_output(output, model, form)
    flags = embeddings.EmbeddingFlags.among(given)
    of_vectors = embeddings.embedding_scores(model, flags) if flags.any else None
    check_measured(given, something=flags.any or form is not None)
    found = _scores(model, part, given) if task or teacher else {}
    if of_vectors:
        found["embeddings"] = of_vectors
    if cost:
        found["cost"] = _cost(model, given)
        show_cost(model, found["cost"])
    save(found, output, model, form=form, state=state, printed=json_)


def _settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the command as the evaluation of a recipe holds them."""
    return {
        "tasks": given["task"] or [],
        **{name: given[name] for name in ("seeds", "max_train_samples", "split")},
        "finetuning": {
            **{name: given[name] for name in _FINETUNING if given[name] is not None},
            **_rate_and_epochs(given),
        },
        "generation": {name: given[name] for name in _GENERATION},
    }


def _rate_and_epochs(given: Mapping[str, Any]) -> dict[str, Any]:
    """Learning rate and epochs as far as they are given, or what a search chooses from."""
    rates, epochs = given["learning_rate"] or [], given["num_train_epochs"]
    of_epochs = {} if epochs is None else {"num_train_epochs": epochs}
    if given["search"]:
        return {"search": {**of_epochs, **({"learning_rates": rates} if rates else {})}}
    if len(rates) > 1:
        raise EvaluationError(
            f"--learning-rate is given {len(rates)} times, and a model is trained with one; give"
            " one, or --search to choose among them"
        )
    return {**of_epochs, **({"learning_rate": rates[0]} if rates else {})}


def _scores(model: str, part: "EvaluationPart", given: Mapping[str, Any]) -> dict[str, Any]:
    """Measure the model on all tasks, show the table, and return the results as JSON holds them."""
    from ..evaluation.leaks import leak_notes
    from ..evaluation.task_files import load_task
    from ..models.locate import model_of_run
    from ..run.evaluate import evaluate_model
    from ..run.own_head import own_head_notes, own_head_scores

    teacher, own_head, form = (given[name] for name in ("teacher", "own_head", "format_"))
    model = model_of_run(model)
    # First, so that a teacher that does not fit is refused before anything takes long.
    parts = _by_position(model, model_of_run(teacher), part) if teacher else None
    tasks = [load_task(location, test_split=part.split) for location in part.tasks]
    notes = [note for task in tasks for note in leak_notes(task)]
    if own_head and not form:  # a file says of itself how many tokens it reads
        length = part.finetuning.max_length
        notes += own_head_notes(model, tasks, max_length=length)
    for note in notes:
        console.print(note, highlight=False, soft_wrap=True)
    if form:
        threads, length = given["threads"], given["max_length"]
        scores = exported.own_head_scores_of_file(
            model, part, form=form, threads=threads, max_length=length
        )
    elif own_head:
        length = part.finetuning.max_length
        scores = own_head_scores(model, part.tasks, split=part.split, max_length=length)
    else:
        scores = evaluate_model(model, part.tasks, part, results=given["output"], console=console)
    head = ["task", "metric", "mean", "standard deviation"]
    shown = f"{model}, {form}" if form else model
    print_table(shown, [head, *map(_row, scores.items())])
    found: dict[str, Any] = {name: score.to_json() for name, score in scores.items()}
    if own_head:
        _show_rankings(found, scores, part)
    return found if parts is None else {**found, "by_position": parts}


def _show_rankings(
    found: dict[str, Any], scores: "Mapping[str, TaskScore]", part: "EvaluationPart"
) -> None:
    """Where rows are documents of queries, add how well they are ranked, and show it."""
    from ..evaluation.task_files import load_task
    from ..reports.task_results import shown_score
    from ..run.task_answers import ranking_intervals

    for location in part.tasks:
        task = load_task(location, test_split=part.split)
        rankings = ranking_intervals(task, scores[task.name].seeds[0])
        if rankings:
            rows = [[name, *shown_score(one)] for name, one in rankings.items()]
            print_table(f"{task.name}, by query", [["metric", "score", "95 % interval"], *rows])
            found[task.name]["rankings"] = {name: asdict(one) for name, one in rankings.items()}


def _by_position(
    model: str, teacher: str, part: "EvaluationPart"
) -> dict[str, dict[str, list[float]]]:
    """Agreement with a teacher in each third of the texts of the decoder tasks."""
    from ..evaluation.by_position import positions_of_task
    from ..evaluation.task_files import is_generation_task, load_task
    from ..evaluation.tasks import subsample
    from ..reports.generation import position_table

    generation = list(filter(is_generation_task, part.tasks))
    if not generation:
        raise EvaluationError(
            "--teacher needs a task of prompts; name one with --task, or leave --teacher out"
        )
    parts = {}
    for location in generation:
        whole = load_task(location, test_split=part.split)
        some = subsample(whole, rows=None, seed=0, prompts=part.generation.max_eval_samples)
        parts[some.name] = positions_of_task(model, teacher, some, part.generation)
        print_table(f"{some.name}, by position in its texts", position_table(parts[some.name]))
    return parts


def _row(item: "tuple[str, TaskScore]") -> list[str]:
    name, score = item
    deviation = "" if score.deviation is None else f"{100 * score.deviation:.1f}"
    return [name, score.metric, f"{100 * score.mean:.1f}", deviation]


def _cost(model: str, given: Mapping[str, Any]) -> dict[str, Any]:
    from ..evaluation.cost import measure_cost
    from ..models.locate import model_of_run

    form, threads = given["format_"], given["threads"]
    if form:
        return exported.cost_of_exported(model, form=form, threads=threads)
    return asdict(measure_cost(model_of_run(model), threads=threads))
