"""Files of weights: one .safetensors, a folder of shards with its index, or a pickle read with weights_only.

Opening reads headers alone. Tensors come out one at a time and memory-mapped, so that reading a model costs the
memory of its weights once. Writing streams, so that converting costs the memory of one tensor.
"""

from __future__ import annotations

import json
import math
import pickle
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .errors import InvalidRequest, ModelFileMissing, WrongModelFile
from .files import replacing

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES_OF_DTYPES = {dtype: name for name, dtype in DTYPES.items()}
PICKLES = (".pth", ".pt", ".bin", ".ckpt")
SHARD_BYTES = 10 * 1000**3  # the released transformer comes as one shard of 10 GB and the rest
OnBytes = Callable[[int, int], None]


@dataclass(frozen=True)
class Entry:
    """One tensor of a file: its shape and dtype, and the file that holds it."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    file: Path

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.numel * self.dtype.itemsize


@dataclass(frozen=True)
class TensorFile:
    """What a file or folder of weights holds, without the weights: {name: Entry} and the header's metadata."""

    path: Path
    entries: dict[str, Entry]
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: entry.shape for name, entry in self.entries.items()}

    @property
    def bytes(self) -> int:
        return sum(entry.bytes for entry in self.entries.values())

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every (name, tensor), file by file; safetensors are memory-mapped, not copied."""
        by_file: dict[Path, list[str]] = {}
        for name, entry in self.entries.items():
            by_file.setdefault(entry.file, []).append(name)
        for file, names in by_file.items():
            if file.suffix in PICKLES:
                state = _read_pickle(file)
                yield from ((name, state[name]) for name in names)
                continue
            with _opened(file) as opened:
                for name in names:
                    yield name, opened.get_tensor(name)


def open_tensors(path: str | Path) -> TensorFile:
    """What is at `path`: a .safetensors, a pickle (.pth .pt .bin .ckpt), an index .json or a folder with one of
    them.

    Raises ModelFileMissing (nothing there, or a shard is missing) and WrongModelFile (truncated, not weights).
    """
    path = Path(path)
    if path.is_dir():
        path = _main_file(path)
    if not path.is_file():
        raise ModelFileMissing(
            f"no weights at {path}: check the path, or fetch them with: echovideo models download"
        )
    if path.suffix == ".json":
        return _open_shards(path)
    if path.suffix in PICKLES:
        state = _read_pickle(path)
        return TensorFile(path, {name: Entry(tuple(t.shape), t.dtype, path) for name, t in state.items()})
    entries, metadata = _read_header(path)
    return TensorFile(path, entries, metadata)


def _main_file(folder: Path) -> Path:
    """The index of a folder's shards, or its only file of weights."""
    for pattern in ("*.safetensors.index.json", "*.safetensors", "*.bin.index.json", "*.bin", "*.pth"):
        found = sorted(folder.glob(pattern))
        if len(found) == 1:
            return found[0]
        if len(found) > 1:
            names = ", ".join(file.name for file in found)
            raise WrongModelFile(
                f"{folder} holds several files of weights ({names}) and no index: name the one to use"
            )
    raise ModelFileMissing(
        f"no weights in the folder {folder} (looked for an index .json, .safetensors, .bin and .pth): "
        "fetch them with: echovideo models download"
    )


def _open_shards(index: Path) -> TensorFile:
    try:
        weight_map: dict[str, str] = json.loads(index.read_text("utf-8"))["weight_map"]
    except (ValueError, KeyError, TypeError) as error:
        raise WrongModelFile(f"{index} is not an index of shards ({error}): fetch it again") from error
    shards = {name: index.parent / Path(name).name for name in set(weight_map.values())}
    missing = sorted(name for name, file in shards.items() if not file.is_file())
    if missing:
        raise ModelFileMissing(
            f"{index.parent} lacks {', '.join(missing)} of {len(shards)} shards: "
            "fetch them with: echovideo models download"
        )
    entries: dict[str, Entry] = {}
    metadata: dict[str, str] = {}
    for file in sorted(shards.values()):
        part, more = open_tensors(file).entries, open_tensors(file).metadata
        entries |= part
        metadata |= more
    absent = sorted(set(weight_map) - set(entries))
    if absent:
        raise WrongModelFile(
            f"{index} lists {absent[0]}, which no shard holds: the shards belong to another index"
        )
    return TensorFile(index, entries, metadata)


def _read_header(file: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    """The header of a .safetensors, checked by the library itself against the file's length."""
    with _opened(file) as opened:
        entries = {}
        for name in opened.keys():  # noqa: SIM118 (a method of the handle, not of a dict)
            part = opened.get_slice(name)
            dtype = DTYPES.get(part.get_dtype())
            if dtype is None:
                raise WrongModelFile(
                    f"{file}: {name} has the dtype {part.get_dtype()}, which is not supported"
                )
            entries[name] = Entry(tuple(part.get_shape()), dtype, file)
        return entries, opened.metadata() or {}


def _opened(file: Path) -> Any:
    try:
        return safe_open(str(file), framework="pt", device="cpu")
    except SafetensorError as error:
        size = file.stat().st_size
        raise WrongModelFile(
            f"{file} ({size} bytes) is not a whole .safetensors file ({error}): it may be cut short; fetch it again"
        ) from error


def _read_pickle(file: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WrongModelFile(f"{file} does not hold plain weights ({reason}): it is not loaded") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WrongModelFile(
            f"{file} does not hold plain weights (a {type(state).__name__}): it is not loaded"
        )
    return state


# ---- writing ---------------------------------------------------------------------------------------------------

Planned = Mapping[str, tuple[tuple[int, ...], torch.dtype]]


def write_file(
    path: Path, tensors: Iterable[tuple[str, Tensor]], planned: Planned, metadata: Mapping[str, str]
) -> None:
    """One .safetensors, written tensor by tensor beside its place and renamed.

    `planned` gives {name: (shape, dtype)} of what `tensors` will yield, in that order.
    """
    with replacing(path) as temporary, open(temporary, "wb") as out:
        out.write(_header(planned, metadata))
        for (name, tensor), (expected, (shape, dtype)) in zip(tensors, planned.items(), strict=True):
            if (name, tuple(tensor.shape), tensor.dtype) != (expected, shape, dtype):
                raise InvalidRequest(
                    f"{name} is not what was planned at this place: {expected} {shape} {dtype}"
                )
            out.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)


def write_shards(
    folder: Path,
    tensors: Iterable[tuple[str, Tensor]],
    planned: Planned,
    metadata: Mapping[str, str],
    stem: str,
) -> Path:
    """A folder of shards of at most SHARD_BYTES with its index, in the released layout; returns the index."""
    groups = _split(planned)
    stream = iter(tensors)
    weight_map: dict[str, str] = {}
    with ExitStack() as undo:
        for number, group in enumerate(groups, 1):
            file = folder / f"{stem}-{number:05}-of-{len(groups):05}.safetensors"
            undo.callback(file.unlink, missing_ok=True)
            part = (next(stream) for _ in group)
            write_file(file, part, group, metadata)
            weight_map |= dict.fromkeys(group, file.name)
        index = folder / f"{stem}.safetensors.index.json"
        total = sum(math.prod(shape) * dtype.itemsize for shape, dtype in planned.values())
        with replacing(index) as temporary:
            text = json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2)
            temporary.write_text(text + "\n", "utf-8")
        undo.pop_all()  # all there: keep the shards
    return index


def _header(planned: Planned, metadata: Mapping[str, str]) -> bytes:
    """The safetensors header: 8 bytes of its length, then JSON padded with spaces to a multiple of 8."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, (shape, dtype) in planned.items():
        end = offset + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": NAMES_OF_DTYPES[dtype], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _split(planned: Planned) -> list[dict[str, tuple[tuple[int, ...], torch.dtype]]]:
    """Consecutive groups of at most SHARD_BYTES each."""
    groups: list[dict[str, tuple[tuple[int, ...], torch.dtype]]] = [{}]
    filled = 0
    for name, (shape, dtype) in planned.items():
        size = math.prod(shape) * dtype.itemsize
        if groups[-1] and filled + size > SHARD_BYTES:
            groups.append({})
            filled = 0
        groups[-1][name] = shape, dtype
        filled += size
    return groups
