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
from transformers import SiglipVisionConfig, SiglipVisionModel

from echovideo_model.face.align import align_face, face_latent_pixels, pad_to_aspect
from echovideo_model.face.parse import BiSeNet, FaceParser
from echovideo_model.face.photo import limit_long_edge
from echovideo_model.face.siglip import SiglipEncoder, siglip_pixels
from echovideo_model.identity import Identity
from echovideo_model.iitf import IITFSizes
from echovideo_model.limits import SAMPLERS, TRAINED_SIZES
from echovideo_model.pipeline import Pipeline
from echovideo_model.request import Request
from echovideo_model.rotary import crop_region, rotary_table
from echovideo_model.samplers import SeededNoise, sample
from echovideo_model.schedule import Step, alphas_cumprod, guidance_scale, plan_steps, timesteps
from echovideo_model.tiny.weights import draw_parameter, draw_state
from echovideo_model.transformer import EchoVideoTransformer, TransformerSizes
from echovideo_model.vae.autoencoder import CogVideoXVAE, VAESizes
from echovideo_model.weights.loading import Network

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
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (ours, theirs))
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
                yield from _check_trajectory(golden, sampler, steps, seed)


def _check_trajectory(golden: Golden, sampler: Any, steps: int, seed: int) -> Iterator[Row]:
    generator = torch.Generator().manual_seed(seed + 1000)
    x = golden["x_init"]
    rows = []

    def on_step(step: Any, steps: int, x: Tensor, x0: Tensor) -> None:
        name = f"{sampler}_{steps}_step{step.index}"
        if name in golden:
            rows.append(relative(name, x, golden[name]))

    final = sample(
        sampler,
        plan_steps(steps),
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
            guidance_scale("reference", golden["guidance_scale"], step, steps) for step in plan_steps(steps)
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


def fill_network(network: Network, seed: int) -> Network:
    network.load_state_dict(draw_state(network, seed))
    return network.eval()


def tiny_transformer(config: dict[str, Any], seed: int) -> EchoVideoTransformer:
    """From the reference's configuration; IITF's own widths are the released ones there."""
    sizes = TransformerSizes(
        blocks=config["num_layers"],
        heads=config["num_attention_heads"],
        head_width=config["attention_head_dim"],
        time_width=config["time_embed_dim"],
        in_channels=config["in_channels"],
        out_channels=config["out_channels"],
        iitf=IITFSizes(text_width=config["text_embed_dim"], text_tokens=config["max_text_seq_length"]),
    )
    return fill_network(EchoVideoTransformer(sizes), seed)


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
    frames, height, width = x.shape[2:]
    table = rotary_table(frames, height // 2, width // 2, network.sizes.head_width)
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
        if name.startswith("long_edge_") and np.array_equal(test_photo(*image.shape[:2]), image):
            yield _check_long_edge(name, int(name.rsplit("_", 1)[1]), theirs)
        elif name.startswith("padded_"):
            yield levels(name, pad_to_aspect(image, _parse_ratio(name.removeprefix("padded_"))), theirs)
        elif name.startswith("vae_input_"):
            height, width = map(int, name.removeprefix("vae_input_").split("x"))
            yield absolute(name, face_latent_pixels(aligned, height, width), theirs, 2e-3)
    yield absolute("siglip_pixels", siglip_pixels(aligned), golden["siglip_pixels"], 2e-3)


def test_photo(height: int, width: int) -> np.ndarray:
    """The photo that the golden files were made from, which is a formula: uint8 [H, W, 3]."""
    y, x, channel = np.mgrid[:height, :width, :3].astype(np.float64)
    waves = np.sin(2 * np.pi * (x / (37 + 11 * channel) + y / (53 - 7 * channel)))
    return (128 + 100 * waves).astype(np.uint8)


def _check_long_edge(name: str, longest: int, theirs: Tensor) -> Row:
    """The file does not hold the larger photo that went in: of the usual sizes, the one that fits best is taken."""
    height, width = theirs.shape[:2]
    rows = []
    for side in (1600, 1280, 1200, 1500, 1536, 1800, 1920, 2000, 2048, 2400, 3000, 4000, 4096):
        size = (round(height * side / longest), round(width * side / longest))
        rows.append(levels(name, limit_long_edge(test_photo(*size), longest), theirs))
        if rows[-1].passed:
            break
    return min(rows, key=lambda row: row.relative)


def _parse_ratio(text: str) -> float:
    """Width / height; the names hold four digits of it, which are those of a trained size as a rule."""
    return next((w / h for h, w in TRAINED_SIZES if f"{w / h:.4f}" == text), float(text))


def check_bisenet(golden: Golden, meta: Meta) -> Iterator[Row]:
    network = fill_network(BiSeNet(), int(meta["seed"]))
    photo = test_photo(*golden["labels"].shape)
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    pixels = torch.from_numpy(photo).permute(2, 0, 1)[None] / 255  # [1, 3, H, W]
    logits = network((pixels - mean) / deviation)[..., ::8, ::8]
    yield relative("logits", logits, golden["logits_64"])
    wrong = float((FaceParser(network).labels(photo) != golden["labels"].numpy()).mean())
    yield Row("labels that differ", wrong, wrong, 0.001, wrong <= 0.001)


def check_pipeline(golden: Golden, meta: Meta) -> Iterator[Row]:
    seed = int(meta["seed"])
    photo = golden["image"].numpy()
    siglip = tiny_siglip(json.loads(meta["siglip"]), seed)
    identity = Identity(golden["id_embedding"][0], siglip.tokens(photo), siglip.null_tokens(photo), photo)
    yield relative("siglip_tokens", identity.face_tokens[None], golden["siglip_tokens"])
    yield relative("siglip_tokens_negative", identity.null_tokens[None], golden["siglip_tokens_negative"])

    pipeline = Pipeline(device="cpu")
    pipeline.transformer = tiny_transformer(json.loads(meta["dit"]), seed)
    pipeline.vae = tiny_vae(json.loads(meta["vae"]), seed)
    request = Request(
        "",
        height=int(meta["height"]),
        width=int(meta["width"]),
        frames=int(meta["num_frames"]),
        steps=int(meta["steps"]),
        seed=seed,
        guidance_scale=float(meta["guidance_scale"]),
        guidance="reference" if meta["dynamic_cfg"] == "True" else "constant",
    )
    noise = SeededNoise(seed, request.latent_shape)
    initial = noise.initial()
    yield relative("initial_noise", initial.transpose(1, 2), golden["initial_noise"], 0)
    pixels = face_latent_pixels(photo, request.height, request.width)
    yield absolute("vae_input", pixels, golden["vae_input"], 2e-3)
    mean, _ = pipeline.vae.encode(pixels[None, :, None])
    yield relative("face_latent_mean", mean[0], golden["face_latent_mean"])
    face_latent = pipeline.encode_face(identity, request.height, request.width, noise.face())
    yield relative("face_latent_sampled_scaled", face_latent[0], golden["face_latent_sampled_scaled"])
    rows = []

    def on_step(step: Step, steps: int, x: Tensor, x0: Tensor) -> None:
        name = f"latents_step{step.index}"
        if name in golden:
            rows.append(relative(name, x.transpose(1, 2), golden[name], 1e-3))

    text = golden["negative_prompt_embeds"], golden["prompt_embeds"]
    latents = pipeline.denoise(identity, request, text, initial, face_latent, noise.step, on_step)
    yield from rows
    yield relative("latents_final", latents.transpose(1, 2), golden["latents_final"], 1e-3)
    frames = pipeline.decode(latents)  # [F, H, W, 3]
    yield relative("video", frames.permute(0, 3, 1, 2)[None], golden["video"], 2e-3)


def tiny_siglip(config: dict[str, Any], seed: int) -> SiglipEncoder:
    network = SiglipVisionModel(SiglipVisionConfig(**config, vision_use_head=False))
    prefix = "vision_model."  # of the released names, which transformers 5 leaves off
    state = {
        name: draw_parameter(prefix + name.removeprefix(prefix), value.shape, seed)
        for name, value in network.state_dict().items()
    }
    network.load_state_dict(state)
    return SiglipEncoder(network.eval(), config["image_size"])


def tiny_vae(config: dict[str, Any], seed: int) -> CogVideoXVAE:
    sizes = VAESizes(
        channels=tuple(config["block_out_channels"]),
        layers=config["layers_per_block"],
        pixel_channels=3,
        latent_channels=config["latent_channels"],
        groups=config["norm_num_groups"],
    )
    return fill_network(CogVideoXVAE(sizes), seed)


CHECKS: dict[str, Callable[[Any, Meta], Iterator[Row]]] = {
    "transformer_keys.json": check_transformer_keys,
    "rope.safetensors": check_rope,
    "scheduler.safetensors": check_scheduler,
    "dynamic_cfg.json": check_dynamic_cfg,
    "dit.safetensors": check_dit,
    "preprocess.safetensors": check_preprocess,
    "bisenet.safetensors": check_bisenet,
    "pipeline.safetensors": check_pipeline,
}


def read(path: Path) -> tuple[Any, Meta]:
    """Tensors and metadata of a golden file, or what its JSON holds."""
    if path.suffix == ".json":
        return json.loads(path.read_text("utf-8")), {}
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


@torch.inference_mode()
def check_file(path: Path) -> list[Row]:
    """The rows of one golden file, whose name says what it holds."""
    return list(CHECKS[path.name](*read(path)))


def main(folder: Path) -> int:
    paths = [folder / name for name in CHECKS if (folder / name).is_file()]
    failed = total = 0
    for path in paths:
        print(f"\n{path.name}\n  {'quantity':<44} {'max abs':>9} {'max rel':>9} {'allowed':>9}")
        for row in check_file(path):
            numbers = f"{row.absolute:9.1e} {row.relative:9.1e} {row.tolerance:9.1e}"
            print(f"  {row.name:<44} {numbers}  {'pass' if row.passed else 'FAIL'}")
            failed, total = failed + (not row.passed), total + 1
    if not paths:
        print(f"{folder} holds no golden file; known are {', '.join(CHECKS)}")
        return 2
    print(f"\n{total - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a folder of golden files, such as tests/golden")
    sys.exit(main(parser.parse_args().folder))
