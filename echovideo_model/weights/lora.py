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
from .adapters import MAGNITUDE, Shape, check_fit, require_whole

_NAME = r"(?:\.(?!weight$|bias$)[^.]+)?"  # of PEFT's adapter: "default", or the user's own
_PARTS = (
    (
        rf"(?:\.lora_A|\.lora_down|[._]lora\.down|\.lora(?:_linear)?_layer\.down){_NAME}(?:\.weight)?|\.lora_a\.weight",
        "lora_down.weight",
    ),
    (
        rf"(?:\.lora_B|\.lora_up|[._]lora\.up|\.lora(?:_linear)?_layer\.up){_NAME}(?:\.weight)?|\.lora_b\.weight",
        "lora_up.weight",
    ),
    (rf"\.lora_B{_NAME}\.bias", "lora_up.bias"),
    (rf"\.lora_magnitude_vector{_NAME}(?:\.weight)?", MAGNITUDE),
    (r"\.(alpha|dora_scale|diff|diff_b|set_weight|w_norm|b_norm|lora_mid\.weight)", r"\1"),
    (r"\.(hada_(?:w1_a|w1_b|w2_a|w2_b|t1|t2)|lokr_(?:w1|w1_a|w1_b|w2|w2_a|w2_b|t2))", r"\1"),
    (r"\.(oft_blocks|rescale|[ab][12]\.weight)", r"\1"),
)
_PATTERNS = tuple((re.compile(f"(?:{pattern})$"), part) for pattern, part in _PARTS)
# Of what a layer's path may begin with, by any trainer, the words between dots and underscores.
_BEFORE = {
    "",
    "base",
    "model",
    "transformer",
    "diffusion",
    "module",
    "unet",
    "lora",
    "lycoris",
    "dit",
    "net",
    "pipe",
}
_WRAPPED = re.compile(r"\b_(?:orig_mod|fsdp_wrapped_module|checkpoint_wrapped_module)\.|(?<=\.)processor\.")
_TEXT_ENCODER = re.compile(r"^(?:base_model\.model\.)?(?:lora_)?(?:te\d?_|te\d?\.|text_encoder)")


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

        Raises WrongModelFile if either exists but cannot be read.
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
            patterns = {
                key.removeprefix("transformer."): float(value)
                for key, value in (said.get("alpha_pattern") or {}).items()
            }
            return cls(None if alpha is None else float(alpha), bool(said.get("use_rslora")), patterns)
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise WrongModelFile(
                f"the settings of the LoRA {path or ''} cannot be read ({error}): download it again, "
                "including its adapter_config.json"
            ) from error

    def find_alpha(self, path: str, rank: int) -> float | None:
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
        try:
            _complete(path, parts, settings, name)
            _fit_channels(parts, shapes[f"{path}.weight"])
            check_fit(path, parts, shapes, name)
        except (IndexError, TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
            held = ", ".join(f"{part} {list(tensor.shape)}" for part, tensor in parts.items())
            raise WrongModelFile(
                f"{name} holds {held} for {path}, which do not form an adapter: download it again"
            ) from error
    return found


def describe_scale(layers: Mapping[str, Mapping[str, Tensor]]) -> str:
    """For the log: the scale (alpha / rank) at strength 1, or that the file states none."""
    pairs = [parts for parts in layers.values() if "lora_down.weight" in parts]
    if not pairs:
        return ""
    scales = sorted({float(p["alpha"]) / len(p["lora_down.weight"]) for p in pairs if "alpha" in p})
    if not scales:
        return (
            "; it states no alpha, so strength 1 means alpha = rank: if the effect is too strong, set "
            "the strength to the alpha / rank that it was trained with (0.5 for CogVideo's own trainer)"
        )
    return f"; alpha / rank is {scales[0]:g}" + (f" to {scales[-1]:g}" if len(scales) > 1 else "")


def is_text_encoder(key: str) -> bool:
    """Whether a key of a LoRA file is about a text encoder."""
    return bool(_TEXT_ENCODER.match(key))


def _sort_by_layer(
    state: Mapping[str, Tensor], shapes: Mapping[str, Shape], name: str
) -> dict[str, dict[str, Tensor]]:
    paths = (key.removesuffix(".weight") for key in shapes if key.endswith(".weight"))
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
        path = _find_path(layer, flat)
        if path is None:
            strange.append(layer)
            continue
        if (path, part) in spelled:
            raise WrongModelFile(
                f"{name} holds two adapters for one layer ({spelled[path, part]} and {key}): save the "
                "one you want in its own file"
            )
        spelled[path, part] = key
        found.setdefault(path, {})[part] = tensor
    if not layers:
        if any(map(is_text_encoder, state)):
            what = "a LoRA for a text encoder only"
        elif any(key.endswith((".to_q.weight", ".proj.weight")) for key in state):
            what = "a whole model, not a LoRA: load it as a model"
        else:
            what = "not a LoRA"
        raise WrongModelFile(
            f"{name} is {what} ({len(state)} tensors, the first is {min(state, default='none')})"
        )
    if not found:
        raise WrongModelFile(
            f"none of the {len(layers)} layers in {name} exists in EchoVideo (the first is "
            f"{min(layers)}): it was trained for another model; choose a LoRA for CogVideoX-5b"
        )
    if strange:
        raise WrongModelFile(
            f"{name} holds {len(set(strange))} keys that EchoVideo does not support (the first is "
            f"{min(strange)}): it was trained for another model or with another method, and would act "
            "only in part"
        )
    return found


def _split(key: str) -> tuple[str, str] | None:
    """(layer, part) of a key; None where no part is known."""
    for pattern, part in _PATTERNS:
        if (match := pattern.search(key)) and match.start() > 0:
            return key[: match.start()], match.expand(part)
    return None


def _find_path(layer: str, flat: Mapping[str, str]) -> str | None:
    """The network's name of a layer that a trainer spelled its own way, with dots or underscores."""
    words = _WRAPPED.sub("", layer).replace(".", "_").split("_")
    while words:
        plain = "_".join(words)
        if found := flat.get(plain) or flat.get(f"{plain}_0"):  # older diffusers calls to_out.0 to_out
            return found
        if words.pop(0) not in _BEFORE:
            return None
    return None


def _complete(path: str, parts: dict[str, Tensor], settings: LoraSettings, name: str) -> None:
    """Gives a layer its alpha, and turns the bias of PEFT's lora_B into the change of the layer's bias that it is."""
    require_whole(path, parts, name)
    down = parts.get("lora_down.weight")
    if down is not None and "alpha" not in parts:
        alpha = settings.find_alpha(path, len(down))
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
