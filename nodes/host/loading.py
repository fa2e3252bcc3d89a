"""EchoVideo's transformer from a file, or from a file in parts, as the host's MODEL."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.sd
import comfy.utils
import torch
from comfy.cli_args import args

from ...echovideo_model.errors import WrongModelFile
from ...echovideo_model.facts import ModelFacts
from .folders import load_state
from .model import EchoVideoModel

WEIGHT_DTYPES: dict[str, dict[str, Any]] = {
    "default": {},
    "fp8_e4m3fn": {"dtype": torch.float8_e4m3fn},
    "fp8_e4m3fn_fast": {"dtype": torch.float8_e4m3fn, "fp8_optimizations": True},
    "fp8_e5m2": {"dtype": torch.float8_e5m2},
}
SIXTEEN_BITS = (torch.bfloat16, torch.float16)


def load_model(path: Path, weight_dtype: str = "default", disable_dynamic: bool = False) -> Any:
    """The MODEL in `path`, its weights stored as WEIGHT_DTYPES says. Raises WrongModelFile, ModelFileMissing."""
    state, metadata = load_state(path)
    options = WEIGHT_DTYPES[weight_dtype] or keep_narrow(state)
    extras = {"metadata": metadata, "disable_dynamic": disable_dynamic}
    known = signature(comfy.sd.load_diffusion_model_state_dict).parameters
    extras = {name: value for name, value in extras.items() if name in known}
    example = next(iter(state), "nothing")
    model = comfy.sd.load_diffusion_model_state_dict(state, model_options=dict(options), **extras)
    if model is None or not isinstance(model.model, EchoVideoModel):
        raise WrongModelFile(
            f"{path.name} is not an EchoVideo transformer (it holds {example}): choose the one of "
            "bytedance-research/EchoVideo"
        )
    model.model.facts = ModelFacts.parse(metadata)
    model.cached_patcher_init = (load_model, (path, weight_dtype))
    return model


def keep_narrow(state: dict[str, Any]) -> dict[str, Any]:
    """On a CPU the host would widen 16-bit weights to twice the file's size; layers cast them on use instead."""
    on_cpu = comfy.model_management.is_device_cpu(comfy.model_management.get_torch_device())
    if on_cpu and not args.fp32_unet and comfy.utils.weight_dtype(state) in SIXTEEN_BITS:
        return {"dtype": torch.bfloat16}
    return {}
