"""Other models in the same session: what this pack wraps in the host does nothing to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from testbed.checkpoints import write_lora
from testbed.graphs import node, out, plain, sampled, saved, with_person
from testbed.harness import PACK_FOLDER, Host

WAN, WIDTH, TEXT = "wan.safetensors", 128, 4096


def wan() -> dict[str, Tensor]:
    """A Wan 2.1 text-to-video transformer of two narrow blocks: a video model of the host's own, with 16 latent
    channels like ours."""
    layers = {"patch_embedding": (WIDTH, 16, 1, 2, 2), "head.head": (64, WIDTH)}
    layers |= {"text_embedding.0": (WIDTH, TEXT), "text_embedding.2": (WIDTH, WIDTH)}
    layers |= {"time_embedding.0": (WIDTH, 256), "time_embedding.2": (WIDTH, WIDTH)}
    layers |= {"time_projection.1": (6 * WIDTH, WIDTH)}
    scales = {"head.modulation": (1, 2, WIDTH)}
    for block in ("blocks.0", "blocks.1"):
        for attention in ("self_attn", "cross_attn"):
            layers |= {f"{block}.{attention}.{part}": (WIDTH, WIDTH) for part in "qkvo"}
            scales |= {f"{block}.{attention}.norm_{part}.weight": (WIDTH,) for part in "qk"}
        layers |= {f"{block}.ffn.0": (2 * WIDTH, WIDTH), f"{block}.ffn.2": (WIDTH, 2 * WIDTH)}
        scales |= {f"{block}.modulation": (1, 6, WIDTH), f"{block}.norm3.weight": (WIDTH,)}
        scales |= {f"{block}.norm3.bias": (WIDTH,)}
    generator = torch.Generator().manual_seed(0)
    state = {name: torch.randn(shape, generator=generator) / 10 for name, shape in scales.items()}
    for name, shape in layers.items():
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) / shape[1] ** 0.5
        state[f"{name}.bias"] = torch.randn(shape[0], generator=generator) / 10
    return state


def wan_sampled(model: str = "wan") -> dict[str, Any]:
    """Its own nodes beside ours: every name differs from those of `plain`."""
    settings = {"model": model, "positive": out("words"), "negative": out("words")}
    sampler = sampled(**settings, latent_image=out("empty"), steps=3, cfg=2.0)["latents"]
    return {
        "wan": node("UNETLoader", unet_name=WAN, weight_dtype="default"),
        "words": node("ProbeConditioning", width=TEXT),
        "empty": node("EmptyHunyuanLatentVideo", width=96, height=64, length=9, batch_size=1),
        "wan_latents": sampler,
        **saved("wan_latents"),
    }


def with_lora() -> dict[str, Any]:
    """A LoRA spelled as no Wan LoRA is: the host leaves it out, with lines in its log."""
    lora = node("LoraLoaderModelOnly", model=out("wan"), lora_name="other.safetensors", strength_model=1.0)
    return wan_sampled("lora") | {"lora": lora}


@pytest.fixture(scope="module")
def alone(folder: Path, base: Path, host: Host) -> Tensor:
    """What the same host makes of it without this pack."""
    save_file(wan(), base / "models" / "diffusion_models" / WAN)
    with Host.start(folder, base, "--disable-all-custom-nodes", "--whitelist-custom-nodes", "probe") as bare:
        assert not any(name.startswith("EchoVideo") for name in bare.get("/object_info"))
        run = bare.run(wan_sampled())
    assert run.status == "success", run.message
    return run.latents("wan_latents_saved")


@pytest.mark.parametrize("ours", [plain, with_person])
def test_another_video_model_makes_what_it_makes_without_us(host: Host, alone: Tensor, ours: Any) -> None:
    """In one graph with EchoVideo, sampled after it and before it."""
    assert PACK_FOLDER in host.log()
    run = host.run(ours(steps=2) | wan_sampled())
    assert run.status == "success", run.message
    assert torch.equal(run.latents("wan_latents_saved"), alone)
    assert alone.std() > 0.1
    again = host.run(wan_sampled() | ours(steps=2, seed=3))
    assert again.status == "success", again.message
    assert torch.equal(again.latents("wan_latents_saved"), alone)


def test_a_lora_that_fits_nothing_of_another_model_is_still_the_hosts_matter(
    host: Host, alone: Tensor
) -> None:
    write_lora(host.base, "other.safetensors", "diffusers")
    run = host.run(with_lora())
    assert run.status == "success", run.message
    assert torch.equal(run.latents("wan_latents_saved"), alone)


def test_echovideo_makes_the_same_after_another_model(host: Host, alone: Tensor) -> None:
    before = host.run(plain(seed=11, steps=2)).latents()
    host.post("/free", {"unload_models": True, "free_memory": True})
    run = host.run(wan_sampled() | plain(seed=11, steps=2))
    assert torch.equal(run.latents(), before)
