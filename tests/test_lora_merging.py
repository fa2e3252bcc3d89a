"""`--lora FILE[:STRENGTH]`: what is meant, what it does to the weights, and what is refused before any work."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from echovideo_model.errors import InvalidRequest, WrongModelFile
from echovideo_model.identity import Identity
from echovideo_model.pipeline import Pipeline, Result
from echovideo_model.weights.loading import load_transformer
from echovideo_model.weights.merging import Lora, load_with_loras, merge_loras
from testbed.checkpoints import LAYERS, SPELLINGS, write_lora


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return write(tmp_path, "diffusers")


def write(base: Path, spelling: str) -> Path:
    write_lora(base, "style.safetensors", spelling)
    return base / "models" / "loras" / "style.safetensors"


def bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(torch.uint8)


@pytest.mark.parametrize(
    ("text", "path", "strength"),
    [
        ("style.safetensors", "style.safetensors", 1.0),
        ("style.safetensors:0.8", "style.safetensors", 0.8),
        ("style:2.safetensors:-1e-1", "style:2.safetensors", -0.1),
        (r"C:\loras\style.safetensors", r"C:\loras\style.safetensors", 1.0),
        (r"C:\loras\style.safetensors:0", r"C:\loras\style.safetensors", 0.0),
        ("C:/loras/style.safetensors:1", "C:/loras/style.safetensors", 1.0),
        ("folder/12:30 style", "folder/12:30 style", 1.0),
    ],
)
def test_a_colon_is_a_strength_only_where_a_number_follows(text: str, path: str, strength: float) -> None:
    assert Lora.parse(text) == Lora(Path(path), strength)


@given(st.floats(-100, 100))
def test_any_strength_of_the_hosts_range_is_read(strength: float) -> None:
    assert Lora.parse(f"a.safetensors:{strength!r}") == Lora(Path("a.safetensors"), strength)


def test_a_file_whose_name_ends_like_a_strength_is_that_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("style:2").touch()
    assert Lora.parse("style:2") == Lora(Path("style:2"))
    assert Lora.parse("style:2:3") == Lora(Path("style:2"), 3.0)


@pytest.mark.parametrize("strength", ["nan", "inf", "101", "-1e9"])
def test_strengths_without_sense_are_refused(strength: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(f"from -100 to 100, not {float(strength):g}")):
        Lora.parse(f"a.safetensors:{strength}")


@pytest.mark.parametrize("spelling", [name for name in SPELLINGS if name != "diffusers"])
def test_every_spelling_does_the_same(spelling: str, tiny_set: Path, tmp_path: Path, written: Path) -> None:
    expected = load_with_loras(tiny_set / "transformer", [Lora(written)]).state_dict()
    other = write(tmp_path / "other", spelling)
    found = load_with_loras(tiny_set / "transformer", [Lora(other)]).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def test_alpha_over_rank_scales_it(tiny_set: Path, tmp_path: Path) -> None:
    half = write(tmp_path, "kohya")
    state = load_file(half)
    flat = [f"lora_unet_{layer.replace('.', '_')}" for layer in LAYERS]
    save_file(state | {f"{layer}.alpha": torch.tensor(2.0) for layer in flat}, half)  # rank 4
    by_alpha = load_with_loras(tiny_set / "transformer", [Lora(half)]).state_dict()
    save_file(state, half)
    by_strength = load_with_loras(tiny_set / "transformer", [Lora(half, 0.5)]).state_dict()
    assert all(torch.equal(value, by_strength[name]) for name, value in by_alpha.items())


def test_strength_0_is_the_model_to_the_bit_and_still_must_fit(tiny_set: Path, written: Path) -> None:
    plain = load_transformer(tiny_set / "transformer").state_dict()
    none = load_with_loras(tiny_set / "transformer", [Lora(written, 0.0)]).state_dict()
    assert all(torch.equal(bits(value), bits(plain[name])) for name, value in none.items())
    wrong = tiny_set / "vae" / "diffusion_pytorch_model.safetensors"
    with pytest.raises(WrongModelFile, match="not a LoRA"):
        load_with_loras(tiny_set / "transformer", [Lora(wrong, 0.0)])


def test_several_add_up_whatever_their_order(tiny_set: Path, tmp_path: Path, written: Path) -> None:
    """A LoRA twice at half strength is the LoRA once; a LoRA and its reverse are nothing."""
    once = load_with_loras(tiny_set / "transformer", [Lora(written, 1.0)]).state_dict()
    twice = load_with_loras(tiny_set / "transformer", [Lora(written, 0.5)] * 2).state_dict()
    plain = load_transformer(tiny_set / "transformer").state_dict()
    reverse = [Lora(written, 1.0), Lora(written, -1.0)]
    nothing = load_with_loras(tiny_set / "transformer", reverse).state_dict()
    for name, value in plain.items():
        torch.testing.assert_close(twice[name], once[name])
        torch.testing.assert_close(nothing[name], value)
    changed = [name for name, value in plain.items() if not torch.equal(value, once[name])]
    assert changed == [f"{layer}.weight" for layer in changed_layers(plain)]


def changed_layers(plain: dict[str, Tensor]) -> list[str]:
    return [name.removesuffix(".weight") for name in plain if name.removesuffix(".weight") in LAYERS]


def test_float8_weights_keep_what_it_adds(tiny_set: Path, written: Path) -> None:
    """Merged before the weights are narrowed: one rounding, not two."""
    narrow = load_with_loras(tiny_set / "transformer", [Lora(written, 0.01)], torch.float8_e4m3fn)
    wide = load_with_loras(tiny_set / "transformer", [Lora(written, 0.01)])
    plain = load_transformer(tiny_set / "transformer", torch.float8_e4m3fn)
    weight = f"{LAYERS[0]}.weight"
    assert narrow.state_dict()[weight].dtype == torch.float8_e4m3fn
    expected = wide.state_dict()[weight].to(torch.float8_e4m3fn)
    assert torch.equal(bits(narrow.state_dict()[weight]), bits(expected))
    dtypes = {name: value.dtype for name, value in plain.state_dict().items()}
    assert {name: value.dtype for name, value in narrow.state_dict().items()} == dtypes


def test_one_that_does_not_fit_leaves_the_network_as_it_was(
    tiny_set: Path, tmp_path: Path, written: Path
) -> None:
    network = load_transformer(tiny_set / "transformer")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    write_lora(tmp_path, "wide.safetensors", "diffusers", width=256)
    with pytest.raises(WrongModelFile, match="256 x 256"):
        merge_loras(network, [Lora(written), Lora(written.with_name("wide.safetensors"))])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_video_is_made_with_it_and_remembers_it(
    tiny_set: Path, person: Identity, run: Result, written: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def make(strength: float) -> Result:
        return Pipeline(tiny_set, "cpu", loras=[Lora(written, strength)]).generate(person, run.request)

    caplog.set_level(logging.INFO)
    whole = make(1.0)
    assert "style.safetensors:1: LoRA matched 8 of 8 layers; it states no alpha" in caplog.text
    assert not torch.equal(whole.latents, run.latents)
    assert torch.equal(make(0.0).latents, run.latents)
    assert whole.metadata()["loras"] == "style.safetensors:1"
    assert "loras" not in run.metadata()


def test_what_is_for_a_text_encoder_is_named_once_and_changes_nothing(
    tiny_set: Path, tmp_path: Path, written: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = "text_encoder.encoder.block.0.layer.0.SelfAttention.q.lora_{}.weight"
    extra = {name.format("A"): torch.ones(4, 128), name.format("B"): torch.ones(128, 4)}
    both = tmp_path / "both.safetensors"
    save_file(load_file(written) | extra, both)
    pipeline = Pipeline(tiny_set, "cpu", loras=[Lora(both)])
    pipeline.check()
    found = pipeline.transformer.state_dict()
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "both.safetensors also changes a text encoder" in warnings[0]
    assert f"2 tensors are not used (the first is {name.format('A')}" in warnings[0]
    plain = load_with_loras(tiny_set / "transformer", [Lora(written)]).state_dict()
    assert all(torch.equal(bits(found[key]), bits(value)) for key, value in plain.items())


def test_what_does_not_fit_is_refused_before_any_work(tiny_set: Path, tmp_path: Path) -> None:
    write_lora(tmp_path, "wide.safetensors", "diffusers", width=256)
    wide = tmp_path / "models" / "loras" / "wide.safetensors"
    with pytest.raises(WrongModelFile, match="trained for a model of another size"):
        Pipeline(tiny_set, "cpu", loras=[Lora(wide)]).check()
    with pytest.raises(InvalidRequest, match=r"no LoRA at .*nothing"):
        Pipeline(tiny_set, "cpu", loras=[replace(Lora(wide), path=tmp_path / "nothing")]).check()
