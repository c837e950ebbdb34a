"""The teacher of a recipe on a server: proven before it is asked much, and its signals."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from rich.console import Console
from torch import nn

from ..activations import Activations, Needs, Predictions, Selected
from ..batch import Batch
from ..errors import RecipeError, ServerError
from ..recipe.setup import Setup
from ..system.files import write_text
from ..teacher.manifest import Kind
from ..teacher.servers.client import ServerClient
from ..teacher.servers.probe import Probe, probe_server
from ..teacher.servers.settings import ServerSettings
from ..teacher.servers.signals import ServerSignals, ServerTeacher, texts_of
from ..teacher.store import SignalStore
from .batches import stage_batches
from .cacheable import manifest_of

_PROBED_TEXTS = 3
_SIGNALS = "signals"  # the folder in a run of what its teacher has said
_SERVED = "served_model.json"  # the file in it that names this teacher


def required_server(setup: Setup) -> ServerSettings:
    """How the teacher's server is reached.

    Raises:
        RecipeError: The recipe names none.
    """
    if setup.recipe.server is None:
        raise RecipeError("the recipe's teacher is on no server; name one (teacher.server)")
    return setup.recipe.server


@contextmanager
def proven_server(
    setup: Setup, top_k: int, console: Console
) -> Iterator[tuple[ServerClient, Probe]]:
    """Connections to the teacher's server, once a few requests have shown that it suits the recipe.

    Raises:
        ServerError: It does not.
    """
    taught = [n for n, stage in enumerate(setup.stages) if stage.teacher_needs().predictions]
    batches = (stage_batches(setup, number).batch(0) for number in taught)
    tell = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    with ServerClient(required_server(setup), tell=tell) as client:
        probe = probe_server(
            client,
            setup.models.required_teacher().tokenizer,
            texts_of(batches, _PROBED_TEXTS),
            top_k=top_k,
            longest=setup.recipe.data.max_length,
        )
        yield client, probe


def with_server_facts(setup: Setup, *, model: str, top_k: int) -> Setup:
    """The same with the name of the served model, and with what is asked of it, in the recipe."""
    teacher = setup.recipe.teacher
    server = required_server(setup).model_copy(update={"model": model, "top_k": top_k})
    part = teacher and teacher.model_copy(update={"server": server})
    return replace(setup, recipe=setup.recipe.model_copy(update={"teacher": part}))


def server_signals(
    setup: Setup, client: ServerClient, store: SignalStore, top_k: int
) -> ServerSignals:
    """What asks the server for the text of a recipe."""
    tokens = setup.models.required_teacher().shape.token_ids
    return ServerSignals(client, store, tokens=tokens, top_k=top_k)


@contextmanager
def server_teacher(
    setup: Setup, folder: Path, accelerator: Accelerator, console: Console
) -> Iterator[ServerTeacher]:
    """The teacher of a run, which is asked while the student learns.

    What it says is kept in the run's folder and never asked again.

    Raises:
        ServerError: The server does not suit the recipe, or has another model than the run has
            learned from.
    """
    top_k = required_server(setup).top_k
    with proven_server(setup, top_k, console) as (client, probe):
        say_probe(probe, client, console)
        _check_served(client, folder / _SIGNALS / _SERVED, write=accelerator.is_main_process)
        writer = accelerator.process_index
        store = SignalStore(folder / _SIGNALS, 2**62, writer=writer, strict=True)
        asked = server_signals(setup, client, store, top_k)
        named = with_server_facts(setup, model=client.model, top_k=top_k)
        manifest = manifest_of(named, Kind("top_k", top_k))
        try:
            yield ServerTeacher(asked, store, manifest, accelerator.device)
        finally:
            asked.stop()
            store.flush()


def _check_served(client: ServerClient, file: Path, *, write: bool) -> None:
    """Note which model a run learns from, or see that it is the one that it has learned from.

    Raises:
        ServerError: The server has another model.
    """
    if not file.exists():
        if write:
            write_text(file, json.dumps({"model": client.model}, ensure_ascii=False))
        return
    before = json.loads(file.read_text(encoding="utf-8"))["model"]
    if before != client.model:
        raise ServerError(
            f"{client.settings.url} serves {client.model!r}, and this run has learned from"
            f" {before!r}; serve that one, at any address, or use another run folder"
        )


def say_probe(probe: Probe, client: ServerClient, console: Console) -> None:
    """Tell what was found."""
    console.print(
        f"{client.settings.url} serves {probe.model}: {probe.tokens_checked:,} tokens are those of"
        f" `teacher.model`, {probe.seconds:.2f} s for the longest text,"
        f" {probe.bytes_a_token:,.0f} bytes a token",
        highlight=False,
        soft_wrap=True,
    )


class MadeUpTeacher:
    """Says that the first tokens are equally likely, in the place of a server that is not asked.

    For timing a step of the student.
    """

    def __init__(self, vocab_size: int, top_k: int) -> None:
        self._vocab_size, self._top_k = vocab_size, top_k

    @property
    def models(self) -> Sequence[nn.Module]:
        """None: signals are read."""
        return ()

    def signals(self, batch: Batch, needs: Needs) -> Activations:
        """Predictions at the predicted places."""
        rows, device = int(batch.teacher.predicted.sum()), batch.teacher.mask.device
        tokens = torch.arange(self._top_k, device=device).repeat(rows, 1)
        logs = torch.full(tokens.shape, 1 / (2 * self._top_k), device=device).log()
        rest = torch.full((rows,), 0.5, device=device).log()
        nothing = torch.empty(rows, 0, device=device)
        weight = torch.empty(self._vocab_size, 0, device=device)
        return Activations(
            Predictions(nothing, weight, None, selected=Selected(tokens, logs, rest))
        )
