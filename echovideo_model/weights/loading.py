"""From weight files to networks: which model a file holds, what is wrong with it, loading and converting."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from ..errors import InvalidRequest, WrongModelFile
from ..files import check_writable
from ..transformer import EchoVideoTransformer, TransformerSizes
from ..vae.autoencoder import CogVideoXVAE, VAESizes
from .family import (
    IF_A_SHARD,
    T5,
    TRANSFORMER,
    VAE,
    describe_family,
    find_family,
    list_differences,
    list_shapes,
    open_family,
    open_released,
    require_same,
)
from .gguf_files import to_llama_name, write_gguf
from .headers import may_be_zero
from .quantised import widen
from .quantising import GGUF_FORMS, plan_gguf, plan_quantised, read_packed, read_quantised
from .reading import OnBytes, TensorFile
from .shards import GGUF
from .writing import Planned, Read, write_file, write_folder

Network = TypeVar("Network", bound=nn.Module)
Layout = Literal["file", "folder"]
SHARD_STEM = "diffusion_pytorch_model"

STORAGE = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8_e4m3fn": torch.float8_e4m3fn,
}
NARROW = (torch.float8_e4m3fn, torch.float8_e5m2)
BULK = (".attn1.to_", ".ff.net.", ".SelfAttention.", ".DenseReluDense.")
"""The matrices that fp8 narrows: 85 % of the transformer's weights, all but the embeddings of T5's. Norms, biases,
embeddings, modulation and IITF stay bf16."""

ARCHITECTURES = {TRANSFORMER: "echovideo", T5: "t5encoder"}
"""What a GGUF says that it holds (`general.architecture`); llama.cpp only knows the latter."""
COUNTER = ".num_batches_tracked"
"""A batch norm's counter, the only whole number among weights."""


@dataclass(frozen=True)
class Inspection:
    """What a weight file is, according to its header."""

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


def inspect(path: str | Path) -> Inspection:
    """Look at a file or folder without loading it: family, sizes, dtypes, and what is missing or unexpected.

    Raises ModelFileMissing and WrongModelFile; the latter also when the parameters that give the sizes are gone.
    """
    opened = open_released(path)
    family = find_family(opened.entries)
    dtypes: dict[str, int] = {}
    for entry in opened.entries.values():
        dtypes[entry.kind] = dtypes.get(entry.kind, 0) + entry.numel
    sizes: dict[str, Any] = {}
    missing: list[str] = []
    unexpected: list[str] = []
    if family in (TRANSFORMER, VAE):
        network = _empty_network(opened, family)
        sizes = asdict(network.sizes)
        missing, unexpected = list_differences(list_shapes(network), opened.shapes)
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


def read_transformer_sizes(path: str | Path) -> TransformerSizes:
    """Every size of the transformer at `path`, from its header alone. Raises ModelFileMissing, WrongModelFile."""
    return read_empty_transformer(path).sizes


def read_empty_transformer(path: str | Path) -> EchoVideoTransformer:
    """The transformer at `path` on the meta device: sizes, names and shapes, from its header alone.

    Raises ModelFileMissing, WrongModelFile.
    """
    network: EchoVideoTransformer = _empty_network(open_family(path, TRANSFORMER), TRANSFORMER)
    return network


def load_transformer(
    path: str | Path,
    dtype: torch.dtype | None = None,
    on_bytes: OnBytes | None = None,
) -> EchoVideoTransformer:
    """The transformer in a released folder, an index, or one file, on the CPU; see `load`.

    dtype is what the weights are stored as: the file's own by default, bfloat16 where it is quantised; float8_e4m3fn
    narrows BULK alone.
    """
    opened = open_family(path, TRANSFORMER)
    return load(_empty_network(opened, TRANSFORMER), opened, dtype, on_bytes)


def load_vae(
    path: str | Path,
    dtype: torch.dtype | None = None,
    on_bytes: OnBytes | None = None,
) -> CogVideoXVAE:
    """The VAE in a released folder or one file, on the CPU; see `load`."""
    opened = open_family(path, VAE)
    return load(_empty_network(opened, VAE), opened, dtype, on_bytes)


def load(
    network: Network, opened: TensorFile, dtype: torch.dtype | None = None, on_bytes: OnBytes | None = None
) -> Network:
    """Fill `network`, built on the meta device, from `opened`; `on_bytes(done, total)` reports progress.

    Tensors are assigned, not copied: what needs no cast stays memory-mapped. Raises WrongModelFile when names
    or shapes differ (with the first of each), when a weight is NaN or infinite or a matrix holds zeros alone,
    InvalidRequest when one is too large for `dtype`.
    """
    require_same(opened, list_shapes(network))
    network.load_state_dict(read_state(opened, dtype, on_bytes), assign=True)
    return network.eval().requires_grad_(False)


def read_state(
    opened: TensorFile, dtype: torch.dtype | None = None, on_bytes: OnBytes | None = None
) -> dict[str, Tensor]:
    """Every tensor under its released name, cast to `dtype` (see storage_dtype) and checked to be finite."""
    planned = _plan(opened, dtype)
    return dict(zip(planned, _reader(opened, planned, on_bytes)(planned), strict=True))


def read_config(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The configuration in a file's metadata, or in the config.json beside it; empty when there is none.

    Raises WrongModelFile when it is not a JSON object.
    """
    beside = path.parent / "config.json"
    try:
        text = metadata.get("config") or (beside.read_text("utf-8") if beside.is_file() else "{}")
        config = json.loads(text)
        if not isinstance(config, dict):
            raise ValueError(f"a {type(config).__name__} instead of an object")
    except (OSError, ValueError, RecursionError) as error:
        raise WrongModelFile(
            f"the configuration of {path} cannot be read ({error}): download it again"
        ) from error
    return config


def check_layers(count: int, config: Mapping[str, Any], sign: str) -> None:
    """Raises WrongModelFile if the configuration is of this kind of network, which the key `sign` tells, and says that
    it has another number of layers than a file holds."""
    said = config.get("num_layers", count) if sign in config else count
    if said != count:
        raise WrongModelFile(
            f"it has {count} layers, but its configuration says {said}: it is incomplete, or the "
            "configuration belongs to another model; download both again"
        )


def storage_dtype(name: str, dtype: torch.dtype) -> torch.dtype:
    """What a parameter is stored as when a model is cast to `dtype`: see BULK for float8."""
    if dtype not in NARROW:
        return dtype
    return dtype if is_bulk(name) else torch.bfloat16


def count_stored_bytes(network: nn.Module, dtype: torch.dtype) -> int:
    """Bytes of the network's weights once they are stored as `dtype`; the network may be on the meta device."""
    return sum(
        value.numel() * storage_dtype(name, dtype).itemsize for name, value in network.state_dict().items()
    )


def is_bulk(name: str) -> bool:
    """Whether a parameter is one of the matrices that are narrowed: see BULK."""
    return any(part in name for part in BULK) and name.endswith(".weight") and "attention_bias" not in name


def convert(
    source: str | Path,
    target: str | Path,
    layout: Layout,
    dtype: torch.dtype | None = None,
    on_bytes: OnBytes | None = None,
    form: str | None = None,
) -> Path:
    """Write the transformer or the VAE at `source` as one file or as a released folder, T5 as one file, cast to
    `dtype`, or what is no VAE quantised in one of quantising.FORMS, or in one of GGUF_FORMS as a .gguf.

    The network's configuration goes along (config.json of a folder, metadata of a file). Memory stays at one
    tensor. An older file at `target` is replaced; a folder has to be new or empty. Returns the file or the index
    that was written. Raises what `load` raises, and InvalidRequest where `target` cannot be or is the source.
    """
    source, target = Path(source), Path(target)
    opened = open_released(source)
    family = find_family(opened.entries)
    if family not in (TRANSFORMER, VAE, T5):
        raise WrongModelFile(
            f"{source} is {describe_family(opened.entries)}: choose the EchoVideo transformer, the VAE or T5"
        )
    if layout == "folder" and (family == T5 or form in GGUF_FORMS):
        what = (
            "a GGUF is always one file"
            if form in GGUF_FORMS
            else f"{source} is a T5 text encoder, which can only become one file"
        )
        raise InvalidRequest(f"{what}: choose --layout file")
    if family == VAE and (form is not None or dtype in NARROW):
        raise InvalidRequest(f"the VAE has no matrices to store in {form or _name_dtype(dtype)}: choose bf16")
    if family != T5:
        require_same(opened, list_shapes(_empty_network(opened, family)))
    _check_target(source, opened, target, layout, GGUF if form in GGUF_FORMS else ".safetensors")
    config = read_config(opened.path, opened.metadata)
    metadata = opened.metadata | ({"config": json.dumps(config)} if config else {})
    planned = _plan(opened, torch.bfloat16 if form else dtype)
    wide = {**planned} | {
        name: (shape, torch.float32) for name, (shape, _) in planned.items() if form and is_bulk(name)
    }
    read = _reader(opened, wide, on_bytes)
    if form in GGUF_FORMS:
        _write_gguf(target, family, plan_gguf(planned, form, is_bulk), read, metadata)
        return target
    if form is not None:
        planned = plan_quantised(planned, form, is_bulk)
        read = read_quantised(read, _reader(opened, wide, None), form, planned)
    if layout == "folder":
        return write_folder(target, SHARD_STEM, planned, read, config)
    write_file(target, planned, read, {"format": "pt"} | metadata)
    return target


# ---- details ---------------------------------------------------------------------------------------------------


def _write_gguf(
    target: Path,
    family: str,
    plan: dict[str, tuple[tuple[int, ...], str]],
    read: Read,
    metadata: Mapping[str, str],
) -> None:
    """T5 under llama.cpp's names, as what reads its encoders expects; EchoVideo under the released ones."""
    if family == T5 and "shared.weight" in plan:  # otherwise only its other name is there
        plan = {name: about for name, about in plan.items() if name != "encoder.embed_tokens.weight"}
    renamed = {to_llama_name(name) if family == T5 else name: about for name, about in plan.items()}
    texts = {
        key: text for key, text in metadata.items() if key != "format" and not key.startswith("general.")
    }
    write_gguf(target, ARCHITECTURES[family], renamed, read_packed(read, plan), texts)


def _name_dtype(dtype: torch.dtype | None) -> str:
    return str(dtype).removeprefix("torch.")


def _empty_network(opened: TensorFile, family: str) -> Any:
    """The transformer or the VAE on the meta device, of the file's sizes."""
    shapes, config = opened.shapes, read_config(opened.path, opened.metadata)
    try:
        with torch.device("meta"):
            if family == VAE:
                return CogVideoXVAE(VAESizes.read(shapes, config.get("norm_num_groups")))
            network = EchoVideoTransformer(TransformerSizes.read(shapes))
            check_layers(network.sizes.blocks, config, "num_attention_heads")
            return network
    except WrongModelFile as error:
        raise WrongModelFile(f"{opened.path}: {error}") from error
    except KeyError as error:
        raise WrongModelFile(f"{opened.path} lacks {error.args[0]}: {IF_A_SHARD}") from error
    except (IndexError, ValueError, TypeError, ZeroDivisionError, RuntimeError) as error:
        raise WrongModelFile(
            f"the sizes in {opened.path} do not describe a network ({type(error).__name__}: {error}): "
            "download it again"
        ) from error


def _plan(opened: TensorFile, dtype: torch.dtype | None) -> Planned:
    """{name: (shape, storage dtype)}."""
    if dtype is None and any(entry.packed and entry.blocks is None for entry in opened.entries.values()):
        dtype = torch.bfloat16  # a GGUF that is quantised keeps its small tensors in float32
    own = {
        name: torch.bfloat16 if entry.packed or entry.scale is not None else entry.dtype
        for name, entry in opened.entries.items()
    }
    return {
        name: (entry.shape, storage_dtype(name, dtype) if dtype else own[name])
        for name, entry in opened.entries.items()
    }


def _reader(opened: TensorFile, planned: Planned, on_bytes: OnBytes | None) -> Read:
    """The function that yields tensors by name, widened where they are quantised, checked, cast as planned, counted."""
    done, total = 0, opened.bytes

    def read(wanted: Iterable[str]) -> Iterator[Tensor]:
        nonlocal done
        for name, tensor in opened.tensors(wanted):
            entry = opened.entries[name]
            yield _cast(opened.path, name, widen(tensor, entry), planned[name][1])
            done += entry.bytes
            if on_bytes is not None:
                on_bytes(done, total)

    return read


def _cast(path: Path, name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """`tensor` as `dtype`, unchanged if it is that already. Raises WrongModelFile, InvalidRequest."""
    if name.endswith(COUNTER):
        return tensor
    if not tensor.is_floating_point():
        raise WrongModelFile(
            f"{path} holds {name} as {_name_dtype(tensor.dtype)}, which is not a weight type: choose "
            "another file"
        )
    largest = _find_largest(tensor)
    if not math.isfinite(largest):
        raise WrongModelFile(
            f"{path} holds NaN or infinity in {name}: the file is damaged; download it again"
        )
    if largest == 0 and tensor.numel() and not may_be_zero(name, tensor.ndim):
        raise WrongModelFile(f"{path} holds only zeros in {name}: part of it is missing; download it again")
    if largest > torch.finfo(dtype).max:
        raise InvalidRequest(
            f"{name} in {path} reaches {largest:g}, too large for {_name_dtype(dtype)}: choose a wider dtype"
        )
    return tensor.to(dtype)


def _find_largest(tensor: Tensor) -> float:
    """The greatest magnitude, NaN or infinity if there is one; without a copy of the tensor.

    (aminmax reads 10 GB/s with two threads; a float32 sum of bfloat16 makes a copy of twice the size first, at
    0.4 GB/s, and can overflow.)
    """
    if not tensor.numel():
        return 0.0
    if tensor.dtype not in NARROW:
        low, high = tensor.aminmax()
        return torch.maximum(-low, high).item()
    # Of float8, one byte each, magnitudes are ordered as their low seven bits are, NaN and infinity above all.
    positive, negative = tensor.view(torch.int8).amax(), tensor.view(torch.uint8).amax() & 0x7F
    bits = torch.maximum(positive, negative.to(torch.int8))
    return bits.view(tensor.dtype).float().item()


def _check_target(source: Path, opened: TensorFile, target: Path, layout: Layout, suffix: str) -> None:
    """Raises InvalidRequest if `target` is the source or in its folder, or cannot be written."""
    places = (target, *Path(os.path.realpath(target)).parents)
    files = {opened.path, *(entry.file for entry in opened.entries.values())}
    if any(_is_same_file(target, file) for file in files) or (
        source.is_dir() and any(_is_same_file(p, source) for p in places)
    ):
        raise InvalidRequest(f"{target} is part of the source {source}: choose another target")
    if layout == "file":
        if target.suffix == GGUF != suffix:
            raise InvalidRequest(
                f"{target} would be a GGUF: choose --weight-dtype {' or '.join(GGUF_FORMS)}, or a name that ends in "
                f"{suffix}"
            )
        if target.suffix != suffix:
            other = "" if suffix == GGUF else ", or choose --layout folder"
            raise InvalidRequest(f"{target} must end in {suffix} to become a single file{other}")
        check_writable(target)


def _is_same_file(one: Path, other: Path) -> bool:
    return os.path.exists(one) and os.path.samefile(one, other)
