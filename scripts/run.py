"""README's two commands on Linux, macOS and Windows: python scripts/run.py demo, python scripts/run.py test

Works in the active environment or else in .venv, which it creates, and installs what is missing, PyTorch first. $TORCH
names another build of PyTorch. Further arguments go to `echovideo demo`, or to pytest.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TORCH = os.environ.get("TORCH", "torch==2.13.0")


def main(words: list[str]) -> int:
    """Returns the exit status of the command."""
    if sys.version_info < (3, 10):  # noqa: UP036, for whoever starts this with an older one
        return say("Python 3.10 or newer is needed; start this with python3.11, say")
    if words[:1] not in (["demo"], ["test"]):
        return say("say demo or test")
    os.chdir(ROOT)
    python = find_python()
    os.environ["PATH"] = os.pathsep.join([str(python.parent), os.environ.get("PATH", "")])
    try:
        if words[0] == "demo":
            install(python, ".[face]")
            run(python, "-m", "echovideo_model", "demo", *words[1:])
        else:
            install(python, ".[test]")
            run(python, "-m", "ruff", "check", ".")
            run(python, "-m", "ruff", "format", "--check", ".")
            run(python, "-m", "mypy")
            run(python, "-m", "pytest", *words[1:])
            run(python, "-m", "benchmarks.parity", "tests/golden")
    except subprocess.CalledProcessError as failed:
        return failed.returncode
    except KeyboardInterrupt:  # the command has said so itself
        return 130
    return 0


def find_python() -> Path:
    """The active environment's Python, or else that of .venv."""
    if sys.prefix != sys.base_prefix or os.environ.get("CONDA_PREFIX"):
        return Path(sys.executable)
    folder = Path(os.environ.get("VIRTUAL_ENV") or ROOT / ".venv")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.is_file():
        venv.create(folder, with_pip=True)
    return python


def install(python: Path, what: str) -> None:
    """PyTorch first and by itself: otherwise any package that needs it would choose the build."""
    if subprocess.run([python, "-c", "import torch"], stderr=subprocess.DEVNULL, check=False).returncode:
        say("Installing PyTorch and what else is needed; this takes minutes")
        run(python, "-m", "pip", "install", "--quiet", TORCH)
    run(python, "-m", "pip", "install", "--quiet", "--editable", what)


def run(python: Path, *words: str) -> None:
    subprocess.run([python, *words], check=True)


def say(sentence: str) -> int:
    sys.stderr.write(sentence + "\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
