"""A LoRA that was trained here acts alike while it is trained, merged into the weights, and in diffusers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import CogVideoXTransformer3DModel
from diffusers.loaders import CogVideoXLoraLoaderMixin
from safetensors import safe_open
from safetensors.torch import load_file

from echovideo_model.errors import InvalidRequest, WrongModelFile
from echovideo_model.training.lora import LoRALayers
from echovideo_model.training.recipe import LoRA
from echovideo_model.transformer import EchoVideoTransformer
from echovideo_model.weights.family import list_shapes
from echovideo_model.weights.loading import load_transformer
from echovideo_model.weights.merging import Lora, merge_loras, read_lora

RECIPE = LoRA(rank=3, alpha=6.0, targets=("to_q", "to_out", "ff.net.2"))


@pytest.fixture
def network(tiny_set: Path) -> EchoVideoTransformer:
    return load_transformer(tiny_set / "transformer")


@pytest.fixture
def written(network: EchoVideoTransformer, tmp_path: Path) -> Path:
    """A LoRA whose up matrices are no longer zero."""
    layers = LoRALayers(network, RECIPE, seed=1)
    random = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for up in layers.up.values():
            up.copy_(torch.randn(up.shape, generator=random) / 10)
    layers.write(tmp_path / "lora.safetensors")
    return tmp_path / "lora.safetensors"


def predict(network: EchoVideoTransformer) -> torch.Tensor:
    random = torch.Generator().manual_seed(3)
    x = torch.randn(1, 16, 2, 4, 4, generator=random)
    context = torch.randn(1, 226, 64, generator=random)
    with torch.no_grad():
        return network(x, torch.tensor([500]), context)


def test_it_starts_as_the_network_and_then_changes_the_chosen_layers_of_the_blocks_alone(
    tiny_set: Path,
) -> None:
    network = load_transformer(tiny_set / "transformer")
    before = predict(network)
    layers = LoRALayers(network, RECIPE, seed=1)
    torch.testing.assert_close(predict(network), before, atol=0, rtol=0)
    blocks = len(network.transformer_blocks)
    assert len(layers.down) == 3 * blocks
    assert all(path.startswith("transformer_blocks.") for path in layers.down)  # IITF has a to_q of its own


def test_merged_into_the_weights_it_acts_as_it_did_in_training(
    network: EchoVideoTransformer, written: Path, tiny_set: Path
) -> None:
    merged = load_transformer(tiny_set / "transformer")
    plain = predict(merged)
    assert len(read_lora(written, list_shapes(merged))) == 3 * len(merged.transformer_blocks)
    merge_loras(merged, [Lora(written)])
    in_training = predict(network)
    assert (in_training - plain).abs().max() > 0.05
    torch.testing.assert_close(predict(merged), in_training, atol=0.02, rtol=0.02)  # the file is bfloat16
    half = load_transformer(tiny_set / "transformer")
    merge_loras(half, [Lora(written, 0.5)])
    name = "transformer_blocks.0.attn1.to_q"
    whole, start = merged.get_submodule(name).weight, load_transformer(tiny_set / "transformer")
    expected = (whole + start.get_submodule(name).weight) / 2
    torch.testing.assert_close(half.get_submodule(name).weight, expected)


def test_diffusers_reads_it_with_the_same_effect(written: Path, tiny_set: Path) -> None:
    merged = load_transformer(tiny_set / "transformer")
    merge_loras(merged, [Lora(written)])
    config = CogVideoXTransformer3DModel.load_config(tiny_set / "transformer")
    theirs = CogVideoXTransformer3DModel.from_config(config)
    state = load_transformer(tiny_set / "transformer").state_dict()
    theirs.load_state_dict(state, strict=False)
    found, metadata = CogVideoXLoraLoaderMixin.lora_state_dict(str(written), return_lora_metadata=True)
    assert all("lora" in name for name in found)  # load_lora_weights refuses anything else
    CogVideoXLoraLoaderMixin.load_lora_into_transformer(found, theirs, metadata=metadata)
    theirs.fuse_lora()
    theirs.unload_lora()
    ours = merged.state_dict()
    changed = 0
    for name, weight in theirs.state_dict().items():
        torch.testing.assert_close(weight, ours[name], atol=1e-5, rtol=1e-5)
        changed += not torch.equal(weight, state[name])
    assert changed == 3 * len(merged.transformer_blocks)


def test_scale_is_in_the_matrices_for_readers_that_know_no_alpha(written: Path) -> None:
    with safe_open(written, "pt") as opened:
        metadata = json.loads(opened.metadata()["lora_adapter_metadata"])
    assert metadata["transformer.lora_alpha"] == metadata["transformer.r"] == RECIPE.rank
    assert not any(name.endswith(".alpha") for name in load_file(written))


def test_a_target_that_no_layer_has_is_named(network: EchoVideoTransformer) -> None:
    with pytest.raises(
        InvalidRequest, match=r"unknown layer 'to_x'; choose from norm1\.linear, attn1\.to_q, "
    ):
        LoRALayers(network, LoRA(targets=("to_x",)), seed=0)


def test_what_cannot_be_merged_is_refused_and_changes_nothing(
    network: EchoVideoTransformer, tiny_set: Path
) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(WrongModelFile):
        merge_loras(network, [Lora(tiny_set / "vae" / "diffusion_pytorch_model.safetensors")])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
