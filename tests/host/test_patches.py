"""Other packs' patches on EchoVideo: the host's own nodes and its own rotation judge what they are given and change.

docs/compatibility.md is held to what is seen here: see TRIED.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from testbed.graphs import node, out, plain
from testbed.harness import Host, Run

BLOCKS, TEXT, VIDEO = 2, 226, 3 * 4 * 6  # of the tiny model, and the tokens of 9 frames of 96 x 64
STEPS = 2


@pytest.fixture(scope="module")
def untouched(host: Host) -> Tensor:
    return host.run(plain(steps=STEPS)).latents()


def patched(patch: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return plain(model="patched", steps=STEPS, **changed) | {"patched": patch}


def probed(host: Host, kind: str) -> tuple[Run, dict[str, int]]:
    graph = patched(node("ProbeAttention", model=out("model"), kind=kind))
    run = host.run(graph | {"counts": node("ProbeCounts", after=out("latents"))})
    return run, run.outputs["counts"]["counts"][0] if run.status == "success" else {}


def test_patches_that_change_nothing_are_called_in_every_block_and_leave_every_bit(
    host: Host, untouched: Tensor
) -> None:
    run, counts = probed(host, "nothing")
    assert run.status == "success", run.message
    calls = counts.pop("post_input")
    assert calls in (STEPS, 2 * STEPS)  # both branches in one call or in two
    each = {f"block {index} of {BLOCKS}, [{TEXT}, {TEXT + VIDEO}]": calls for index in range(BLOCKS)}
    everywhere = dict.fromkeys(("attn1_patch", "attn1_output_patch", "double_block"), BLOCKS * calls)
    assert counts == each | everywhere
    assert torch.equal(run.latents(), untouched)


def test_positions_come_in_the_form_that_the_hosts_own_rotation_takes(host: Host, untouched: Tensor) -> None:
    run, _ = probed(host, "turn")
    assert run.status == "success", run.message
    torch.testing.assert_close(run.latents(), untouched, rtol=1e-4, atol=2e-3)  # 2 steps from sigma 4519


@pytest.mark.parametrize("kind", ["mask", "more text"])
def test_a_mask_and_further_text_tokens_count(host: Host, untouched: Tensor, kind: str) -> None:
    run, _ = probed(host, kind)
    assert run.status == "success", run.message
    assert run.latents().shape == untouched.shape
    assert (run.latents() - untouched).abs().max() > 1e-3


def test_a_patch_that_takes_video_tokens_away_is_refused(host: Host) -> None:
    run, _ = probed(host, "fewer tokens")
    assert run.status == "error"
    assert "removes tokens" in run.message


ACTS = {
    "NAGuidance": {},
    "SkipLayerGuidanceDiT": {"double_layers": "1", "single_layers": "", "start_percent": 0.0},
    "SkipLayerGuidanceDiTSimple": {"double_layers": "1", "single_layers": "", "start_percent": 0.0},
    "UNetSelfAttentionMultiply": {"v": 1.2},
    "CFGZeroStar": {},
    "CFGNorm": {"strength": 0.5},
    "RescaleCFG": {},
    "RenormCFG": {},
    "APG": {"eta": 0.5},
    "TCFG": {},
    "FreSca": {},
    "Mahiro": {},
    "Epsilon Scaling": {"scaling_factor": 1.1},
    "TemporalScoreRescaling": {},
}
IDLE = {
    "UNetCrossAttentionMultiply": {"q": 1.2},
    "PerturbedAttentionGuidance": {},
    "ScaleROPE": {"scale_x": 1.5},
    "PatchModelAddDownscale": {},
    "FluxKVCache": {},
}
REFUSED = {
    "TomePatchModel": "is made for another network",
    "HyperTile": "is made for another network",
    "FreeU": "model_channels",
    "FreeU_V2": "model_channels",
}
TRIED = ACTS | IDLE | {name: {} for name in REFUSED}
"""{the host's node: its inputs} of docs/compatibility.md, whose word for each is judged here."""


def known(host: Host, kind: str) -> dict[str, Any]:
    if kind not in host.get("/object_info"):
        pytest.skip(f"this host has no {kind}")
    return host.node(kind, model=out("model"), **TRIED[kind])


@pytest.mark.parametrize("kind", ACTS)
def test_what_is_said_to_act_acts(host: Host, untouched: Tensor, kind: str) -> None:
    run = host.run(patched(known(host, kind)))
    assert run.status == "success", run.message
    assert run.latents().isfinite().all()
    assert (run.latents() - untouched).abs().max() > 1e-4


@pytest.mark.parametrize("kind", IDLE)
def test_what_is_said_to_do_nothing_does_nothing(host: Host, untouched: Tensor, kind: str) -> None:
    run = host.run(patched(known(host, kind)))
    assert run.status == "success", run.message
    torch.testing.assert_close(run.latents(), untouched, rtol=1e-4, atol=1e-3)  # PAG adds and takes away


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_said_to_stop_the_run_stops_it(host: Host, kind: str) -> None:
    run = host.run(patched(known(host, kind)))
    assert run.status == "error"
    assert REFUSED[kind] in run.message
