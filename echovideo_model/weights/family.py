"""Tells which model a weight file holds from the names and shapes of its parameters."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from torch import nn

from ..errors import WrongModelFile
from .quantised import fold_scales
from .reading import Entry, TensorFile, open_tensors

Shapes = Mapping[str, tuple[int, ...]]
TRANSFORMER, VAE, T5 = "EchoVideo transformer", "CogVideoX VAE", "T5 text encoder"
SIGLIP, PARSER = "SigLIP vision encoder", "BiSeNet face parser"
# What savers put before every name: ComfyUI's checkpoint saver, trainers, DistributedDataParallel, torch.compile.
PREFIXES = (
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
    "module.",
    "model.",
    "dit.",
    "_orig_mod.",
    "_fsdp_wrapped_module.",
)
CHECKPOINT = PREFIXES[0]
# A checkpoint of ComfyUI's holds other models beside ours, each under its own prefix, and notes on the schedule.
_OTHER_MODELS = (
    "text_encoders.",
    "cond_stage_model.",
    "conditioner.",
    "first_stage_model.",
    "vae.",
    "clip_vision.",
)
_NOTES = ("v_pred", "ztsnr")

# A family is the first whose parameter names are all there; the more specific ones come first. For networks that people
# quantise they are names of norms, which stay as they are.
FAMILIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (TRANSFORMER, ("face_prj_wofc.latents", "transformer_blocks.0.attn1.norm_q.weight")),
    (
        "CogVideoX transformer without identity fusion",
        ("transformer_blocks.0.attn1.norm_q.weight", "proj_out.weight"),
    ),
    (VAE, ("encoder.conv_in.conv.weight", "decoder.conv_in.conv.weight")),
    ("image VAE", ("encoder.conv_in.weight", "decoder.conv_in.weight")),
    (T5, ("encoder.block.0.layer.0.layer_norm.weight",)),
    ("TAEHV decoder for previews", ("decoder.22.bias", "decoder.3.conv.0.weight")),
    (SIGLIP, ("vision_model.post_layernorm.weight",)),
    (SIGLIP, ("post_layernorm.weight", "embeddings.patch_embedding.weight")),  # only its image half
    (PARSER, ("cp.resnet.conv1.weight", "conv_out.conv_out.weight")),
    ("EchoVideo identity", ("id_embedding", "face_tokens")),
)
# Names of parameters in the middle of a model, by which a single shard is recognised.
_SHARDS = {
    "one shard of a CogVideoX or EchoVideo transformer": r"transformer_blocks\.\d+\.|face_prj_wofc\.",
    "one shard of a CogVideoX VAE": r"(encoder|decoder)\.(down_blocks|up_blocks|mid_block)\.",
    "one shard of a T5 text encoder": r"encoder\.block\.\d+\.layer\.",
}
IF_A_SHARD = (
    "if it is one shard of several, give their folder or index instead; otherwise choose another file"
)


def find_family(names: Collection[str]) -> str:
    """The family's name, "LoRA", or "unknown"."""
    if any(".lora_" in name or name.endswith(".alpha") for name in names):
        return "LoRA"
    for family, signs in FAMILIES:
        if all(sign in names for sign in signs):
            return family
    return "unknown"


def describe_family(names: Collection[str]) -> str:
    """What these parameters belong to, as the end of a sentence: "X is ..."."""
    family = find_family(names)
    if family != "unknown":
        return f"{'an' if family[0] in 'Ei' else 'a'} {family}"
    found = (what for what, sign in _SHARDS.items() if any(re.match(sign, name) for name in names))
    return next(found, "of an unknown family")


def open_released(path: str | Path) -> TensorFile:
    """What is at `path` under the released names, with scales folded into their weights (quantised.py).

    Raises ModelFileMissing and WrongModelFile.
    """
    opened = fold_scales(open_tensors(path))
    return replace(opened, entries=_strip_prefixes(opened.entries))


def open_family(path: str | Path, family: str) -> TensorFile:
    """`open_released`; raises WrongModelFile, saying what it is instead, unless it is of that family."""
    opened = open_released(path)
    if find_family(opened.entries) != family:
        examples = ", ".join(list(opened.entries)[:2]) or "nothing"
        what = describe_family(opened.entries)
        remedy = (
            "give the folder or index of all shards"
            if what.startswith("one shard")
            else "choose another file"
        )
        raise WrongModelFile(f"{opened.path} is not the {family} but {what} (it holds {examples}): {remedy}")
    return opened


def _strip_prefixes(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Strips the prefixes from names and, from a checkpoint, all but the transformer; unknown names stay, to be
    refused."""
    if any(name.startswith(CHECKPOINT) for name in entries):
        entries = {
            name: entry
            for name, entry in entries.items()
            if name not in _NOTES and not name.startswith(_OTHER_MODELS)
        }
    prefix = next(
        (one for one in PREFIXES if 2 * sum(name.startswith(one) for name in entries) > len(entries)), None
    )
    if prefix is None:
        return dict(entries)
    short = {name: name.removeprefix(prefix) for name in entries}
    kept = {name for name in entries if short[name] == name}  # unknown ones, whose names must stay theirs
    return _strip_prefixes(
        {name if short[name] in kept else short[name]: entry for name, entry in entries.items()}
    )


def list_shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """{name: shape} of what a network expects."""
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def require_same(opened: TensorFile, expected: Shapes) -> None:
    """Raises WrongModelFile, with the first of each kind, if names or shapes differ."""
    missing, unexpected = list_differences(expected, opened.shapes)
    parts = [
        f"{len(names)} {what} (first: {names[0]})"
        for names, what in ((missing, "missing"), (unexpected, "unexpected"))
        if names
    ]
    if parts:
        remedy = "choose another file" if unexpected else IF_A_SHARD
        raise WrongModelFile(
            f"{opened.path} does not hold the network's parameters: {', '.join(parts)}; {remedy}"
        )


def list_differences(expected: Shapes, given: Shapes) -> tuple[list[str], list[str]]:
    """Missing and unexpected names; where only the shape differs, the name with both shapes."""
    missing = [name for name in expected if name not in given]
    unexpected = [name for name in given if name not in expected]
    for name in expected.keys() & given.keys():
        if expected[name] != given[name]:
            unexpected.append(f"{name} {list(given[name])} instead of {list(expected[name])}")
    return sorted(missing), sorted(unexpected)
