"""A file of weights is recognised, loaded whole and cheaply, converted without loss, or refused in one sentence."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLCogVideoX
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from echovideo_model.errors import Cancelled, EchoVideoError, InvalidRequest, WrongModelFile
from echovideo_model.operations import Linear
from echovideo_model.pipeline import Pipeline
from echovideo_model.tiny import networks
from echovideo_model.transformer import EchoVideoTransformer, TransformerSizes
from echovideo_model.weights import writing as tensorwriter
from echovideo_model.weights.loading import (
    STORAGE,
    convert,
    inspect,
    load_transformer,
    load_vae,
    read_state,
    storage_dtype,
)
from echovideo_model.weights.reading import DTYPES, open_tensors
from echovideo_model.weights.writing import _header
from tests.tiny_models import State, stored, write_networks

KEYS = Path(__file__).parent / "golden" / "transformer_keys.json"
RELEASED: dict[str, tuple[int, ...]] = {
    name: tuple(shape) for name, shape in json.loads(KEYS.read_text(encoding="utf-8")).items()
}
PARAMETERS = 5_621_259_202
FP8 = torch.float8_e4m3fn

in_a_folder = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny networks in the released layout: transformer in two shards, VAE, text encoder, tokenizer."""
    return write_networks(
        tmp_path_factory.mktemp("models"), "transformer", "vae", "text_encoder", "tokenizer"
    )


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorwriter, "SHARD_BYTES", 1_000_000)


def same(one: State, other: State) -> bool:
    """The same names, dtypes, shapes and bits."""
    return one.keys() == other.keys() and all(
        (a.dtype, a.shape) == (b.dtype, b.shape)
        and torch.equal(a.contiguous().view(-1).view(torch.uint8), b.contiguous().view(-1).view(torch.uint8))
        for a, b in ((one[name], other[name]) for name in one)
    )


def everything_in(folder: Path) -> dict[str, str]:
    """{path: sha256} of all files below `folder`."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def refusal(error: type[EchoVideoError], function: Callable[..., Any], *args: Any) -> str:
    with pytest.raises(error) as caught:
        function(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- the released model ----------------------------------------------------------------------------------------


def test_the_released_names_and_shapes_are_exactly_the_networks() -> None:
    with torch.device("meta"):
        network = EchoVideoTransformer(TransformerSizes.read(RELEASED))
        state = {name: torch.empty(shape, dtype=torch.bfloat16) for name, shape in RELEASED.items()}
    found = network.load_state_dict(state, strict=False, assign=True)
    assert (found.missing_keys, found.unexpected_keys) == ([], [])
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS


def write_hollow(file: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """A .safetensors of bfloat16 zeros that takes no space on the disk, whatever its size."""
    planned = {name: (shape, torch.bfloat16) for name, shape in shapes.items()}
    header = _header(planned, {})
    file.write_bytes(header)
    os.truncate(file, len(header) + sum(2 * math.prod(shape) for shape in shapes.values()))


def test_a_file_of_the_released_size_is_inspected_without_reading_it(tmp_path: Path) -> None:
    write_hollow(tmp_path / "released.safetensors", RELEASED)
    found = inspect(tmp_path / "released.safetensors")
    assert found.family == "EchoVideo transformer"
    assert found.complete
    assert found.parameters == PARAMETERS
    assert found.bytes == 2 * PARAMETERS
    assert found.dtypes == {"bfloat16": PARAMETERS}
    assert {name: found.sizes[name] for name in ("blocks", "heads", "head_width", "in_channels")} == {
        "blocks": 42,
        "heads": 48,
        "head_width": 64,
        "in_channels": 32,
    }


def test_what_is_missing_unexpected_or_of_another_shape_is_named(tmp_path: Path) -> None:
    shapes = {**RELEASED, "norm_extra.weight": (3,), "proj_out.bias": (65,)}
    del shapes["transformer_blocks.7.ff.net.2.bias"]
    write_hollow(tmp_path / "other.safetensors", shapes)
    found = inspect(tmp_path / "other.safetensors")
    assert not found.complete
    assert found.missing == ["transformer_blocks.7.ff.net.2.bias"]
    assert found.unexpected == ["norm_extra.weight", "proj_out.bias [65] instead of [64]"]
    sentence = refusal(WrongModelFile, load_transformer, tmp_path / "other.safetensors")
    assert "1 missing (first: transformer_blocks.7.ff.net.2.bias)" in sentence
    assert "2 unexpected (first: norm_extra.weight)" in sentence


def test_float8_narrows_the_matrices_of_the_blocks_and_nothing_else() -> None:
    """What stays in bfloat16: norms, biases, embeddings, modulation and IITF; 6.5 GB in place of 11.2."""
    with torch.device("meta"):
        network = EchoVideoTransformer(TransformerSizes.read(RELEASED))
    linear = {f"{name}.weight" for name, module in network.named_modules() if isinstance(module, Linear)}
    expected = {name for name in linear if name.startswith("transformer_blocks.") and ".norm" not in name}
    assert {name for name in RELEASED if storage_dtype(name, FP8) == FP8} == expected
    assert {storage_dtype(name, FP8) for name in RELEASED.keys() - expected} == {torch.bfloat16}


# ---- loading ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", STORAGE)
def test_each_dtype_loads_from_shards_and_from_one_file_as_torch_casts_it(
    models: Path, tmp_path: Path, storage: str
) -> None:
    plain = stored(models / "transformer")
    cast = load_transformer(models / "transformer", STORAGE[storage]).state_dict()
    for name, tensor in cast.items():
        assert torch.equal(tensor.float(), plain[name].to(tensor.dtype).float())
    save_file(cast, tmp_path / "one.safetensors")
    assert same(load_transformer(tmp_path / "one.safetensors").state_dict(), cast)
    assert STORAGE[storage] in {tensor.dtype for tensor in cast.values()}


def test_weights_stored_in_float8_compute_as_the_same_weights_widened(models: Path) -> None:
    narrow = load_transformer(models / "transformer", FP8)
    wide = load_transformer(models / "transformer")
    wide.load_state_dict({name: tensor.float() for name, tensor in narrow.state_dict().items()}, assign=True)
    x, context = torch.randn(1, 16, 2, 4, 6), torch.randn(1, 226, networks.TEXT_WIDTH)
    with torch.inference_mode():
        given, expected = (network(x, torch.tensor([500]), context) for network in (narrow, wide))
    assert torch.equal(given, expected)


def test_pickles_and_comfyui_files_load_like_the_released_ones(models: Path, tmp_path: Path) -> None:
    state = stored(models / "transformer")
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    assert same(load_transformer(tmp_path / "a.pth").state_dict(), state)
    saved = {f"model.diffusion_model.{name}": tensor for name, tensor in state.items()}
    save_file({**saved, "v_pred": torch.zeros(0), "vae.decoder.x": torch.ones(3)}, tmp_path / "b.safetensors")
    assert same(load_transformer(tmp_path / "b.safetensors").state_dict(), state)
    assert inspect(tmp_path / "b.safetensors").complete


PREFIXES = (
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
    "module.",
    "_orig_mod.",
    "_fsdp_wrapped_module.",
    "dit.",
    "module.transformer.",
)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_a_saver_puts_before_every_name_is_left_off(models: Path, tmp_path: Path, prefix: str) -> None:
    state = stored(models / "transformer")
    save_file({prefix + name: tensor for name, tensor in state.items()}, tmp_path / "a.safetensors")
    assert same(load_transformer(tmp_path / "a.safetensors").state_dict(), state)


@pytest.mark.parametrize("prefix", ["", *PREFIXES])
@pytest.mark.parametrize(
    "stranger", ["transformer_blocks.0.attn1.to_q.weight._scale", "model_ema.decay", "proj_out.weight.absmax"]
)
def test_whatever_else_stands_there_is_refused_by_name(
    models: Path, tmp_path: Path, prefix: str, stranger: str
) -> None:
    state = {prefix + name: tensor for name, tensor in stored(models / "transformer").items()}
    for name in {stranger, prefix + stranger}:
        save_file(state | {name: torch.ones(3)}, tmp_path / "a.safetensors")
        sentence = refusal(WrongModelFile, load_transformer, tmp_path / "a.safetensors")
        assert f"1 unexpected (first: {stranger})" in sentence or f"1 unexpected (first: {name})" in sentence


@pytest.mark.parametrize("prefix", ["module.", "transformer."])
def test_a_second_weight_of_the_same_name_is_not_lost(models: Path, tmp_path: Path, prefix: str) -> None:
    """Such as a model beside its moving average."""
    state = stored(models / "transformer")
    both = {prefix + name: tensor for name, tensor in state.items()} | {
        "proj_out.bias": state["proj_out.bias"] + 1
    }
    save_file(both, tmp_path / "a.safetensors")
    assert f"unexpected (first: {prefix}proj_out.bias)" in refusal(
        WrongModelFile, load_transformer, tmp_path / "a.safetensors"
    )


@pytest.mark.parametrize("suffix", ["._data", ".base_layer"])
@pytest.mark.parametrize("blocks", [(0,), (1,), (0, 1)])
def test_weights_under_another_name_in_some_blocks_are_missed(
    models: Path, tmp_path: Path, suffix: str, blocks: tuple[int, ...]
) -> None:
    state = stored(models / "transformer")
    for block in blocks:
        layer = f"transformer_blocks.{block}.attn1.to_q"
        other = f"{layer}.weight._data" if suffix == "._data" else f"{layer}.base_layer.weight"
        state[other] = state.pop(f"{layer}.weight")
    save_file(state, tmp_path / "a.safetensors")
    sentence = refusal(WrongModelFile, load_transformer, tmp_path / "a.safetensors")
    assert f"{len(blocks)} missing (first: transformer_blocks.{blocks[0]}.attn1.to_q.weight)" in sentence
    assert f"{len(blocks)} unexpected" in sentence


def test_a_model_that_lacks_its_last_blocks_is_incomplete(models: Path, tmp_path: Path) -> None:
    """Its shapes alone are those of a sound smaller one: the released width, or the configuration, tells."""
    short = {name: shape for name, shape in RELEASED.items() if not name.startswith("transformer_blocks.41.")}
    with pytest.raises(WrongModelFile, match="has 41 blocks, but EchoVideo has 42"):
        TransformerSizes.read(short)
    config = json.loads((models / "transformer" / "config.json").read_text())
    state = stored(models / "transformer")
    last = f"transformer_blocks.{config['num_layers'] - 1}."
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(last)}
    save_file(kept, tmp_path / "a.safetensors", {"config": json.dumps(config)})
    assert "1 layers, but its configuration says 2" in refusal(
        WrongModelFile, load_transformer, tmp_path / "a.safetensors"
    )
    (tmp_path / "config.json").write_text(
        json.dumps({"num_layers": 24, "d_kv": 64})
    )  # T5's, which lies there, too
    save_file(state, tmp_path / "a.safetensors")
    assert same(load_transformer(tmp_path / "a.safetensors").state_dict(), state)


def test_a_renamed_shard_is_called_one(models: Path, tmp_path: Path) -> None:
    for number, file in enumerate(sorted((models / "transformer").glob("*.safetensors"))):
        (tmp_path / f"part {number}.safetensors").write_bytes(file.read_bytes())
        assert "one shard" in refusal(
            WrongModelFile, load_transformer, tmp_path / f"part {number}.safetensors"
        )


ZEROED = (
    "transformer_blocks.1.attn1.to_q.weight",
    "patch_embed.proj.weight",
    "transformer_blocks.0.norm1.norm.weight",
)


@pytest.mark.parametrize("name", ZEROED)
def test_a_hole_that_a_download_left_is_found(models: Path, tmp_path: Path, name: str) -> None:
    state = stored(models / "transformer")
    state[name] = torch.zeros_like(state[name])
    save_file(state, tmp_path / "a.safetensors")
    for function, *rest in ((load_transformer,), (convert, tmp_path / "b.safetensors", "file")):
        sentence = refusal(WrongModelFile, function, tmp_path / "a.safetensors", *rest)
        assert f"only zeros in {name}" in sentence
    assert not (tmp_path / "b.safetensors").exists()


def test_what_training_starts_from_may_be_zero(models: Path, tmp_path: Path) -> None:
    state = stored(models / "transformer")
    for name in state:
        if name.endswith(".bias") or ".norm1.linear" in name or name.startswith("proj_out."):
            state[name] = torch.zeros_like(state[name])
    save_file(state, tmp_path / "a.safetensors")
    assert same(load_transformer(tmp_path / "a.safetensors").state_dict(), state)


def test_a_whole_pipeline_is_on_no_meta_device_and_stays_mapped(models: Path) -> None:
    pipeline = Pipeline(models, device="cpu")
    for network in (pipeline.transformer, pipeline.vae, pipeline.text_encoder.network):
        tensors = [*network.parameters(), *network.buffers()]
        assert {tensor.device.type for tensor in tensors} == {"cpu"}
        assert not network.training
        assert not any(tensor.requires_grad for tensor in tensors)
    if os.path.exists("/proc/self/maps"):
        mapped = {
            line.split()[-1] for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
        }
        files = {
            str(file)
            for group in ("transformer", "vae", "text_encoder")
            for file in (models / group).glob("*.safetensors")
        }
        assert len(files) == 5
        assert files <= mapped


def test_progress_grows_to_the_whole_size(models: Path) -> None:
    seen: list[tuple[int, int]] = []
    load_vae(models / "vae", on_bytes=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (inspect(models / "vae").bytes,) * 2


def test_cancelling_while_loading_is_heard_of(models: Path) -> None:
    def cancel(done: int, total: int) -> None:
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        load_vae(models / "vae", on_bytes=cancel)


# ---- wrong files -----------------------------------------------------------------------------------------------


def without_identity(state: State) -> State:
    own = ("face_", "text_proj.")
    return {name: tensor for name, tensor in state.items() if not name.startswith(own)}


OTHERS: dict[str, Callable[[State], State]] = {
    "a CogVideoX transformer without identity fusion": without_identity,
    "a LoRA": lambda state: {f"{name}.lora_A.weight": tensor for name, tensor in state.items()},
    "of an unknown family": lambda state: {f"net.{name}": tensor for name, tensor in state.items()},
    "an EchoVideo identity": lambda state: {"id_embedding": torch.ones(512), "face_tokens": torch.ones(3)},
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_model_is_called_by_its_name(models: Path, tmp_path: Path, what: str) -> None:
    file = tmp_path / "other.safetensors"
    save_file(OTHERS[what](stored(models / "transformer")), file)
    for function in (load_transformer, load_vae):
        assert f"but {what} (it holds" in refusal(WrongModelFile, function, file)
    assert f"is {what}:" in refusal(WrongModelFile, convert, file, tmp_path / "x.safetensors", "file")


def test_the_released_models_are_not_taken_for_one_another(models: Path) -> None:
    assert "but a CogVideoX VAE" in refusal(WrongModelFile, load_transformer, models / "vae")
    assert "but a T5 text encoder" in refusal(WrongModelFile, load_transformer, models / "text_encoder")
    assert "but an EchoVideo transformer" in refusal(WrongModelFile, load_vae, models / "transformer")


floats = st.sampled_from([dtype for dtype in DTYPES.values() if dtype.is_floating_point])


@in_a_folder
@given(floats, st.integers(1, 5000), st.data())
def test_one_nan_or_infinity_anywhere_is_found(
    tmp_path: Path, dtype: torch.dtype, size: int, data: st.DataObject
) -> None:
    tensor = torch.randn(size, generator=torch.Generator().manual_seed(size)).to(dtype)
    bad = (
        [math.nan, -math.nan] if dtype == FP8 else [math.nan, math.inf, -math.inf]
    )  # float8_e4m3fn has no infinity
    value = torch.tensor(data.draw(st.sampled_from(bad))).to(dtype)
    tensor[data.draw(st.integers(0, size - 1))] = value
    save_file({"fine": torch.ones(2), "damaged": tensor}, tmp_path / "a.safetensors")
    assert "NaN or infinity in damaged" in refusal(
        WrongModelFile, read_state, open_tensors(tmp_path / "a.safetensors")
    )


@in_a_folder
@given(floats, st.lists(st.integers(0, 3), max_size=3), st.sampled_from([1, -1]))
def test_the_largest_finite_values_are_weights_like_others(
    tmp_path: Path, dtype: torch.dtype, shape: list[int], sign: int
) -> None:
    """Their sum would not be finite."""
    state = {"w": torch.full(shape, sign * torch.finfo(dtype).max, dtype=torch.float64).to(dtype)}
    save_file(state, tmp_path / "a.safetensors")
    assert same(read_state(open_tensors(tmp_path / "a.safetensors")), state)


@pytest.mark.parametrize(("storage", "value"), [("fp8_e4m3fn", 1e3), ("fp16", 1e5)])
def test_a_weight_too_large_for_a_dtype_is_named_and_not_clipped(
    models: Path, tmp_path: Path, storage: str, value: float
) -> None:
    state = stored(models / "transformer")
    state["transformer_blocks.1.attn1.to_q.weight"][3, 4] = -value
    save_file(state, tmp_path / "a.safetensors")
    sentence = refusal(InvalidRequest, load_transformer, tmp_path / "a.safetensors", STORAGE[storage])
    assert "transformer_blocks.1.attn1.to_q.weight" in sentence
    assert f"reaches {value:g}" in sentence
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", "file", torch.bfloat16)


def test_whole_numbers_are_not_weights(models: Path, tmp_path: Path) -> None:
    """Such as a file quantised in a way that is not known here."""
    state = stored(models / "transformer")
    state["proj_out.weight"] = state["proj_out.weight"].to(torch.int8)
    save_file(state, tmp_path / "a.safetensors")
    assert "proj_out.weight as int8" in refusal(WrongModelFile, load_transformer, tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", ["patch_embed.proj.weight", "transformer_blocks.0.attn1.norm_q.weight"])
@pytest.mark.parametrize("shape", [None, (), (0,), (3,), (0, 0, 0, 0), (0, 2**40, 2, 2)])
def test_sizes_that_no_network_has_are_refused(
    models: Path, tmp_path: Path, name: str, shape: tuple[int, ...] | None
) -> None:
    state = stored(models / "transformer")
    del state[name]
    if shape is not None:
        state[name] = torch.zeros(shape)
    save_file(state, tmp_path / "a.safetensors")
    refusal(WrongModelFile, load_transformer, tmp_path / "a.safetensors")


def test_groups_that_are_not_the_released_32_come_from_the_configuration_alone(
    models: Path, tmp_path: Path
) -> None:
    save_file(stored(models / "vae"), tmp_path / "a.safetensors")
    assert "norm_num_groups" in refusal(WrongModelFile, load_vae, tmp_path / "a.safetensors")
    (tmp_path / "config.json").write_text('{"norm_num_groups": 2}', encoding="utf-8")
    assert load_vae(tmp_path / "a.safetensors").sizes.groups == 2


@pytest.mark.parametrize(
    "text", ["{", "[]", "3", '{"norm_num_groups": "many"}', '{"norm_num_groups": 7}', "[" * 100_000, "\udcff"]
)
def test_a_configuration_that_is_none_is_refused(models: Path, tmp_path: Path, text: str) -> None:
    save_file(stored(models / "vae"), tmp_path / "a.safetensors")
    (tmp_path / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    refusal(WrongModelFile, load_vae, tmp_path / "a.safetensors")


# ---- converting ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("network", ["transformer", "vae"])
def test_there_and_back_between_the_layouts_is_the_same_to_the_bit(
    models: Path, tmp_path: Path, network: str
) -> None:
    file = convert(models / network, tmp_path / "one.safetensors", "file")
    index = convert(file, tmp_path / "folder", "folder")
    back = convert(index, tmp_path / "two.safetensors", "file")
    assert same(stored(file), stored(models / network))
    assert same(stored(index.parent), stored(file))
    assert file.read_bytes() == back.read_bytes()
    config = json.loads((models / network / "config.json").read_text(encoding="utf-8"))
    assert json.loads((index.parent / "config.json").read_text(encoding="utf-8")) == config
    assert json.loads(open_tensors(file).metadata["config"]) == config


@pytest.mark.usefixtures("small_shards")
def test_a_converted_transformer_has_several_shards(models: Path, tmp_path: Path) -> None:
    convert(models / "transformer", tmp_path / "folder", "folder")
    assert len(list((tmp_path / "folder").glob("*-of-00004.safetensors"))) == 4


def test_diffusers_loads_a_converted_folder(models: Path, tmp_path: Path) -> None:
    index = convert(models / "vae", tmp_path / "folder", "folder")
    theirs = AutoencoderKLCogVideoX.from_pretrained(index.parent)
    assert same(dict(theirs.state_dict()), stored(models / "vae"))


@pytest.mark.parametrize("storage", STORAGE)
@pytest.mark.parametrize("layout", ["file", "folder"])
def test_a_cast_file_holds_what_torch_makes_of_the_weights(
    models: Path, tmp_path: Path, storage: str, layout: Any
) -> None:
    target = tmp_path / ("cast.safetensors" if layout == "file" else "cast")
    written = convert(models / "transformer", target, layout, STORAGE[storage])
    expected = load_transformer(models / "transformer", STORAGE[storage]).state_dict()
    assert same(stored(target), expected)
    assert same(load_transformer(written).state_dict(), expected)


def test_an_older_file_is_replaced_and_a_folder_in_use_is_not(models: Path, tmp_path: Path) -> None:
    target = tmp_path / "one.safetensors"
    target.write_bytes(b"older")
    convert(models / "vae", target, "file")
    assert same(stored(target), stored(models / "vae"))
    before = everything_in(tmp_path)
    assert "not empty" in refusal(InvalidRequest, convert, models / "vae", tmp_path, "folder")
    assert everything_in(tmp_path) == before


def test_the_source_is_never_written_to(models: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    index = convert(models / "vae", source, "folder")
    single = convert(models / "vae", tmp_path / "single.safetensors", "file")
    (tmp_path / "link.safetensors").symlink_to(single)
    shard = next(source.glob("*.safetensors"))
    before = everything_in(tmp_path)
    for origin, target, layout in (
        (single, single, "file"),
        (single, tmp_path / "link.safetensors", "file"),
        (tmp_path / "link.safetensors", single, "file"),
        (source, shard, "file"),
        (index, shard, "file"),
        (source, source, "folder"),
        (index, source, "folder"),
        (source, source / "inner", "folder"),
        (source, source / "inner" / "new.safetensors", "file"),
        (source, source / "new.safetensors", "file"),
    ):
        refusal(InvalidRequest, convert, origin, target, layout)
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize(
    ("target", "layout", "reason"),
    [("model.bin", "file", "must end in .safetensors"), ("file/model", "folder", "not a folder")],
)
def test_a_target_that_cannot_be_is_refused(
    models: Path, tmp_path: Path, target: str, layout: str, reason: str
) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert reason in refusal(InvalidRequest, convert, models / "vae", tmp_path / target, layout)
    assert everything_in(tmp_path).keys() == {"file"}


def test_the_vae_is_not_said_to_be_in_float8_when_it_is_not(models: Path, tmp_path: Path) -> None:
    refusal(InvalidRequest, convert, models / "vae", tmp_path / "x.safetensors", "file", FP8)


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("layout", ["file", "folder"])
def test_a_disk_that_fills_up_leaves_nothing(models: Path, tmp_path: Path, layout: Any) -> None:
    """A limit on the size of files stands for the full disk; the shards before the largest one are written."""
    resource = pytest.importorskip("resource")
    target = tmp_path / "new" / ("one.safetensors" if layout == "file" else "folder")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (980_000, hard))
    try:
        sentence = refusal(InvalidRequest, convert, models / "transformer", target, layout)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot write" in sentence
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("layout", ["file", "folder"])
@pytest.mark.parametrize("stop", [Cancelled("stop"), KeyboardInterrupt()], ids=["cancelled", "interrupted"])
def test_a_conversion_that_is_stopped_leaves_nothing(
    models: Path, tmp_path: Path, layout: Any, stop: BaseException
) -> None:
    def stop_late(done: int, total: int) -> None:
        if done > total * 0.9:
            raise stop

    target = tmp_path / ("one.safetensors" if layout == "file" else "folder")
    with pytest.raises(type(stop)):
        convert(models / "transformer", target, layout, on_bytes=stop_late)
    assert list(tmp_path.iterdir()) == []


def test_damaged_weights_are_not_converted(models: Path, tmp_path: Path) -> None:
    state = stored(models / "vae")
    state["decoder.conv_out.conv.bias"][1] = math.nan
    save_file(state, tmp_path / "a.safetensors", open_tensors(models / "vae").metadata)
    sentence = refusal(
        WrongModelFile, convert, tmp_path / "a.safetensors", tmp_path / "b.safetensors", "file"
    )
    assert "decoder.conv_out.conv.bias" in sentence
    assert everything_in(tmp_path).keys() == {"a.safetensors"}
