"""The vLLM server on which a stage's student generates its text, for as long as the stage lasts."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from rich.console import Console
from transformers import PreTrainedModel

from ..errors import RecipeError
from ..generation.vllm_server import VllmSettings, vllm_server
from ..generation.vllm_text import VllmText
from ..models.quiet import quiet_transformers
from ..recipe.setup import Setup
from ..system.files import whole_folder
from ..teacher.servers.client import ServerClient, served_model
from ..teacher.servers.settings import ServerSettings
from ..tokenization.post_processor import save_framed

_FOLDER = "vllm"  # in a run: weights for the server, and what it prints
_RETRIES_HERE = 2  # on this machine a server that does not answer has ended
_MOST_REQUESTS = 256  # at once; vLLM itself decides how many of them it carries out


@contextmanager
def student_on_vllm(
    setup: Setup,
    number: int,
    student: PreTrainedModel,
    run: Path,
    accelerator: Accelerator,
    console: Console,
) -> Iterator[VllmText | None]:
    """What generates the text of a stage on a vLLM server; None where another engine does.

    Args:
        setup: A checked recipe.
        number: Of the stage.
        student: Whose architecture and tokenizer a server that is started here has.
        run: The run folder.
        accelerator: Of the run.
        console: Tells that a server starts.

    Raises:
        ServerError: The server does not start, or cannot be reached.
        RecipeError: There are several processes, which would each need one.
    """
    stage = setup.stages[number]
    if stage.policy is None or stage.policy.options.engine != "vllm":
        yield None
        return
    if accelerator.num_processes > 1:
        raise RecipeError(
            f"stages.{number}.policy.engine is vllm, which one process uses, and there are"
            f" {accelerator.num_processes}; start limbeck without a launcher, or leave the engine"
            " out"
        )
    options, place = stage.policy.options, run / _FOLDER
    place.mkdir(parents=True, exist_ok=True)
    try:
        if (url := options.vllm_server_base_url) is not None:
            with _text(url, stage.batch_size, place, here=False) as text:
                yield text
            return
        console.print(f"starting {options.vllm_command}", highlight=False)
        start = _start_folder(setup, student, place / "start")
        settings = VllmSettings(
            options.vllm_command,
            max_model_len=setup.recipe.data.max_length,
            dtype=options.precision,
            gpu_memory_utilization=options.vllm_gpu_memory_utilization,
            # On a processor compiling takes minutes.
            enforce_eager=accelerator.device.type == "cpu",
        )
        with (
            vllm_server(start, settings, run / "vllm.log") as url,
            _text(url, stage.batch_size, place, here=True) as text,
        ):
            yield text
    finally:
        shutil.rmtree(place, ignore_errors=True)


def vllm_notes(setup: Setup) -> list[str]:
    """That a plan does not time what vLLM does."""
    some = [stage.policy and stage.policy.options.engine == "vllm" for stage in setup.stages]
    return ["the time in which vLLM generates is not in these figures"] if any(some) else []


@contextmanager
def _text(url: str, rows: int, place: Path, *, here: bool) -> Iterator[VllmText]:
    settings = ServerSettings(url=url, concurrency=min(rows, _MOST_REQUESTS))
    if here:
        settings = settings.model_copy(update={"max_retries": _RETRIES_HERE})
    with ServerClient(settings, through_proxies=not here) as client:
        served_model(client)
        yield VllmText(client, place / "weights")


def _start_folder(setup: Setup, student: PreTrainedModel, folder: Path) -> Path:
    """The student with weights of nothing but zeros, for a server to start from.

    The comparison of the first batch then proves that the server takes weights.
    """
    tokenizer = setup.models.student.tokenizer
    zeros = {name: torch.zeros_like(value) for name, value in student.state_dict().items()}
    with whole_folder(folder) as part, quiet_transformers():
        student.save_pretrained(part, state_dict=zeros)
        save_framed(tokenizer, part)
    return folder
