"""Which layers the stages of a recipe compare, and where they do not see the same text."""

from collections.abc import Sequence

from ..training.stage import Stage
from .sides import Models


def window_warnings(models: Models, stages: Sequence[Stage]) -> list[str]:
    """Attention that sees a window of the text, compared with attention that sees all of it."""
    kinds = [
        None if side is None else side.config.to_dict().get("layer_types")
        for side in (models.student, models.teacher)
    ]
    found = []
    for stage in stages:
        for name, objective in stage.objectives.items():
            needs = objective.teacher_needs()
            pairs = objective.layer_pairs() if needs.queries or needs.keys or needs.values else []
            for pair in pairs:
                local = [
                    f"the {whose}'s layer {layer}"
                    for whose, layer, kind in zip(("student", "teacher"), pair, kinds, strict=True)
                    if kind and kind[layer] != "full_attention"
                ]
                if local:
                    found.append(
                        f"stage {stage.name}, {name}: {' and '.join(local)} sees a window of the"
                        " text alone, and is compared over all of it; name layers that see it all"
                    )
    return found


def layer_lines(stages: Sequence[Stage]) -> list[tuple[str, str, int, int]]:
    """(stage, objective, student layer, teacher layer) of every pair that learns."""
    return [
        (stage.name, name, student, teacher)
        for stage in stages
        for name, objective in stage.objectives.items()
        for student, teacher in objective.layer_pairs()
    ]
