"""The command that sends a model to a hub."""

from typing import Annotated

import typer

from .terminal import console, print_table

_Model = Annotated[
    str, typer.Argument(metavar="RUN_OR_FOLDER", help="A run, model or exported folder.")
]
_Repository = Annotated[str, typer.Argument(metavar="REPO", help="OWNER/NAME on the hub.")]
_Private = Annotated[bool, typer.Option("--private/--public", help="Who can see a new repository.")]
_Dry = Annotated[bool, typer.Option("--dry-run", help="Show what would be sent, and send nothing.")]


def push(
    model: _Model, repository: _Repository, private: _Private = True, dry_run: _Dry = False
) -> None:
    """Send a student or exported files to the Hugging Face hub.

    A new repository is private by default. The model's card is checked first; licences that
    restrict its use give a warning. The token is that of `hf auth login`, or HF_TOKEN.
    """
    from ..run.push import checked_push
    from ..run.push import push as send
    from ..system.progress import warn

    found = checked_push(model, repository, private=private)
    rows = [[name, f"{size / 1e6:.2f}"] for name, size in found.files.items()]
    print_table(f"{found.folder} to {repository}", [["file", "MB"], *rows])
    for warning in found.warnings:
        warn(console, warning)
    seen = "private" if private else "public"
    if dry_run:
        console.print(f"nothing was sent; a new repository would be {seen}", highlight=False)
        return
    sent = send(found)
    console.print(f"sent: {sent.url} ({seen} if it is new)", highlight=False, markup=False)
