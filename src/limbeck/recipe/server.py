"""What a recipe needs of its teacher that a server cannot give."""

from collections.abc import Sequence

from ..activations import PREDICTIONS
from ..errors import Problem
from ..models.locate import lacks_weights, locate
from ..teacher.manifest import Kind
from ..teacher.servers.settings import ServerSettings, settings_problems
from ..training.stage import Stage
from .kept_logits import kept_logits_problem
from .models_part import StudentPart, TeacherPart
from .sides import Models

_HERE = "run the teacher here (leave `server` out)"


def server_problems(
    teacher: TeacherPart | None,
    student: StudentPart | None,
    models: Models,
    stages: Sequence[Stage] | None,
) -> list[Problem]:
    """What a teacher on a server cannot do, and what its folder would have to hold for it.

    Args:
        teacher: As the recipe has it; nothing is wrong without a server.
        student: As the recipe has it.
        models: Both.
        stages: As the loop takes them; None where they are not those of the recipe.
    """
    if teacher is None or teacher.server is None:
        return []
    place = "teacher.server"
    problems = [(f"{place}.{name}", said) for name, said in settings_problems(teacher.server)]
    if not models.student.architecture.causal:
        message = "gives log-probabilities of decoders, and the teacher is an encoder"
        problems.append((place, f"{message}; {_HERE}"))
    for name in ("quantize", "engine", "ensemble", "device_map"):
        if getattr(teacher, name) not in (None, [], "torch"):
            problems.append((f"teacher.{name}", f"is for teachers that run here; {_HERE}"))
    if student and lacks_weights(locate(teacher.model, weights=False)):
        problems += _weight_problems(student, teacher.model)
    for number, stage in enumerate(stages or []):
        # Of stored signals the folder decides, which is looked at when it is opened.
        kept = None if teacher.cache else teacher.server
        problems += _stage_problems(stage, f"stages.{number}", kept)
    return problems


def _weight_problems(student: StudentPart, name: str) -> list[Problem]:
    """What the student would take from weights that are not here."""
    taken = {
        "init_from_teacher": student.init_from_teacher is not None,
        "embedding_init": student.embedding_init != "random",
    }
    message = f"needs the teacher's weights, and {name!r} holds none; copy them into it, or leave"
    return [
        (f"student.{field}", f"{message} this out") for field, is_taken in taken.items() if is_taken
    ]


def _stage_problems(stage: Stage, place: str, server: ServerSettings | None) -> list[Problem]:
    if stage.mixed is not None:
        return [(f"{place}.mixed", f"trains the teacher itself; {_HERE}")]
    problems: list[Problem] = []
    if stage.generates_with_teacher:
        message = "lets the teacher read every text while it is generated, which a server cannot"
        problems.append((f"{place}.policy", f"{message}; use corpus or student, or {_HERE}"))
    for name, objective in stage.objectives.items():
        needs = objective.teacher_needs()
        if further := sorted({kind for kind, _ in needs.tensors() - {PREDICTIONS}}):
            said = f"needs {', '.join(further)}, and a server gives predictions alone; {_HERE}"
        elif needs.likelihoods or (needs.predictions and server):
            kind = Kind("top_k", server.top_k if server else 1)
            aligned = stage.alignment or needs.likelihoods
            said = kept_logits_problem(objective, kind, aligned=aligned, served=True) or ""
        else:
            continue
        if said:
            problems.append((f"{place}.objectives.{name}", said))
    return problems
