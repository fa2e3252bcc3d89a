"""Checks that the weight files in a folder are right, without the internet and without PyTorch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from ..errors import EchoVideoError, WrongModelFile
from .headers import check_tensors, read_header, recognise
from .released import NEEDED, ModelFile
from .shards import list_shards, read_index

Status = Literal["ok", "missing", "wrong size", "wrong hash", "damaged", "unchecked"]


@dataclass(frozen=True)
class Check:
    """What was found of one file; `detail` is for a person to read and empty when there is nothing to say."""

    file: ModelFile
    status: Status
    detail: str


def verify(folder: Path, files: Iterable[ModelFile] = NEEDED, *, hashing: bool = True) -> list[Check]:
    """Compares the files in a models folder with the table, without the network.

    Never raises. "unchecked" is a file that cannot be read or whose sha256 is not in the table; "damaged" is one
    without a sha256 whose content shows that it is incomplete (see `check_content`), or an index whose shards are.
    `hashing=False` looks only at names and sizes.
    """
    return [Check(file, *_verify(folder / file.path, file, hashing)) for file in files]


def _verify(path: Path, file: ModelFile, hashing: bool) -> tuple[Status, str]:
    status, detail = compare(path, file.size, file.sha256 if hashing else None)
    if hashing and status == "unchecked" and file.sha256 is None:
        try:
            check_content(path, path.name)
            if path.name.endswith(".index.json"):
                list_shards(path, read_index(path))
        except EchoVideoError as error:
            return "damaged", str(error)
    return status, detail


def check_content(path: Path, name: str) -> None:
    """Checks the header of a file that will be called `name`, for which no hash is published.

    Raises WrongModelFile for a .safetensors that is truncated or holds a tensor of only zeros, an invalid .json, an
    invalid shard index, and for what servers and unfinished downloads leave instead of a file.
    """
    if (what := recognise(path)) is not None:
        raise WrongModelFile(f"it is {what}")
    if name.endswith(".safetensors"):
        stored, _ = read_header(path)
        check_tensors(path, stored)
    elif name.endswith(".index.json"):
        read_index(path)
    elif name.endswith(".json"):
        try:
            whole = isinstance(json.loads(path.read_text("utf-8")), dict)
        except (OSError, ValueError, RecursionError):
            whole = False
        if not whole:
            raise WrongModelFile("it is not a JSON object")


def compare(path: Path, size: int | None, digest: str | None) -> tuple[Status, str]:
    """Compares a file with what is known of it; never raises."""
    try:
        if not os.path.isfile(path):
            return "missing", ""
        found_size = path.stat().st_size
        if size is not None and found_size != size:
            return "wrong size", f"expected {size} bytes, got {found_size}"
        if digest is None:
            return "unchecked", "no hash to compare with"
        found = _digest(path, digest)
    except OSError as error:
        return "unchecked", f"it cannot be read: {error.strerror or error}"
    if found == digest:
        return "ok", ""
    kind = "sha256" if len(digest) == 64 else "git hash"
    return "wrong hash", f"expected {kind} {digest}, got {found}"


def _digest(path: Path, like: str) -> str:
    """The hash of a file's content, in hex, of the kind that `like` is: sha256, or git's of a blob (sha1)."""
    size = path.stat().st_size
    digest = hashlib.sha256() if len(like) == 64 else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    bar = tqdm(total=size, unit="B", unit_scale=True, desc=f"checking {path.name}", leave=False, disable=None)
    with bar, path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()
