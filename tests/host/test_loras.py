"""LoRA files as trainers write them: on a real host each acts whole, at its own scale, or is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from echovideo_model.training.lora import LoRALayers
from echovideo_model.training.recipe import LoRA
from echovideo_model.transformer import EchoVideoTransformer, TransformerSizes
from testbed import checkpoints
from testbed.checkpoints import LAYERS
from testbed.graphs import node, out, plain
from testbed.harness import Host, expect_failure

WIDTH, RANK = 128, 4


def put(
    host: Host, name: str, state: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> dict[str, Any]:
    folder = host.base / "models" / "loras"
    folder.mkdir(exist_ok=True)
    save_file(state, folder / name, metadata)
    lora = node("LoraLoaderModelOnly", model=out("model"), lora_name=name, strength_model=1.0)
    return plain(model="lora") | {"lora": lora}


def pairs(down: str = "lora_A.weight", up: str = "lora_B.weight") -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    state = {}
    for path in LAYERS:
        state[f"transformer.{path}.{down}"] = torch.randn(RANK, WIDTH, generator=generator) / WIDTH**0.5
        state[f"transformer.{path}.{up}"] = torch.randn(WIDTH, RANK, generator=generator) / 2
    return state


def run(host: Host, graph: dict[str, Any]) -> Tensor:
    done = host.run(graph)
    assert done.status == "success", done.message
    return done.latents()


def merged(host: Host, change: Any) -> Tensor:
    """Latents of a model into whose weights the LoRA was merged here: `change(path, weight)` gives the new weight."""
    folder = host.base / "models" / "diffusion_models"
    state = load_file(folder / checkpoints.TRANSFORMER) | load_file(folder / checkpoints.TRANSFORMER_PART_2)
    for path in LAYERS:
        weight = state[f"{path}.weight"]
        state[f"{path}.weight"] = change(path, weight.float()).to(weight.dtype)
    save_file(state, folder / "merged.safetensors")
    model = node("EchoVideoLoadModel", model_name="merged.safetensors", weight_dtype="default")
    return run(host, plain() | {"model": model})


def close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() / other.abs().max() < 0.02)


def test_the_alpha_of_the_metadata_and_of_peft_s_settings_counts(host: Host) -> None:
    half = run(
        host,
        put(
            host, "half.safetensors", pairs() | {f"transformer.{p}.alpha": torch.tensor(2.0) for p in LAYERS}
        ),
    )
    settings = json.dumps({"r": RANK, "lora_alpha": 2})
    assert torch.equal(
        run(host, put(host, "meta.safetensors", pairs(), {"lora_adapter_metadata": settings})), half
    )
    (host.base / "models" / "loras" / "adapter_config.json").write_text(settings, encoding="utf-8")
    try:
        assert torch.equal(run(host, put(host, "beside.safetensors", pairs())), half)
    finally:
        (host.base / "models" / "loras" / "adapter_config.json").unlink()
    assert not close(run(host, put(host, "whole.safetensors", pairs())), half)
    assert "alpha / rank is 0.5" in host.log()
    assert "it states no alpha" in host.log()


def test_one_that_was_trained_here_acts_as_it_did_in_training(host: Host) -> None:
    folder = host.base / "models" / "diffusion_models"
    state = load_file(folder / checkpoints.TRANSFORMER) | load_file(folder / checkpoints.TRANSFORMER_PART_2)
    with torch.device("meta"):
        network = EchoVideoTransformer(
            TransformerSizes.read({name: value.shape for name, value in state.items()})
        )
    network.load_state_dict(state, assign=True)
    layers = LoRALayers(network, LoRA(rank=RANK, alpha=2.0 * RANK), seed=0)
    generator = torch.Generator().manual_seed(3)
    for up in layers.up.values():
        up.data = torch.randn(up.shape, generator=generator) / 4
    layers.write(host.base / "models" / "loras" / "trained.safetensors")
    lora = node(
        "LoraLoaderModelOnly", model=out("model"), lora_name="trained.safetensors", strength_model=1.0
    )
    made = run(host, plain(model="lora") | {"lora": lora})
    expected = merged(host, lambda path, weight: weight + 2 * (layers.up[path] @ layers.down[path]).detach())
    assert close(made, expected)
    assert not close(made, run(host, plain()))


def test_dora_of_peft_acts_as_peft_defines_it(host: Host) -> None:
    state = pairs()
    magnitudes = {path: torch.linspace(0.5, 1.5, WIDTH) for path in LAYERS}
    state |= {f"transformer.{path}.lora_magnitude_vector.weight": m for path, m in magnitudes.items()}

    def change(path: str, weight: Tensor) -> Tensor:
        whole = (
            weight + state[f"transformer.{path}.lora_B.weight"] @ state[f"transformer.{path}.lora_A.weight"]
        )
        return magnitudes[path][:, None] * whole / whole.norm(dim=1, keepdim=True)

    assert close(run(host, put(host, "dora.safetensors", state)), merged(host, change))


def test_lokr_acts_as_its_product(host: Host) -> None:
    generator = torch.Generator().manual_seed(2)
    state = {}
    for path in LAYERS:
        state[f"lycoris_{path.replace('.', '_')}.lokr_w1"] = torch.randn(8, 8, generator=generator) / 20
        state[f"lycoris_{path.replace('.', '_')}.lokr_w2"] = torch.randn(16, 16, generator=generator) / 20

    def change(path: str, weight: Tensor) -> Tensor:
        flat = f"lycoris_{path.replace('.', '_')}"
        return weight + torch.kron(state[f"{flat}.lokr_w1"], state[f"{flat}.lokr_w2"])

    assert close(run(host, put(host, "lokr.safetensors", state)), merged(host, change))


WRONG = {
    "another width": ({"transformer_blocks.0.attn1.to_q.lora_A.weight": torch.zeros(4, 64),
                       "transformer_blocks.0.attn1.to_q.lora_B.weight": torch.zeros(64, 4)}, "64 x 64"),
    "a whole model": ({"transformer_blocks.0.attn1.to_q.weight": torch.zeros(128, 128)}, "a whole model"),
    "a layer more": (pairs() | {"transformer.ofs.linear_1.lora_A.weight": torch.zeros(4, 8),
                                "transformer.ofs.linear_1.lora_B.weight": torch.zeros(8, 4)}, "ofs.linear_1"),
    "nothing": ({}, "not a LoRA"),
    "NaN": ({k: v / 0 for k, v in pairs().items()}, "NaN or infinity"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_would_act_in_part_or_not_at_all_is_refused(host: Host, case: str) -> None:
    state, words = WRONG[case]
    assert words in expect_failure(host, put(host, f"{case}.safetensors", state))


def test_a_lora_hook_reads_the_same_files(host: Host) -> None:
    """The host's hooks load LoRAs by another way than its loaders."""
    graph = put(host, "hooked.safetensors", pairs("lora.down.weight", "lora.up.weight"))
    expected = run(host, graph)
    hook = node("CreateHookLoraModelOnly", lora_name="hooked.safetensors", strength_model=1.0)
    graph = plain(positive=out("hooked"), negative=out("hooked_too")) | {
        "hook": hook,
        "hooked": node("ConditioningSetProperties", cond_NEW=out("cond"), strength=1.0, set_cond_area="default",
                       hooks=out("hook")),
        "hooked_too": node("ConditioningSetProperties", cond_NEW=out("cond", 1), strength=1.0, set_cond_area="default",
                           hooks=out("hook")),
    }  # fmt: skip
    assert close(run(host, graph), expected)
