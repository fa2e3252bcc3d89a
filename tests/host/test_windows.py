"""Videos longer than the training's, made by the host's context windows: what stays the same in every window."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from testbed.graphs import Graph, conditioning, loaders, node, out, prompts, sampled, saved, with_person
from testbed.harness import Host
from testbed.people import put_person

WINDOW = {"context_length": 4, "context_overlap": 2, "dim": 2}  # latent frames


def test_context_windows_make_longer_videos_with_the_face_in_every_window(host: Host) -> None:
    windows = host.node("ContextWindowsManual", model=out("model"), **WINDOW)
    graph = with_person(model="windowed", steps=2) | {"windowed": windows}
    graph["cond"]["inputs"]["length"] = 33
    run = host.run(graph)
    assert run.status == "success", run.message
    assert run.latents().shape == (1, 16, 9, 8, 12)
    without = host.run(
        with_person(model="windowed", steps=2, positive=out("prompt"))
        | graph
        | sampled(model="windowed", steps=2, positive=out("prompt"), negative=out("negative"))
    ).latents()
    per_frame = (run.latents() - without).abs().amax(dim=(0, 1, 3, 4))
    assert (per_frame > 0.01).all()


def first_frames(host: Host, **changed: Any) -> tuple[Tensor, Tensor]:
    """Face latent and noisy latents [N, 16, 1, h, w] of the first frame that the network sees, window by window."""
    cond = conditioning(length=33, identity=out("identity"), vae=out("vae"))
    name = put_person(host.base, "somebody")
    graph: Graph = (
        loaders() | prompts() | {"identity": node("EchoVideoLoadIdentity", identity_name=name)} | cond
    )
    graph |= {"probed": node("ProbeFaceLatents", model=out("model"))}
    graph |= {"windowed": host.node("ContextWindowsManual", model=out("probed"), **WINDOW, **changed)}
    graph |= sampled(model="windowed", steps=1, cfg=1.0)
    graph |= {"seen": node("ProbeSeenFaces", after=out("latents")), **saved("seen")}
    graph["first_saved"] = node("SaveLatent", samples=out("seen", 1), filename_prefix="first")
    run = host.run(graph)
    assert run.status == "success", run.message
    return run.latents("seen_saved"), run.latents("first_saved")


def test_the_face_latent_stands_in_the_first_frame_of_every_window(host: Host) -> None:
    faces, frames = first_frames(host)
    assert len(faces) > 2
    assert faces[0].any()
    assert all(torch.equal(one, faces[0]) for one in faces)
    assert not torch.equal(frames[1], frames[0])


def test_the_first_frame_can_be_kept_in_every_window(host: Host) -> None:
    """By the host's own input, where it has it; an extra frame in front of a window, which is not in its result."""
    inputs = host.get("/object_info/ContextWindowsManual")["ContextWindowsManual"]["input"]["required"]
    if "latent_retain_index_list" not in inputs:
        pytest.skip("this host keeps no frame of the latents in its windows")
    _, frames = first_frames(host, latent_retain_index_list="0")
    assert len(frames) > 2
    assert all(torch.equal(one, frames[0]) for one in frames)
