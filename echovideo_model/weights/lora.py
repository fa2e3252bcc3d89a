"""LoRAs for the transformer: the spelling of every trainer read into one, whole, or refused by name.

The one spelling is `PATH.PART`, PATH being a layer of the network (transformer_blocks.0.attn1.to_q) and PART one of
kohya's and LyCORIS's: lora_down.weight, lora_up.weight, alpha, diff, diff_b, lokr_w1 and so on, which is what ComfyUI
reads. PEFT's magnitude of DoRA keeps a part of its own, since ComfyUI's `dora_scale` means something else.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..errors import WrongModelFile

MAGNITUDE = "peft_magnitude"
"""[out]: PEFT's DoRA, W' = magnitude * (W + scale B A) / |W + scale B A|, norms over each row."""

_NAME = r"(?:\.(?!weight$|bias$)[^.]+)?"  # of PEFT's adapter: "default", or the user's own
_PARTS = (
    (
        rf"(?:\.lora_A|\.lora_down|\.lora\.down|_lora\.down|\.lora_linear_layer\.down){_NAME}(?:\.weight)?",
        "lora_down.weight",
    ),
    (
        rf"(?:\.lora_B|\.lora_up|\.lora\.up|_lora\.up|\.lora_linear_layer\.up){_NAME}(?:\.weight)?",
        "lora_up.weight",
    ),
    (rf"\.lora_B{_NAME}\.bias", "lora_up.bias"),
    (rf"\.lora_magnitude_vector{_NAME}(?:\.weight)?", MAGNITUDE),
    (r"\.(alpha|dora_scale|diff|diff_b|set_weight|w_norm|b_norm|lora_mid\.weight)", r"\1"),
    (r"\.(hada_(?:w1_a|w1_b|w2_a|w2_b|t1|t2)|lokr_(?:w1|w1_a|w1_b|w2|w2_a|w2_b|t2))", r"\1"),
    (r"\.(oft_blocks|rescale|[ab][12]\.weight)", r"\1"),
)
_PATTERNS = tuple((re.compile(f"{pattern}$"), part) for pattern, part in _PARTS)
_PREFIX = re.compile(r"^(?:(?:base_model|model|transformer|diffusion_model|module|unet)\.)+")
_FLAT_PREFIX = re.compile(r"^(?:lora_unet__?|lycoris_|lora_transformer_)")
_TEXT_ENCODER = re.compile(r"^(?:base_model\.model\.)?(?:lora_)?(?:te\d?_|te\d?\.|text_encoder)")
_COMPANIONS = {  # of each part that changes a weight, those without which it cannot be read
    "lora_down.weight": ("lora_up.weight",),
    "lora_up.weight": ("lora_down.weight",),
    "lora_mid.weight": ("lora_down.weight",),
    "lora_up.bias": ("lora_up.weight",),
    MAGNITUDE: ("lora_up.weight",),
    "hada_w1_a": ("hada_w1_b", "hada_w2_a", "hada_w2_b"),
    "hada_t1": ("hada_t2",),
    "a1.weight": ("a2.weight", "b1.weight", "b2.weight"),
}

Shape = tuple[int, ...]


@dataclass(frozen=True)
class LoraSettings:
    """What a LoRA's metadata or its adapter_config.json says of its scale, alpha / rank where it says nothing else.

    `alphas` and `ranks` are PEFT's patterns: {regular expression on the end of a layer's path: value}.
    """

    alpha: float | None = None
    rank_stabilised: bool = False  # then the scale is alpha / sqrt(rank)
    alphas: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, metadata: Mapping[str, str] | None, path: Path | None = None) -> LoraSettings:
        """From diffusers' `lora_adapter_metadata`, else from PEFT's adapter_config.json beside `path`.

        Raises WrongModelFile where either is there and cannot be read.
        """
        beside = path.with_name("adapter_config.json") if path is not None else None
        text = (metadata or {}).get("lora_adapter_metadata")
        try:
            if text is None:
                if beside is None or not beside.is_file():
                    return cls()
                text = beside.read_text("utf-8")
            said = {key.removeprefix("transformer."): value for key, value in json.loads(text).items()}
            alpha = said.get("lora_alpha")
            patterns = {key: float(value) for key, value in (said.get("alpha_pattern") or {}).items()}
            return cls(None if alpha is None else float(alpha), bool(said.get("use_rslora")), patterns)
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise WrongModelFile(
                f"the settings of the LoRA {path or ''} cannot be read ({error}): download it again, its "
                "adapter_config.json as well"
            ) from error

    def alpha_of(self, path: str, rank: int) -> float | None:
        """The alpha for which alpha / rank is this layer's scale; None where nothing was said."""
        alpha = next(
            (value for key, value in self.alphas.items() if re.search(rf"(^|\.){key}$", path)), self.alpha
        )
        return alpha * math.sqrt(rank) if alpha is not None and self.rank_stabilised else alpha


def translate_lora(
    state: Mapping[str, Tensor],
    shapes: Mapping[str, Shape],
    settings: LoraSettings = LoraSettings(),
    name: str = "this LoRA",
) -> dict[str, dict[str, Tensor]]:
    """{layer's path: {part: tensor}} of a LoRA's tensors under any trainer's names, without those of text encoders.

    `shapes` are the network's weights and biases, {name: shape}. A layer without an alpha of its own gets that of
    `settings`. A convolution of fewer input channels (patch_embed of CogVideoX-5b reads 16, EchoVideo's 32, the
    video's first) is filled up with zeros. Raises WrongModelFile, with the names concerned, for a file without
    adapters, a layer or a part that the network does not have, a shape that does not fit, half an adapter, two
    adapters in one file, NaN or infinity.
    """
    found = _sort_by_layer(state, shapes, name)
    for path, parts in found.items():
        _complete(path, parts, settings, name)
        _fit_channels(parts, shapes[f"{path}.weight"])
        _check(path, parts, shapes, name)
    return found


def is_text_encoder(key: str) -> bool:
    """Whether a key of a LoRA file is about a text encoder."""
    return bool(_TEXT_ENCODER.match(key))


def _sort_by_layer(
    state: Mapping[str, Tensor], shapes: Mapping[str, Shape], name: str
) -> dict[str, dict[str, Tensor]]:
    paths = {key.removesuffix(".weight") for key in shapes if key.endswith(".weight")}
    flat = {path.replace(".", "_"): path for path in paths}
    found: dict[str, dict[str, Tensor]] = {}
    spelled: dict[tuple[str, str], str] = {}
    strange, layers = [], set()
    for key, tensor in state.items():
        if is_text_encoder(key):
            continue
        split = _split(key)
        if split is None:
            strange.append(key)
            continue
        layer, part = split
        layers.add(layer)
        path = _find_path(layer, paths, flat)
        if path is None:
            strange.append(layer)
            continue
        if (path, part) in spelled:
            raise WrongModelFile(
                f"{name} holds two adapters for one layer ({spelled[path, part]} and {key}): save the one you want "
                "in a file of its own"
            )
        spelled[path, part] = key
        found.setdefault(path, {})[part] = tensor
    if not layers:
        if any(map(is_text_encoder, state)):
            what = "a LoRA of a text encoder alone"
        elif any(key.endswith((".to_q.weight", ".proj.weight")) for key in state):
            what = "a whole model, not a LoRA: load it as a model"
        else:
            what = "not a LoRA"
        raise WrongModelFile(
            f"{name} is {what} ({len(state)} tensors, the first is {min(state, default='none')})"
        )
    if not found:
        raise WrongModelFile(
            f"none of the {len(layers)} layers in {name} exists in EchoVideo (the first is {min(layers)}): it was "
            "trained for another model; EchoVideo takes LoRAs for CogVideoX-5b"
        )
    if strange:
        raise WrongModelFile(
            f"{name} holds {len(set(strange))} names that EchoVideo cannot read, the first is {min(strange)}: it was "
            "trained for another model or by a method that is not supported, and would act only in part"
        )
    return found


def _split(key: str) -> tuple[str, str] | None:
    """(layer, part) of a key; None where no part is known."""
    for pattern, part in _PATTERNS:
        if (match := pattern.search(key)) and match.start() > 0:
            return key[: match.start()], match.expand(part)
    return None


def _find_path(layer: str, paths: set[str], flat: Mapping[str, str]) -> str | None:
    """The network's name of a layer that a trainer spelled its own way."""
    plain = _PREFIX.sub("", layer).replace(".processor.", ".")
    for path in (plain, f"{plain}.0"):  # older diffusers calls to_out.0 to_out
        if path in paths:
            return path
    squeezed = _FLAT_PREFIX.sub("", layer).replace(".", "_")
    return flat.get(squeezed) or flat.get(f"{squeezed}_0")


def _complete(path: str, parts: dict[str, Tensor], settings: LoraSettings, name: str) -> None:
    """Gives a layer its alpha, and turns the bias of PEFT's lora_B into the change of the layer's bias that it is."""
    for part in parts:
        for companion in _COMPANIONS.get(part, ()):
            if companion not in parts:
                raise WrongModelFile(
                    f"{name} lacks {companion} of {path}, which {part} needs: download it again"
                )
    down = parts.get("lora_down.weight")
    if down is not None and "alpha" not in parts:
        alpha = settings.alpha_of(path, len(down))
        if alpha is not None:
            parts["alpha"] = torch.tensor(alpha)
    bias = parts.pop("lora_up.bias", None)
    if bias is not None and down is not None:
        scale = float(parts["alpha"]) / len(down) if "alpha" in parts else 1.0
        parts["diff_b"] = parts.get("diff_b", 0) + scale * bias


def _fit_channels(parts: dict[str, Tensor], shape: Shape) -> None:
    down = parts.get("lora_down.weight")
    if down is None or down.ndim != 4 or len(shape) != 4 or down.shape[2:] != shape[2:]:
        return
    if down.shape[1] < shape[1]:
        filled = down.new_zeros(len(down), *shape[1:])  # [rank, channels in, k, k]
        filled[:, : down.shape[1]] = down
        parts["lora_down.weight"] = filled


def _check(path: str, parts: Mapping[str, Tensor], shapes: Mapping[str, Shape], name: str) -> None:
    for part, tensor in parts.items():
        if not tensor.float().isfinite().all():
            raise WrongModelFile(
                f"{name} holds NaN or infinity in {path}.{part}: it is damaged or badly trained"
            )
    shape = shapes[f"{path}.weight"]
    made = _shape_made(parts, shape)
    if made is not None and made != (shape[0], math.prod(shape[1:])):
        raise WrongModelFile(
            f"{name} changes {path} by a matrix of {made[0]} x {made[1]}, where EchoVideo's is {shape[0]} x "
            f"{math.prod(shape[1:])}: it was trained for a model of another size"
        )
    for part, of in {
        "diff": "weight",
        "set_weight": "weight",
        "w_norm": "weight",
        "diff_b": "bias",
        "b_norm": "bias",
    }.items():
        if part in parts and tuple(parts[part].shape) != tuple(shapes.get(f"{path}.{of}", ())):
            raise WrongModelFile(
                f"{name} holds {path}.{part} of shape {list(parts[part].shape)}, EchoVideo's {of} has "
                f"{list(shapes.get(f'{path}.{of}', ()))}: it was trained for another model"
            )


def _shape_made(parts: Mapping[str, Tensor], shape: Shape) -> tuple[int, int] | None:
    """(rows, columns) of the change that these parts multiply out to; None where they are of no such form."""

    def pair(one: str, other: str) -> tuple[int, int]:
        left, right = parts[one], parts[other]
        if left.shape[1] != len(right):
            return len(left), -1  # the ranks differ: it fits nothing
        return len(left), math.prod(right.shape[1:])

    if "lora_down.weight" in parts:
        if "lora_mid.weight" in parts:
            return len(parts["lora_up.weight"]), parts["lora_down.weight"].shape[1] * math.prod(shape[2:])
        return pair("lora_up.weight", "lora_down.weight")
    if "hada_w1_a" in parts and "hada_t1" not in parts:
        return pair("hada_w1_a", "hada_w1_b")
    if "oft_blocks" in parts:
        blocks = parts["oft_blocks"].shape
        return blocks[-3] * blocks[-2], math.prod(shape[1:])
    if any(part.startswith("lokr_") for part in parts) and "lokr_t2" not in parts:
        sides = [
            tuple(parts[f"lokr_w{n}"].shape)
            if f"lokr_w{n}" in parts
            else pair(f"lokr_w{n}_a", f"lokr_w{n}_b")
            for n in (1, 2)
        ]
        return sides[0][0] * sides[1][0], math.prod(sides[0][1:]) * math.prod(sides[1][1:])
    return None
