"""Losses and scores of other packages for given tensors, called as their documentation says.

Each function imports its package when it is called, so that missing packages do no harm.
"""

from tempfile import TemporaryDirectory
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from transformers import BertModel


def textbrewer_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """TextBrewer's cross-entropy minus its value where both agree, which is the KL."""
    from textbrewer.losses import kd_ce_loss

    lowest = kd_ce_loss(teacher, teacher, temperature)
    return kd_ce_loss(student, teacher, temperature) - lowest


def gkd_divergence(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> float:
    """The loss function of TRL's GKD, with logits shifted as in its trainer."""
    from trl.experimental.gkd import GKDTrainer

    shifted = student[:, :-1], teacher[:, :-1], labels[:, 1:]
    return float(GKDTrainer.generalized_jsd_loss(*shifted, beta=0.5, temperature=temperature))


def gkd_trainer_loss(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> float:
    """The loss of TRL's GKD trainer with two models that give these logits.

    The trainer, which needs a data set and a tokenizer, is replaced by the attributes that its
    method reads.
    """
    from trl.experimental.gkd import GKDTrainer

    trainer = SimpleNamespace(
        teacher_model=_Fixed(teacher),
        beta=0.5,
        temperature=temperature,
        generalized_jsd_loss=GKDTrainer.generalized_jsd_loss,
    )
    ids = labels.clamp_min(0)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    return float(GKDTrainer.compute_loss(trainer, _Fixed(student), inputs))


class _Fixed(nn.Module):
    """A model that returns the same logits for every input."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.logits)


def gold_uld(student: Tensor, teacher: Tensor, labels: Tensor, strategy: str) -> float:
    """The universal logit distillation of TRL's GOLD, position by position."""
    from trl.experimental.gold import GOLDConfig
    from trl.experimental.gold.gold_trainer import ULDLoss

    with TemporaryDirectory() as folder:
        config = GOLDConfig(
            output_dir=folder,
            bf16=False,
            report_to=[],
            use_uld_loss=True,
            use_extended_uld=False,  # both sides have the same number of tokens here
            teacher_tokenizer_name_or_path="not read",
            uld_token_merge_strategy=strategy,
            uld_skip_student_eos=False,
            uld_skip_teacher_eos=False,
        )
    ids = labels.clamp_min(0)
    return float(ULDLoss(config)(student, teacher, labels, labels, ids, ids))


@torch.no_grad()
def bertdistiller_relations(
    student: BertModel, teacher: BertModel, ids: Tensor, mask: Tensor, heads: int
) -> float:
    """The loss of bertdistiller's MiniLM trainer for the last layers of both."""
    from bertdistiller import MiniLMTrainer, MiniLMTrainingArguments

    with TemporaryDirectory() as folder:
        arguments = MiniLMTrainingArguments(
            output_dir=folder,
            report_to=[],
            use_cpu=True,
            teacher_layer=teacher.config.num_hidden_layers,
            student_layer=student.config.num_hidden_layers,
            student_hidden_size=student.config.hidden_size,
            student_attention_heads=student.config.num_attention_heads,
            num_relation_heads=heads,
        )
        trainer = MiniLMTrainer(student, arguments, teacher_model=teacher)
    return float(trainer.compute_loss(student, {"input_ids": ids, "attention_mask": mask.long()}))


def rouge_score(reference: str, text: str) -> float:
    """ROUGE-L with the tokenizer of rouge-score."""
    from rouge_score.rouge_scorer import RougeScorer

    return float(RougeScorer(["rougeL"]).score(reference, text)["rougeL"].fmeasure)
