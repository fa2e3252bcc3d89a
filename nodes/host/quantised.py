"""Quantised weights: which of them the running host can read. Anything else beside a weight is refused by name,
because weights without their scales give a video of noise and no error."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import comfy.utils
from torch import Tensor

from ...echovideo_model.errors import WrongModelFile

MARK = ".comfy_quant"
SCALE = "weight_scale"


def list_readable_formats() -> dict[str, Any]:
    """{name: what the host knows of it} of the formats that this host's layers can read; older hosts know none."""
    if not hasattr(comfy.utils, "convert_old_quants"):
        return {}
    from comfy.quant_ops import QUANT_ALGOS

    return dict(QUANT_ALGOS)


def check_marks(state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Raises WrongModelFile for a weight that is quantised in a way that this host does not read.

    `state` is a model's own tensors, {name without a prefix: tensor}.
    """
    formats = list_readable_formats()
    if not formats and "_quantization_metadata" in (metadata or {}):
        raise WrongModelFile(f"this file is quantised in a format that {ASK}")
    for name in state:
        if name.endswith(MARK):
            _check_mark(name.removesuffix(MARK), state, formats)
        elif (
            name.endswith(".weight")
            and name.removesuffix(".weight") + MARK not in state
            and not state[name].is_floating_point()
            and not hasattr(state[name], "tensor_type")  # ComfyUI-GGUF's, which has the layers that unpack it
        ):
            raise WrongModelFile(f"{name} is packed as {state[name].dtype}, a format that {ASK}")


def list_shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """{name: shape in numbers}: a byte of nvfp4 holds two."""
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name in state:
        layer = name.removesuffix(MARK)
        if layer != name and _read_mark(layer, state[name]) == "nvfp4":
            *rows, columns = shapes[f"{layer}.weight"]
            shapes[f"{layer}.weight"] = (*rows, 2 * columns)
    return shapes


ASK = "this ComfyUI does not read: choose a file in bf16 or fp8, or update ComfyUI"


def _check_mark(layer: str, state: Mapping[str, Tensor], formats: Mapping[str, Any]) -> None:
    kind = _read_mark(layer, state[layer + MARK])
    if kind not in formats:
        known = f" (it reads {', '.join(formats)})" if formats else ""
        raise WrongModelFile(f"{layer} is quantised as {kind}, which {ASK}{known}")
    for part in (
        "weight",
        SCALE,
        *(["weight_scale_2"] if "weight_scale_2" in formats[kind]["parameters"] else []),
    ):
        if f"{layer}.{part}" not in state:
            raise WrongModelFile(
                f"{layer} is quantised as {kind} but lacks its {part}: download the file again"
            )


def _read_mark(layer: str, mark: Tensor) -> str:
    try:
        return str(json.loads(bytes(mark.flatten().tolist()))["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise WrongModelFile(
            f"the quantisation marker of {layer} cannot be read ({type(error).__name__}: {error}): "
            "download the file again"
        ) from error


def refuse_unread(names: Iterable[str], what: str) -> None:
    """Raises WrongModelFile if a host's load left tensors of these names unread."""
    left = sorted(names)
    if left:
        raise WrongModelFile(
            f"choose the published file in bf16 or fp8: {what} holds {len(left)} tensors that are not read (the "
            f"first is {left[0]}); it was saved by another program or for another model"
        )
