"""The networks behind the metrics: where their files are, and loading them from there, never from the internet."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from pickle import PickleError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from ..errors import DependencyMissing, ModelFileMissing, WrongModelFile
from ..weights.loading import load
from ..weights.reading import open_tensors

FOLDER = "evaluation"  # in the models folder
DOWNLOAD = f"get it with `echovideo models download --only {FOLDER}`"
# What releases of transformers raise on damaged files.
_UNREADABLE = (
    SafetensorError,
    PickleError,
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
)
INSTALL = 'pip install "comfyui-echovideo[evaluate]"'


def find(folder: Path, name: str) -> Path:
    """The file or folder `name` of a judge in the models folder. Raises ModelFileMissing with both."""
    path = folder / FOLDER / name
    if not path.exists():
        raise ModelFileMissing(f"{name} is not in {folder / FOLDER}: {DOWNLOAD}")
    return path


def import_judge(package: str, purpose: str) -> Any:
    """The module `package`, imported now. Raises DependencyMissing with the command that installs it."""
    try:
        return importlib.import_module(package)
    except (
        ImportError,
        RuntimeError,
    ) as error:  # RuntimeError: a torchvision that was built for another PyTorch
        reason = str(error).strip().partition("\n")[0]
        matching = (
            f" (the torchvision build must match PyTorch {torch.__version__})" if "vision" in package else ""
        )
        raise DependencyMissing(
            f"{purpose} needs {package.partition('.')[0]}, which cannot be imported ({reason}): {INSTALL}{matching}"
        ) from error


def fill(network: nn.Module, path: Path, name: str) -> nn.Module:
    """`network` with its weights from `path`, which may hold more; ready to judge.

    Raises ModelFileMissing or WrongModelFile.
    """
    if not path.is_file():
        raise ModelFileMissing(f"{name} was not found at {path}; {DOWNLOAD}")
    opened, wanted = open_tensors(path), network.state_dict()
    own = {name: entry for name, entry in opened.entries.items() if name in wanted}
    return load(network, replace(opened, entries=own))


def from_transformers(kind: str, folder: Path, **options: Any) -> Any:
    """A model of transformers, by its class's name, in float32 from the folder alone.

    Raises ModelFileMissing without a config.json or weights, WrongModelFile for a file that is damaged or lacks
    parameters (transformers itself would draw those at random).
    """
    import transformers

    if not (folder / "config.json").is_file():
        raise ModelFileMissing(f"config.json is not in {folder}: {DOWNLOAD}")
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise ModelFileMissing(f"model.safetensors is not in {folder}: {DOWNLOAD}")
    try:
        with _silence(transformers):
            network, report = getattr(transformers, kind).from_pretrained(
                folder, local_files_only=True, output_loading_info=True, **options
            )
    except _UNREADABLE as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise WrongModelFile(f"{folder} cannot be read as a {kind} ({reason}); {DOWNLOAD}") from error
    if missing := sorted(report["missing_keys"]):
        raise WrongModelFile(
            f"{folder} is not a {kind}: {len(missing)} parameters are missing (the first is "
            f"{missing[0]}); {DOWNLOAD}"
        )
    return network.float().eval().requires_grad_(False)


@contextmanager
def _silence(transformers: Any) -> Iterator[None]:
    """Without a bar for every file or a report of unused weights: real problems are raised."""
    logging = transformers.utils.logging
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
