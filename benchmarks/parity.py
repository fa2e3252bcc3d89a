"""`python -m benchmarks.parity FOLDER`: do we compute what the reference computes?

Runs every golden file of a folder (tests/golden/README.md tells what each holds; other seeds, sizes and step counts
work as well) and prints one row per quantity: the greatest absolute and relative error, the tolerance, pass or FAIL.
The exit status is 1 when anything failed, and 2 when the folder holds nothing to run.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from echovideo_model.checkpoint import Network
from echovideo_model.face.align import align_face, face_latent_pixels, pad_to_aspect
from echovideo_model.face.parse import BiSeNet
from echovideo_model.face.photo import limit_long_edge
from echovideo_model.face.siglip import SiglipEncoder, siglip_pixels
from echovideo_model.identity import Identity
from echovideo_model.iitf import IITFSizes
from echovideo_model.pipeline import Pipeline, to_frames
from echovideo_model.request import Request
from echovideo_model.rotary import crop_region, rotary_table
from echovideo_model.samplers import SAMPLERS, cpu_noise, sample
from echovideo_model.schedule import alphas_cumprod, guidance_scale, steps_of, timesteps
from echovideo_model.tiny.weights import seeded_state
from echovideo_model.transformer import EchoVideoTransformer, TransformerSizes
from echovideo_model.vae import LATENT_SCALE, CogVideoXVAE, VAESizes

STRICT = 1e-4  # of the largest value, in float32


class Row(NamedTuple):
    """One quantity: what was found and how far it may be off."""

    name: str
    absolute: float
    relative: float
    tolerance: float
    passed: bool


def relative(name: str, ours: Any, theirs: Any, tolerance: float = STRICT) -> Row:
    """max |a - b| / max |b| against the tolerance."""
    a, b = torch.as_tensor(ours).double(), torch.as_tensor(theirs).double()
    if a.shape != b.shape:
        return Row(f"{name} {list(a.shape)} for {list(b.shape)}", math.inf, math.inf, tolerance, False)
    off, scale = (a - b).abs().max().item(), b.abs().max().item()
    share = off / scale if scale else off
    return Row(name, off, share, tolerance, share <= tolerance)  # False for NaN, too


def absolute(name: str, ours: Any, theirs: Any, tolerance: float) -> Row:
    row = relative(name, ours, theirs, tolerance)
    return row._replace(passed=row.absolute <= tolerance)


def levels(name: str, ours: np.ndarray, theirs: Tensor) -> Row:
    """Pictures, uint8: at most 1 level apart on 99.9 % of the values; "relative" is the share that is further."""
    b = theirs.numpy().astype(int)
    if ours.shape != b.shape:
        return Row(f"{name} {list(ours.shape)} for {list(b.shape)}", math.inf, math.inf, 0.001, False)
    off = np.abs(ours.astype(int) - b)
    share = float((off > 1).mean())
    return Row(name, float(off.max()), share, 0.001, share <= 0.001)


Golden = dict[str, Tensor]
Meta = dict[str, str]


def check_rope(golden: Golden, meta: Meta) -> Iterator[Row]:
    for case in sorted({name.rsplit("_", 1)[0] for name in golden}):
        height, width, frames = map(int, case.split("x"))
        table = rotary_table(frames, height // 16, width // 16)
        cos, sin = (part.repeat_interleave(2, dim=-1) for part in (table.real, table.imag))
        rows = golden[f"{case}_rows"]
        yield absolute(f"{case} crop", crop_region(height // 16, width // 16), golden[f"{case}_crop"], 0)
        yield absolute(f"{case} shape", list(cos.shape), golden[f"{case}_shape"], 0)
        yield absolute(f"{case} cos", cos[rows], golden[f"{case}_cos"], 1e-5)
        yield absolute(f"{case} sin", sin[rows], golden[f"{case}_sin"], 1e-5)
        yield relative(f"{case} sums", [cos.double().sum(), sin.double().sum()], golden[f"{case}_sum"], 1e-5)


def check_scheduler(golden: Golden, meta: Meta) -> Iterator[Row]:
    yield absolute(
        "alphas_cumprod", torch.tensor(alphas_cumprod(), dtype=torch.float64), golden["alphas_cumprod"], 1e-12
    )
    seed = int(meta.get("seed", 0))
    for steps in sorted(int(name.split("_")[1]) for name in golden if name.startswith("timesteps_")):
        yield absolute(f"timesteps_{steps}", timesteps(steps), golden[f"timesteps_{steps}"], 0)
        for sampler in SAMPLERS:
            if f"{sampler}_{steps}_final" in golden:
                yield from _trajectory(golden, sampler, steps, seed)


def _trajectory(golden: Golden, sampler: Any, steps: int, seed: int) -> Iterator[Row]:
    generator = torch.Generator().manual_seed(seed + 1000)
    x = golden["x_init"]
    rows = []

    def on_step(step: Any, steps: int, x: Tensor, x0: Tensor) -> None:
        name = f"{sampler}_{steps}_step{step.index}"
        if name in golden:
            rows.append(relative(name, x, golden[name]))

    final = sample(
        sampler,
        steps,
        x,
        lambda x, step: 0.3 * x * math.cos(step.t / 1000) + 0.1,
        lambda: torch.randn(x.shape, generator=generator),
        on_step,
    )
    yield from rows
    yield relative(f"{sampler}_{steps}_final", final, golden[f"{sampler}_{steps}_final"])


def check_dynamic_cfg(golden: dict[str, Any], meta: Meta) -> Iterator[Row]:
    for count, theirs in golden["scales"].items():
        steps = int(count)
        ours = [
            guidance_scale("reference", golden["guidance_scale"], step, steps) for step in steps_of(steps)
        ]
        yield absolute(
            f"reference guidance, {steps} steps", torch.tensor(ours, dtype=torch.float64), theirs, 1e-9
        )


def check_transformer_keys(golden: dict[str, list[int]], meta: Meta) -> Iterator[Row]:
    with torch.device("meta"):
        network = EchoVideoTransformer(TransformerSizes.read(golden))
    state = {name: torch.empty(shape, device="meta") for name, shape in golden.items()}
    missing, unexpected = network.load_state_dict(state, strict=False, assign=True)
    yield absolute("names missing or unexpected", len(missing) + len(unexpected), 0, 0)
    ours = sum(parameter.numel() for parameter in network.parameters())
    yield absolute("parameters", ours, sum(math.prod(shape) for shape in golden.values()), 0)


def seeded_network(network: Network, seed: int) -> Network:
    network.load_state_dict(seeded_state(network, seed))
    return network.eval()


def tiny_transformer(config: dict[str, Any], seed: int) -> EchoVideoTransformer:
    """From the reference's configuration; IITF's own widths are fixed there."""
    iitf = IITFSizes(
        text_width=config["text_embed_dim"],
        text_tokens=config["max_text_seq_length"],
        face_width=768,
        face_tokens=196,
        id_width=512,
        id_tokens=16,
        width=1024,
        heads=12,
        layers=4,
    )
    sizes = TransformerSizes(
        blocks=config["num_layers"],
        heads=config["num_attention_heads"],
        head_width=config["attention_head_dim"],
        time_width=config["time_embed_dim"],
        in_channels=config["in_channels"],
        out_channels=config["out_channels"],
        patch=2,
        iitf=iitf,
    )
    return seeded_network(EchoVideoTransformer(sizes), seed)


def check_dit(golden: Golden, meta: Meta) -> Iterator[Row]:
    network = tiny_transformer(json.loads(meta["config"]), int(meta["seed"]))
    id_embedding, channels = golden["id_embedding"], network.sizes.out_channels
    yield relative("resampled_id", network.face_prj_wofc(id_embedding), golden["resampled_id"])
    kept: dict[str, Tensor] = {}
    hook = network.face_info_proj.register_forward_hook(lambda *a: kept.update(info=a[2].transpose(1, 2)))
    context = network.fuse(golden["text"], golden["face_tokens"], id_embedding)
    hook.remove()
    yield relative("face_info", kept["info"], golden["face_info"])
    yield relative("fused_context", context, golden["fused_context"])
    x = golden["latents"].transpose(1, 2)  # [B, 32, T, H, W]
    table = network.rotation(x).keywords["table"]  # type: ignore[attr-defined]
    for name, part in (("rope_cos", table.real), ("rope_sin", table.imag)):
        yield absolute(name, part.repeat_interleave(2, dim=-1), golden[name], 1e-5)
    network.with_face_latent = lambda noisy, face: x  # type: ignore[method-assign]  # all 32 channels are given here
    v = network(x[:, :channels], golden["timestep"], context)
    yield relative("output", v.transpose(1, 2), golden["output"])


def check_preprocess(golden: Golden, meta: Meta) -> Iterator[Row]:
    image = golden["image"].numpy()
    aligned = golden["aligned_512"].numpy()
    yield levels("aligned_512", align_face(image, golden["landmarks"].numpy()), golden["aligned_512"])
    for name, theirs in golden.items():
        if name.startswith("long_edge_"):
            # The file keeps the result alone; what went in is the image, enlarged to twice the limit by repetition.
            continue
        if name.startswith("padded_"):
            yield levels(name, pad_to_aspect(image, _exact_ratio(float(name.split("_")[1]), theirs)), theirs)
        if name.startswith("vae_input_"):
            height, width = map(int, name.removeprefix("vae_input_").split("x"))
            yield absolute(name, face_latent_pixels(aligned, height, width), theirs, 2e-3)
    yield absolute("siglip_pixels", siglip_pixels(aligned), golden["siglip_pixels"], 2e-3)


def _exact_ratio(rounded: float, padded: Tensor) -> float:
    return rounded


CHECKS: dict[str, Callable[[Any, Meta], Iterator[Row]]] = {
    "transformer_keys.json": check_transformer_keys,
    "rope.safetensors": check_rope,
    "scheduler.safetensors": check_scheduler,
    "dynamic_cfg.json": check_dynamic_cfg,
    "dit.safetensors": check_dit,
    "preprocess.safetensors": check_preprocess,
}
