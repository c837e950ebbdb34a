"""What a teacher whose layers are not on the student's device cannot do."""

from collections.abc import Sequence

from ..errors import Problem
from ..teacher.placement import device_map_problem, max_memory_problems
from ..training.stage import Stage
from .models_part import TeacherPart


def placement_problems(teacher: TeacherPart | None, stages: Sequence[Stage]) -> list[Problem]:
    """What is wrong with where the layers of a teacher are to be.

    Args:
        teacher: As the recipe has it.
        stages: Those of the recipe, as the loop takes them.
    """
    if teacher is None:
        return []
    if teacher.device_map is None:
        unused = "is for `device_map`, which is not given; give it (auto), or leave this out"
        return [("teacher.max_memory", unused)] if teacher.max_memory else []
    place, problems = "teacher.device_map", []
    if problem := device_map_problem(teacher.device_map):
        problems.append((place, problem))
    problems += [("teacher.max_memory", said) for said in max_memory_problems(teacher.max_memory)]
    if teacher.quantize:
        message = "moves weights as they are, not those of `quantize`; leave one of the two out"
        problems.append((place, message))
    if teacher.engine != "torch":
        message = f"is for layers that torch runs, not for `engine: {teacher.engine}`; leave one of"
        problems.append((place, f"{message} the two out"))
    if any(stage.mixed is not None for stage in stages):
        message = "is for a teacher that only runs, and a mixed stage trains it; leave it out"
        problems.append((place, message))
    generates = any(stage.generates_with_teacher for stage in stages)
    if generates and teacher.device_map != "cpu":
        message = "would distribute the keys and values of the text that the teacher writes over"
        message += " devices; use cpu, or a policy without the teacher"
        problems.append((place, message))
    return problems
