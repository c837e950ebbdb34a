"""Whether a recipe's teacher can be run beforehand, what its signals take, and what they are of."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..activations import Needs
from ..evaluation.tasks import Example
from ..models.auto_classes import empty_model, whole_class
from ..models.locate import fingerprint
from ..recipe.ensemble import columns_of_ensemble
from ..recipe.kept_logits import kept_logits_problem
from ..recipe.schema import DataPart
from ..recipe.setup import Setup
from ..recipe.stage_rows import compares_pairs
from ..recipe.vectors import teacher_prompt
from ..system.fingerprints import content_of
from ..teacher.manifest import FORMAT, Kind, Manifest
from ..teacher.stored_names import stored_names
from ..tokenization.masking import Masking
from ..tokenization.packing import tokenizer_hash
from ..training.stage import Stage
from .sources import sources_of_rows
from .task_batches import batches_of_a_pass, teacher_reader
from .vectors import vectors_identity

_SAMPLED_ROWS = 500
_BYTES = {"bfloat16": 2, "float32": 4}
# Sources have entries of their own; the number of processes changes nothing that is read.
_APART = ("text", "prompts", "rows", "num_proc")
_DEFAULT = {name: field.default for name, field in DataPart.model_fields.items()}


@dataclass(frozen=True)
class CacheSize:
    """What the signals of a recipe take.

    Attributes:
        bytes_a_token: Of the tokens that the teacher reads.
        total: Bytes; those that are written are with the held-out text.
    """

    bytes_a_token: float
    total: int


def all_needs(setup: Setup) -> Needs:
    """What the objectives of all stages ask of the teacher."""
    found = Needs()
    for stage in setup.stages:
        found |= stage.teacher_needs()
    return found


def cache_problems(setup: Setup, kind: Kind) -> list[str]:
    """Why the teacher of a recipe cannot be run beforehand, or not be kept in this way."""
    problems = []
    if setup.recipe.teacher is None or not all_needs(setup).anything:
        problems.append("the recipe asks nothing of a teacher; leave the cache out")
    if setup.recipe.server and kind.logits != "top_k":
        problems.append(
            f"a server gives the most likely tokens alone, which {kind.logits} is not; keep logits"
            " as top_k"
        )
    for number, stage in enumerate(setup.stages):
        place = f"stages.{number}"
        if stage.mixed is not None:
            problems.append(f"{place}: the teacher itself learns in a mixed stage")
        if stage.generates:
            problems.append(f"{place}.policy: text is written while the student learns; use corpus")
        if kind.logits == "exact":
            continue
        for name, objective in stage.objectives.items():
            if not objective.teacher_needs().predictions:
                continue
            problem = kept_logits_problem(objective, kind, aligned=stage.alignment)
            if problem:
                problems.append(f"{place}.objectives.{name}: {problem}")
    return problems


def different_steps(setup: Setup, stage: Stage) -> int:
    """The steps of a stage until the teacher has seen every text that the stage reads.

    Rows of a task are the same in every pass over them, so that one pass is enough; text is masked
    and packed differently in each, and rows in pairs meet other rows.
    """
    if not (stage.rows and setup.rows) or compares_pairs(stage.objectives.values()):
        return stage.steps
    return min(stage.steps, batches_of_a_pass(len(setup.rows.train), stage.batch_size))


def cache_size(setup: Setup, kind: Kind) -> CacheSize:
    """What the signals of a recipe will take, before a weight is loaded.

    Sequences of text count as if they were full, rows of a task with the mean length of some of
    them; and as many predicted tokens as masking hides, all of them where two vocabularies are
    aligned. A classifier says one thing of a text, as sentence vectors do, and a tagger of each
    word.
    """
    teacher = setup.models.required_teacher()
    architecture = teacher.architecture
    model = empty_model(whole_class(architecture), teacher.config)
    width, element = teacher.shape.hidden_size, _BYTES[setup.precision.name]
    of_text = float(setup.recipe.data.max_length)
    of_rows = _mean_row(setup, setup.rows.train) if setup.rows else of_text
    total = tokens = 0.0
    for number, stage in enumerate(setup.stages):
        masking = setup.maskings[number]
        length = of_rows if stage.rows else of_text
        items = 1 if teacher.head and teacher.head.kind == "token" else 1 / length
        share = (
            masking.mlm_probability if isinstance(masking, Masking) and not stage.alignment else 1.0
        )
        of_kind = {
            "predictions": share * width * element,
            "top_tokens": share * kind.tokens * 4,
            "top_logs": share * (kind.tokens + 1) * 2,
            "drawn": share * kind.tokens * 4,
            "sentence_vectors": width * element / length,
            "class_logits": len(teacher.shape.labels) * element * items,
        }
        names = stored_names(stage.teacher_needs(), kind, model, architecture)
        steps = different_steps(setup, stage)
        here = steps * stage.batch_size * length
        a_token = sum(of_kind.get(name[0], width * element) for name in names)
        total += a_token * here
        tokens += here
    return CacheSize(total / tokens, round(total))


def _mean_row(setup: Setup, rows: Sequence[Example]) -> float:
    """How many tokens of a row the teacher reads, in the mean over some rows."""
    reader = teacher_reader(setup)
    some = range(0, len(rows), -(-len(rows) // _SAMPLED_ROWS))
    return sum(len(reader.read(rows[number]).ids) for number in some) / len(some)


def teacher_identity(setup: Setup) -> bytes:
    """What tells a recipe's teacher from others: its files, its paths and its precision."""
    teacher = setup.models.required_teacher()
    facts: tuple[object, ...] = (
        fingerprint(teacher.name),
        teacher.architecture,
        setup.precision.name,
        *_how_it_computes(setup).values(),
    )
    if vectors := vectors_identity(setup):
        facts += (vectors,)
    facts += tuple(_ensemble_identity(setup).items())
    return hashlib.blake2b(repr(facts).encode()).digest()


def manifest_of(setup: Setup, kind: Kind) -> Manifest:
    """What signals of this recipe would be of: every fact that they depend on."""
    recipe, models = setup.recipe, setup.models
    data = recipe.data
    model = recipe.teacher.model if recipe.teacher else ""
    server = recipe.server
    identity = {
        # Of a teacher on a server its configuration and tokens are known.
        "teacher": fingerprint(model, tokenizer_only=server is not None),
        "data": data.model_dump_json(exclude={*_APART, *_plain(data)}),
        "seed": str(recipe.seed),
    }
    if _asked_by_student_tokens(setup):
        identity["student.tokenizer"] = tokenizer_hash(models.student.tokenizer)
    if server:  # which has a precision of its own, and may move
        identity["teacher.server.model"] = str(server.model)
    else:
        identity["training.precision"] = setup.precision.name
    identity |= _ensemble_identity(setup)
    identity |= _how_it_computes(setup)
    if vectors := vectors_identity(setup):
        prompt = recipe.teacher and teacher_prompt(recipe.teacher)
        identity["teacher.vectors"] = f"{vectors} {prompt!r}"
    if data.chat_template:
        identity["student.chat_template"] = str(models.student.tokenizer.chat_template)
    if models.teacher is not None:
        identity["teacher.tokenizer"] = tokenizer_hash(models.teacher.tokenizer)
    for number, source in enumerate(data.text):
        file = Path(source.path)
        found = content_of(file) if file.exists() else f"{source.path} ({source.split})"
        identity[f"data.text.{number}"] = f"{found} x {source.weight:g} of {source.column}"
    identity |= {field: known["content"] for field, known in sources_of_rows(recipe).items()}
    for number, stage in enumerate(recipe.stages):
        align = stage.alignment
        decides = {
            "batch_size": stage.batch_size,
            "masking": str(setup.maskings[number]),
            "alignment": str(align and (align.kind, align.teacher_input)),
        }
        identity |= {f"stages.{number}.{name}": str(value) for name, value in decides.items()}
    ensemble = recipe.teacher.ensemble if recipe.teacher else []
    named = server.model_dump(include={"url", "model", "top_k"}) if server else None
    return Manifest(FORMAT, model, kind, identity, {}, list(ensemble), named)


def _how_it_computes(setup: Setup) -> dict[str, str]:
    """How the teacher computes, by field; nothing where its files run in torch as they are."""
    part = setup.recipe.teacher
    found = {"teacher.quantize": part.quantize, "teacher.engine": part.engine} if part else {}
    return {field: value for field, value in found.items() if value and value != "torch"}


def _ensemble_identity(setup: Setup) -> dict[str, str]:
    """What each further teacher contributes depends on, by its field; nothing without any."""
    if not setup.models.ensemble:
        return {}
    columns = columns_of_ensemble(setup.models)
    return {
        f"teacher.ensemble.{number}": f"{fingerprint(side.name)} with classes {own}"
        for number, (side, own) in enumerate(zip(setup.models.ensemble, columns, strict=True))
    }


def _asked_by_student_tokens(setup: Setup) -> bool:
    """Whether the student's tokenizer decides what the teacher is asked.

    It does not where the teacher reads rows in its own tokens and says something of each, unless it
    tags words, of which those are asked that both models read.
    """
    head = setup.models.student.head
    of_rows = setup.rows is not None and all(stage.rows for stage in setup.stages)
    return not of_rows or (head is not None and head.kind == "token")


def _plain(data: DataPart) -> set[str]:
    """Fields that came after the first caches, where they say what those were made with."""
    later = ("chat_template", "loss_on", "task", "predict")
    return {name for name in later if getattr(data, name) == _DEFAULT[name]}
