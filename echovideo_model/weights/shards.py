"""Models in several files: how shards are named, and the index that says which one holds a parameter."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ModelFileMissing, WrongModelFile
from .headers import recognise
from .released import DOWNLOAD

SHARD = re.compile(r"-(\d{5})-of-(\d{5})(\.\w+)$")
PICKLES = (".pth", ".pt", ".bin", ".ckpt")
GGUF = ".gguf"
_COPY = re.compile(r" ?\(\d+\)(?=\.\w+$)")  # what browsers add to the name of a second download


def find_shards(path: Path) -> list[Path]:
    """Every shard of the model of which the file `path` is one, in order, there or not; else the file alone."""
    found = SHARD.search(path.name)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        return [path]
    stem, count, suffix = path.name[: found.start()], found[2], found[3]
    return [path.with_name(f"{stem}-{number:05}-of-{count}{suffix}") for number in range(1, int(count) + 1)]


def check_name(path: Path) -> None:
    """Raises WrongModelFile for a shard under the name that browsers give a second download, which no reader takes."""
    meant = _COPY.sub("", path.name)
    if meant != path.name and SHARD.search(meant):
        raise WrongModelFile(
            f"{path} is one shard of a model under the name that browsers give a second download: rename it to {meant}"
        )


def require_files(folder: Path, files: Sequence[Path]) -> None:
    """Raises ModelFileMissing if one of a model's shards is not there."""
    missing = [file.name for file in files if not os.path.isfile(file)]
    if missing:
        raise ModelFileMissing(f"{folder} lacks {', '.join(missing)} of {len(files)} shards: {DOWNLOAD}")


def read_index(index: Path) -> dict[str, str]:
    """{parameter: shard's file name} of an index; a shard lies beside the index, nowhere else.

    Raises WrongModelFile if it is not an index.
    """
    try:
        weight_map = json.loads(index.read_text("utf-8"))["weight_map"]
        strange = [name for name in weight_map.values() if not _is_shard_name(name)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = recognise(index) or f"{type(error).__name__}: {error}"
        raise WrongModelFile(f"{index} is not a shard index ({reason}): download it again") from error
    if strange:
        raise WrongModelFile(
            f"{index} names {strange[0]!r}, which is not a weight file beside it: download it again"
        )
    return weight_map


def list_shards(index: Path, weight_map: Mapping[str, str]) -> list[Path]:
    """The shards that an index names, in order. Raises ModelFileMissing for those that are not there."""
    files = [index.parent / name for name in sorted(set(weight_map.values()))]
    require_files(index.parent, files)
    return files


def group_shards(files: Iterable[Path]) -> list[Path]:
    """One file for each model in a folder: of several shards the first, there or not."""
    return sorted({find_shards(file)[0] for file in files})


def _is_shard_name(name: Any) -> bool:
    return isinstance(name, str) and Path(name).name == name and name.endswith((".safetensors", *PICKLES))
