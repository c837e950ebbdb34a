"""Steps of every objective on a GPU, which raises wherever the process would wait for it.

gpu_waits.py
"""

import torch
from accelerate import Accelerator
from gradients import SEVERAL, WITH_EVERY_OBJECTIVE, batch_of, learner_of, objectives_of

from limbeck.training.checkpoint import Position
from limbeck.training.optimizer import build_optimizer
from limbeck.training.processes import distribute
from limbeck.training.settings import OptimizerSettings
from limbeck.training.stage import Stage
from limbeck.training.step import train_step
from limbeck.training.taken import Unread


def main() -> None:
    accelerator = Accelerator(mixed_precision="bf16")
    failed = []
    for family in WITH_EVERY_OBJECTIVE:
        for case in objectives_of(family):
            learner, objective, teacher = learner_of(case, family, accelerator)
            name = case.removesuffix(SEVERAL)
            wrapped = distribute(learner, accelerator).train(False)
            settings, rows = OptimizerSettings(), 4
            micro = 2 if objective.rows_together() <= 2 else rows
            stage = Stage(name, {name: objective}, {name: 1.0}, 9, rows, micro, settings)
            optimizer, unread = build_optimizer(learner, settings), Unread(accelerator.device)
            batch = batch_of(case, rows, length=12).pinned()
            for step in range(4):
                if step == 2:  # libraries wait while they begin
                    torch.cuda.set_sync_debug_mode("error")
                where, given = Position(0, step, 0, 0.0), (stage, batch, optimizer, accelerator)
                try:
                    unread.add(train_step(wrapped, teacher, *given, where, unread.failed))
                except RuntimeError as error:
                    failed.append(f"{family} {case}: {str(error).splitlines()[0]}")
                    break
            torch.cuda.set_sync_debug_mode("default")
            unread.read()
            unread.check()
    if failed:
        raise SystemExit("\n".join(failed))


if __name__ == "__main__":
    main()
