"""A few real steps of a stage: what they take in time and memory, before a run begins."""

import time
from dataclasses import dataclass, replace
from tempfile import TemporaryDirectory

import numpy as np
import torch
from jaxtyping import Int
from numpy import ndarray
from torch import Tensor

from ..batch import Batch, Links, Tokens
from ..recipe.setup import Setup
from ..reports.memory import with_rest
from ..system.memory import held_bytes, peak_bytes, restart_peak
from ..teacher.contract import Teacher
from ..tokenization.masking import Masking
from ..training.checkpoint import Position
from ..training.memory import held_by_parts
from ..training.optimizer import build_optimizer
from ..training.step import train_step
from ..training.taken import Unread
from .accelerator import build_accelerator
from .learner import build_learner
from .models import build_models
from .prompt_batches import generated_batches, prompt_batches
from .server import MadeUpTeacher
from .task_batches import task_batches
from .teacher import live_teacher, untrained_after_mixed

_PROBE_STEPS = 10
_LEAST_STEPS, _ENOUGH_SECONDS = 3, 15.0  # a teacher of 250,000 tokens may need seconds for a step


@dataclass(frozen=True)
class Probe:
    """What a few steps of a stage took; seconds of the median step, bytes of the process.

    Where the stage writes its text, the seconds of writing one batch are in it.
    """

    seconds_per_step: float
    peak_memory_bytes: int | None
    memory: dict[str, int | None]


def probe(setup: Setup, number: int) -> Probe:
    """Ten real steps of a stage on random tokens, or fewer slow ones; nothing is kept."""
    setup, stage = _with_live_teacher(setup), setup.stages[number]
    before = held_bytes(setup.device.type)
    with TemporaryDirectory() as folder:
        accelerator = build_accelerator(setup.recipe.training, folder)
        # Random weights cost the same, unless weights of their values are held in less memory, or
        # decide the ranks of layers.
        by_energy = setup.recipe.student.low_rank and setup.recipe.student.low_rank.energy
        copy = setup.learns_low_rank_alone or by_energy is not None
        student, teacher = build_models(setup, accelerator, copy=copy)
        restart_peak()  # as a run does: making the models may take more than training them
        learner = build_learner(setup, student, number)
        wrapped = accelerator.prepare(learner)
        wrapped.train(stage.dropout)
        optimizer = build_optimizer(learner, stage.optimizer)
        batch = _probed_batch(setup, number)
        taught = stage.teacher_needs().anything
        served = setup.recipe.server
        if taught and teacher is None and not served:
            teacher = live_teacher(setup, untrained_after_mixed(setup), accelerator)
        teaching: Teacher | None = teacher if taught else None
        if taught and served:
            vocab_size = setup.models.required_teacher().shape.vocab_size
            teaching = MadeUpTeacher(vocab_size, served.top_k)
        writing, caches = 0.0, 0
        if stage.policy and stage.policy.rule and stage.policy.options.engine == "limbeck":
            prompts = prompt_batches(setup, held_out=False, size=stage.batch_size)
            writer = teacher.model if teacher else None
            source = generated_batches(setup, number, prompts, student, writer, accelerator)
            began = time.perf_counter()
            source.batch(0)  # weights that know nothing seldom come to an end: the longest texts
            writing, caches = time.perf_counter() - began, source.held_bytes()
        seconds, unread = list[float](), Unread(accelerator.device)
        while not _enough(seconds):
            began = time.perf_counter()
            position = Position(number, 0, 0, 0.0)
            given = wrapped, teaching, stage, batch, optimizer, accelerator, position
            unread.add(train_step(*given, unread.failed))
            unread.read()  # waits for the device
            unread.check()
            seconds.append(time.perf_counter() - began)
        peak = peak_bytes(accelerator.device.type)
        held = held_by_parts(learner, teaching, optimizer, caches=caches)
        parts = with_rest(held, before, peak)
    return Probe(writing + sorted(seconds)[len(seconds) // 2], peak, parts)


def _enough(seconds: list[float]) -> bool:
    """Whether the times of so many steps tell how long a step takes."""
    if len(seconds) >= _PROBE_STEPS:
        return True
    return len(seconds) >= _LEAST_STEPS and sum(seconds) >= _ENOUGH_SECONDS


def _with_live_teacher(setup: Setup) -> Setup:
    """The same with the teacher beside the student: no signals of random tokens are kept."""
    part = setup.recipe.teacher
    if part is None or part.cache is None:
        return setup
    # What was multiplied so on a processor may be learned from on a GPU.
    quantize = None if part.quantize == "int8_dynamic" else part.quantize
    live = part.model_copy(update={"cache": None, "quantize": quantize, "engine": "torch"})
    recipe = setup.recipe.model_copy(update={"teacher": live})
    return replace(setup, recipe=recipe)


def _probed_batch(setup: Setup, number: int) -> Batch:
    """Random tokens, as many as a step reads; of a task the rows of the first step."""
    stage = setup.stages[number]
    if stage.rows:
        return task_batches(setup, held_out=False, size=stage.batch_size, stage=stage).batch(0)
    return _random_batch(setup, number)


def _random_batch(setup: Setup, number: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    shape = (setup.stages[number].batch_size, setup.recipe.data.max_length)
    teacher, mine = setup.models.teacher, setup.models.student.shape.token_ids.present
    if setup.stages[number].mixed is not None and teacher is not None:
        # The student's tokens stand behind the teacher's table.
        theirs = teacher.shape.token_ids.present
        mine = np.concatenate([theirs, teacher.shape.vocab_size + mine])
    ids = _drawn(mine, shape, generator)
    masking = setup.maskings[number]
    share = masking.mlm_probability if isinstance(masking, Masking) else 1.0 if masking else 0.0
    predicted = torch.rand(shape, generator=generator) < share
    real = torch.ones(shape, dtype=torch.bool)
    tokens = Tokens(ids, real, ids, predicted)
    part = setup.recipe.stages[number].alignment
    if part is None or teacher is None:
        return Batch(tokens, tokens)
    read = _drawn(teacher.shape.token_ids.present, shape, generator)
    every = torch.arange(shape[1]).expand(shape)
    following = every if part.kind == "boundaries" else None
    links = Links(
        Tokens(ids, real, ids, real) if part.kind == "reduce" else None,
        every,
        every,
        Tokens(ids, real, ids, real),
        following,
        following,
    )
    return Batch(tokens, Tokens(read, real, read, real), links)


def _drawn(
    among: Int[ndarray, " tokens"], shape: tuple[int, int], generator: torch.Generator
) -> Int[Tensor, "rows length"]:
    """Random tokens; rows of an embedding table that belong to no token are never read."""
    return torch.from_numpy(among)[torch.randint(0, len(among), shape, generator=generator)]
