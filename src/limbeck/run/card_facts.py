"""What the model card of a run says."""

from pathlib import Path

from ..data.prompts import name_of_prompts, source_of_prompts
from ..data.row_files import files_of_rows
from ..data.rows import parse_location
from ..data.text import ending_of
from ..evaluation.mapped_rows import source_of
from ..evaluation.task_files import name_of_task
from ..export.card import CardFacts
from ..export.metadata import evaluation
from ..export.origin import Origin, origin_of
from ..recipe.schema import Recipe
from ..recipe.setup import Setup
from ..reports.report import quality_lines
from ..reports.run_results import RunResult
from .claim import recipe_of_run


def card_facts(setup: Setup, result: RunResult | None = None) -> CardFacts:
    """What a card says of a student.

    Args:
        setup: Of its recipe.
        result: What was measured; None before that.
    """
    recipe = setup.recipe
    stages = [
        f"{stage.name}: {', '.join(stage.objectives)}, {stage.steps} steps of {stage.batch_size}"
        + (" rows" if stage.rows else f" x {recipe.data.max_length} tokens")
        for stage in setup.stages
    ]
    low_rank = recipe.student.low_rank
    scored = result.quality.items() if result else ()
    return CardFacts(
        name=recipe.name,
        teacher=recipe.teacher.model if recipe.teacher else None,
        ensemble=tuple(recipe.teacher.ensemble) if recipe.teacher else (),
        initial_student=recipe.student.model,
        student=setup.models.student.shape,
        model_type=setup.models.student.config.model_type,
        stages=stages,
        text=_texts(setup),
        with_head=setup.has_trained_head,
        head=setup.models.student.head,
        sentence_vectors=setup.learns_vectors,
        low_rank=low_rank is not None
        and low_rank.kind == "factorize"
        and low_rank.export != "dense",
        origins=_origins(recipe),
        datasets=_datasets(recipe),
        quality=quality_lines(result) if result else {},
        results=tuple(
            evaluation(task, found.metric, found.student, split=found.test_split)
            for task, found in scored
            if found.student is not None
        ),
    )


def origins_of_model(name: str) -> tuple[Origin, ...]:
    """A model as its card describes it; of a run without a licence in its card, its origins.

    Args:
        name: A model or run folder, a hub name, or ``minilm-demo``.
    """
    own = origin_of(name)
    recipe = None if own.license else recipe_of_run(name)
    made_of = _origins(recipe) if recipe else ()
    return made_of or (own,)


def _origins(recipe: Recipe) -> tuple[Origin, ...]:
    """Those of the teachers, and of the model that the student continues."""
    named = [recipe.teacher.model, *recipe.teacher.ensemble] if recipe.teacher else []
    named += [recipe.student.model] if recipe.student.model else []
    found = [one for name in named for one in origins_of_model(name)]
    return tuple(dict.fromkeys(found))


def _datasets(recipe: Recipe) -> tuple[str, ...]:
    """Datasets on the hub that are learned from."""
    texts = [one.path for one in recipe.data.text if not ending_of(one.path)]
    described = map(
        source_of, map(parse_location, filter(None, [recipe.data.task, *recipe.data.rows]))
    )
    asked = map(source_of_prompts, recipe.data.prompts)
    found = (one for one in (*asked, *described) if one is not None)
    return (*texts, *(one.path for one in found if not files_of_rows(one)))


def _texts(setup: Setup) -> list[str]:
    """What the recipe learns from."""
    data, rows = setup.recipe.data, setup.rows
    found = [Path(source.path).name for source in data.text]
    found += map(name_of_prompts, data.prompts)
    found += [rows.task.name] if rows and rows.task else []
    return [*found, *map(name_of_task, data.rows)]
