"""Two people in one video: each in a region of their own, by the host's areas and masks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from testbed import checkpoints
from testbed.graphs import Graph, conditioning, identity, loaders, node, out, sampled, saved
from testbed.harness import Host
from testbed.people import put_person
from testbed.photos import TWO_PEOPLE, write_photos

WIDTH, HEIGHT = 128, 64
COLUMNS = WIDTH // 8  # of the latents
HALF = COLUMNS // 2
STEPS = 3


def run(host: Host, graph: Graph, latents: str = "latents_saved") -> Tensor:
    done = host.run(graph)
    assert done.status == "success", done.message
    return done.latents(latents)


@pytest.fixture(scope="module")
def people(host: Host) -> dict[str, str]:
    return {name: put_person(host.base, name, seed=seed) for seed, name in enumerate(("anna", "ben", "cleo"))}


def one(side: str, name: str, text: str) -> Graph:
    """A person's identity, prompt and conditioning, whose nodes end in _left or _right."""
    cond = conditioning(WIDTH, HEIGHT, identity=out(f"identity_{side}"), vae=out("vae"))["cond"]
    cond["inputs"]["positive"] = out(f"prompt_{side}")
    return {
        f"prompt_{side}": node("CLIPTextEncode", clip=out("clip"), text=text),
        f"identity_{side}": node("EchoVideoLoadIdentity", identity_name=name),
        f"cond_{side}": cond,
    }


def half(side: str, conditioning: Any) -> dict[str, Any]:
    x = {"left": 0, "right": WIDTH // 2}[side]
    where = {"width": WIDTH // 2, "height": HEIGHT, "x": x, "y": 0, "strength": 1.0}
    return node("ConditioningSetArea", conditioning=conditioning, **where)


def masked(side: str, conditioning: Any) -> dict[str, Any]:
    where = {"strength": 1.0, "set_cond_area": "default"}
    return node("ConditioningSetMask", conditioning=conditioning, mask=out(f"mask_{side}"), **where)


def masks() -> Graph:
    """Of the video's left and right half."""
    place = {"destination": out("black"), "source": out("white"), "y": 0, "operation": "add"}
    return {
        "black": node("SolidMask", value=0.0, width=WIDTH, height=HEIGHT),
        "white": node("SolidMask", value=1.0, width=WIDTH // 2, height=HEIGHT),
        "mask_left": node("MaskComposite", x=0, **place),
        "mask_right": node("MaskComposite", x=WIDTH // 2, **place),
    }


def two(left: str, right: str, region: Any = half, **changed: Any) -> Graph:
    """Two people side by side, each with a prompt; `region` makes the node that limits a conditioning to a side."""
    graph = loaders() | {"negative": node("CLIPTextEncode", clip=out("clip"), text="")}
    for side, name in (("left", left), ("right", right)):
        graph |= one(side, name, "a person smiling in a garden")
        for number, branch in enumerate(("positive", "negative")):
            graph[f"{branch}_{side}"] = region(side, out(f"cond_{side}", number))
    for branch in ("positive", "negative"):
        both = {"conditioning_1": out(f"{branch}_left"), "conditioning_2": out(f"{branch}_right")}
        graph[f"{branch}_both"] = node("ConditioningCombine", **both)
    ends = {"positive": out("positive_both"), "negative": out("negative_both")}
    settings = {"steps": STEPS, **ends, "latent_image": out("cond_left", 2), **changed}
    return graph | masks() | sampled(**settings)


def test_in_areas_each_half_depends_on_its_own_identity_alone(host: Host, people: dict[str, str]) -> None:
    """To the bit, over a whole run with guidance: the host samples each area for itself."""
    anna, ben, cleo = people.values()
    latents = run(host, two(anna, ben))
    left, right = run(host, two(cleo, ben)), run(host, two(anna, cleo))
    assert torch.equal(left[..., HALF:], latents[..., HALF:])
    assert torch.equal(right[..., :HALF], latents[..., :HALF])
    assert (left - latents)[..., :HALF].abs().max() > 0.1
    assert (right - latents)[..., HALF:].abs().max() > 0.1


def test_swapping_the_identities_swaps_the_people(host: Host, people: dict[str, str]) -> None:
    """Without noise both halves begin alike, so that each person looks the same on either side."""
    anna, ben, _ = people.values()
    latents, swapped = (run(host, without_noise(two(*pair))) for pair in ((anna, ben), (ben, anna)))
    close = {"rtol": 1e-5, "atol": 1e-4}  # the same in another place of a batch
    torch.testing.assert_close(swapped[..., HALF:], latents[..., :HALF], **close)
    torch.testing.assert_close(swapped[..., :HALF], latents[..., HALF:], **close)
    assert (latents[..., :HALF] - latents[..., HALF:]).abs().max() > 0.1


def without_noise(graph: Graph) -> Graph:
    inputs = {
        name: value for name, value in graph["latents"]["inputs"].items() if name not in ("seed", "denoise")
    }
    inputs |= {"add_noise": "disable", "noise_seed": 1, "return_with_leftover_noise": "disable"}
    inputs |= {"start_at_step": 0, "end_at_step": STEPS}
    return graph | {"latents": node("KSamplerAdvanced", **inputs)}


def test_in_masks_each_half_takes_from_a_step_its_own_identity_alone(
    host: Host, people: dict[str, str]
) -> None:
    """To the bit in one step. Over several, each network call sees the whole frame, and so the other person in it."""
    anna, ben, cleo = people.values()
    latents, left = (run(host, two(name, ben, masked, steps=1)) for name in (anna, cleo))
    assert torch.equal(left[..., HALF:], latents[..., HALF:])
    assert (left - latents)[..., :HALF].abs().max() > 0.1
    latents, left = (run(host, two(name, ben, masked)) for name in (anna, cleo))
    moved = (left - latents).abs()
    assert moved[..., :HALF].mean() > 4 * moved[..., HALF:].mean()


def seen_faces(host: Host, graph: Graph) -> Tensor:
    """[N, 16, 1, h, w]: the face latents that the network was called with in one step without guidance."""
    graph = graph | {"probed": node("ProbeFaceLatents", model=out("model"))}
    graph["latents"]["inputs"] |= {"model": out("probed"), "steps": 1, "cfg": 1.0}
    seen = {"seen": node("ProbeSeenFaces", after=out("latents")), **saved("seen")}
    return run(host, graph | seen, "seen_saved")


def alone(name: str, region: Any) -> Graph:
    """One person; `region` is the node that limits the conditioning to one."""
    graph = loaders() | {"negative": node("CLIPTextEncode", clip=out("clip"), text="")}
    graph |= one("left", name, "a person") | masks() | {"region": region}
    ends = {"positive": out("region"), "negative": out("negative"), "latent_image": out("cond_left", 2)}
    return graph | sampled(**ends)


@pytest.fixture(scope="module")
def face(host: Host, people: dict[str, str]) -> Tensor:
    """The face latent [1, 16, 1, 8, 16] of a whole frame: a square in its middle."""
    graph = alone(
        people["anna"], node("ConditioningSetAreaStrength", conditioning=out("cond_left"), strength=1.0)
    )
    (seen,) = seen_faces(host, graph)
    return seen


SQUARE = slice(HALF // 2, HALF // 2 + HALF)


@pytest.mark.parametrize("side", ["left", "right"])
def test_an_area_sees_the_whole_face(host: Host, people: dict[str, str], face: Tensor, side: str) -> None:
    (seen,) = seen_faces(host, alone(people["anna"], half(side, out("cond_left"))))
    assert torch.equal(seen, face[..., SQUARE])


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_mask_has_the_whole_face_in_its_middle_and_black_elsewhere(
    host: Host, people: dict[str, str], face: Tensor, side: str
) -> None:
    (seen,) = seen_faces(host, alone(people["anna"], masked(side, out("cond_left"))))
    inside, outside = seen[..., :HALF], seen[..., HALF:]
    if side == "right":
        inside, outside = outside, inside
    assert torch.equal(inside, face[..., SQUARE])
    assert torch.equal(outside, face[..., :1, :1].expand_as(outside))


def test_an_area_over_the_edge_ends_there(host: Host, people: dict[str, str], face: Tensor) -> None:
    area = half("right", out("cond_left"))
    area["inputs"]["width"] = WIDTH
    (seen,) = seen_faces(host, alone(people["anna"], area))
    assert torch.equal(seen, face[..., SQUARE])


def test_a_face_latent_of_the_areas_own_size_is_left_as_it_is(host: Host, people: dict[str, str]) -> None:
    """Where the conditioning was made for the area's size, the VAE's latents are not resampled."""
    graph = alone(people["anna"], half("right", out("cond_left")))
    graph["whole"] = conditioning(WIDTH, HEIGHT, positive="negative")["cond"]
    graph["latents"]["inputs"]["latent_image"] = out("whole", 2)
    graph["cond_left"]["inputs"]["width"] = WIDTH // 2
    plain = graph | {
        "region": node("ConditioningSetAreaStrength", conditioning=out("cond_left"), strength=1.0),
        "whole": conditioning(WIDTH // 2, HEIGHT, length=21, positive="negative")["cond"],
    }  # 6 latent frames of half the size: as much noise is drawn before the face latent's
    assert torch.equal(seen_faces(host, graph), seen_faces(host, plain))


def later_area() -> dict[str, Any]:
    where = {"width": 0.5, "height": 1.0, "temporal": 0.6, "x": 0.0, "y": 0.0, "z": 0.4, "strength": 1.0}
    return node("ConditioningSetAreaPercentageVideo", conditioning=out("cond_left"), **where)


def later_mask() -> Graph:
    """The left half of every latent frame (3 of 9 frames) but the first."""
    return {
        "shown": node("MaskToImage", mask=out("mask_left")),
        "hidden": node("MaskToImage", mask=out("black")),
        "first": node("ImageBatch", image1=out("hidden"), image2=out("shown")),
        "all": node("ImageBatch", image1=out("first"), image2=out("shown")),
        "mask_later": node("ImageToMask", image=out("all"), channel="red"),
        "region": masked("later", out("cond_left")),
    }


@pytest.mark.parametrize("extra", [{"region": later_area()}, later_mask()], ids=["area", "mask"])
def test_no_face_stands_in_the_first_frame_of_a_region_that_begins_later(
    host: Host, people: dict[str, str], extra: Graph
) -> None:
    graph = alone(people["anna"], None) | extra
    assert not seen_faces(host, graph).any()


def share(side: str) -> dict[str, Any]:
    where = {"width": 0.488, "height": 1.0, "temporal": 1.0, "y": 0.0, "z": 0.0, "strength": 1.0}
    x = {"left": 0.0, "right": 0.488}[side]
    return node("ConditioningSetAreaPercentageVideo", conditioning=out("prompt"), x=x, **where)


def mask_of(side: str) -> dict[str, Any]:
    return masked(side, out("prompt"))


@pytest.mark.parametrize("region", [share, mask_of])
def test_a_curve_is_of_the_person_in_the_region_and_has_a_name(host: Host, region: Any) -> None:
    """On the photo stands the second portrait's person on the left, and the first's, larger, on the right."""
    write_photos(host.base / "input")
    graph = loaders() | identity(checkpoints.PHOTOS[1]) | masks()
    graph |= {"prompt": node("CLIPTextEncode", clip=out("clip"), text="")}
    graph |= {"frames": node("LoadImage", image=TWO_PEOPLE)}
    measured = {
        "frames": out("frames"),
        "identity": out("identity"),
        "face_encoders": out("faces"),
        "every": 1,
    }
    graph["whole"] = node("EchoVideoIdentityScore", **measured)
    for side in ("left", "right"):
        graph |= {f"region_{side}": region(side)}
        named = {"region": out(f"region_{side}"), "name": f"on the {side}"}
        graph[side] = node("EchoVideoIdentityScore", **measured, **named)
    done = host.run(graph)
    assert done.status == "success", done.message
    (whole,), (left,), (right,) = (
        done.outputs[name]["echovideo_scores"] for name in ("whole", "left", "right")
    )
    assert left["mean"] > 0.9
    assert whole["mean"] < 0.7
    assert right["mean"] < 0.7
    assert [one["name"] for one in (whole, left, right)] == ["", "on the left", "on the right"]
