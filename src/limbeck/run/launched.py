"""What a recipe cannot have in the processes of a launcher, told before anything is read."""

from accelerate import Accelerator

from ..errors import RecipeError, TrainingError
from ..recipe.models_part import TeacherPart
from ..recipe.setup import Setup
from ..training.optimizer import check_shards
from ..training.processes import keeps_shards


def check_processes(setup: Setup, accelerator: Accelerator) -> None:
    """See that a recipe can be trained by as many processes as there are, in the way they share it.

    Raises:
        TrainingError: They cannot share its teacher, or an optimizer of its stages.
        RecipeError: They shard the weights, which a vLLM server takes whole.
    """
    if setup.recipe.teacher and setup.runs_teacher:
        check_teacher_processes(setup.recipe.teacher, accelerator)
    if not keeps_shards(accelerator):
        return
    for number, stage in enumerate(setup.stages):
        check_shards(stage.optimizer)
        if stage.policy is not None and stage.policy.options.engine == "vllm":
            raise RecipeError(
                f"stages.{number}.policy.engine is vllm, which takes whole weights, and FSDP shards"
                " them over processes; launch limbeck for DDP, or leave the engine out"
            )


def check_teacher_processes(part: TeacherPart, accelerator: Accelerator) -> None:
    """See that a teacher can run in the processes of a launcher as its recipe wants.

    Raises:
        TrainingError: One that is quantized or on another engine would be sharded over processes,
            or several processes would distribute it over the same devices.
    """
    shards = keeps_shards(accelerator)
    if part.engine != "torch" and shards:
        raise TrainingError(
            f"a teacher on {part.engine} cannot be sharded over processes; leave FSDP off, or leave"
            " `teacher.engine` out"
        )
    if part.quantize and shards:
        raise TrainingError(
            "a quantized teacher cannot be sharded over processes; leave FSDP off, or leave"
            " `teacher.quantize` out"
        )
    several = accelerator.num_processes > 1 and part.device_map != "cpu"
    if part.device_map is not None and (shards or several):
        raise TrainingError(
            "teacher.device_map distributes a teacher over the devices of one process; with several"
            " processes leave it out (FSDP shards the teacher too), or without FSDP set it to cpu"
        )
