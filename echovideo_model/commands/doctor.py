"""`echovideo doctor`: prints what a bug report needs: versions, device, memory, models, host.

It works without PyTorch, reads no weights, does not use the network, and shows only the names of folders.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .. import __version__
from ..weights import checking, comfyui, released
from ..weights.released import ModelFile
from . import say, say_json
from .arguments import add_json, add_models, find_models_folder

PACKAGES = (
    *("torch", "numpy", "einops", "safetensors", "transformers", "sentencepiece", "pillow", "av"),
    *("huggingface_hub", "insightface", "onnxruntime", "onnxruntime-gpu"),
    *("opencv-python", "opencv-python-headless", "torchvision", "comfyui-frontend-package"),
)
PACK = Path(__file__).parents[2]
VERSION_FILE = "comfyui_version.py"  # in ComfyUI's own folder


def register(subparsers: Any) -> None:
    """Adds `doctor` to the parser of `echovideo`."""
    parser = subparsers.add_parser(
        "doctor",
        help="print what a bug report needs: versions, device, memory, models, ComfyUI",
        description="Versions, device, memory, which model files are found, and the ComfyUI around it. "
        "Nothing private: your home folder is shown as ~, any other folder only by its last name.",
    )
    parser.add_argument(
        "--comfyui",
        type=Path,
        metavar="PATH",
        help="ComfyUI's folder (default: the one that this pack or the current folder is in)",
    )
    add_models(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints what it finds; returns 0 even if something is missing."""
    folder = find_models_folder(args)
    facts: dict[str, Any] = {
        "echovideo": __version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": platform.platform(),
        "memory": _memory(),
        "packages": _versions(),
        "device": _device(),
        "models": {"folder": hide(folder)} | _found(folder, released.NEEDED),
        "host": _host(args.comfyui.expanduser() if args.comfyui else _find_host()),
    }
    if args.json:
        say_json(facts)
    else:
        say("\n".join(_lines(facts)))
    return 0


def hide(path: Path) -> str:
    """A folder without its private part: ~ stands for home; elsewhere only the last name is kept."""
    path = Path(os.path.abspath(path))
    if path.is_relative_to(Path.home()):
        return (Path("~") / path.relative_to(Path.home())).as_posix()
    return f".../{path.name}"


def _versions() -> dict[str, str]:
    """{package: version} of those that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _device() -> dict[str, Any]:
    """The devices that PyTorch can use; says so if it is missing or does not load."""
    try:
        import torch

        from ..devices import find_device
    except (ImportError, OSError) as error:  # OSError: a library of PyTorch's own that Windows does not find
        return {"default": None, "error": f"PyTorch does not load: {type(error).__name__}"}
    gpus = []
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        gpus.append(f"{about.name}, {_gigabytes(about.total_memory)}")
    return {
        "default": str(find_device()),
        "gpus": gpus,
        "cuda": torch.version.cuda,
        "rocm": getattr(torch.version, "hip", None),
        "mps": torch.backends.mps.is_available(),
        "threads": torch.get_num_threads(),
    }


def _memory() -> str | None:
    """The machine's, from POSIX or else from psutil (which ComfyUI installs)."""
    try:
        return _gigabytes(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        pass
    try:
        import psutil
    except ImportError:
        return None
    return _gigabytes(psutil.virtual_memory().total)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def _found(folder: Path, files: Iterable[ModelFile]) -> dict[str, list[str]]:
    """{state: the files in that state}, by names and sizes."""
    states: dict[str, list[str]] = {"there": []}
    for check in checking.verify(folder, files, hashing=False):
        state = "there" if check.status == "unchecked" else check.status
        states.setdefault(state, []).append(check.file.path)
    return states


def _find_host() -> Path | None:
    """The ComfyUI that this pack is in or, when pip has installed it, the current folder; None if there is none."""
    around = (*PACK.parents, Path.cwd(), *Path.cwd().parents)
    return next((folder for folder in around if (folder / VERSION_FILE).is_file()), None)


def _host(folder: Path | None) -> dict[str, Any] | None:
    if folder is None:
        return None
    try:
        text = (folder / VERSION_FILE).read_text(encoding="utf-8")
    except OSError:
        return {"folder": hide(folder), "version": None}
    named = re.search(r'__version__ *= *"([^"]+)"', text)
    models = _found(folder / "models", comfyui.select_for_host(folder / "models"))
    return {"folder": hide(folder), "version": named and named[1], "models": models}


def _lines(facts: Mapping[str, Any], indent: str = "") -> list[str]:
    """One fact per line, with its parts below it."""
    lines = []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{name}", *_lines(value, indent + "  ")]
        elif isinstance(value, list):
            lines.append(f"{indent}{name}: {', '.join(value) or 'none'}")
        else:
            lines.append(f"{indent}{name}: {'none' if value is None else value}")
    return lines
