"""Which model a file of weights holds, told from the names and shapes of its parameters."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from torch import nn

from ..errors import WrongModelFile
from .reading import TensorFile, open_tensors

Shapes = Mapping[str, tuple[int, ...]]
TRANSFORMER, VAE, T5 = "EchoVideo transformer", "CogVideoX VAE", "T5 text encoder"
HOST_PREFIX = "model.diffusion_model."  # what ComfyUI's checkpoint saver puts before each name

# A family is the first whose parameter names are all there; the more particular ones come first.
FAMILIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (TRANSFORMER, ("face_prj_wofc.latents", "transformer_blocks.0.attn1.to_q.weight")),
    (
        "CogVideoX transformer without identity fusion",
        ("transformer_blocks.0.attn1.norm_q.weight", "proj_out.weight"),
    ),
    (VAE, ("encoder.conv_in.conv.weight", "decoder.conv_in.conv.weight")),
    ("image VAE", ("encoder.conv_in.weight", "decoder.conv_in.weight")),
    (T5, ("encoder.block.0.layer.0.SelfAttention.q.weight",)),
    ("SigLIP vision encoder", ("vision_model.post_layernorm.weight",)),
    ("BiSeNet face parser", ("cp.resnet.conv1.weight", "conv_out.conv_out.weight")),
    ("EchoVideo identity", ("id_embedding", "face_tokens")),
)


def family_of(names: Collection[str]) -> str:
    """The family's name, "LoRA", or "unknown"."""
    if any(".lora_" in name or name.endswith(".alpha") for name in names):
        return "LoRA"
    for family, signs in FAMILIES:
        if all(sign in names for sign in signs):
            return family
    return "unknown"


def described(family: str) -> str:
    """The family as the end of a sentence: "X is ..."."""
    if family == "unknown":
        return "of no family known here"
    return f"{'an' if family[0] in 'Ei' else 'a'} {family}"


def open_family(path: str | Path, family: str) -> TensorFile:
    """What is at `path`; raises WrongModelFile, saying what it is instead, unless it is of that family."""
    opened = open_tensors(path)
    shapes = released_shapes(opened)
    found = family_of(shapes)
    if found != family:
        examples = ", ".join(list(shapes)[:2]) or "nothing"
        raise WrongModelFile(
            f"{opened.path} is not the {family} but {described(found)} (it holds {examples}): choose another file"
        )
    return opened


def released_names(opened: TensorFile) -> dict[str, str]:
    """{released name: the file's name}: ComfyUI's prefix is left off, and with it what the saver adds."""
    prefixed = {
        name.removeprefix(HOST_PREFIX): name for name in opened.entries if name.startswith(HOST_PREFIX)
    }
    return prefixed or {name: name for name in opened.entries}


def released_shapes(opened: TensorFile) -> dict[str, tuple[int, ...]]:
    """{released name: shape} of a file."""
    return {released: opened.entries[name].shape for released, name in released_names(opened).items()}


def shapes_of(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """{name: shape} of what a network expects."""
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def require_same(opened: TensorFile, expected: Shapes, given: Shapes) -> None:
    """Raises WrongModelFile, with the first of each kind, if names or shapes differ."""
    missing, unexpected = differences(expected, given)
    parts = [
        f"{len(names)} {what} (first: {names[0]})"
        for names, what in ((missing, "missing"), (unexpected, "unexpected"))
        if names
    ]
    if parts:
        raise WrongModelFile(
            f"{opened.path} does not hold the network's parameters: {', '.join(parts)}; choose another file"
        )


def differences(expected: Shapes, given: Shapes) -> tuple[list[str], list[str]]:
    """Missing and unexpected names; where only the shape differs, the name with both shapes."""
    missing = [name for name in expected if name not in given]
    unexpected = [name for name in given if name not in expected]
    for name in expected.keys() & given.keys():
        if expected[name] != given[name]:
            unexpected.append(f"{name} {list(given[name])} in place of {list(expected[name])}")
    return sorted(missing), sorted(unexpected)
