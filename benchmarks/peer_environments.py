"""An environment for each package that limbeck is compared with, so that none needs another's.

It sees what is installed beside limbeck, so that torch is the same and is not installed again;
where a package needs another version, as bertdistiller of transformers, its own comes first.
"""

import site
import subprocess
import sys
import venv
from pathlib import Path

PACKAGES = {
    "bertdistiller": ["bertdistiller"],
    "textbrewer": ["textbrewer"],
    "sentence-transformers": ["sentence-transformers"],
    "trl": ["trl"],
}


def python_of(environments: Path, package: str) -> Path | None:
    """The interpreter of a package's environment; None where there is no whole one."""
    folder = environments / package
    return _python(folder) if (folder / "whole").exists() else None


def install(environments: Path, package: str) -> str:
    """Make a package's environment, if there is none; '' or why there is none."""
    if python_of(environments, package):
        return ""
    folder = environments / package
    venv.create(folder, with_pip=True, clear=True)
    lines = "".join(f"import site; site.addsitedir({place!r})\n" for place in _outer_packages())
    inner = subprocess.run(
        [_python(folder), "-c", "import site; print(site.getsitepackages()[0])"],
        capture_output=True,
        text=True,
        check=True,
    )
    Path(inner.stdout.strip(), "outer.pth").write_text(lines, encoding="utf-8")
    done = subprocess.run(
        [_python(folder), "-m", "pip", "install", "-q", *PACKAGES[package]],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["pip has failed"])[-1]
    (folder / "whole").touch()
    return ""


def _outer_packages() -> list[str]:
    return [place for place in site.getsitepackages() if Path(place).is_dir()]


def _python(folder: Path) -> Path:
    inside = ("Scripts", "python.exe") if sys.platform == "win32" else ("bin", "python")
    # The interpreter is a link, which tells Python its environment: only the folder is resolved.
    return folder.resolve().joinpath(*inside)
