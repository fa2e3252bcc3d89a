"""The nano model on a real host: among every loader's choices, and able to run every shipped workflow as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from echovideo_model.nano.models import FILES, FOLDER
from testbed import checkpoints
from testbed.checkpoints import write_lora
from testbed.graphs import Graph, conditioning, identity, loaders, node, out, prompts, sampled, video
from testbed.harness import Host, expect_failure
from testbed.nano import CHOICES, with_nano
from testbed.shipped import SHIPPED, check_video, shape_of, small

MODEL, TEXT_ENCODER, VAE = FILES["transformer"], FILES["text_encoder"], FILES["vae"]
PORTRAIT = "echovideo_nano_portrait.png"
PARSER, SIGLIP = FILES["face_encoder"], FILES["clip_visual_encoder"]
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the nano model's files are not in this checkout")


def options(host: Host, kind: str, name: str) -> list[str]:
    type_, *rest = host.get(f"/object_info/{kind}")[kind]["input"]["required"][name]
    return type_ if isinstance(type_, list) else rest[0]["options"]


@pytest.mark.parametrize(("kind", "name"), CHOICES)
def test_it_is_offered_after_the_users_own_files(host: Host, kind: str, name: str) -> None:
    offered = options(host, kind, name)
    own = [file for file in offered if file != "pixel_space"]
    assert own[-1] == CHOICES[kind, name]
    assert len(own) > 1


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_workflow_runs_on_it_with_nothing_downloaded(host: Host, name: str) -> None:
    graph = with_nano(small(name))
    if "adapted" in graph:  # nano's layers are twice as wide as those of the tests' tiny transformer
        write_lora(host.base, "nano_lora.safetensors", "diffusers", width=256)
        graph["adapted"]["inputs"]["lora_name"] = "nano_lora.safetensors"
    for one in graph.values():
        if one["class_type"] == "LoadImage":
            one["inputs"]["image"] = PORTRAIT
    run = host.run(graph)
    assert run.status == "success", run.message
    savers = [key for key, one in graph.items() if one["class_type"] == "SaveVideo"]
    for saver in savers:
        (path,) = run.files(saver)
        check_video(path, **shape_of(graph))


def test_encoders_of_two_models_are_refused_in_one_sentence(host: Host) -> None:
    graph = loaders() | prompts() | identity() | conditioning(identity=out("identity"))
    graph["faces"]["inputs"]["siglip_name"] = SIGLIP
    said = expect_failure(host, graph | sampled(steps=1))
    assert f"{SIGLIP} belongs to the nano model and {checkpoints.PARSER} does not" in said


def test_an_identity_of_other_encoders_is_refused_in_one_sentence(host: Host) -> None:
    """Either way round: nano's with the tests' transformer, which counts as released, and the released with nano."""
    prompt, cond = prompts("A woman waves."), conditioning(128, 128, 9, identity=out("identity"))
    nano = expect_failure(host, with_nano(loaders()) | prompt | identity() | cond | sampled(steps=1))
    assert nano.startswith(
        "this identity was made by the released face encoders, but the model was trained with"
    )
    released = expect_failure(host, loaders() | prompt | with_nano(identity()) | cond | sampled(steps=1))
    assert (
        "trained with the released face encoders: make the identity again with the released face encoders"
        in released
    )


def test_the_picker_finds_faces_with_the_detector_that_goes_with_the_parser(host: Host) -> None:
    found = host.get(f"/echovideo/faces?filename={PORTRAIT}&encoders={PARSER}")
    assert len(found["faces"]) == 1
    other = host.get(f"/echovideo/faces?filename={PORTRAIT}&encoders={checkpoints.PARSER}")
    assert found["faces"] != other["faces"]


def by_stock_loaders() -> Graph:
    return {
        "model": node("UNETLoader", unet_name=MODEL, weight_dtype="default"),
        "clip": node("CLIPLoader", clip_name=TEXT_ENCODER, type="sd3"),
        "vae": node("VAELoader", vae_name=VAE),
    }


def person(model: Graph, **changed: Any) -> Graph:
    cond = conditioning(128, 128, 9, identity=out("identity"), vae=out("vae"))
    prompt = prompts("A woman waves at the beach.", "")
    return model | prompt | with_nano(identity()) | cond | sampled(steps=2, **changed)


def test_the_stock_loaders_give_the_same_video(host: Host, folder: Path) -> None:
    if "return_metadata" not in (folder / "nodes.py").read_text(encoding="utf-8"):
        pytest.skip(
            "Load VAE of this ComfyUI does not pass on a file's header, where nano's VAE says its groups"
        )
    ours = host.run(person(with_nano(loaders())) | video())
    assert ours.status == "success", ours.message
    stock = host.run(person(by_stock_loaders()) | video())
    assert stock.status == "success", stock.message
    assert ours.latents().equal(stock.latents())
