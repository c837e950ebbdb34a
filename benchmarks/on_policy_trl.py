"""The two on-policy trainers of TRL, for ``on_policy.py``, and the clock around their steps."""

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback


class Clock(TrainerCallback):
    """Seconds of each step of a trainer, whose texts have no end."""

    def __init__(self, width: int) -> None:
        self.seconds: list[float] = []
        self.generating: list[float] = []
        self._width = width  # of a prompt with what is generated

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """No token ends a text, though the trainer has given the model the tokenizer's end."""
        others["model"].generation_config.eos_token_id = None

    def around(self, generate: Callable[..., Any]) -> Callable[..., Any]:
        """The same, timed; what it gives must have the longest length."""

        def timed(*given: Any, **named: Any) -> Any:
            began = time.perf_counter()
            found = generate(*given, **named)
            self.generating.append(time.perf_counter() - began)
            texts = found if isinstance(found, torch.Tensor) else found.sequences
            if texts.shape[1] != self._width:
                raise SystemExit("the texts of TRL have ended before the longest length")
            return found

        return timed

    def on_step_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """A step begins."""
        self.began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """A step is over."""
        self.seconds.append(time.perf_counter() - self.began)


def gkd_trainer(
    given: argparse.Namespace, models: dict[str, Any], arguments: dict[str, Any], prompts: list[Any]
) -> Any:
    """TRL's GKDTrainer, on prompts as tokens."""
    from datasets import Dataset
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    def collated(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        ids = torch.tensor([row["ids"] for row in rows])
        same = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
        return same | {"prompts": ids, "prompt_attention_mask": torch.ones_like(ids)}

    config = GKDConfig(
        **arguments,
        lmbda=1.0,
        max_new_tokens=given.max_new_tokens,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    return GKDTrainer(
        **models,
        args=config,
        data_collator=collated,
        train_dataset=Dataset.from_list([{"ids": prompt.tolist()} for prompt in prompts]),
    )


def distillation_trainer(
    given: argparse.Namespace, models: dict[str, Any], arguments: dict[str, Any], texts: list[str]
) -> Any:
    """TRL's DistillationTrainer, on prompts as texts; no end of a text is drawn."""
    from datasets import Dataset
    from trl import DistillationConfig, DistillationTrainer

    config = DistillationConfig(
        **arguments,
        max_completion_length=given.max_new_tokens,
        generation_kwargs={"min_new_tokens": given.max_new_tokens},
    )
    return DistillationTrainer(
        **models,
        args=config,
        train_dataset=Dataset.from_list([{"prompt": text} for text in texts]),
    )
