"""What a MODEL of the host gets for free, EchoVideo gets too: each feature is used here, and its effect is seen."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from echovideo_model.weights.loading import convert, storage_dtype
from echovideo_model.weights.reading import open_tensors
from testbed import checkpoints
from testbed.checkpoints import LAYERS, SPELLINGS, write_lora
from testbed.graphs import identity, loaders, node, out, plain, sampled, saved, with_person
from testbed.harness import Host, Run


def difference(one: Tensor, other: Tensor) -> float:
    return ((one - other).abs().max() / other.abs().max()).item()


@pytest.fixture(scope="module")
def untouched(host: Host) -> Tensor:
    return host.run(plain()).latents()


def with_lora(name: str, strength: float = 1.0) -> dict[str, Any]:
    lora = node("LoraLoaderModelOnly", model=out("model"), lora_name=name, strength_model=strength)
    return plain(model="lora") | {"lora": lora}


def test_loras_of_every_spelling_do_the_same_and_say_how_much_of_them_fits(
    host: Host, untouched: Tensor
) -> None:
    results = []
    words = f"LoRA matched {len(LAYERS)} of {len(LAYERS)} layers"
    said = host.log().count(words)
    for spelling in SPELLINGS:
        write_lora(host.base, f"{spelling}.safetensors", spelling)
        run = host.run(with_lora(f"{spelling}.safetensors"))
        assert run.status == "success", run.message
        results.append(run.latents())
    assert host.log().count(words) - said == len(SPELLINGS)
    assert difference(results[0], untouched) > 0.01
    assert all(torch.equal(one, results[0]) for one in results)


def test_a_lora_for_another_model_is_refused_with_words(host: Host) -> None:
    write_lora(host.base, "foreign.safetensors", "diffusers", ["single_blocks.0.linear1"])
    run = host.run(with_lora("foreign.safetensors"))
    assert run.status == "error"
    assert "none of the 1 layers in foreign.safetensors" in run.message
    assert "CogVideoX" in run.message


def test_a_saved_model_with_its_lora_loads_in_the_stock_loaders(host: Host) -> None:
    write_lora(host.base, "kept.safetensors", "diffusers")
    run = host.run(
        with_lora("kept.safetensors")
        | {"keep": node("ModelSave", model=out("lora"), filename_prefix="diffusion_models/baked")}
    )
    name = "baked_00001_.safetensors"
    (host.base / "models" / "checkpoints").mkdir(exist_ok=True)
    shutil.copy(host.base / "output" / "diffusion_models" / name, host.base / "models" / "checkpoints" / name)
    for loader in (stock(name), node("CheckpointLoaderSimple", ckpt_name=name)):
        baked = plain(model="stock") | {"stock": loader}
        del baked["model"]
        again = host.run(baked)
        assert again.status == "success", again.message
        assert difference(again.latents(), run.latents()) < 1e-4


def test_a_checkpoint_with_the_vae_in_it_loads_in_the_stock_loader(host: Host) -> None:
    """As CheckpointSave writes it; model and VAE do what those that it was made from do."""
    keep = node(
        "CheckpointSave", model=out("model"), clip=out("clip"), vae=out("vae"), filename_prefix="whole"
    )
    graph = plain(steps=2) | decoded()
    run = host.run(graph | {"keep": keep})
    assert run.status == "success", run.message
    name = "whole_00001_.safetensors"
    (host.base / "models" / "checkpoints").mkdir(exist_ok=True)
    shutil.copy(host.base / "output" / name, host.base / "models" / "checkpoints" / name)
    graph |= {"whole": node("CheckpointLoaderSimple", ckpt_name=name)} | sampled("whole", steps=2)
    graph["frames"]["inputs"]["vae"] = out("whole", 2)
    again = host.run(graph)
    assert again.status == "success", again.message
    assert difference(again.latents(), run.latents()) < 1e-4
    assert pixels(again) == pixels(run)


def decoded(vae: str = "vae", frames: str = "frames") -> dict[str, Any]:
    return {
        frames: node("VAEDecode", samples=out("latents"), vae=out(vae)),
        f"{frames}_saved": node("SaveImage", images=out(frames), filename_prefix=frames),
    }


def pixels(run: Run, frames: str = "frames") -> list[bytes]:
    return [Image.open(path).tobytes() for path in run.files(f"{frames}_saved")]


def test_two_vaes_in_one_graph_do_not_disturb_each_other(host: Host) -> None:
    """Each decodes as it does alone, and the model samples the same, whichever was loaded last."""
    folder = host.base / "models" / "vae"
    state = load_file(folder / checkpoints.VAE)
    fainter = {name: tensor * 0.9 for name, tensor in state.items()}
    save_file(fainter, folder / "other.safetensors", open_tensors(folder / checkpoints.VAE).metadata)
    other = {"other": node("EchoVideoLoadVAE", vae_name="other.safetensors")}
    second = other | decoded("other", "others")
    first, alone = host.run(plain(steps=2) | decoded()), host.run(plain(steps=2) | second)
    both = host.run(plain(steps=2) | decoded() | second)
    host.post("/free", {"unload_models": True, "free_memory": True})
    turned = host.run(second | decoded() | plain(steps=2))
    for run in (both, turned):
        assert run.status == "success", run.message
        assert torch.equal(run.latents(), first.latents())
        assert pixels(run) == pixels(first)
        assert pixels(run, "others") == pixels(alone, "others")
    assert pixels(first) != pixels(alone, "others")


def test_merging_two_models_gives_a_third_between_them(host: Host, untouched: Tensor) -> None:
    write_lora(host.base, "other.safetensors", "diffusers")
    merge = node("ModelMergeSimple", model1=out("model"), model2=out("lora"), ratio=0.5)
    merged = host.run(with_lora("other.safetensors") | {"merged": merge} | sampled(model="merged")).latents()
    far = host.run(with_lora("other.safetensors")).latents()
    half = host.run(with_lora("other.safetensors", strength=0.5)).latents()
    assert difference(merged, half) < 1e-3
    assert difference(merged, untouched) > 0.005
    assert difference(merged, far) > 0.005


def stock(name: str, weight_dtype: str = "default") -> dict[str, Any]:
    return node("UNETLoader", unet_name=name, weight_dtype=weight_dtype)


def whole(host: Host) -> dict[str, Tensor]:
    folder = host.base / "models" / "diffusion_models"
    return load_file(folder / checkpoints.TRANSFORMER) | load_file(folder / checkpoints.TRANSFORMER_PART_2)


@pytest.mark.parametrize("weight_dtype", ["fp8_e4m3fn", "fp8_e5m2"])
def test_fp8_weights_stay_close(host: Host, untouched: Tensor, weight_dtype: str) -> None:
    narrow = host.run(plain() | loaders(weight_dtype)).latents()
    assert 0 < difference(narrow, untouched) < 0.2


def test_fp8_keeps_narrow_what_the_library_keeps_narrow(host: Host) -> None:
    graph = loaders("fp8_e4m3fn") | {
        "keep": node("ModelSave", model=out("model"), filename_prefix="diffusion_models/narrow")
    }
    run = host.run(graph)
    assert run.status == "success", run.message
    state = load_file(host.base / "output" / "diffusion_models" / "narrow_00001_.safetensors")
    prefix = "model.diffusion_model."
    stored = {name.removeprefix(prefix): state[name].dtype for name in state if name.startswith(prefix)}
    assert stored == {name: storage_dtype(name, torch.float8_e4m3fn) for name in stored}
    assert torch.float8_e4m3fn in stored.values()


def test_the_stock_loader_takes_a_single_file_in_every_precision(host: Host, untouched: Tensor) -> None:
    folder = host.base / "models" / "diffusion_models"
    state = whole(host)
    save_file(state, folder / "single.safetensors")
    save_file({name: tensor.bfloat16() for name, tensor in state.items()}, folder / "bf16.safetensors")
    save_file({name: narrowed(name, tensor) for name, tensor in state.items()}, folder / "fp8.safetensors")
    save_file(scaled_fp8(state), folder / "scaled.safetensors")
    for name, allowed in (("single", 1e-6), ("bf16", 0.1), ("fp8", 0.2), ("scaled", 0.2)):
        run = host.run(plain(model="stock") | {"stock": stock(f"{name}.safetensors")})
        assert run.status == "success", run.message
        assert difference(run.latents(), untouched) < allowed, name


def narrowed(name: str, tensor: Tensor) -> Tensor:
    return tensor.to(torch.float8_e4m3fn) if ".attn1.to_" in name and tensor.ndim == 2 else tensor.bfloat16()


def scaled_fp8(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """In the form of the community's fp8_scaled files: a scale beside each narrow weight, and a marker."""
    result = {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
    for name, tensor in state.items():
        if ".ff.net." in name and name.endswith(".weight"):
            scale = tensor.abs().max() / 448
            result[name] = (tensor / scale).to(torch.float8_e4m3fn)
            result[name.replace(".weight", ".scale_weight")] = scale.float()
        else:
            result[name] = tensor
    return result


@pytest.mark.parametrize(
    ("form", "most"), [("fp8_scaled", 0.2), ("int8", 0.2), ("mxfp8", 0.2), ("nvfp4", 0.5)]
)
def test_the_stock_loader_takes_what_convert_writes_or_says_that_it_cannot(
    host: Host, released: Path, untouched: Tensor, form: str, most: float
) -> None:
    name = f"{form}.safetensors"
    convert(released / "transformer", host.base / "models" / "diffusion_models" / name, "file", form=form)
    run = host.run(plain(model="stock") | {"stock": stock(name)})
    if run.status == "error":  # 0.8.0 has no int8 and no mxfp8, 0.3.64 nothing of the kind
        assert re.search(r"is quantised as \w+, which this ComfyUI does not read", run.message)
    else:
        assert 0 < difference(run.latents(), untouched) < most
    folder = host.base / "models" / "text_encoders"
    convert(folder / checkpoints.TEXT_ENCODER, folder / name, "file", form=form)
    small = {"clip": node("EchoVideoLoadTextEncoder", text_encoder_name=name, raw_prompt=False)}
    prompted = host.run(plain() | small)
    assert prompted.status == run.status, prompted.message
    if run.status == "success":
        assert 0 < difference(prompted.latents(), untouched) < 2 * most


@pytest.mark.parametrize(("form", "most"), [("q8_0", 0.1), ("q4_0", 0.5)])
def test_our_loaders_list_and_read_gguf_files(
    host: Host, released: Path, untouched: Tensor, form: str, most: float
) -> None:
    pytest.importorskip("gguf", reason="the host's Python has no gguf package")
    folders = host.base / "models" / "diffusion_models", host.base / "models" / "text_encoders"
    convert(released / "transformer", folders[0] / f"{form}.gguf", "file", form=form)
    convert(folders[1] / checkpoints.TEXT_ENCODER, folders[1] / f"t5_{form}.gguf", "file", form=form)
    small = {
        "model": node("EchoVideoLoadModel", model_name=f"{form}.gguf", weight_dtype="default"),
        "clip": node("EchoVideoLoadTextEncoder", text_encoder_name=f"t5_{form}.gguf", raw_prompt=False),
    }
    for changed in ({"model": small["model"]}, small):
        run = host.run(plain() | changed)
        assert run.status == "success", run.message
        assert 0 < difference(run.latents(), untouched) < most
    assert f"{form}.gguf" not in str(host.get("/object_info/UNETLoader"))  # which cannot read it


def test_other_packs_patches_are_called_and_change_nothing(host: Host, untouched: Tensor) -> None:
    graph = plain(model="patched") | {
        "patched": node("ProbePatches", model=out("model")),
        "counts": node("ProbeCounts", after=out("latents")),
    }
    run = host.run(graph)
    assert run.status == "success", run.message
    (counts,) = run.outputs["counts"]["counts"]
    assert counts["iitf"] == 2  # once for each prompt, however many steps
    assert counts["call"] in (4, 8)  # 4 steps; both branches in one call or in two
    assert counts["block"] == counts["call"]
    assert counts["attention"] == 2 * counts["call"]  # 2 blocks
    assert difference(run.latents(), untouched) < 1e-5


@pytest.mark.parametrize("kind", ["EasyCache", "LazyCache"])
def test_step_caches_run_and_reuse_something(host: Host, untouched: Tensor, kind: str) -> None:
    cache = host.node(kind, model=out("model"), reuse_threshold=0.5)
    run = host.run(plain(model="cached", steps=10, cfg=1.0) | {"cached": cache})
    assert run.status == "success", run.message
    assert run.latents().isfinite().all()
    assert re.search(rf"{kind} - skipped [1-9]\d*/10 steps", host.log())
    assert run.latents().std() < 3 * untouched.std()


def test_teacaches_rule_skips_what_is_below_the_threshold_between_the_first_step_and_the_last(
    host: Host,
) -> None:
    def latents(threshold: float) -> Tensor:
        cache = node("TeaCacheRule", model=out("model"), threshold=threshold)
        run = host.run(plain(model="cached", steps=6, cfg=1.0) | {"cached": cache})
        assert run.status == "success", run.message
        return run.latents()

    untouched = host.run(plain(steps=6, cfg=1.0)).latents()
    assert torch.equal(latents(-1e9), untouched)
    assert not torch.equal(latents(1e9), untouched)
    assert "TeaCache rule - skipped 0/6 steps" in host.log()
    assert "TeaCache rule - skipped 4/6 steps" in host.log()


def test_area_conditioning_keeps_to_its_area_and_takes_the_face_with_it(host: Host) -> None:
    """The left half of the video shows the person; the other prompt holds everywhere."""
    area = {"width": 0.5, "height": 1.0, "temporal": 1.0, "x": 0.0, "y": 0.0, "z": 0.0, "strength": 1.0}
    area = node("ConditioningSetAreaPercentageVideo", conditioning=out("cond"), **area)
    both = node("ConditioningCombine", conditioning_1=out("area"), conditioning_2=out("prompt"))
    graph = with_person(steps=1, cfg=1.0, positive=out("both")) | {"area": area, "both": both}
    run = host.run(graph)
    assert run.status == "success", run.message
    graph["cond"]["inputs"]["id_strength"] = 0.0
    changed = (host.run(graph).latents() - run.latents()).abs()
    assert changed[..., :6].max() > 1e-3
    assert changed[..., 6:].max() < 1e-5


def test_prompts_can_be_scheduled_joined_and_zeroed(host: Host, untouched: Tensor) -> None:
    early = node("ConditioningSetTimestepRange", conditioning=out("prompt"), start=0.0, end=0.5)
    late = node("ConditioningSetTimestepRange", conditioning=out("second"), start=0.5, end=1.0)
    extra = {
        "second": node("CLIPTextEncode", clip=out("clip"), text="a cat"),
        "early": early,
        "late": late,
        "scheduled": node("ConditioningCombine", conditioning_1=out("early"), conditioning_2=out("late")),
        "joined": node("ConditioningConcat", conditioning_to=out("prompt"), conditioning_from=out("second")),
        "zeroed": node("ConditioningZeroOut", conditioning=out("negative")),
    }
    for changed in ({"positive": out("scheduled")}, {"positive": out("joined")}, {"negative": out("zeroed")}):
        run = host.run(plain(**changed) | extra)
        assert run.status == "success", run.message
        assert difference(run.latents(), untouched) > 1e-3, changed


def test_the_identity_can_come_and_go_during_sampling(host: Host) -> None:
    """Over the whole run equals two halves of the same; over no part of it equals nobody's."""
    always, never = (host.run(strengths(**change)).latents() for change in ({}, {"end_percent": 0.0}))
    half = host.run(strengths(end_percent=0.5)).latents()
    weak = host.run(strengths(id_strength=0.0, face_strength=0.0, face_latent_strength=0.0)).latents()
    assert difference(never, weak) < 1e-5
    assert difference(half, always) > 1e-3
    assert difference(half, never) > 1e-3


def strengths(**changed: float) -> dict[str, Any]:
    graph = with_person()
    graph["cond"]["inputs"].update(changed)
    return graph


def test_each_strength_matters_by_itself(host: Host) -> None:
    full = host.run(strengths()).latents()
    for name in ("id_strength", "face_strength", "face_latent_strength"):
        assert difference(host.run(strengths(**{name: 0.0})).latents(), full) > 1e-4, name


def test_nobody_has_no_face_latent(host: Host) -> None:
    """The identity of nobody shows a black picture, which is not a face for the first frame."""
    Image.new("RGB", (64, 64), "teal").save(host.base / "input" / "nobody.png")
    graph = with_person(steps=2) | identity("nobody.png", on_no_face="no identity")
    connected = host.run(graph)
    assert connected.status == "success", connected.message
    del graph["cond"]["inputs"]["vae"]
    assert torch.equal(host.run(graph).latents(), connected.latents())


def test_a_patched_model_leaves_the_one_it_came_from_as_it_was(host: Host, untouched: Tensor) -> None:
    guided = node("EchoVideoDynamicGuidance", model=out("model"), form="reference", steps=0)
    graph = plain() | {"guided": guided, "second": {**sampled(model="guided")["latents"]}, **saved("second")}
    graph["third"] = {
        **graph["latents"],
        "inputs": {**graph["latents"]["inputs"], "latent_image": out("second")},
    }
    run = host.run(graph)
    assert torch.equal(run.latents(), untouched)
    assert difference(run.latents("second_saved"), untouched) > 1e-2
    assert torch.equal(host.run(plain(seed=1)).latents(), untouched)


def test_sizes_that_are_not_whole_patches_are_padded_and_cut(host: Host) -> None:
    odd = node("EmptyHunyuanLatentVideo", width=104, height=72, length=9, batch_size=1)
    run = host.run(plain(latent_image=out("empty"), steps=2) | {"empty": odd})
    assert run.status == "success", run.message
    assert run.latents().shape == (1, 16, 3, 9, 13)


def test_tiled_decoding_gives_the_same_size(host: Host) -> None:
    tiled = host.node("VAEDecodeTiled", samples=out("latents"), vae=out("vae"), tile_size=64, overlap=16)
    graph = plain(steps=1) | {
        "tiled": tiled,
        "kept": node("SaveImage", images=out("tiled"), filename_prefix="t"),
    }
    run = host.run(graph)
    assert run.status == "success", run.message
    assert len(run.files("kept")) == 9


def test_a_video_can_be_encoded_and_repainted(host: Host) -> None:
    graph = plain(steps=1) | {
        "frames": node("VAEDecode", samples=out("latents"), vae=out("vae")),
        "encoded": node("VAEEncode", pixels=out("frames"), vae=out("vae")),
        **saved("encoded"),
    }
    run = host.run(graph)
    assert run.status == "success", run.message
    assert run.latents("encoded_saved").shape == (1, 16, 3, 8, 12)


def test_a_mask_keeps_what_it_covers(host: Host) -> None:
    """Only the left half of the first pass's latents is painted anew."""
    graph = plain(steps=2) | {
        "none": node("SolidMask", value=0.0, width=96, height=64),
        "half": node("SolidMask", value=1.0, width=48, height=64),
        "mask": node("MaskComposite", destination=out("none"), source=out("half"), x=0, y=0, operation="add"),
        "masked": node("SetLatentNoiseMask", samples=out("latents"), mask=out("mask")),
        "second": sampled(seed=2, steps=2, latent_image=out("masked"))["latents"],
        **saved("second"),
    }
    run = host.run(graph)
    assert run.status == "success", run.message
    changed = (run.latents("second_saved") - run.latents()).abs()
    assert changed[..., 6:].max() < 1e-5 * run.latents().abs().max()
    assert changed[..., :6].amax(dim=(0, 1, 3, 4)).min() > 0.1  # in every frame


def test_torch_compile_gives_the_same_latents(host: Host, untouched: Tensor) -> None:
    compiled = node("TorchCompileModel", model=out("model"), backend="inductor")
    run = host.run(plain(model="compiled") | {"compiled": compiled}, timeout=580)
    assert run.status == "success", run.message
    assert difference(run.latents(), untouched) < 1e-3
