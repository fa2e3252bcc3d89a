"""Our sampler and guidance on schedules and beside nodes that are not ours."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from testbed.graphs import conditioning, loaders, node, out, prompts, saved
from testbed.harness import Host, expect_failure

SIGMAS = ("sigmas", 0)


def graph(
    sigmas: dict[str, Any], kind: str = "reference DPM", model: str = "model", batch: int = 1
) -> dict[str, Any]:
    return loaders() | prompts() | conditioning(batch_size=batch) | {
        "noise": node("EchoVideoNoise", noise_seed=3),
        "sigmas": sigmas,
        "guider": node("CFGGuider", model=out(model), positive=out("cond", 0), negative=out("cond", 1), cfg=6.0),
        "sampler": node("EchoVideoSampler", sampler=kind),
        "latents": node(
            "SamplerCustomAdvanced", noise=out("noise"), guider=out("guider"), sampler=out("sampler"),
            sigmas=out("sigmas"), latent_image=out("cond", 2),
        ),
        **saved("latents"),
    }  # fmt: skip


def scheduler(steps: int = 4, model: str = "model") -> dict[str, Any]:
    return node("EchoVideoScheduler", model=out(model), steps=steps, denoise=1.0)


def run(host: Host, nodes: dict[str, Any]) -> Tensor:
    done = host.run(nodes)
    assert done.status == "success", done.message
    return done.latents()


def close(one: Tensor, other: Tensor, bound: float = 1e-3) -> bool:
    return bool((one - other).abs().max() / other.abs().max() < bound)


def known(host: Host, kind: str) -> bool:
    return kind in host.get("/object_info")


@pytest.mark.parametrize("kind", ["reference DPM", "DDIM"])
@pytest.mark.parametrize("steps", [3, 20])
def test_schedules_that_stay_at_the_noisiest_level_give_no_nan(host: Host, kind: str, steps: int) -> None:
    karras = node("KarrasScheduler", steps=steps, sigma_max=4519.0, sigma_min=0.03, rho=7.0)
    assert run(host, graph(karras, kind)).isfinite().all()


@pytest.mark.parametrize(
    ("written", "same_as"),
    [
        ("4519, 4519, 1, 0", "4519, 1, 0"),
        ("4519, 1, 1, 0.5, 0", "4519, 1, 0.5, 0"),
        ("4519, 1, 0, 0", "4519, 1, 0"),
    ],
)
@pytest.mark.parametrize("kind", ["reference DPM", "DDIM"])
def test_a_noise_level_that_stays_the_same_is_no_step(
    host: Host, kind: str, written: str, same_as: str
) -> None:
    if not known(host, "ManualSigmas"):
        pytest.skip("this host has no ManualSigmas")
    one, other = (run(host, graph(node("ManualSigmas", sigmas=text), kind)) for text in (written, same_as))
    assert torch.equal(one, other)


def test_levels_that_rise_are_refused_with_words(host: Host) -> None:
    flipped = graph(node("FlipSigmas", sigmas=out("down"))) | {"down": scheduler()}
    message = expect_failure(host, flipped)
    assert "but these sigmas rise" in message
    assert "Flip Sigmas" in message


def test_no_steps_leave_the_latents_as_they_are(host: Host) -> None:
    parts = {"whole": scheduler(), "sigmas": node("SplitSigmas", sigmas=out("whole"), step=4)}
    none = graph(out("x"))  # type: ignore[arg-type]
    none = {**none, **parts}
    none["latents"]["inputs"]["sigmas"] = out("sigmas", 1)
    assert run(host, none).isfinite().all()


PATCHES: dict[str, dict[str, Any]] = {
    "CFGZeroStar": {},
    "SkipLayerGuidanceDiT": {"double_layers": "1", "single_layers": "", "scale": 3.0, "start_percent": 0.0,
                             "end_percent": 1.0, "rescaling_scale": 0.0},
}  # fmt: skip


@pytest.mark.parametrize("kind", PATCHES)
def test_guidance_of_other_nodes_stays_wherever_it_is_placed(host: Host, kind: str) -> None:
    def guided(model: str) -> dict[str, Any]:
        return node("EchoVideoDynamicGuidance", model=out(model), form="constant", steps=0)

    def patched(model: str) -> dict[str, Any]:
        return node(kind, model=out(model), **PATCHES[kind])

    alone = run(host, graph(scheduler(), "DDIM", "patched") | {"patched": patched("model")})
    before = graph(scheduler(), "DDIM", "guided") | {"patched": patched("model"), "guided": guided("patched")}
    after = graph(scheduler(), "DDIM", "patched") | {"guided": guided("model"), "patched": patched("guided")}
    assert close(run(host, before), alone)
    assert close(run(host, after), alone)
    assert not close(run(host, graph(scheduler(), "DDIM")), alone)


def test_without_a_negative_guidance_changes_nothing(host: Host) -> None:
    def basic(model: str) -> dict[str, Any]:
        nodes = graph(scheduler(), "DDIM", model)
        return nodes | {"guider": node("BasicGuider", model=out(model), conditioning=out("cond"))}

    guided = {"guided": node("EchoVideoDynamicGuidance", model=out("model"), form="smooth", steps=0)}
    assert torch.equal(run(host, basic("guided") | guided), run(host, basic("model")))


@pytest.mark.parametrize("split", [1, 3])
def test_both_halves_of_a_split_run_follow_one_curve(host: Host, split: int) -> None:
    guided = {"guided": node("EchoVideoDynamicGuidance", model=out("model"), form="smooth", steps=5)}
    whole = run(host, graph(scheduler(5), "DDIM", "guided") | guided)
    halves = graph(node("SplitSigmas", sigmas=out("all"), step=split), "DDIM", "guided") | guided
    halves |= {"all": scheduler(5), "first": halves["latents"], "none": node("DisableNoise")}
    halves["latents"] = node(
        "SamplerCustomAdvanced", noise=out("none"), guider=out("guider"), sampler=out("sampler"),
        sigmas=out("sigmas", 1), latent_image=out("first"),
    )  # fmt: skip
    assert close(run(host, halves), whole)


def test_a_part_of_a_batch_has_the_noise_that_it_has_in_the_whole(host: Host) -> None:
    both = run(host, graph(scheduler(2), "DDIM", batch=2))
    second = graph(scheduler(2), "DDIM", batch=2)
    second["part"] = node("LatentFromBatch", samples=out("cond", 2), batch_index=1, length=1)
    second["latents"]["inputs"]["latent_image"] = out("part")
    assert close(run(host, second), both[1:])
