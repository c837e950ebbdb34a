"""Distil a recipe with Ray Train: the workers of a cluster share every step of one run.

    python examples/ray_train.py recipes/minilm_english.yaml -o runs/mine --workers 2
    python examples/ray_train.py RECIPE -o RUN --workers 16 --gpus --fsdp --max-failures 10

Needs `pip install 'limbeck[ray]'` on every machine. Recipe, data and run folder lie on a disk that
all machines share. When a worker is lost, Ray starts all workers again and the run resumes from
its last checkpoint; so does the same command.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report its use to its makers

from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from limbeck.recipe.read import read_recipe


def distill_in_worker(given):
    """Train this worker's share; Ray calls it in every worker, and again after a failure."""
    # Paths in a recipe are seen from where the command was started, and Ray's workers start
    # elsewhere.
    os.chdir(given["folder"])
    if given["fsdp"]:
        os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}

    import limbeck

    limbeck.distill(given["recipe"], given["output"])


def main():
    """Read the recipe, and train it in Ray's workers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--gpus", action="store_true", help="a GPU for each worker")
    parser.add_argument("--fsdp", action="store_true", help="FSDP2 in place of DDP")
    parser.add_argument("--max-failures", type=int, default=3)
    given = parser.parse_args()
    output = given.output.resolve()
    TorchTrainer(
        distill_in_worker,
        train_loop_config={
            "recipe": read_recipe(given.recipe),
            "output": str(output),
            "folder": str(Path.cwd()),
            "fsdp": given.fsdp,
        },
        scaling_config=ScalingConfig(num_workers=given.workers, use_gpu=given.gpus),
        run_config=RunConfig(
            name="ray",
            storage_path=str(output),  # Ray's own records; RUN/ray can be removed afterwards
            failure_config=FailureConfig(max_failures=given.max_failures),
        ),
    ).fit()


if __name__ == "__main__":
    main()
