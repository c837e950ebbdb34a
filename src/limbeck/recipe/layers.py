"""Which layers and heads the stages of a recipe compare, and where they see other text."""

from collections.abc import Sequence

from ..activations import Needs
from ..errors import Problem
from ..models.families.attending import layers_with_attention
from ..models.load import no_head
from ..models.weight_headers import check_weights, has_vocabulary_head
from ..objectives.contract import Objective
from ..training.stage import Stage
from .sides import Models, ModelSide


def attention_problems(models: Models, stages: Sequence[Stage]) -> list[Problem]:
    """Objectives over queries, keys and values of layers that have none."""
    sides = {"student": models.student, "teacher": models.teacher}
    problems: list[Problem] = []
    for number, stage in enumerate(stages):
        for name, objective in stage.objectives.items():
            needs = {"student": objective.student_needs(), "teacher": objective.teacher_needs()}
            for whose, side in sides.items():
                if side and (message := _without_attention(needs[whose], side)):
                    field = f"stages.{number}.objectives.{name}{_option(objective, whose)}"
                    problems.append((field, f"{message} of the {whose}"))
    return problems


def prediction_problems(models: Models, stages: Sequence[Stage]) -> list[Problem]:
    """Objectives over predictions of models whose family has no vocabulary head."""
    problems: list[Problem] = []
    for number, stage in enumerate(stages):
        for name, objective in stage.objectives.items():
            needs = {"student": objective.student_needs(), "teacher": objective.teacher_needs()}
            sides = {"student": models.student, "teacher": models.teacher}
            headless = [
                f"the {whose} ({side.config.model_type})"
                for whose, side in sides.items()
                if side and needs[whose].predictions and not side.architecture.head
            ]
            if headless:
                message = "needs predictions, and no vocabulary head is known of"
                message += f" {' and '.join(headless)} (see `limbeck inspect`); use hidden_states"
                problems.append((f"stages.{number}.objectives.{name}", message))
    return problems


def teacher_head_problems(name: str, teacher: ModelSide) -> list[Problem]:
    """A teacher without a vocabulary head, where a stage needs its logits."""
    if not teacher.architecture.head:
        return []  # said at the objectives that need one
    if has_vocabulary_head(name, architecture=teacher.architecture) is not False:
        return []
    partial, _ = check_weights(name, architecture=teacher.architecture, head_in_part=False)
    return [("teacher.model", partial or no_head(name))]


def _without_attention(needs: Needs, side: ModelSide) -> str | None:
    compared = needs.queries | needs.keys | needs.values
    if not compared:
        return None
    attending = layers_with_attention(side.config, side.architecture)
    if not (lacking := sorted(compared - set(attending))):
        return None
    named = ", ".join(map(str, lacking))
    message = f"compares queries, keys or values of layer {named}, which has none; "
    if not attending:
        return message + "use hidden_states or logits: no layer with attention is known"
    return message + f"name one of {', '.join(map(str, attending))}, the layers with attention"


def _option(objective: Objective, whose: str) -> str:
    """The option that names the layer, where there is one."""
    options = (f"{whose}_layer", "layers")
    return next((f".{option}" for option in options if option in vars(objective)), "")


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
