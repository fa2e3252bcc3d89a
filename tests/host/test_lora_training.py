"""The host's own Train LoRA node trains EchoVideo: its loss falls, and what it saves loads in the stock loader."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from testbed.graphs import Link, node, out, plain, with_person
from testbed.harness import Host

STEPS = 12
PART = r"\.(lora_(up|down)\.weight|alpha|diff|diff_b)$"


def train(host: Host, learning_rate: float) -> tuple[list[float], Path]:
    """The loss of each step, and the saved LoRA. Noise and timesteps follow from the seed alone."""
    trainer = host.node(
        "TrainLoraNode",
        model=out("model"),
        latents=out("latents"),
        positive=out("cond", 0),
        steps=STEPS,
        learning_rate=learning_rate,
        training_dtype="fp32",
        lora_dtype="fp32",
    )
    nodes = host.get("/object_info")
    types = nodes["TrainLoraNode"]["output"]  # 0.8.0 and older have a MODEL before them
    save = "SaveLoRA" if "SaveLoRA" in nodes else "SaveLoRANode"  # as 0.3.64 calls it

    def result(kind: str) -> Link:
        return out("trained", types.index(kind))

    graph = with_person(steps=1) | {
        "trained": trainer,
        "losses": node("ProbeLosses", loss=result("LOSS_MAP")),
        "keep": node(save, lora=result("LORA_MODEL"), prefix="loras/trained", steps=result("INT")),
    }
    before = set(host.base.glob("output/loras/*"))
    run = host.run(graph, timeout=580)
    assert run.status == "success", run.message
    (losses,) = run.outputs["losses"]["losses"]
    (file,) = set(host.base.glob("output/loras/*")) - before
    return losses, file


def test_the_loss_falls_and_the_saved_lora_loads_in_the_stock_loader(host: Host) -> None:
    if "TrainLoraNode" not in host.get("/object_info"):
        pytest.skip("this host has no Train LoRA node")
    untrained, _ = train(host, learning_rate=1e-7)
    losses, file = train(host, learning_rate=0.01)
    assert losses[0] == pytest.approx(untrained[0], rel=1e-4)
    assert sum(losses[STEPS // 2 :]) < 0.9 * sum(untrained[STEPS // 2 :])

    layers = {re.sub(PART, "", name) for name in load_file(file)}
    (host.base / "models" / "loras").mkdir(exist_ok=True)
    shutil.copy(file, host.base / "models" / "loras" / file.name)
    untouched = host.run(plain(steps=1)).latents()
    lora = node("LoraLoaderModelOnly", model=out("model"), lora_name=file.name, strength_model=1.0)
    loaded = host.run(plain(model="lora", steps=1) | {"lora": lora})
    assert loaded.status == "success", loaded.message
    assert f"LoRA matched {len(layers)} of {len(layers)} layers" in host.log()
    assert (loaded.latents() - untouched).abs().max() > 0.01 * untouched.abs().max()
    assert torch.isfinite(loaded.latents()).all()
