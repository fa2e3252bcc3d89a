"""EchoVideo is a model like any other: stock samplers run it, and ours give the library's numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from echovideo_model.limits import GUIDANCES, MIN_SIDE, SAMPLERS
from testbed import checkpoints
from testbed.graphs import (
    Graph,
    conditioning,
    identity,
    loaders,
    node,
    out,
    plain,
    prompts,
    sampled,
    saved,
    video,
    with_person,
)
from testbed.harness import Host, expect_failure

PROMPT = "a person smiling in a garden"
SEED, STEPS, SCALE = 7, 5, 6.0
EXACT = 5e-5  # of the largest value: float32, and two attention kernels


def difference(one: Tensor, other: Tensor) -> float:
    return ((one - other).abs().max() / other.abs().max()).item()


def custom(sampler: dict[str, Any], guidance: str | None = None, steps: int = STEPS) -> dict[str, Any]:
    """Photo and prompt through Sampler Custom Advanced, with noise in the reference's order."""
    graph = loaders() | prompts(PROMPT) | identity() | conditioning(identity=out("identity"), vae=out("vae"))
    model = "model"
    if guidance is not None:
        model = "guided"
        graph[model] = node("EchoVideoDynamicGuidance", model=out("model"), form=guidance, steps=0)
    return graph | {
        "noise": node("EchoVideoNoise", noise_seed=SEED),
        "sigmas": node("EchoVideoScheduler", model=out(model), steps=steps, denoise=1.0),
        "guider": node(
            "CFGGuider", model=out(model), positive=out("cond", 0), negative=out("cond", 1), cfg=SCALE
        ),
        "sampler": sampler,
        "latents": node(
            "SamplerCustomAdvanced",
            noise=out("noise"),
            guider=out("guider"),
            sampler=out("sampler"),
            sigmas=out("sigmas"),
            latent_image=out("cond", 2),
        ),
        **saved("latents"),
    }


def ours(kind: str) -> dict[str, Any]:
    return node("EchoVideoSampler", sampler={"dpm": "reference DPM", "ddim": "DDIM"}[kind])


@pytest.fixture(scope="module")
def library(host: Host, released: Path) -> Callable[..., Tensor]:
    return run_library(host, released)


def run_library(host: Host, released: Path, transformer: Path | None = None) -> Callable[..., Tensor]:
    """The library's own pipeline on the same files: raw latents [1, 16, t, h, w] for settings of a Request."""
    from echovideo_model.pipeline import Pipeline
    from echovideo_model.request import Request
    from echovideo_model.text import TextEncoder

    pipeline = Pipeline(released, device="cpu", transformer=transformer)
    weights = host.base / "models" / "text_encoders" / checkpoints.TEXT_ENCODER
    tokenizer = host.folder / "comfy" / "text_encoders" / "t5_tokenizer"
    tokens = pipeline.transformer.sizes.iitf.text_tokens
    pipeline.text_encoder = TextEncoder.load(weights, tokenizer, tokens=tokens)
    person = pipeline.identify(host.base / "input" / checkpoints.PHOTOS[0])

    def latents(**settings: Any) -> Tensor:
        size = {"width": 96, "height": 64, "frames": 9, "seed": SEED, "steps": STEPS, "guidance_scale": SCALE}
        return pipeline.generate(person, Request(PROMPT, **{**size, **settings})).latents / 0.7

    return latents


def test_a_person_in_a_video(host: Host) -> None:
    run = host.run(with_person() | video())
    assert run.status == "success", run.message
    assert run.latents().shape == (1, 16, 3, 8, 12)
    assert run.latents().isfinite().all()


def test_the_smallest_video_is_made_as_well(host: Host) -> None:
    cond = conditioning(width=MIN_SIDE, height=MIN_SIDE, length=1, identity=out("identity"), vae=out("vae"))
    run = host.run(loaders() | prompts() | identity() | cond | sampled(steps=1) | video())
    assert run.status == "success", run.message
    assert run.latents().shape == (1, 16, 1, 2, 2)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("guidance", GUIDANCES)
def test_our_nodes_give_the_librarys_latents(host: Host, library: Any, sampler: str, guidance: str) -> None:
    run = host.run(custom(ours(sampler), guidance))
    assert difference(run.latents(), library(sampler=sampler, guidance=guidance)) < EXACT


@pytest.mark.parametrize("steps", [1, 3, 7])
def test_step_counts_that_do_not_divide_1000_are_exact_too(host: Host, library: Any, steps: int) -> None:
    run = host.run(custom(ours("dpm"), "reference", steps))
    assert difference(run.latents(), library(steps=steps)) < EXACT


def test_without_the_vae_the_face_latent_is_left_out_as_in_the_library(host: Host, library: Any) -> None:
    graph = custom(ours("dpm"), "reference")
    del graph["cond"]["inputs"]["vae"]
    assert difference(host.run(graph).latents(), library(face_latent=False)) < EXACT


def test_a_text_encoder_gives_as_many_tokens_as_its_file_says(host: Host, released: Path) -> None:
    models = host.base / "models"
    transformer = models / "diffusion_models" / "few_tokens.safetensors"
    checkpoints.write_transformer(transformer, text_tokens=24)
    checkpoints.write_text_encoder(
        models / "text_encoders" / "few_tokens.safetensors", {"echovideo.text_tokens": "24"}
    )
    graph = custom(ours("dpm"), "reference")
    graph["model"]["inputs"]["model_name"] = transformer.name
    graph["clip"]["inputs"]["text_encoder_name"] = "few_tokens.safetensors"
    latents = run_library(host, released, transformer)()
    assert difference(host.run(graph).latents(), latents) < EXACT


def test_euler_with_the_simple_scheduler_is_the_librarys_ddim(host: Host, library: Any) -> None:
    """Up to 1e-3: the host's noisiest level is 4.9e-8 signal where the library's is none."""
    graph = custom(node("KSamplerSelect", sampler_name="euler"))
    graph["sigmas"] = node("BasicScheduler", model=out("model"), scheduler="simple", steps=STEPS, denoise=1.0)
    assert difference(host.run(graph).latents(), library(sampler="ddim", guidance="constant")) < 1e-3


def test_ksampler_is_sampler_custom_with_our_ddim(host: Host) -> None:
    stock = host.run(with_person(seed=SEED, steps=STEPS)).latents()
    graph = with_person(seed=SEED, steps=STEPS) | {
        "sampler": ours("ddim"),
        "sigmas": node("EchoVideoScheduler", model=out("model"), steps=STEPS, denoise=1.0),
        "latents": node(
            "SamplerCustom",
            model=out("model"),
            add_noise=True,
            noise_seed=SEED,
            cfg=SCALE,
            positive=out("cond", 0),
            negative=out("cond", 1),
            sampler=out("sampler"),
            sigmas=out("sigmas"),
            latent_image=out("cond", 2),
        ),
    }
    assert difference(host.run(graph).latents(), stock) < 1e-3


def riflexed(frames: int) -> tuple[Graph, Graph]:
    """The same run without and with EchoVideo RIFLEx."""
    graph = custom(ours("ddim"), steps=2)
    graph["cond"]["inputs"]["length"] = frames
    return graph, through(graph, riflex=node("EchoVideoRIFLEx", model=out("model")))


def through(graph: Graph, **patch: Any) -> Graph:
    """The graph with one more node between the model and what samples."""
    (name,) = patch
    readers = {one: graph[one] for one in ("sigmas", "guider")}
    return {**graph, **patch} | {
        one: {**reader, "inputs": {**reader["inputs"], "model": out(name)}} for one, reader in readers.items()
    }


@pytest.mark.parametrize(("frames", "changes"), [(49, False), (65, False), (69, True)])
def test_riflex_is_the_librarys_and_changes_no_bit_up_to_65_frames(
    host: Host, library: Any, frames: int, changes: bool
) -> None:
    plain, slowed = (host.run(graph).latents() for graph in riflexed(frames))
    settings = {"frames": frames, "steps": 2, "sampler": "ddim", "guidance": "constant"}
    assert difference(slowed, library(riflex=True, **settings)) < EXACT
    assert torch.equal(slowed, plain) != changes


def test_riflex_changes_no_bit_in_context_windows(host: Host) -> None:
    graph, _ = riflexed(81)
    window = {"context_length": 13, "context_overlap": 4, "context_schedule": "standard_static", "dim": 2}
    windows = host.node("ContextWindowsManual", model=out("model"), **window)
    slowed = through(graph, windows=windows) | {"riflex": node("EchoVideoRIFLEx", model=out("model"))}
    slowed["windows"] = host.node("ContextWindowsManual", model=out("riflex"), **window)
    first, second = (host.run(one) for one in (through(graph, windows=windows), slowed))
    assert second.status == "success", second.message
    assert torch.equal(second.latents(), first.latents())


def test_riflex_on_another_model_is_refused(host: Host) -> None:
    graph = {"other": node("ProbeOtherModel"), "riflex": node("EchoVideoRIFLEx", model=out("other"))}
    graph["keep"] = node("ModelSave", model=out("riflex"), filename_prefix="never")
    assert "EchoVideo RIFLEx only works on EchoVideo" in expect_failure(host, graph)


def test_a_seed_gives_one_video_and_another_seed_another(host: Host) -> None:
    first = host.run(with_person(seed=1, steps=2)).latents()
    host.post("/free", {"unload_models": True, "free_memory": True})
    again = host.run(with_person(seed=1, steps=2)).latents()
    other = host.run(with_person(seed=2, steps=2)).latents()
    assert torch.equal(first, again)
    assert difference(other, first) > 0.1


def test_the_page_sees_every_step_while_it_is_made(host: Host) -> None:
    assert host.run(with_person(seed=9, steps=3)).previews >= 3


def test_a_batch_holds_a_video_per_item(host: Host) -> None:
    graph = loaders() | prompts() | conditioning(batch_size=3) | sampled(steps=2)
    latents = host.run(graph).latents()
    assert latents.shape == (3, 16, 3, 8, 12)
    assert difference(latents[1], latents[0]) > 0.1


def test_part_of_the_noise_repaints_part_of_the_video(host: Host) -> None:
    """A second pass at denoise 0.5 with our sampler starts from the first pass's latents, not from nothing."""
    graph = plain(steps=4) | {
        "sigmas": node("EchoVideoScheduler", model=out("model"), steps=4, denoise=0.2),
        "sampler": ours("dpm"),
        "second": node(
            "SamplerCustom",
            model=out("model"),
            add_noise=True,
            noise_seed=3,
            cfg=1.0,
            positive=out("cond", 0),
            negative=out("cond", 1),
            sampler=out("sampler"),
            sigmas=out("sigmas"),
            latent_image=out("latents"),
        ),
        **saved("second"),
    }
    run = host.run(graph)
    first, second = run.latents(), run.latents("second_saved")
    together = torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]
    assert 0.3 < together < 0.999


def test_the_hosts_guidance_split_gives_each_device_a_branch_and_changes_nothing(
    host: Host, folder: Path
) -> None:
    """A second model is loaded through cached_patcher_init; a CPU under two names stands for two GPUs."""
    if not (folder / "comfy" / "multigpu.py").exists():
        pytest.skip("this host cannot split guidance")
    graph = custom(ours("dpm"))
    alone = host.run(graph).latents()
    graph |= {
        "split": node("ProbeSplit", model=out("model")),
        "counts": node("ProbeCounts", after=out("latents")),
    }
    for name in ("sigmas", "guider"):
        graph[name]["inputs"]["model"] = out("split")
    run = host.run(graph)
    assert run.status == "success", run.message
    assert difference(run.latents(), alone) < EXACT
    counts = run.outputs["counts"]["counts"][0]
    assert counts == {f"on {device}, 1 of 2 branches": STEPS for device in ("cpu", "cpu:0")}
