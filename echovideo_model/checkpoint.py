"""From files of weights to networks: which model a file holds, what is wrong with it, loading and converting."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from . import operations as plain_operations
from .errors import InvalidRequest, WrongModelFile
from .files import check_writable
from .tensorfile import OnBytes, TensorFile, open_tensors, write_file, write_shards
from .transformer import EchoVideoTransformer, TransformerSizes
from .vae import CogVideoXVAE, VAESizes

Network = TypeVar("Network", bound=nn.Module)
Layout = Literal["file", "folder"]
TRANSFORMER, VAE = "EchoVideo transformer", "CogVideoX VAE"
HOST_PREFIX = "model.diffusion_model."  # what ComfyUI's checkpoint saver puts before each name
SHARD_STEM = "diffusion_pytorch_model"

STORAGE = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8_e4m3fn": torch.float8_e4m3fn,
}
NARROW = (torch.float8_e4m3fn, torch.float8_e5m2)
BULK = (".attn1.to_", ".ff.net.")
"""The matrices that fp8 narrows: 85 % of the weights. Norms, biases, embeddings, modulation and IITF stay bf16."""

# A family is the first whose parameter names are all there; the more particular ones come first.
FAMILIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (TRANSFORMER, ("face_prj_wofc.latents", "transformer_blocks.0.attn1.to_q.weight")),
    (
        "CogVideoX transformer without identity fusion",
        ("transformer_blocks.0.attn1.norm_q.weight", "proj_out.weight"),
    ),
    (VAE, ("encoder.conv_in.conv.weight", "decoder.conv_in.conv.weight")),
    ("image VAE", ("encoder.conv_in.weight", "decoder.conv_in.weight")),
    ("T5 text encoder", ("encoder.block.0.layer.0.SelfAttention.q.weight",)),
    ("SigLIP vision encoder", ("vision_model.post_layernorm.weight",)),
    ("BiSeNet face parser", ("cp.resnet.conv1.weight", "conv_out.conv_out.weight")),
    ("EchoVideo identity", ("id_embedding", "face_tokens")),
)


@dataclass(frozen=True)
class Inspection:
    """What a file of weights is, told from its header."""

    path: str
    family: str
    parameters: int
    bytes: int
    dtypes: dict[str, int]  # parameters of each dtype
    sizes: dict[str, Any]  # of the network, where the family is known here
    missing: list[str]
    unexpected: list[str]
    metadata: dict[str, str]

    @property
    def complete(self) -> bool:
        return not self.missing and not self.unexpected


def family_of(names: Mapping[str, Any]) -> str:
    """The family's name, "LoRA", or "unknown"."""
    if any(".lora_" in name or name.endswith((".lora_A.weight", ".alpha")) for name in names):
        return "LoRA"
    for family, signs in FAMILIES:
        if all(sign in names for sign in signs):
            return family
    return "unknown"


def inspect(path: str | Path) -> Inspection:
    """Look at a file or folder without loading it: family, sizes, dtypes, and what is missing or unexpected."""
    opened = open_tensors(path)
    names = released_names(opened)
    shapes = {released: opened.entries[name].shape for released, name in names.items()}
    family = family_of(shapes)
    dtypes: dict[str, int] = {}
    for entry in opened.entries.values():
        key = str(entry.dtype).removeprefix("torch.")
        dtypes[key] = dtypes.get(key, 0) + entry.numel
    sizes, missing, unexpected = _compare(family, shapes, opened)
    return Inspection(
        path=str(path),
        family=family,
        parameters=sum(entry.numel for entry in opened.entries.values()),
        bytes=opened.bytes,
        dtypes=dtypes,
        sizes=sizes,
        missing=missing,
        unexpected=unexpected,
        metadata={key: value for key, value in opened.metadata.items() if len(value) < 1000},
    )


def released_names(opened: TensorFile) -> dict[str, str]:
    """{released name: the file's name}: ComfyUI's prefix is left off, and with it what the saver adds."""
    if any(name.startswith(HOST_PREFIX) for name in opened.entries):
        return {
            name.removeprefix(HOST_PREFIX): name for name in opened.entries if name.startswith(HOST_PREFIX)
        }
    return {name: name for name in opened.entries}


def load_transformer(
    path: str | Path,
    dtype: torch.dtype | None = None,
    operations: Any = plain_operations,
    on_bytes: OnBytes | None = None,
) -> EchoVideoTransformer:
    """The transformer in a released folder, an index, or one file, on the CPU; see `load`.

    dtype is what the weights are stored as: the file's own by default; float8_e4m3fn narrows BULK alone.
    """
    opened = open_tensors(path)
    shapes = _expect(opened, TRANSFORMER)
    with torch.device("meta"):
        network = EchoVideoTransformer(_sizes(opened, TransformerSizes.read, shapes), operations)
    return load(network, opened, dtype, on_bytes)


def load_vae(
    path: str | Path,
    dtype: torch.dtype | None = None,
    operations: Any = plain_operations,
    on_bytes: OnBytes | None = None,
) -> CogVideoXVAE:
    """The VAE in a released folder or one file, on the CPU; see `load`."""
    opened = open_tensors(path)
    shapes = _expect(opened, VAE)
    with torch.device("meta"):
        network = CogVideoXVAE(_sizes(opened, _vae_sizes(opened), shapes), operations)
    return load(network, opened, dtype, on_bytes)


def load(
    network: Network, opened: TensorFile, dtype: torch.dtype | None = None, on_bytes: OnBytes | None = None
) -> Network:
    """Fill `network`, built on the meta device, from `opened`; `on_bytes(done, total)` reports progress.

    Tensors are assigned, not copied: what needs no cast stays memory-mapped. Raises WrongModelFile when names
    or shapes differ (with the first of each) or when a weight is NaN or infinite.
    """
    expected = {name: tuple(parameter.shape) for name, parameter in network.state_dict().items()}
    names = released_names(opened)
    _require_same(
        opened.path, expected, {released: opened.entries[name].shape for released, name in names.items()}
    )
    network.load_state_dict(read_state(opened, dtype, on_bytes), assign=True)
    return network.eval().requires_grad_(False)


def read_state(
    opened: TensorFile, dtype: torch.dtype | None = None, on_bytes: OnBytes | None = None
) -> dict[str, Tensor]:
    """Every tensor under its released name, cast to `dtype` (see storage_dtype) and checked to be finite."""
    released_of = {name: released for released, name in released_names(opened).items()}
    state = {}
    for name, tensor in _counted(opened, on_bytes):
        if name in released_of:
            released = released_of[name]
            _require_finite(opened.path, released, tensor)
            state[released] = tensor if dtype is None else tensor.to(storage_dtype(released, dtype))
    return state


def storage_dtype(name: str, dtype: torch.dtype) -> torch.dtype:
    """What a parameter is stored as when a model is cast to `dtype`: see BULK for float8."""
    if dtype not in NARROW:
        return dtype
    narrow = any(part in name for part in BULK) and name.endswith(".weight")
    return dtype if narrow else torch.bfloat16


def convert(
    source: str | Path,
    target: str | Path,
    layout: Layout,
    dtype: torch.dtype | None = None,
    on_bytes: OnBytes | None = None,
) -> Path:
    """Write the transformer or the VAE at `source` as one file or as a released folder, cast to `dtype`.

    The network's configuration goes along (config.json of a folder, metadata of a file). Streams: memory stays
    at one tensor. Returns the file or the index that was written. Raises what `inspect` and `load` raise.
    """
    opened, target = open_tensors(source), Path(target)
    names = released_names(opened)
    shapes = {released: opened.entries[name].shape for released, name in names.items()}
    family = family_of(shapes)
    if family not in (TRANSFORMER, VAE):
        raise WrongModelFile(
            f"{source} is a {family}: only the EchoVideo transformer and the VAE are converted"
        )
    _, missing, unexpected = _compare(family, shapes, opened)
    if missing or unexpected:
        raise _mismatch(opened.path, missing, unexpected)
    if layout == "file" and target.suffix != ".safetensors":
        raise InvalidRequest(
            f"{target} must end in .safetensors to become a single file, or choose --layout folder"
        )
    by_own = {name: released for released, name in names.items()}
    planned = {
        by_own[name]: (entry.shape, entry.dtype if dtype is None else storage_dtype(by_own[name], dtype))
        for name, entry in _in_file_order(opened)
        if name in by_own
    }

    def cast() -> Iterator[tuple[str, Tensor]]:
        for name, tensor in _counted(opened, on_bytes):
            if name in by_own:
                _require_finite(opened.path, by_own[name], tensor)
                yield by_own[name], tensor.to(planned[by_own[name]][1])

    config = _config(opened)
    if layout == "file":
        check_writable(target)
        kept = {key: value for key, value in opened.metadata.items() if key != "config"}
        write_file(target, cast(), planned, kept | ({"config": json.dumps(config)} if config else {}))
        return target
    index = write_shards(target, cast(), planned, {"format": "pt"}, SHARD_STEM)
    if config:
        (target / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    return index


# ---- details ---------------------------------------------------------------------------------------------------


def _expect(opened: TensorFile, family: str) -> dict[str, tuple[int, ...]]:
    """The shapes under released names, if `opened` is of that family."""
    shapes = {released: opened.entries[name].shape for released, name in released_names(opened).items()}
    found = family_of(shapes)
    if found == family:
        return shapes
    examples = ", ".join(list(shapes)[:2]) or "nothing"
    what = f"a {found}" if found != "unknown" else "of no family known here"
    raise WrongModelFile(
        f"{opened.path} is not the {family} but {what} (it holds {examples}): choose another file"
    )


Sizes = TypeVar("Sizes")


def _sizes(
    opened: TensorFile, read: Callable[[Mapping[str, Any]], Sizes], shapes: Mapping[str, Any]
) -> Sizes:
    try:
        return read(shapes)
    except (KeyError, ValueError, IndexError) as error:
        raise WrongModelFile(
            f"{opened.path} lacks parameters that give its sizes ({error}): fetch it again"
        ) from error


def _vae_sizes(opened: TensorFile) -> Callable[[Mapping[str, Any]], VAESizes]:
    return lambda shapes: VAESizes.read(shapes, groups=_config(opened).get("norm_num_groups"))


def _compare(
    family: str, shapes: Mapping[str, tuple[int, ...]], opened: TensorFile
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Sizes, missing and unexpected names, each name with its shape where the shape is what differs."""
    if family == TRANSFORMER:
        sizes: Any = _sizes(opened, TransformerSizes.read, shapes)
        network_class: Any = EchoVideoTransformer
    elif family == VAE:
        sizes, network_class = _sizes(opened, _vae_sizes(opened), shapes), CogVideoXVAE
    else:
        return {}, [], []
    with torch.device("meta"):
        expected = {name: tuple(value.shape) for name, value in network_class(sizes).state_dict().items()}
    return asdict(sizes), *_differences(expected, shapes)


def _differences(
    expected: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]]
) -> tuple[list[str], list[str]]:
    missing = [name for name in expected if name not in given]
    unexpected = [name for name in given if name not in expected]
    for name in expected.keys() & given.keys():
        if expected[name] != given[name]:
            unexpected.append(f"{name} {list(given[name])} in place of {list(expected[name])}")
    return sorted(missing), sorted(unexpected)


def _require_same(
    path: Path, expected: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]]
) -> None:
    missing, unexpected = _differences(expected, given)
    if missing or unexpected:
        raise _mismatch(path, missing, unexpected)


def _mismatch(path: Path, missing: list[str], unexpected: list[str]) -> WrongModelFile:
    parts = [
        f"{len(names)} {what} (first: {names[0]})"
        for names, what in ((missing, "missing"), (unexpected, "unexpected"))
        if names
    ]
    return WrongModelFile(
        f"{path} does not hold the network's parameters: {', '.join(parts)}; choose another file"
    )


def _require_finite(path: Path, name: str, tensor: Tensor) -> None:
    """One sum tells: NaN and infinity both carry through it."""
    if not tensor.is_floating_point():
        return
    wide = tensor.to(torch.bfloat16) if tensor.dtype in NARROW else tensor
    if not torch.isfinite(wide.sum(dtype=torch.float32)):
        raise WrongModelFile(f"{path} holds NaN or infinity in {name}: the file is damaged; fetch it again")


def _in_file_order(opened: TensorFile) -> Iterator[tuple[str, Any]]:
    """Entries in the order in which `opened.tensors()` yields them."""
    files = dict.fromkeys(entry.file for entry in opened.entries.values())
    for file in files:
        yield from ((name, entry) for name, entry in opened.entries.items() if entry.file == file)


def _counted(opened: TensorFile, on_bytes: OnBytes | None) -> Iterator[tuple[str, Tensor]]:
    done = 0
    for name, tensor in opened.tensors():
        yield name, tensor
        done += opened.entries[name].bytes
        if on_bytes is not None:
            on_bytes(done, opened.bytes)


def _config(opened: TensorFile) -> dict[str, Any]:
    """The configuration beside a folder's weights or inside a file's metadata; empty when there is none."""
    beside = opened.path.parent / "config.json"
    text = opened.metadata.get("config") or (beside.read_text("utf-8") if os.path.isfile(beside) else "{}")
    try:
        config = json.loads(text)
    except ValueError as error:
        raise WrongModelFile(
            f"the configuration of {opened.path} is not JSON ({error}): fetch it again"
        ) from error
    return config if isinstance(config, dict) else {}
