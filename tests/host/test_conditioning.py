"""What a conditioning carries of the face: through areas, chains of conditionings."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from testbed.graphs import conditioning, loaders, node, out, prompts, sampled, video
from testbed.harness import Host, expect_failure
from testbed.people import put_person

FACE_LATENT_ALONE = {"id_strength": 0.0, "face_strength": 0.0}


def run(host: Host, graph: dict[str, Any]) -> Tensor:
    done = host.run(graph)
    assert done.status == "success", done.message
    return done.latents()


def with_identity(name: str, **changed: Any) -> dict[str, Any]:
    cond = conditioning(identity=out("identity"), vae=out("vae"), **changed)
    return loaders() | prompts() | {"identity": node("EchoVideoLoadIdentity", identity_name=name)} | cond


def area(**inputs: Any) -> dict[str, Any]:
    where = {"strength": 1.0, **inputs}
    return {
        "there": node("ConditioningSetArea", conditioning=out("cond"), **where),
        "there_too": node("ConditioningSetArea", conditioning=out("cond", 1), **where),
    } | sampled(positive=out("there"), negative=out("there_too"), steps=1, cfg=1.0)


def test_areas_on_both_sides_see_the_whole_face(host: Host) -> None:
    """What changes in the right quarter of the face moves an area on the left about as much as one on the right."""
    moved = []
    for x in (0, 64):
        place = area(width=64, height=64, x=x, y=0)
        one, other = (
            run(
                host,
                with_identity(put_person(host.base, name, right=right), width=128, **FACE_LATENT_ALONE)
                | place,
            )
            for name, right in (("one", 0), ("other", 60))
        )
        moved.append((one - other).abs().mean().item())
    assert 0.8 < moved[0] / moved[1] < 1.25  # 0.55 when the area cut the face


def test_a_chained_conditioning_keeps_nothing_of_the_first(host: Host) -> None:
    first, second = put_person(host.base, "first", seed=1), put_person(host.base, "second", seed=2)
    last = conditioning(identity=out("identity"), positive="prompt")["cond"]  # without a VAE: no face latent
    chained = {**last, "inputs": {**last["inputs"], "positive": out("before"), "negative": out("before", 1)}}
    before = with_identity(first)["cond"]
    before = {**before, "inputs": {**before["inputs"], "identity": out("first")}}
    graph = with_identity(second) | {
        "first": node("EchoVideoLoadIdentity", identity_name=first),
        "before": before,
    }
    assert torch.equal(
        run(host, graph | {"cond": chained} | sampled(steps=2)),
        run(host, graph | {"cond": last} | sampled(steps=2)),
    )


def test_nan_is_no_moment_of_the_sampling(host: Host) -> None:
    graph = with_identity(put_person(host.base, "somebody"), start_percent=float("nan")) | sampled(steps=1)
    assert "start" in expect_failure(host, graph)


@pytest.mark.parametrize(("length", "frames"), [(50, 13), (52, 14), (2, 1), (49, 13)])
def test_a_length_between_two_that_can_be_made_is_the_nearest_in_both_nodes(
    host: Host, length: int, frames: int
) -> None:
    """Only the API can ask for one: on the page, the input moves in steps of 4."""
    given = loaders() | prompts() | conditioning(length=length, width=64) | saved_latent()
    size = {
        "size": "free",
        "free_width": 64,
        "free_height": 64,
        "measure": "frames",
        "frames": length,
        "seconds": 1.0,
    }
    sized = loaders() | prompts() | conditioning(length=out("size", 2), width=64) | saved_latent()
    sized["size"] = node("EchoVideoVideoSize", **size)
    assert run(host, given).shape[2] == frames
    assert run(host, sized).shape[2] == frames


def saved_latent() -> dict[str, Any]:
    return {"latents_saved": node("SaveLatent", samples=out("cond", 2), filename_prefix="latents")}


def test_videos_of_a_batch_are_files_of_their_own_behind_rebatch_latents(host: Host) -> None:
    graph = loaders() | prompts() | conditioning(batch_size=2) | sampled(steps=1) | video("parts")
    graph["parts"] = node("RebatchLatents", latents=out("latents"), batch_size=1)
    done = host.run(graph)
    assert done.status == "success", done.message
    assert len(done.outputs["video"]["images"]) == 2
