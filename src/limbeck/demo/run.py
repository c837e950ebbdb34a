"""A whole distillation on data that ships with limbeck: a real teacher, real text, a real task.

The student gets 4,928 tokens of its own and a tenth of the teacher's size by
mixed-vocabulary training, and then learns the teacher's relations.

The text is an excerpt of English novels in the public domain, the task is SNIPS
(Coucke et al. 2018, arXiv:1805.10190, CC0), the teacher all-MiniLM-L6-v2 from
the package of the extra ``demo``.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ..deploy.export import export
from ..deploy.exported_model import is_exported
from ..deploy.formats import FLOAT32, FORMATS, INT8, extra_of, lacking_packages
from ..deploy.report.tables import headline
from ..deploy.results import RESULT
from ..deploy.settings import ExportSettings
from ..evaluation.cost import SENTENCE_LENGTH
from ..models.locate import DEMO_TEACHER, locate
from ..reports.model_results import Latency
from ..reports.run_results import RunResult
from ..run.distill import distill
from ..system.launcher import check_one_process
from ..tokenization.folders import learn_vocabulary
from ..tokenization.vocabulary_report import vocabulary_headline

HERE = Path(__file__).parent
_TEXT = str(HERE / "novels.txt.gz")
_VOCAB_SIZE = 4928
_STUDENT = {
    "num_hidden_layers": 3,
    "hidden_size": 192,
    "num_attention_heads": 6,
    "intermediate_size": 768,
}
# Short sequences: they give as many steps from half of the text, and the student learns as much.
_LENGTH, _MIXED_TOKENS, _TOKENS = 64, 50_000, 250_000
_SECONDS_EACH = 0.1  # of timing a file at one size of texts
_SEEDS = 1  # of fine-tuning, which takes a third of the time, mostly for the teacher


def demo_recipes(output: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The recipes of the control and of the student, which is compared with the control."""
    tokens = {"tokenizer": str(output / "vocabulary")}
    shared = {
        "data": {"text": _TEXT, "max_length": _LENGTH, "held_out": {"sequences": 64}},
        "training": {"eval_steps": 50},
    }
    control = shared | {
        "name": "demo-no-distillation",
        "student": _STUDENT | tokens | {"model_type": "bert"},
        "stages": [
            {
                "objectives": {"labels": {}},
                "tokens": _MIXED_TOKENS + _TOKENS,
                "optimizer": {"learning_rate": 1e-3},
            }
        ],
        "evaluation": {"cost": False},
    }
    student = shared | {
        "name": "demo",
        "teacher": DEMO_TEACHER,
        "student": _STUDENT
        | tokens
        | {"embedding_init": "mean", "init_from_teacher": {"layers": "uniform", "width": "svd"}},
        "stages": [
            {
                "name": "both vocabularies",
                "mixed": {"student_fraction": 0.5},
                "tokens": _MIXED_TOKENS,
                "optimizer": {"learning_rate": 2e-4},
            },
            {
                "name": "student",
                "objectives": {"relations": {"heads": 16}},
                "tokens": _TOKENS,
                "optimizer": {"learning_rate": 8e-4},
            },
        ],
        "evaluation": {
            "tasks": [str(HERE / "snips")],
            "seeds": _SEEDS,
            "max_train_samples": 1000,
            "baseline": str(output / "no-distillation"),
            "finetuning": {"learning_rate": 2e-4},
        },
    }
    return control, student


def run_demo(output: Path, *, console: Console) -> dict[str, Any]:
    """Learn tokens, pretrain the control, distil, evaluate, export; returns the run's report.

    Raises:
        TrainingError: A launcher has started several processes.
        MissingExtraError: The teacher's package is not installed.
    """
    check_one_process("the demo")
    locate(DEMO_TEACHER)
    control, student = demo_recipes(output)
    console.print(f"1/4  a vocabulary of {_VOCAB_SIZE:,} tokens")
    if not (output / "vocabulary").is_dir():
        learned = learn_vocabulary(
            [_TEXT],
            output / "vocabulary",
            vocab_size=_VOCAB_SIZE,
            like=DEMO_TEACHER,
            console=console,
        )
        console.print(vocabulary_headline(learned), highlight=False)
    console.print("2/4  the control: the same student without a teacher")
    distill(control, output / "no-distillation", console=console)
    console.print("3/4  the student, and the comparison")
    report = distill(student, output, console=console).report
    console.print("4/4  the student as a file of 8 bits")
    if is_exported(str(output / "files")):
        return report
    if lacking := lacking_packages(FORMATS[INT8].engine):
        install = f"pip install 'limbeck[{extra_of(FORMATS[INT8].engine)}]'"
        console.print(f"left out: it needs {' and '.join(lacking)} ({install})", markup=False)
        return report
    settings = ExportSettings(formats=(FLOAT32, INT8), seconds_each=_SECONDS_EACH)
    console.print(headline(export(str(output), output / "files", settings)), highlight=False)
    return report


def explanation(report: Mapping[str, Any], output: Path) -> list[str]:
    """What each number of the demo means, and what to do next; one sentence for each."""
    result = RunResult.from_json(report)
    models, quality = result.models, result.quality["snips"]
    teacher, student, control = (
        100 * quality.scores[role] for role in ("teacher", "student", "no_distillation")
    )
    smaller = models["teacher"].parameters / models["student"].parameters
    text = _MIXED_TOKENS + _TOKENS
    return [
        f"Intent accuracy: of 100 requests of the SNIPS test, how many are understood after"
        f" fine-tuning on {quality.training_rows:,} other requests, once ({_SEEDS} seed).",
        f"  teacher {teacher:.1f}: all-MiniLM-L6-v2 itself, the score to keep;",
        f"  student {student:.1f}: {smaller:.0f} times smaller, taught over {text:,} tokens"
        " of novels, which is little: with more text it comes closer (docs/results/english.md);",
        f"  no distillation {control:.1f}: the same student on the same text without a teacher, so"
        f" distillation gave {student - control:+.1f}.",
        f"Milliseconds: for a sentence of {SENTENCE_LENGTH} of the teacher's tokens on this"
        " processor, the body alone, in float32.",
        *of_file(output / "files", models["teacher"].latencies),
        "Next:",
        f"  every metric, latency and loss curve: open {output / 'report' / 'report.html'}",
        f"  use the student: AutoModel.from_pretrained('{output / 'student'}')",
        "  your own model and text: copy recipes/minilm_english.yaml, change teacher and data.text,"
        " then run `limbeck plan` and `limbeck distill`",
    ]


def of_file(folder: Path, teacher: Sequence[Latency]) -> list[str]:
    """What the file of 8 bits is worth beside the teacher; nothing where there is none."""
    if not is_exported(str(folder)):
        return []
    result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    [small] = [one for one in result["candidates"] if one["format"] == INT8]
    seconds = {(one.batch, one.length): one.p50 for one in teacher if one.batch == 1}
    timed = [(length, p50) for batch, length, p50, _ in small["times"]["rows"] if batch == 1]
    for length, own in timed:
        if small["file"] and (theirs := seconds.get((1, length))):
            return [
                f"The file {folder / small['file']}: {small['megabytes']:.1f} MB in 8 bits,"
                f" {1000 * own:.2f} ms for a text of {length} tokens on ONNX Runtime; the teacher"
                f" takes {1000 * theirs:.1f} ms in torch, {theirs / own:.0f} times as long."
            ]
    return []
