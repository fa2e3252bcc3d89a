"""Whether the tensors that a LoRA file holds for one layer make a whole adapter, and one that fits: hosts log what does
not fit and call the video a success."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from ..errors import WrongModelFile

MAGNITUDE = "peft_magnitude"
"""[out]: PEFT's DoRA, W' = magnitude * (W + scale B A) / |W + scale B A|, norms over each row."""

_TOGETHER = (  # if one of them is there, all must be
    ("lora_down.weight", "lora_up.weight"),
    ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),
    ("hada_t1", "hada_t2"),
    ("lokr_w1_a", "lokr_w1_b"),
    ("lokr_w2_a", "lokr_w2_b"),
    ("a1.weight", "a2.weight", "b1.weight", "b2.weight"),
)
_NEEDS = {  # parts that mean nothing by themselves: one of these must be there
    "lora_mid.weight": ("lora_down.weight",),
    "lora_up.bias": ("lora_up.weight",),
    MAGNITUDE: ("lora_up.weight",),
    "hada_t1": ("hada_w1_a",),
    "lokr_t2": ("lokr_w2_a",),
    **dict.fromkeys(("lokr_w1", "lokr_w1_a"), ("lokr_w2", "lokr_w2_a")),
    **dict.fromkeys(("lokr_w2", "lokr_w2_a"), ("lokr_w1", "lokr_w1_a")),
}
_ON_WEIGHT = (  # the methods: where a layer has two of them, hosts apply one
    "lora_down.weight",
    "hada_w1_a",
    "lokr_w1",
    "lokr_w1_a",
    "a1.weight",
    "oft_blocks",
    "diff",
    "set_weight",
    "w_norm",
)
_ON_BIAS = ("diff_b", "b_norm")

Shape = tuple[int, ...]


def require_whole(path: str, parts: Mapping[str, Tensor], name: str) -> None:
    """Raises WrongModelFile for an incomplete adapter, for none, and for two on one weight."""
    for part in parts:
        together = next((group for group in _TOGETHER if part in group), ())
        needed = [one for one in together if one not in parts]
        if needs := _NEEDS.get(part, ()):
            needed += [] if any(one in parts for one in needs) else needs[:1]
        if needed:
            raise WrongModelFile(f"{name} lacks {needed[0]} of {path}, which {part} needs: download it again")
    for methods in (_ON_WEIGHT, _ON_BIAS):
        if len(both := [part for part in methods if part in parts]) > 1:
            raise WrongModelFile(
                f"{name} changes {path} with both {both[0]} and {both[1]}, so one would be ignored: "
                "save it with one method per layer"
            )
    if not any(part in parts for part in (*_ON_WEIGHT, *_ON_BIAS)):
        raise WrongModelFile(
            f"{name} holds {next(iter(parts))} for {path} but nothing that changes it: download it again"
        )


def check_fit(path: str, parts: Mapping[str, Tensor], shapes: Mapping[str, Shape], name: str) -> None:
    """Raises WrongModelFile for NaN, infinity and shapes that do not fit the layer's, and what torch raises for parts
    that cannot be multiplied at all."""
    if "alpha" in parts:
        parts["alpha"].reshape(())
    for part, tensor in parts.items():
        if not tensor.float().isfinite().all():
            raise WrongModelFile(
                f"{name} holds NaN or infinity in {path}.{part}: it is damaged or badly trained"
            )
    shape = shapes[f"{path}.weight"]
    scale = parts.get("dora_scale")
    ones = (1,) * (len(shape) - 2)
    if scale is not None and tuple(scale.shape) not in ((shape[0], 1, *ones), (1, *shape[1:2], *ones)):
        raise WrongModelFile(
            f"{name} holds {path}.dora_scale of shape {list(scale.shape)}, which does not fit a weight "
            f"of shape {list(shape)}: it was trained for another model"
        )
    if MAGNITUDE in parts and parts[MAGNITUDE].numel() != shape[0]:
        raise WrongModelFile(
            f"{name} holds a DoRA magnitude of {parts[MAGNITUDE].numel()} numbers for the {shape[0]} rows of {path}: "
            "it was trained for another model"
        )
    made = _shape_made(parts, shape)
    if made is not None and made != (shape[0], math.prod(shape[1:])):
        raise WrongModelFile(
            f"{name} changes {path} with a matrix of {made[0]} x {made[1]}, but EchoVideo's is "
            f"{shape[0]} x {math.prod(shape[1:])}: it was trained for a model of another size"
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
                f"{name} holds {path}.{part} of shape {list(parts[part].shape)}, but EchoVideo's {of} "
                f"has {list(shapes.get(f'{path}.{of}', ()))}: it was trained for another model"
            )


def _shape_made(parts: Mapping[str, Tensor], shape: Shape) -> tuple[int, int] | None:
    """(rows, columns) of the change that these parts multiply out to; None if they do not have that form."""

    def pair(one: str, other: str) -> tuple[int, int]:
        left, right = parts[one], parts[other]
        if left.shape[1] != len(right) or not len(right):
            return len(left), -1  # the ranks differ, or there is none: it fits nothing
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
