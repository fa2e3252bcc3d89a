"""What goes wrong says what to do next, and the host keeps serving; a hundredth run needs no more than the first."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from testbed import checkpoints
from testbed.graphs import (
    conditioning,
    identity,
    loaders,
    node,
    out,
    plain,
    prompts,
    sampled,
    video,
    with_person,
)
from testbed.harness import Host, Run, expect_failure


@pytest.fixture(autouse=True)
def still_serving(host: Host) -> Any:
    yield
    assert host.run(plain(steps=1)).status == "success"


def put(host: Host, folder: str, name: str, write: Callable[[Path], Any]) -> str:
    path = host.base / "models" / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path)
    return name


def test_a_model_of_another_kind_is_named(host: Host) -> None:
    name = put(host, "diffusion_models", "vae.safetensors", lambda path: shutil.copy(vae_file(host), path))
    graph = plain() | {"model": node("EchoVideoLoadModel", model_name=name, weight_dtype="default")}
    assert "is not an EchoVideo transformer" in expect_failure(host, graph)


def vae_file(host: Host) -> Path:
    return host.base / "models" / "vae" / checkpoints.VAE


def test_a_model_with_a_missing_part_names_the_part(host: Host) -> None:
    folder = host.base / "models" / "diffusion_models"
    name = put(
        host,
        "diffusion_models",
        "lonely-00001-of-00002.safetensors",
        lambda path: shutil.copy(folder / checkpoints.TRANSFORMER, path),
    )
    graph = plain() | {"model": node("EchoVideoLoadModel", model_name=name, weight_dtype="default")}
    message = expect_failure(host, graph)
    assert "lonely-00002-of-00002.safetensors is missing: get the published parts" in message
    assert f"put it into {folder}" in message
    assert f"`echovideo models install --comfyui {host.base}`" in message


def test_a_model_that_lacks_weights_names_the_first(host: Host) -> None:
    folder = host.base / "models" / "diffusion_models"
    state = load_file(folder / checkpoints.TRANSFORMER) | load_file(folder / checkpoints.TRANSFORMER_PART_2)
    del state["transformer_blocks.1.attn1.to_k.weight"]
    name = put(host, "diffusion_models", "holes.safetensors", lambda path: save_file(state, path))
    for loader in (
        node("EchoVideoLoadModel", model_name=name, weight_dtype="default"),
        node("UNETLoader", unet_name=name, weight_dtype="default"),
    ):
        assert "transformer_blocks.1.attn1.to_k.weight" in expect_failure(host, plain() | {"model": loader})


def test_a_truncated_file_is_an_error_of_its_node(host: Host) -> None:
    content = vae_file(host).read_bytes()
    name = put(host, "vae", "half.safetensors", lambda path: path.write_bytes(content[: len(content) // 2]))
    graph = plain() | video() | {"vae": node("EchoVideoLoadVAE", vae_name=name)}
    assert "half.safetensors" in expect_failure(host, graph)


def test_other_kinds_of_vae_and_text_encoder_are_named(host: Host) -> None:
    transformer = host.base / "models" / "diffusion_models" / checkpoints.TRANSFORMER
    vae = put(host, "vae", "dit.safetensors", lambda path: shutil.copy(transformer, path))
    text = put(host, "text_encoders", "dit.safetensors", lambda path: shutil.copy(transformer, path))
    graph = plain() | video() | {"vae": node("EchoVideoLoadVAE", vae_name=vae)}
    assert "is not the CogVideoX VAE" in expect_failure(host, graph)
    loader = node("EchoVideoLoadTextEncoder", text_encoder_name=text, raw_prompt=False)
    assert "is not a T5-XXL encoder" in expect_failure(host, plain() | {"clip": loader})


MISSING = {
    "model": (node("EchoVideoLoadModel", model_name="no.pth", weight_dtype="default"), "diffusion_models"),
    "clip": (node("EchoVideoLoadTextEncoder", text_encoder_name="no.pth", raw_prompt=False), "text_encoders"),
    "vae": (node("EchoVideoLoadVAE", vae_name="no.pth"), "vae"),
    "parser": (
        node("EchoVideoLoadFaceEncoders", parser_name="no.pth", siglip_name=checkpoints.SIGLIP),
        "facemodels",
    ),
    "siglip": (
        node("EchoVideoLoadFaceEncoders", parser_name=checkpoints.PARSER, siglip_name="no.pth"),
        "clip_vision",
    ),
}


@pytest.mark.parametrize("what", MISSING)
def test_a_file_that_is_not_there_is_named_with_its_folder_and_the_command_that_gets_it(
    host: Host, what: str
) -> None:
    loader, folder = MISSING[what]
    if what in ("parser", "siglip"):
        graph = identity() | {"faces": loader}
    else:
        graph = plain(steps=1) | video() | {what: loader}
        del graph["latents_saved"]  # hosts do run what needs nothing that is missing
    message = expect_failure(host, graph)
    assert "no.pth is missing: " in message
    assert str(host.base / "models" / folder) in message
    assert f"`echovideo models install --comfyui {host.base}`" in message


def test_every_file_of_a_node_that_is_not_there_is_named_at_once(host: Host) -> None:
    loader = node("EchoVideoLoadFaceEncoders", parser_name="no.pth", siglip_name="no.safetensors")
    message = expect_failure(host, identity() | {"faces": loader})
    parsers, siglip = (re.escape(str(host.base / "models" / name)) for name in ("facemodels", "clip_vision"))
    install = f"`echovideo models install --comfyui {re.escape(str(host.base))}`"
    assert re.search(
        rf"no\.pth and no\.safetensors are missing: get the published files with {install}, or put them into a folder "
        rf"searched and press R; searched for no\.pth in {parsers}.*; no\.safetensors in {siglip}",
        message,
    )


def test_antelopev2_that_is_not_there_is_named_with_its_folder_and_the_command_that_gets_it(
    host: Host,
) -> None:
    models = host.base / "models"
    shutil.copy(models / "clip_vision" / checkpoints.SIGLIP, models / "clip_vision" / "again.safetensors")
    graph = loaders() | identity()
    graph["faces"]["inputs"]["siglip_name"] = "again.safetensors"  # not in the host's cache
    (models / "insightface").rename(models / "elsewhere")
    try:
        message = expect_failure(host, graph)
    finally:
        (models / "elsewhere").rename(models / "insightface")
    assert str(models / "insightface") in message
    assert f"`echovideo models install --comfyui {host.base}`" in message


def test_an_identity_that_is_not_there_is_named_with_its_folders(host: Host) -> None:
    read = {"identity": node("EchoVideoLoadIdentity", identity_name="nobody.safetensors")}
    message = expect_failure(host, with_person(steps=1) | read)
    for root in ("models", "output"):
        assert str(host.base / root / "echovideo_identities") in message
    assert "models install" not in message  # identities are the user's own


def test_files_that_are_quantised_in_other_ways_say_what_to_choose(host: Host) -> None:
    """A damaged GGUF, and 4 bits packed in bytes without the marks by which a host knows its own such files."""
    folder = host.base / "models" / "diffusion_models"
    (folder / "q8.gguf").write_bytes(b"GGUF\x03\0\0\0" + b"\1" * 64)
    shutil.copy(folder / "q8.gguf", folder / "renamed.safetensors")
    state = load_file(folder / checkpoints.TRANSFORMER) | load_file(folder / checkpoints.TRANSFORMER_PART_2)
    packed = state | {name: pack(state[name]) for name in state if ".ff.net." in name and "weight" in name}
    save_file(packed, folder / "nf4.safetensors")
    for name, said in (
        ("q8.gguf", "truncated; download it again"),
        ("renamed.safetensors", "is a GGUF file: rename it to end in .gguf"),
        (
            "nf4.safetensors",
            "is packed as torch.uint8, a format that this ComfyUI does not read: choose a file in bf16",
        ),
    ):
        graph = plain() | {"model": node("EchoVideoLoadModel", model_name=name, weight_dtype="default")}
        assert said in expect_failure(host, graph)


def pack(weight: torch.Tensor) -> torch.Tensor:
    """Two numbers a byte, as 4-bit formats have them."""
    return torch.zeros(weight.shape[0], weight.shape[1] // 2, dtype=torch.uint8)


def photo_without_a_face(host: Host) -> str:
    Image.new("RGB", (320, 320), "teal").save(host.base / "input" / "empty.png")
    return "empty.png"


def test_a_photo_without_a_face_says_what_was_tried(host: Host) -> None:
    run = host.run(loaders() | identity(photo_without_a_face(host)))
    message = run.message
    assert run.error["exception_type"] == "echovideo_model.errors.NoFaceFound"  # the page shows it first
    assert "320 x 320" in message
    assert "640" in message


def test_a_photo_without_a_face_can_be_skipped_or_mean_nobody(host: Host) -> None:
    photo_without_a_face(host)
    batch = {
        "empty": node("LoadImage", image="empty.png"),
        "both": node("ImageBatch", image1=out("photo"), image2=out("empty")),
    }
    for choice in ("skip photo", "no identity"):
        graph = with_person(steps=1) | identity(on_no_face=choice) | batch
        graph["identity"]["inputs"]["photos"] = out("both")
        run = host.run(graph)
        assert run.status == "success", run.message
        graph["identity"]["inputs"]["photos"] = out("empty")
        if choice == "skip photo":
            assert "no face in the photo" in expect_failure(host, graph)
        else:
            assert host.run(graph).status == "success"


def test_a_face_that_is_not_there_lists_those_that_are(host: Host) -> None:
    message = expect_failure(host, loaders() | identity(face_index=3))
    assert "choose index 0, not 3" in message
    assert "face 1 (index 0) at" in message


def test_more_steps_than_there_are_name_the_denoise_that_asked_for_them(host: Host) -> None:
    graph = plain() | {
        "sigmas": node("EchoVideoScheduler", model=out("model"), steps=50, denoise=0.04),
        "shown": node("PreviewAny", source=out("sigmas")),
    }
    message = expect_failure(host, graph)
    for said in ("50 steps", "denoise 0.04", "1250", "only 1000", "at least 0.05"):
        assert said in message
    graph["sigmas"]["inputs"]["denoise"] = 0.05
    assert host.run(graph).status == "success"


def test_the_order_closest_asks_for_somebody_to_be_close_to(host: Host) -> None:
    assert "closest" in expect_failure(host, loaders() | identity(face_order="closest"))


def test_a_prompt_from_another_text_encoder_is_named(host: Host) -> None:
    state = {name: torch.zeros(shape) for name, shape in NARROW_T5.items()}
    name = put(host, "text_encoders", "narrow.safetensors", lambda path: save_file(state, path))
    loader = node("EchoVideoLoadTextEncoder", text_encoder_name=name, raw_prompt=False)
    assert "encode the prompt with Load EchoVideo Text Encoder" in expect_failure(
        host, plain() | {"clip": loader}
    )


BLOCK = "encoder.block.0.layer."
NARROW_T5 = {
    "shared.weight": (32128, 32),
    "encoder.final_layer_norm.weight": (32,),
    **{f"{BLOCK}0.SelfAttention.{part}.weight": (32, 32) for part in "qkvo"},
    f"{BLOCK}0.SelfAttention.relative_attention_bias.weight": (32, 4),
    f"{BLOCK}0.layer_norm.weight": (32,),
    f"{BLOCK}1.layer_norm.weight": (32,),
    f"{BLOCK}1.DenseReluDense.wi_0.weight": (64, 32),
    f"{BLOCK}1.DenseReluDense.wi_1.weight": (64, 32),
    f"{BLOCK}1.DenseReluDense.wo.weight": (32, 64),
}


def test_an_identity_that_ends_before_it_starts_is_refused(host: Host) -> None:
    graph = with_person()
    graph["cond"]["inputs"].update(start_percent=0.8, end_percent=0.2)
    assert "choose an end after the start" in expect_failure(host, graph)


def test_saved_identities_load_without_any_face_encoder(host: Host) -> None:
    graph = with_person(steps=2) | {
        "kept": node("EchoVideoSaveIdentity", identity=out("identity"), filename_prefix="anna")
    }
    first = host.run(graph)
    (name,) = first.outputs["kept"]["text"]
    cond = conditioning(identity=out("read"), vae=out("vae"))
    read = {"read": node("EchoVideoLoadIdentity", identity_name=name)}
    again = host.run(loaders() | prompts() | read | cond | sampled(steps=2))
    assert again.status == "success", again.message
    assert torch.equal(again.latents(), first.latents())


def test_the_score_of_a_photo_of_the_same_person_is_high(host: Host) -> None:
    """Two photos in a row stand for a video: the first is the person, the second is somebody else."""
    graph = loaders() | identity()
    graph["second"] = node("LoadImage", image=checkpoints.PHOTOS[1])
    graph["frames"] = node("ImageBatch", image1=out("photo"), image2=out("second"))
    graph["score"] = node(
        "EchoVideoIdentityScore",
        frames=out("frames"),
        identity=out("identity"),
        face_encoders=out("faces"),
        every=1,
    )
    for number, name in enumerate(("mean", "deviation", "minimum")):
        graph[name] = node("PreviewAny", source=out("score", number))
    run = host.run(graph)
    assert run.status == "success", run.message
    mean, _, minimum = (float(run.outputs[name]["text"][0]) for name in ("mean", "deviation", "minimum"))
    assert 2 * mean - minimum > 0.99  # the other one of two: the person's own photo
    assert minimum < 0.9
    assert run.files("score")


def test_a_video_is_evaluated_with_and_without_a_person(host: Host) -> None:
    graph = loaders() | identity()
    graph["second"] = node("LoadImage", image=checkpoints.PHOTOS[1])
    graph["frames"] = node("ImageBatch", image1=out("photo"), image2=out("second"))
    person = {"identity": out("identity"), "face_encoders": out("faces")}
    graph["whole"] = node("EchoVideoEvaluate", frames=out("frames"), **person)
    graph["bare"] = node("EchoVideoEvaluate", frames=out("frames"))
    for name in ("whole", "bare"):
        for number, value in enumerate(("report", "facesim", "average", "variation", "flicker")):
            graph[f"{name} {value}"] = node("PreviewAny", source=out(name, number))
    run = host.run(graph)
    assert run.status == "success", run.message
    said = {name: one["text"][0] for name, one in run.outputs.items() if " " in name}
    average, variation = float(said["whole average"]), float(said["whole variation"])
    assert (
        average + variation > 0.99
    )  # of two frames the deviation is half their difference: the person's own photo
    assert average - variation < 0.9
    assert 0 < float(said["whole flicker"]) == float(said["bare flicker"]) < 1
    assert "identity average (ours): -" in said["bare report"]
    assert "connect identity and face_encoders" in said["bare report"]
    assert float(said["bare facesim"]) == 0
    assert said["whole report"].count("\n") == 3


def test_a_run_can_be_stopped_in_the_middle_and_the_next_one_is_clean(host: Host) -> None:
    before = host.run(plain(steps=3)).latents()

    def stop(message: dict[str, Any]) -> None:
        if message["type"] == "progress" and message["data"]["value"] >= 2:
            host.post("/interrupt", {})

    stopped = host.run(plain(steps=200, seed=5), on_message=stop)
    assert stopped.status == "interrupted"
    after: Run = host.run(plain(steps=3) | node_changed())
    assert torch.equal(after.latents(), before)


def node_changed() -> dict[str, Any]:
    """Something new in the graph, so that the host does not answer from its cache."""
    return {"extra": node("EmptyImage", width=16, height=16, batch_size=1, color=int(time.time()) % 0xFFFFFF)}


def test_fifty_runs_in_a_row_need_no_more_memory_than_the_first_few(
    host: Host, record_testsuite_property: Callable[[str, object], None]
) -> None:
    used = []
    for seed in range(50):
        assert host.run(with_person(seed=100 + seed, steps=1) | video()).status == "success"
        used.append(host.memory())
    record_testsuite_property("MiB after run 1, 10 and 50", [round(used[at] / 2**20) for at in (0, 9, 49)])
    assert used[-1] - used[9] < 64 * 2**20
