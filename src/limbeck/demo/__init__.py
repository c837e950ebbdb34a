"""The main job on what ships with the package: a real teacher, real text, a real task.

The text is a cut of English novels in the public domain, the task is SNIPS
(Coucke et al. 2018, arXiv:1805.10190, CC0), the teacher all-MiniLM-L6-v2 from
the package of the extra ``demo``.
"""

from pathlib import Path
from typing import Any

from rich.console import Console

from ..pretrained import DEMO_TEACHER, locate
from ..run import distill

HERE = Path(__file__).parent
_STUDENT = {"layers": 3, "hidden": 256, "heads": 8, "intermediate": 1024}
_TOKENS = 600_000


def demo_recipes(output: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The recipes of the control and of the student; the second is measured beside the first."""
    shared = {
        "data": {"text": str(HERE / "novels.txt.gz"), "held_out": {"sequences": 64}},
        "training": {"held_out_every": 50},
    }
    control = shared | {
        "name": "demo-no-distillation",
        "student": _STUDENT | {"architecture": "bert", "tokenizer": DEMO_TEACHER},
        "stages": [
            {
                "objectives": {"labels": {}},
                "tokens": _TOKENS,
                "optimizer": {"learning_rate": 1e-3},
            }
        ],
        "evaluation": {"cost": False},
    }
    student = shared | {
        "name": "demo",
        "teacher": DEMO_TEACHER,
        "student": _STUDENT | {"copy": {"layers": "uniform", "width": "svd"}},
        "stages": [
            {
                "objectives": {"relations": {"heads": 16}},
                "tokens": _TOKENS,
                "optimizer": {"learning_rate": 6e-4},
            }
        ],
        "evaluation": {
            "tasks": [str(HERE / "snips")],
            "seeds": 2,
            "training_rows": 1000,
            "no_distillation": str(output / "no-distillation"),
            "settings": {"learning_rate": 2e-4},
        },
    }
    return control, student


def run_demo(output: Path, *, console: Console) -> dict[str, Any]:
    """Distil, pretrain the control, evaluate both beside the teacher; gives the report.

    Raises:
        MissingExtraError: The teacher's package is not installed.
    """
    locate(DEMO_TEACHER)
    control, student = demo_recipes(output)
    console.print("1/2  the control: the same student without a teacher")
    distill(control, output / "no-distillation", console=console)
    console.print("2/2  the student, and the comparison")
    return distill(student, output, console=console).report
