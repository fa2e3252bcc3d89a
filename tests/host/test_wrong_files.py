"""Files that a host could read in part alone are refused by name, by our loaders and by the host's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from testbed import checkpoints
from testbed.graphs import node, plain, video
from testbed.harness import Host, expect_failure

Q = "transformer_blocks.1.attn1.to_q"


def transformer(host: Host) -> dict[str, Tensor]:
    folder = host.base / "models" / "diffusion_models"
    return load_file(folder / checkpoints.TRANSFORMER) | load_file(folder / checkpoints.TRANSFORMER_PART_2)


def bulk(state: dict[str, Tensor]) -> list[str]:
    return [
        k
        for k in state
        if k.startswith("transformer_blocks.") and k.endswith(".weight") and state[k].ndim == 2
    ]


def mark(**settings: Any) -> Tensor:
    return torch.tensor(list(json.dumps(settings).encode()), dtype=torch.uint8)


def scaled(state: dict[str, Tensor], scale: str) -> dict[str, Tensor]:
    for name in bulk(dict(state)):
        factor = state[name].float().abs().amax() / 448
        state[name] = (state[name].float() / factor).to(torch.float8_e4m3fn)
        state[name.removesuffix("weight") + scale] = factor
    return state


def renamed(state: dict[str, Tensor], new: str) -> dict[str, Tensor]:
    state[new] = state.pop(f"{Q}.weight")
    return state


BROKEN = {
    "scales without a mark": (lambda s: scaled(s, "weight_scale"), "weight_scale"),
    "older scales without a mark": (lambda s: scaled(s, "scale_weight"), "scale_weight"),
    "a weight of quanto": (lambda s: renamed(s, f"{Q}.weight._data"), Q),
    "a weight of peft": (lambda s: renamed(s, f"{Q}.base_layer.weight"), Q),
    "something beside": (lambda s: s | {f"{Q}.zero_point": torch.zeros(1)}, f"{Q}.zero_point"),
    "whole numbers": (lambda s: s | {f"{Q}.weight": torch.zeros(128, 128, dtype=torch.int8)}, f"{Q}.weight"),
    "another shape": (lambda s: s | {f"{Q}.weight": torch.zeros(128, 64)}, f"{Q}.weight"),
    "an unknown format": (lambda s: s | {f"{Q}.comfy_quant": mark(format="q5_k")}, "q5_k"),
    "no format": (lambda s: s | {f"{Q}.comfy_quant": mark(kind="int8")}, f"{Q}"),
    "a mark of zeros": (lambda s: s | {f"{Q}.comfy_quant": torch.zeros(24, dtype=torch.uint8)}, f"{Q}"),
    "a mark without a scale": (lambda s: s | {f"{Q}.comfy_quant": mark(format="float8_e4m3fn")}, f"{Q}"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_model_that_would_be_read_in_part_is_refused_by_name(host: Host, case: str) -> None:
    change, words = BROKEN[case]
    save_file(change(transformer(host)), host.base / "models" / "diffusion_models" / "partly.safetensors")
    for loader in (
        node("EchoVideoLoadModel", model_name="partly.safetensors", weight_dtype="default"),
        node("UNETLoader", unet_name="partly.safetensors", weight_dtype="default"),
    ):
        assert words in expect_failure(host, plain(steps=1) | {"model": loader})


def text_encoder(host: Host, change: Any) -> dict[str, Any]:
    folder = host.base / "models" / "text_encoders"
    state = change(load_file(folder / checkpoints.TEXT_ENCODER))
    save_file(state, folder / "other.safetensors")
    return node("EchoVideoLoadTextEncoder", text_encoder_name="other.safetensors", raw_prompt=False)


def with_vocabulary(state: dict[str, Tensor], size: int) -> dict[str, Tensor]:
    state["shared.weight"] = torch.randn(size, state["shared.weight"].shape[1])
    return state


T5 = {
    "umt5": (lambda s: with_vocabulary(s, 256_384), "256,384"),
    "another vocabulary": (lambda s: with_vocabulary(s, 32_000), "32,000"),
    "scales without a mark": (
        lambda s: s | {"encoder.block.0.layer.0.SelfAttention.q.weight_scale": torch.ones(1)}, "weight_scale"),
    "a layer short": (
        lambda s: {k: v for k, v in s.items() if k != "encoder.block.1.layer.0.SelfAttention.q.weight"}, "missing"),
    "a bias in every layer": (
        lambda s: s | {"encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight": torch.ones(32, 4)},
        "relative_attention_bias"),
}  # fmt: skip


@pytest.mark.parametrize("case", T5)
def test_a_text_encoder_that_is_not_t5_xxl_is_refused_by_name(host: Host, case: str) -> None:
    change, words = T5[case]
    assert words in expect_failure(host, plain(steps=1) | {"clip": text_encoder(host, change)})


def test_a_whole_t5_gives_what_its_encoder_gives(host: Host) -> None:
    def with_decoder(state: dict[str, Tensor]) -> dict[str, Tensor]:
        decoder = {
            k.replace("encoder.", "decoder.", 1): v.clone()
            for k, v in state.items()
            if k.startswith("encoder.")
        }
        return state | decoder | {"lm_head.weight": state["shared.weight"].clone()}

    expected = host.run(plain(steps=1)).latents()
    run = host.run(plain(steps=1) | {"clip": text_encoder(host, with_decoder)})
    assert run.status == "success", run.message
    assert torch.equal(run.latents(), expected)


def metadata_of(path: Path) -> dict[str, str]:
    """A VAE's configuration, which says how many groups its norms have."""
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def with_nan(host: Host, folder: str, source: str, key: str) -> str:
    path = host.base / "models" / folder / source
    state = load_file(path)
    state[key].view(-1)[0] = float("nan")
    save_file(state, path.with_name("nan.safetensors"), metadata_of(path))
    return "nan.safetensors"


def test_nan_stops_the_run_with_the_step_and_the_remedy(host: Host) -> None:
    state = transformer(host)
    state[f"{Q}.weight"][0, 0] = float("nan")
    save_file(state, host.base / "models" / "diffusion_models" / "nan.safetensors")
    model = node("EchoVideoLoadModel", model_name="nan.safetensors", weight_dtype="default")
    message = expect_failure(host, plain(steps=3) | {"model": model})
    assert "NaN or infinity in step 1 of 3" in message
    assert "LoRA" in message


def test_nan_of_the_text_and_of_the_vae_is_named(host: Host) -> None:
    name = with_nan(host, "text_encoders", checkpoints.TEXT_ENCODER, "encoder.final_layer_norm.weight")
    loader = node("EchoVideoLoadTextEncoder", text_encoder_name=name, raw_prompt=False)
    assert "the encoded prompt holds NaN" in expect_failure(host, plain(steps=1) | {"clip": loader})
    name = with_nan(host, "vae", checkpoints.VAE, "decoder.conv_out.conv.weight")
    graph = plain(steps=1) | video() | {"vae": node("EchoVideoLoadVAE", vae_name=name)}
    assert "decoding gave NaN" in expect_failure(host, graph)


def test_a_vae_that_lacks_a_tensor_is_refused(host: Host) -> None:
    path = host.base / "models" / "vae" / checkpoints.VAE
    state = load_file(path)
    del state["decoder.conv_out.conv.bias"]
    save_file(state, path.with_name("short.safetensors"), metadata_of(path))
    graph = plain(steps=1) | video() | {"vae": node("EchoVideoLoadVAE", vae_name="short.safetensors")}
    assert "decoder.conv_out.conv.bias" in expect_failure(host, graph)
