"""From a photo to what the model knows a person by: detect, align, parse, encode.

Here stands what these rooms share: optional packages, and reading a network's weights with honest errors.
"""

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import DependencyMissing, ModelFileMissing, WrongModelFile

DOWNLOAD = "`echovideo models download` fetches it"


def import_optional(package: str) -> Any:
    """The module `package`, imported now. Raises DependencyMissing with the one command that installs it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise DependencyMissing(
            f"the face pipeline needs {package.partition('.')[0]}, which cannot be imported ({error}): "
            f'"{sys.executable}" -m pip install "insightface>=1.0" onnxruntime'
        ) from error


def read_weights(path: str | Path, network: str, remedy: str = DOWNLOAD) -> dict[str, Tensor]:
    """Every tensor of a .safetensors file or of a pickled state dict (.pth), by name, on the CPU.

    A pickle is read with weights_only: nothing in it is run. In messages `network` names what the file should be, and
    `remedy` says how to get it.
    Raises ModelFileMissing, or WrongModelFile for a file that is truncated or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileMissing(f"{network} is not at {path}; {remedy}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (
        SafetensorError,
        OSError,
        EOFError,
        RuntimeError,
        ValueError,
        LookupError,
        pickle.PickleError,
    ) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise WrongModelFile(
            f"{path} cannot be read as {network}, it may be truncated ({reason}); {remedy}"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(entry, Tensor) for entry in state.values()):
        raise WrongModelFile(f"{path} is not {network}: it holds no plain table of tensors; {remedy}")
    return dict(state)


def fit(
    state: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    path: str | Path,
    network: str,
    remedy: str = DOWNLOAD,
) -> dict[str, Tensor]:
    """The entries of `state` that `wanted` names; further ones are left out (heads that are not needed here).

    Raises WrongModelFile if one is missing, has another shape, or holds NaN or infinity.
    """
    missing = [name for name in wanted if name not in state]
    if missing:
        strangers = [name for name in state if name not in wanted]
        holds = f"; it holds {strangers[0]} instead" if strangers else ""
        raise WrongModelFile(
            f"{path} is not {network}: {len(missing)} of {len(wanted)} parameters are missing, "
            f"{missing[0]} first{holds}; {remedy}"
        )
    for name, like in wanted.items():
        if state[name].shape != like.shape:
            found, expected = tuple(state[name].shape), tuple(like.shape)
            raise WrongModelFile(
                f"{path} is not {network}: {name} has the shape {found}, expected {expected}; {remedy}"
            )
        if not state[name].isfinite().all():
            raise WrongModelFile(f"{path} is damaged: {name} holds NaN or infinity; {remedy}")
    return {name: state[name] for name in wanted}
