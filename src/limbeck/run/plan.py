"""What a recipe will do and cost, before anything heavy."""

from collections.abc import Sequence
from dataclasses import replace
from tempfile import TemporaryDirectory

from ..models.sentences.load import chain_of
from ..models.weight_headers import decodes
from ..objectives.options import OPTIONS
from ..objectives.schedule import Ramp
from ..recipe.layers import layer_lines
from ..recipe.low_rank import exported_config, low_rank_table
from ..recipe.parse_objective import option_names
from ..recipe.setup import Setup
from ..recipe.sides import ModelSide
from ..reports.memory import memory_table
from ..reports.tables import Table
from ..student.shape import parameters_of_shape
from ..system.device import describe_device
from ..system.progress import duration
from ..teacher.manifest import Kind
from .accelerator import build_accelerator
from .cacheable import cache_problems, cache_size
from .probe import Probe
from .quantization import quantization_error, quantization_rows

# What a recipe may say of objectives; they are built with sizes of the models, too.
_OPTIONS = {option for kind in OPTIONS for option in option_names(kind)}


def plan_tables(setup: Setup, probes: list[Probe] | None) -> list[tuple[str, Table]]:
    """The plan as tables with headings; times only where stages were probed."""
    named = [*named_teachers(setup), ("student", exported_student(setup))]
    tables = [
        ("Models", model_sizes(named, vectors=setup.learns_vectors)),
        ("Machine", machine_table(setup)),
    ]
    tables += _initialization_tables(setup)
    tables += _teacher_tables(setup, measured=probes is not None)
    if lines := layer_lines(setup.stages):
        rows = [[stage, name, str(s), str(t)] for stage, name, s, t in lines]
        head = ["stage", "objective", "student layer", "learns from teacher layer"]
        tables.append(("Layers (from 0, without the embedding output)", [head, *rows]))
    if part := setup.recipe.student.low_rank:
        table = low_rank_table(setup.models, part, setup.new_parts)
        tables.append((f"Low-rank layers ({part.kind})", table))
    tables.append(("Objectives", _objectives(setup)))
    length = setup.recipe.data.max_length
    stages: Table = [["stage", "steps", "batch", "tokens", "time", "peak memory"]]
    for number, stage in enumerate(setup.stages):
        tokens = f"{stage.steps * stage.batch_size * length:,}"
        size = f"{stage.batch_size} rows" if stage.rows else f"{stage.batch_size} x {length}"
        row = [stage.name, f"{stage.steps:,}", size, "" if stage.rows else tokens]
        if probes:
            measured = probes[number]
            memory = measured.peak_memory_bytes
            row += [duration(measured.seconds_per_step * stage.steps)]
            row += ["" if memory is None else f"{memory / 1e9:.1f} GB"]
        stages.append(row + [""] * (len(stages[0]) - len(row)))
    tables.append(("Stages", stages))
    if probes:
        tables.append(("Memory of a step", _memory(setup, probes)))
    if rows := _cache_rows(setup):
        head = ["kept as", "bytes a token", "in all"]
        tables.append(("Size of the teacher's signals, if cached (limbeck cache)", [head, *rows]))
    return tables


def named_teachers(setup: Setup) -> list[tuple[str, ModelSide]]:
    """The teacher and, of an ensemble, the others, each with a name for a table."""
    models = setup.models
    first = [] if models.teacher is None else [("teacher", models.teacher)]
    return [*first, *((f"teacher, {side.name}", side) for side in models.ensemble)]


def exported_student(setup: Setup) -> ModelSide:
    """The student with its low-rank layers, where their ranks are known beforehand."""
    config = exported_config(setup.models, setup.recipe.student.low_rank)
    return replace(setup.models.student, config=config)


def model_sizes(named: Sequence[tuple[str, ModelSide]], *, vectors: bool = False) -> Table:
    """The sizes of models, a row for each; decoders are counted with their vocabulary heads.

    Args:
        named: Each with a name for the table.
        vectors: They give vectors of texts, so that decoders have no heads either.
    """
    fields = (
        "num_hidden_layers",
        "hidden_size",
        "num_attention_heads",
        "intermediate_size",
        "vocab_size",
        "max_position_embeddings",
    )
    sizes: Table = [["", *fields, "parameters", "of these embeddings"]]
    for name, side in named:
        headed = side.head is None and not vectors
        total, embeddings = parameters_of_shape(
            side.config,
            with_head=headed and decodes(side.name, architecture=side.architecture),
            architecture=side.architecture,
        )
        numbers = [str(getattr(side.shape, field)) for field in fields]
        sizes.append([name, *numbers, f"{total / 1e6:.2f}M", f"{embeddings / 1e6:.2f}M"])
    return sizes


def machine_table(setup: Setup) -> Table:
    """The device and the precision."""
    precision = setup.precision
    said = ["precision", f"{precision.name}: {precision.reason}"]
    return [["", ""], ["device", describe_device(setup.device)], said]


def _objectives(setup: Setup) -> Table:
    rows: Table = [["stage", "objective", "weight", "options"]]
    for stage in setup.stages:
        for name, objective in stage.objectives.items():
            given = {key: value for key, value in vars(objective).items() if key in _OPTIONS}
            said = ", ".join(
                f"{k} {value}" for k, value in given.items() if value not in (None, {})
            )
            rows.append([stage.name, name, _weight(stage.weights[name]), said])
    return rows


def _memory(setup: Setup, probes: list[Probe]) -> Table:
    pairs = zip(setup.stages, probes, strict=True)
    return memory_table([(stage.name, measured.memory) for stage, measured in pairs])


def _initialization_tables(setup: Setup) -> list[tuple[str, Table]]:
    """Where the student's initial weights are from; none where they are random."""
    tables: list[tuple[str, Table]] = []
    if own := setup.recipe.student.model:
        tables.append(("Initialization", [["", "taken from"], ["student", own]]))
    if (copied := setup.models.copied_layers) is not None:
        rows = [[str(s), ", ".join(map(str, t))] for s, t in enumerate(copied)]
        tables.append(("Initialization", [["student layer", "copied from teacher layer"], *rows]))
    return tables


def _teacher_tables(setup: Setup, *, measured: bool) -> list[tuple[str, Table]]:
    """What a teacher lost where it is quantized, and what its folder says of sentence vectors."""
    teacher, tables = setup.recipe.teacher, []
    how = teacher and (teacher.quantize or (teacher.engine != "torch" and teacher.engine))
    if teacher and how and teacher.cache is None and measured:
        for side in (setup.models.required_teacher(), *setup.models.ensemble):
            with TemporaryDirectory() as folder:
                accelerator = build_accelerator(setup.recipe.training, folder)
                error = quantization_error(setup, accelerator, side=side)
            which = f" ({side.name})" if setup.models.ensemble else ""
            tables.append((f"Teacher in {how}{which}", quantization_rows(error)))
    chain = chain_of(teacher.model) if teacher else None
    if chain or (teacher and setup.learns_vectors):
        used = "applied" if setup.learns_vectors else "kept, and not applied"
        others = [("pooling", "mean, as it is no model of sentence-transformers")]
        kept = [[used, "value"], *map(list, chain.lines() if chain else others)]
        tables.append(("Sentence vectors of the teacher", kept))
    return tables


def _cache_rows(setup: Setup) -> Table:
    kinds = [Kind("exact"), Kind("top_k"), Kind("sampled")]
    if server := setup.recipe.server:
        kinds = [Kind("top_k", server.top_k)]
    found: Table = []
    for kind in kinds if _asks_logits(setup) else kinds[:1]:
        if not cache_problems(setup, kind):
            size = cache_size(setup, kind)
            name = kind.logits if kind.logits == "exact" else f"{kind.logits}, {kind.tokens}"
            found.append([name, f"{size.bytes_a_token:,.1f}", f"{size.total / 1e9:.2f} GB"])
    return found


def _asks_logits(setup: Setup) -> bool:
    return any(stage.teacher_needs().predictions for stage in setup.stages)


def _weight(weight: float | Ramp) -> str:
    if isinstance(weight, Ramp):
        return f"{weight.start:g} to {weight.end:g}"
    return f"{weight:g}"
