"""Training steps by other packages' own trainers, set as their documentation says.

Runs in an environment of a package (`peer_environments.py`), on a folder that `peer_folders.py` has
made: the same teacher, student and batches as limbeck's. Not as in their documentation: batches
come in the given order, nothing is saved, and the optimizer is limbeck's AdamW, fused.

    python peer_trainers.py FOLDER
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peer_batches import Row, as_dataset, read_batches, rows_of
from peer_clock import WARM_UP, Clock
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    TrainerCallback,
)


def bertdistiller(job: dict[str, Any], batches: list[Row], clock: Clock, place: str) -> Any:
    """Relations of MiniLMv2, by MiniLMTrainer."""
    from bertdistiller import MiniLMTrainer, MiniLMTrainingArguments

    teacher, student = (AutoModel.from_pretrained(job[side]) for side in ("teacher", "student"))
    teacher.config.architectures = ["BertForMaskedLM"]  # it takes no other name for a BERT
    arguments = MiniLMTrainingArguments(
        **_arguments(job, place),
        teacher_layer=teacher.config.num_hidden_layers,
        student_layer=student.config.num_hidden_layers,
        student_hidden_size=student.config.hidden_size,
        student_attention_heads=student.config.num_attention_heads,
        num_relation_heads=job["heads"],
    )
    rows = rows_of(batches, "input_ids", "attention_mask")
    trainer = MiniLMTrainer(
        model=student,
        args=arguments,
        teacher_model=teacher,
        train_dataset=rows,
        data_collator=DataCollatorWithPadding(AutoTokenizer.from_pretrained(job["teacher"])),
    )
    return _train(trainer, rows, job, clock)


def textbrewer(job: dict[str, Any], batches: list[Row], clock: Clock, place: str) -> Any:
    """Probabilities of classes, labels and hidden states, by GeneralDistiller.

    It knows half precision by Apex alone; here it runs under torch's autocast.
    """
    from textbrewer import DistillationConfig, GeneralDistiller, TrainingConfig

    teacher, student = (
        AutoModelForSequenceClassification.from_pretrained(job[side], output_hidden_states=True).to(
            job["device"]
        )
        for side in ("teacher", "student")
    )
    entropies: list[Tensor] = []

    def of_student(batch: Row, outputs: Any) -> Row:
        mask = batch["attention_mask"]
        found = {"logits": outputs.logits, "hidden": outputs.hidden_states, "inputs_mask": mask}
        return {**found, "losses": outputs.loss}

    def of_teacher(batch: Row, outputs: Any) -> Row:
        classes = torch.distributions.Categorical(logits=outputs.logits / job["temperature"])
        entropies.append(classes.entropy().mean())
        return {"logits": outputs.logits, "hidden": outputs.hidden_states}

    same = {"feature": "hidden", "loss": "hidden_mse", "weight": 1}
    distiller = GeneralDistiller(
        TrainingConfig(device=job["device"], output_dir=place, ckpt_steps=10**6),
        DistillationConfig(
            temperature=job["temperature"],
            kd_loss_weight=1,
            hard_label_weight=job["label_weight"],
            intermediate_matches=[
                {"layer_T": theirs, "layer_S": mine, **same} for mine, theirs in job["states"]
            ],
        ),
        teacher,
        student,
        of_teacher,
        of_student,
    )
    # Its loss is a cross-entropy: the teacher's entropy less, it is the divergence.
    distiller.write_loss = lambda loss, *_: clock.losses.append(loss.detach() - entropies[-1])
    if job["precision"] == "bfloat16":
        # Entered in each step, as autocast keeps weights in bfloat16 until it is left.
        half = torch.autocast(job["device"], torch.bfloat16)
        distiller.train_on_batch = half(distiller.train_on_batch)
    clock.begin()
    with distiller:
        distiller.train(
            _optimizer(student, job),
            _Ticking(batches, clock),
            num_steps=len(batches),
            max_grad_norm=job["max_grad_norm"],
        )


def sentence_transformers(job: dict[str, Any], batches: list[Row], clock: Clock, place: str) -> Any:
    """Vectors of texts by MSELoss, after the teacher has encoded the texts."""
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import MSELoss
    from sentence_transformers.models import Normalize, Pooling, Transformer

    half = {"dtype": torch.bfloat16} if job["precision"] == "bfloat16" else None
    teacher = SentenceTransformer(job["teacher"], device=job["device"], model_kwargs=half)
    teacher.max_seq_length = job["max_length"]
    body = Transformer(job["student"], max_seq_length=job["max_length"])
    pooling = Pooling(body.get_embedding_dimension(), "mean")
    student = SentenceTransformer(modules=[body, pooling, Normalize()], device=job["device"])
    texts = [text for batch in batches for text in batch["texts"]]
    teacher.encode(texts[: job["rows"]], batch_size=job["rows"])
    began = time.perf_counter(), time.process_time()
    vectors = teacher.encode(texts, batch_size=job["rows"], show_progress_bar=False)
    took = time.perf_counter() - began[0], time.process_time() - began[1]
    rows = [
        {"text": text, "label": torch.from_numpy(vector)}
        for text, vector in zip(texts, vectors, strict=True)
    ]
    trainer = SentenceTransformerTrainer(
        model=student,
        args=SentenceTransformerTrainingArguments(**_arguments(job, place)),
        train_dataset=as_dataset(rows),
        loss=MSELoss(student),
    )
    _train(trainer, rows, job, clock)
    timed = (job["steps"] - 1 - WARM_UP) / len(batches)
    return [seconds * timed for seconds in took]


def trl(job: dict[str, Any], batches: list[Row], clock: Clock, place: str) -> Any:
    """Distributions over the vocabulary on given text, by GKDTrainer without generation."""
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    half = torch.bfloat16 if job["precision"] == "bfloat16" else torch.float32
    teacher = AutoModelForCausalLM.from_pretrained(job["teacher"], dtype=half)
    student = AutoModelForCausalLM.from_pretrained(job["student"], dtype=torch.float32)
    rows = rows_of(batches, "input_ids", "attention_mask", "next_labels")

    def collated(some: Sequence[Row]) -> Row:
        found = {name: torch.stack([row[name] for row in some]) for name in some[0]}
        return {**found, "labels": found.pop("next_labels")}

    trainer = GKDTrainer(
        model=student,
        teacher_model=teacher,
        args=GKDConfig(
            **_arguments(job, place),
            lmbda=0.0,
            beta=0.5,
            temperature=1.0,
            gradient_checkpointing=False,
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        data_collator=collated,
        train_dataset=as_dataset(rows),
        processing_class=AutoTokenizer.from_pretrained(job["teacher"]),
    )
    return _train(trainer, rows, job, clock)


def _arguments(job: dict[str, Any], place: str) -> dict[str, Any]:
    """What all trainers that are transformers' are given."""
    return {
        "output_dir": place,
        "max_steps": job["steps"],
        "per_device_train_batch_size": job["rows"],
        "learning_rate": job["learning_rate"],
        "lr_scheduler_type": "constant",
        "weight_decay": job["weight_decay"],
        "adam_beta2": job["adam_beta2"],
        "adam_epsilon": job["adam_epsilon"],
        "max_grad_norm": job["max_grad_norm"],
        "optim": "adamw_torch_fused",
        "bf16": job["precision"] == "bfloat16",
        "use_cpu": job["device"] == "cpu",
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def _optimizer(student: Any, job: dict[str, Any]) -> torch.optim.Optimizer:
    """The same AdamW for a trainer that is given one."""
    parameters = list(student.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": job["weight_decay"]},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    betas = 0.9, job["adam_beta2"]
    return torch.optim.AdamW(
        groups, lr=job["learning_rate"], betas=betas, eps=job["adam_epsilon"], fused=True
    )


class _Ticking:
    """Batches of a step each; when the next one is fetched, the step before it is over."""

    def __init__(self, batches: list[Row], clock: Clock) -> None:
        self._batches, self._clock = batches, clock

    def __iter__(self) -> Any:
        for number, batch in enumerate(self._batches):
            if number:
                self._clock.tick()
            names = ("input_ids", "attention_mask", "token_type_ids", "classes")
            read = {name: batch[name] for name in names if name in batch}
            yield {**read, "labels": read.pop("classes")}


class _Ticks(TrainerCallback):
    """Tells the clock when a step of a trainer of transformers is over."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self._clock.tick()


def _train(trainer: Any, rows: list[Row], job: dict[str, Any], clock: Clock) -> None:
    """Train on rows in their order, and note each loss."""
    compute = trainer.compute_loss

    def noted(*given: Any, **named: Any) -> Any:
        loss = compute(*given, **named)
        clock.losses.append(loss.detach())
        return loss

    loader = DataLoader(rows, batch_size=job["rows"], collate_fn=trainer.data_collator)  # type: ignore[arg-type]
    trainer.compute_loss = noted
    trainer.get_train_dataloader = lambda: trainer.accelerator.prepare(loader)
    trainer.add_callback(_Ticks(clock))
    clock.begin()
    trainer.train()


TRAINERS = {
    "bertdistiller": bertdistiller,
    "textbrewer": textbrewer,
    "sentence-transformers": sentence_transformers,
    "trl": trl,
}


def main() -> None:
    """Train on a job's folder, and print what was measured as JSON."""
    from importlib.metadata import version

    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    clock = Clock(job["device"])
    torch.manual_seed(0)
    with TemporaryDirectory() as place:
        before = TRAINERS[job["package"]](job, read_batches(folder), clock, place)
    # The last step is left out: trainers end with it.
    found = clock.result(job["steps"] - 1)
    if before:
        found["encoding_seconds"], found["encoding_processor_seconds"] = before
    names = (job["package"], "transformers", "torch")
    found["versions"] = {name: version(name) for name in names}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
