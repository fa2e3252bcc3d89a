"""Quantised files are read with the numbers that they stand for, or refused by name; never without their scales."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from echovideo_model.errors import InvalidRequest, WrongModelFile
from echovideo_model.text import TextEncoder
from echovideo_model.tiny import networks
from echovideo_model.weights import blocks
from echovideo_model.weights.family import open_released
from echovideo_model.weights.loading import convert, inspect, is_bulk, load_transformer, read_state
from echovideo_model.weights.quantised import _hadamard
from tests.tiny_models import State, stored, write_networks

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
LAYER = "transformer_blocks.0.attn1.to_q"
T5_LAYER = "encoder.block.0.layer.0.SelfAttention.q"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny transformer, text encoder and tokenizer in the released layout."""
    return write_networks(tmp_path_factory.mktemp("models"), "transformer", "text_encoder", "tokenizer")


@pytest.fixture(scope="module")
def transformer(models: Path) -> State:
    return stored(models / "transformer")


def mark(**said: Any) -> Tensor:
    return torch.tensor(list(json.dumps(said).encode()), dtype=torch.uint8)


def narrow(weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """`weight` in fp8 and the scale of the whole, such that weight = stored * scale but for rounding."""
    scale = weight.abs().amax() / torch.finfo(dtype).max
    return (weight / scale).to(dtype), scale


def whole(weight: Tensor, rows: bool) -> tuple[Tensor, Tensor]:
    """`weight` in int8 and its scale, of the whole or of every row."""
    largest = weight.abs().amax(1, keepdim=True) if rows else weight.abs().amax()
    scale = largest / 127
    return (weight / scale).round().to(torch.int8), scale


# The Hadamard matrix that ConvRot is built of, and the rotation of a row in groups of 16, written out.
FOUR = torch.tensor([[1.0, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]]) / 2
SIXTEEN = torch.kron(FOUR, FOUR)


def rotate(weight: Tensor) -> Tensor:
    return torch.cat([part @ SIXTEEN for part in weight.split(16, dim=1)], dim=1)


def old(layer: str, weight: Tensor) -> State:
    q, scale = narrow(weight, E4M3)
    return {"scaled_fp8": torch.zeros(0, dtype=E4M3), f"{layer}.weight": q, f"{layer}.scale_weight": scale}


def old_with_inputs(layer: str, weight: Tensor) -> State:
    return old(layer, weight) | {
        "scaled_fp8": torch.zeros(2, dtype=E4M3),
        f"{layer}.scale_input": torch.tensor(0.25),
    }


def unmarked(layer: str, weight: Tensor) -> State:
    q, scale = narrow(weight, E5M2)
    return {
        f"{layer}.weight": q,
        f"{layer}.weight_scale": scale.reshape(1),
        f"{layer}.input_scale": torch.ones(1),
    }


def rows_of_fp8(layer: str, weight: Tensor) -> State:
    scale = weight.abs().amax(1, keepdim=True) / 448
    return {f"{layer}.weight": (weight / scale).to(E4M3), f"{layer}.weight_scale": scale}


def comfy_fp8(layer: str, weight: Tensor, dtype: torch.dtype = E4M3) -> State:
    q, scale = narrow(weight, dtype)
    said = mark(format=str(dtype).removeprefix("torch."), full_precision_matrix_mult=True)
    return {f"{layer}.weight": q, f"{layer}.weight_scale": scale, f"{layer}.comfy_quant": said}


def comfy_int8(layer: str, weight: Tensor, rows: bool = False) -> State:
    q, scale = whole(weight, rows)
    return {
        f"{layer}.weight": q,
        f"{layer}.weight_scale": scale,
        f"{layer}.comfy_quant": mark(format="int8_tensorwise"),
    }


def rotated(layer: str, weight: Tensor) -> State:
    said = mark(format="int8_tensorwise", convrot=True, convrot_groupsize=16)
    return comfy_int8(layer, rotate(weight), rows=True) | {f"{layer}.comfy_quant": said}


FORMS: dict[str, Callable[[str, Tensor], State]] = {
    "scaled_fp8": old,
    "scaled_fp8 with input scales": old_with_inputs,
    "fp8 with a scale and no mark": unmarked,
    "fp8 with a scale a row": rows_of_fp8,
    "float8_e4m3fn": comfy_fp8,
    "float8_e5m2": lambda layer, weight: comfy_fp8(layer, weight, E5M2),
    "int8_tensorwise": comfy_int8,
    "int8 with a scale a row": lambda layer, weight: comfy_int8(layer, weight, rows=True),
    "int8 rotated": rotated,
}
# Half a step of the widest: 2^-3 of an e5m2 weight, 2^-4 of an e4m3; 1 / 254 of the largest for int8; then bf16.
ERRORS = {"fp8 with a scale and no mark": 0.13, "float8_e5m2": 0.13, "fp8 with a scale a row": 0.065}


def quantise(state: State, form: str, prefix: str = "") -> State:
    """Every matrix of the blocks in that form, everything else as it is."""
    result: State = {}
    for name, tensor in state.items():
        if (
            tensor.ndim == 2
            and name.startswith(("transformer_blocks.", "encoder.block."))
            and tensor.shape[1] > 32
        ):
            result |= FORMS[form](name.removesuffix(".weight"), tensor.float())
        else:
            result[name] = tensor
    return {prefix + name: tensor.contiguous() for name, tensor in result.items()}


@pytest.mark.parametrize("form", FORMS)
def test_a_transformer_of_every_form_is_the_one_that_was_quantised(
    transformer: State, tmp_path: Path, form: str
) -> None:
    save_file(quantise(transformer, form), tmp_path / "a.safetensors")
    loaded = load_transformer(tmp_path / "a.safetensors").state_dict()
    assert loaded.keys() == transformer.keys()
    assert loaded[f"{LAYER}.weight"].dtype == torch.bfloat16
    error = ERRORS.get(form, 0.065 if "int8" not in form else 0.02)
    for name, tensor in loaded.items():
        apart = (tensor.float() - transformer[name]).abs().amax()
        assert apart <= error * transformer[name].abs().amax(), name


@pytest.mark.parametrize("form", FORMS)
def test_a_text_encoder_of_every_form_is_the_one_that_was_quantised(
    models: Path, tmp_path: Path, form: str
) -> None:
    save_file(quantise(stored(models / "text_encoder"), form), tmp_path / "t5.safetensors")
    quantised = TextEncoder.load(tmp_path / "t5.safetensors", models / "tokenizer")
    save_file(widened(load_file(tmp_path / "t5.safetensors")), tmp_path / "wide.safetensors")
    expected = TextEncoder.load(tmp_path / "wide.safetensors", models / "tokenizer", torch.bfloat16)
    for name, tensor in expected.network.state_dict().items():
        found = quantised.network.state_dict()[name]
        torch.testing.assert_close(
            found, tensor, rtol=0 if "rotated" not in form else 2**-7, atol=1e-7, msg=name
        )
    assert quantised.encode(["a man reads"]).dtype == torch.bfloat16


def widened(state: State) -> State:
    """weight = stored * scale, and rotated back; everything that stands beside a weight gone."""
    result: State = {}
    for name, tensor in state.items():
        layer = name.removesuffix(".weight")
        scale = next(
            (state[f"{layer}.{k}"] for k in ("scale_weight", "weight_scale") if f"{layer}.{k}" in state), None
        )
        if scale is not None:
            wide = tensor.float() * scale
            said = json.loads(bytes(state.get(f"{layer}.comfy_quant", torch.tensor(list(b"{}"))).tolist()))
            result[name] = rotate(wide) if said.get("convrot") else wide
        elif name != "scaled_fp8" and name.endswith(".weight"):
            result[name] = tensor
    return result


def test_the_numbers_are_the_formula_s() -> None:
    """weight = stored * scale, written out: small enough to check by hand."""
    values = torch.tensor([[1.0, -2.0], [0.5, 448.0]])
    cases = {
        "whole": (values.to(E4M3), torch.tensor(0.5), [[0.5, -1.0], [0.25, 224.0]]),
        "rows": (values.to(E4M3), torch.tensor([[2.0], [0.25]]), [[2.0, -4.0], [0.125, 112.0]]),
    }
    for stored_, scale, expected in cases.values():
        assert read({"a.weight": stored_, "a.weight_scale": scale})["a.weight"].tolist() == expected
    q, said = torch.tensor([[3, -127]], dtype=torch.int8), mark(format="int8_tensorwise")
    found = read({"a.weight": q, "a.weight_scale": torch.tensor([[0.5]]), "a.comfy_quant": said})
    assert found["a.weight"].tolist() == [[1.5, -63.5]]
    # A rotated row of (2, 0, 0, 0) is the first row of the matrix of four.
    q, said = (
        torch.tensor([[2, 2, 2, -2]], dtype=torch.int8),
        mark(format="int8_tensorwise", convrot=True, convrot_groupsize=4),
    )
    found = read({"a.weight": q, "a.weight_scale": torch.tensor(0.5), "a.comfy_quant": said})
    assert found["a.weight"].tolist() == [[2.0, 0.0, 0.0, 0.0]]


_folder: list[Path] = []


@pytest.fixture(autouse=True)
def _keep_folder(tmp_path: Path) -> None:
    _folder[:] = [tmp_path]


def read(state: State, metadata: dict[str, str] | None = None) -> State:
    file = _folder[0] / "small.safetensors"
    save_file(state, file, metadata)
    return read_state(open_released(file), torch.float32)


@pytest.mark.parametrize("size", [4, 16, 64, 256])
def test_the_rotation_is_a_regular_hadamard_matrix(size: int) -> None:
    """Equal magnitudes, orthogonal rows, and all rows of one sum, which is what "regular" means."""
    matrix = _hadamard(size)
    torch.testing.assert_close(matrix @ matrix, torch.eye(size))
    assert torch.equal(matrix, matrix.T)
    assert matrix.abs().unique().tolist() == [size**-0.5]
    torch.testing.assert_close(matrix.sum(1), torch.ones(size))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 6), st.integers(1, 5), st.sampled_from(sorted(FORMS)), st.integers(0, 99))
def test_any_matrix_comes_back(rows: int, groups: int, form: str, seed: int) -> None:
    weight = torch.randn(rows, 16 * groups, generator=torch.Generator().manual_seed(seed))
    found = read(FORMS[form]("deep.layer", weight))
    assert found.keys() == {"deep.layer.weight"}
    assert (found["deep.layer.weight"] - weight).abs().amax() <= 0.13 * weight.abs().amax()


@pytest.mark.parametrize("form", ["scaled_fp8", "float8_e4m3fn"])
@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "diffusion_model.", "transformer.", "module."])
def test_a_prefix_before_every_name_changes_nothing(
    transformer: State, tmp_path: Path, form: str, prefix: str
) -> None:
    save_file(quantise(transformer, form), tmp_path / "plain.safetensors")
    save_file(quantise(transformer, form, prefix), tmp_path / "prefixed.safetensors")
    plain, prefixed = (
        load_transformer(tmp_path / f"{name}.safetensors").state_dict() for name in ("plain", "prefixed")
    )
    assert all(torch.equal(plain[name], prefixed[name]) for name in plain)


def test_the_marks_may_stand_in_the_header(transformer: State, tmp_path: Path) -> None:
    """As ComfyUI's own converter writes them: one JSON of all layers, by the names in the file."""
    state = quantise(transformer, "float8_e4m3fn", "model.diffusion_model.")
    layers = {
        name.removesuffix(".comfy_quant"): {"format": "float8_e4m3fn"}
        for name in state
        if name.endswith("comfy_quant")
    }
    state = {name: tensor for name, tensor in state.items() if not name.endswith("comfy_quant")}
    header = {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": layers})}
    save_file(state, tmp_path / "a.safetensors", header)
    loaded = load_transformer(tmp_path / "a.safetensors").state_dict()
    save_file(quantise(transformer, "float8_e4m3fn"), tmp_path / "b.safetensors")
    expected = load_transformer(tmp_path / "b.safetensors").state_dict()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)


@pytest.mark.parametrize("form", ["scaled_fp8", "int8 rotated"])
def test_inspect_and_convert_take_them_for_the_model_that_they_are(
    transformer: State, tmp_path: Path, form: str
) -> None:
    header = {"_quantization_metadata": json.dumps({"layers": {}}), "author": "me"}
    save_file(quantise(transformer, form), tmp_path / "a.safetensors", header)
    found = inspect(tmp_path / "a.safetensors")
    assert found.family == "EchoVideo transformer"
    assert found.complete
    assert found.parameters == sum(tensor.numel() for tensor in transformer.values())
    assert {"float8_e4m3fn", "int8"} & found.dtypes.keys()
    written = convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", "file")
    plain, expected = load_file(written), load_transformer(tmp_path / "a.safetensors").state_dict()
    assert all(torch.equal(plain[name], expected[name]) for name in expected)
    assert inspect(written).metadata.keys() == {
        "format",
        "author",
    }  # nothing says any longer that it is quantised


# ---- what is refused -------------------------------------------------------------------------------------------


def weight_of(dtype: torch.dtype, columns: int = 128) -> Tensor:
    return torch.ones(128, columns).to(dtype)


REFUSED: dict[str, tuple[State, str]] = {
    "nvfp4 without its second scale": (
        {
            "weight": weight_of(torch.uint8, 64),
            "weight_scale": torch.ones(128, 8).to(E4M3),
            "comfy_quant": mark(format="nvfp4"),
        },
        "lacks its weight_scale_2",
    ),
    "nvfp4 with too few scales": (
        {
            "weight": weight_of(torch.uint8, 64),
            "weight_scale": torch.ones(128, 4).to(E4M3),
            "weight_scale_2": torch.tensor(1.0),
            "comfy_quant": mark(format="nvfp4"),
        },
        r"is nvfp4 but holds uint8 \[128, 64\] with \[128, 4\] scales",
    ),
    "nvfp4 with a second scale of NaN": (
        {
            "weight": weight_of(torch.uint8, 64),
            "weight_scale": torch.ones(128, 8).to(E4M3),
            "weight_scale_2": torch.tensor(torch.nan),
            "comfy_quant": mark(format="nvfp4"),
        },
        "by zero, NaN",
    ),
    "nvfp4 of another matrix": (
        {
            "weight": weight_of(torch.uint8),
            "weight_scale": torch.ones(128, 16).to(E4M3),
            "weight_scale_2": torch.tensor(1.0),
            "comfy_quant": mark(format="nvfp4"),
        },
        r"\[128, 256\] instead of \[128, 128\]",
    ),
    "mxfp8 of one scale": (
        {"weight": weight_of(E4M3), "weight_scale": torch.ones(1), "comfy_quant": mark(format="mxfp8")},
        r"is mxfp8 but holds float8_e4m3fn \[128, 128\] with \[1\] scales",
    ),
    "mxfp8 with a setting of tomorrow": (
        {
            "weight": weight_of(E4M3),
            "weight_scale": torch.ones(128, 4).to(torch.uint8),
            "comfy_quant": mark(format="mxfp8", smooth="ones"),
        },
        "mxfp8 with smooth",
    ),
    "a format of tomorrow": (
        {"weight": weight_of(E4M3), "weight_scale": torch.ones(1), "comfy_quant": mark(format="fp6")},
        "quantised as fp6",
    ),
    "a setting of tomorrow": (
        {
            "weight": weight_of(E4M3),
            "weight_scale": torch.ones(1),
            "comfy_quant": mark(format="float8_e4m3fn", smooth="ones"),
        },
        "float8_e4m3fn with smooth",
    ),
    "no format": (
        {"weight": weight_of(E4M3), "weight_scale": torch.ones(1), "comfy_quant": mark(bits=8)},
        "quantised as None",
    ),
    "a mark of NULs": (
        {
            "weight": weight_of(E4M3),
            "weight_scale": torch.ones(1),
            "comfy_quant": torch.zeros(30, dtype=torch.uint8),
        },
        "cannot be read",
    ),
    "a mark that is a list": (
        {
            "weight": weight_of(E4M3),
            "weight_scale": torch.ones(1),
            "comfy_quant": torch.tensor(list(b"[1]"), dtype=torch.uint8),
        },
        "cannot be read",
    ),
    "a mark of numbers": (
        {"weight": weight_of(E4M3), "weight_scale": torch.ones(1), "comfy_quant": torch.ones(3)},
        "cannot be read",
    ),
    "no scale": ({"weight": weight_of(E4M3), "comfy_quant": mark(format="float8_e4m3fn")}, "lacks its scale"),
    "blocks of scales": (
        {"weight": weight_of(E4M3), "weight_scale": torch.ones(1, 2)},
        r"with \[1, 2\] numbers",
    ),
    "a scale in its inverse": (
        {"weight": weight_of(E4M3), "weight_scale_inv": torch.ones(1, 1)},
        "1 unexpected",
    ),
    "two scales": (
        {"weight": weight_of(E4M3), "weight_scale": torch.ones(1), "scale_weight": torch.ones(1)},
        r"unexpected \(first: .*scale_weight",
    ),
    "a second scale": (
        {"weight": weight_of(E4M3), "weight_scale": torch.ones(1), "weight_scale_2": torch.ones(1)},
        r"unexpected \(first: .*weight_scale_2",
    ),
    "a scale of zero": ({"weight": weight_of(E4M3), "weight_scale": torch.zeros(1)}, "by zero, NaN"),
    "a scale of NaN": ({"weight": weight_of(E4M3), "weight_scale": torch.tensor(torch.nan)}, "by zero, NaN"),
    "a scale for bfloat16": (
        {"weight": weight_of(torch.bfloat16), "scale_weight": torch.ones(1)},
        "holds a scale for",
    ),
    "int8 without a mark": (
        {"weight": weight_of(torch.int8), "weight_scale": torch.ones(1)},
        "holds a scale for",
    ),
    "int8 without a scale": ({"weight": weight_of(torch.int8)}, "as int8, which is not a weight type"),
    "a mark of another dtype": (
        {
            "weight": weight_of(E4M3),
            "weight_scale": torch.ones(1),
            "comfy_quant": mark(format="int8_tensorwise"),
        },
        "but holds it as float8_e4m3fn",
    ),
    "groups that do not fit": (
        {
            "weight": weight_of(torch.int8),
            "weight_scale": torch.ones(1),
            "comfy_quant": mark(format="int8_tensorwise", convrot=True),
        },
        "rotated in groups of 256",
    ),
    "an input scale alone": (
        {"weight": weight_of(E4M3), "input_scale": torch.ones(1)},
        r"unexpected \(first: .*input_scale",
    ),
    "an LLM's zero points": (
        {"weight": weight_of(torch.bfloat16), "weight_zero_point": torch.ones(1)},
        r"unexpected \(first: .*zero_point",
    ),
    "quanto": (
        {"weight._data": weight_of(torch.int8), "weight._scale": torch.ones(128, 1)},
        r"1 missing \(first: .*to_q\.weight",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_understood_is_refused_by_name(transformer: State, tmp_path: Path, what: str) -> None:
    held, words = REFUSED[what]
    state = {name: tensor for name, tensor in transformer.items() if name != f"{LAYER}.weight"}
    save_file(
        state | {f"{LAYER}.{name}": tensor for name, tensor in held.items()}, tmp_path / "a.safetensors"
    )
    with pytest.raises(WrongModelFile, match=words) as caught:
        load_transformer(tmp_path / "a.safetensors")
    assert "to_q" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"layers": 3}', '{"layers": {"a": 1}}', '{"layers": {"gone": {}}}']
)
def test_a_header_that_marks_nothing_readable_is_refused(
    transformer: State, tmp_path: Path, text: str
) -> None:
    save_file(transformer, tmp_path / "a.safetensors", {"_quantization_metadata": text})
    with pytest.raises(WrongModelFile):
        load_transformer(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "name",
    [
        "encoder.block.0.layer.0.SelfAttention.q.weight_scale_inv",
        "encoder.block.9.extra",
        "tokenizer.json",
        "ema",
    ],
)
def test_whatever_else_stands_in_a_text_encoder_is_refused_by_name(
    models: Path, tmp_path: Path, name: str
) -> None:
    save_file(stored(models / "text_encoder") | {name: torch.ones(2, 2)}, tmp_path / "t5.safetensors")
    with pytest.raises(WrongModelFile, match=name):
        TextEncoder.load(tmp_path / "t5.safetensors", models / "tokenizer")


@pytest.mark.parametrize("block", [0, 1])
def test_a_block_of_the_text_encoder_under_another_name_is_missed(
    models: Path, tmp_path: Path, block: int
) -> None:
    state, name = stored(models / "text_encoder"), f"encoder.block.{block}.layer.0.SelfAttention.q.weight"
    state[f"{name}._data"] = state.pop(name)
    save_file(state, tmp_path / "t5.safetensors")
    with pytest.raises(WrongModelFile, match=name):
        TextEncoder.load(tmp_path / "t5.safetensors", models / "tokenizer")


# ---- blocks ----------------------------------------------------------------------------------------------------


def in_tiles(row: int, column: int, columns: int) -> int:
    """Where cuBLAS looks for the scale of a block (its manual, "1D block scaling factors layout"), for whole tiles."""
    tile = row // 128 * (columns // 4) + column // 4
    return tile * 512 + row % 32 * 16 + row % 128 // 32 * 4 + column % 4


FP4 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]  # OCP Microscaling Formats, e2m1


def test_nvfp4_is_what_its_makers_say_number_by_number() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 256, (144, 48), dtype=torch.uint8, generator=generator)  # 144 x 96 numbers
    scales = torch.rand(256, 8, generator=generator).to(E4M3)
    state = {
        "a.weight": codes,
        "a.weight_scale": scales,
        "a.weight_scale_2": torch.tensor(0.25),
        "a.comfy_quant": mark(format="nvfp4"),
    }
    found, flat = read(state)["a.weight"], scales.float().flatten()
    assert found.shape == (144, 96)
    for row, column in [(0, 0), (0, 1), (0, 95), (31, 17), (32, 16), (127, 64), (128, 65), (143, 94)]:
        byte = int(codes[row, column // 2])
        code = byte & 15 if column % 2 else byte >> 4
        number = FP4[code & 7] * (-1 if code & 8 else 1)
        scale = flat[in_tiles(row, column // 16, 8)].item()
        assert found[row, column].item() == number * scale * 0.25, (row, column)


@pytest.mark.parametrize("named", ["U8", "F8_E8M0"])
def test_mxfp8_is_what_its_makers_say_number_by_number(named: str) -> None:
    generator = torch.Generator().manual_seed(0)
    stored_ = torch.randn(160, 96, generator=generator).to(E4M3)
    exponents = torch.randint(120, 132, (256, 4), dtype=torch.uint8, generator=generator)
    state = {"a.weight": stored_, "a.weight_scale": exponents, "a.comfy_quant": mark(format="mxfp8")}
    file = _folder[0] / "small.safetensors"
    save_file(state, file)
    if named != "U8":  # as the host's own saver writes them, of the same length
        header = file.read_bytes()
        size = int.from_bytes(header[:8], "little")
        about = json.loads(header[8 : 8 + size])
        about["a.weight_scale"]["dtype"] = named
        text = json.dumps(about, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        file.write_bytes(len(text).to_bytes(8, "little") + text + header[8 + size :])
    found = read_state(open_released(file), torch.float32)["a.weight"]
    for row, column in [(0, 0), (0, 95), (31, 32), (32, 31), (127, 64), (128, 65), (159, 94)]:
        scale = 2.0 ** (exponents.flatten()[in_tiles(row, column // 32, 4)].item() - 127)
        assert found[row, column].item() == stored_[row, column].item() * scale, (row, column)


@pytest.mark.parametrize("form", ["nvfp4", "mxfp8"])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 9), st.integers(1, 5), st.integers(0, 99), st.integers(-30, 30))
def test_no_number_is_further_from_what_is_stored_than_half_a_step(
    form: str, rows: int, columns: int, seed: int, exponent: int
) -> None:
    """Of e2m1 a step is up to 1 / 3 of the number between 4 and 6, of e4m3 2^-3; its scale in e4m3 adds 2^-4."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows * 32, columns * 32, generator=generator) * 2.0**exponent
    weight[0] = 0
    wide = blocks.widen(
        blocks.narrow(weight, form), blocks.to_tiles(blocks.find_block_scales(weight, form)), form
    )
    size = 16 if form == "nvfp4" else 32
    wide = wide * blocks.find_global_scale(weight) if form == "nvfp4" else wide
    largest = weight.unflatten(1, (-1, size)).abs().amax(2, keepdim=True).expand(-1, -1, size).flatten(1)
    step = (1 / 6 + 2**-4) if form == "nvfp4" else 2**-4
    assert ((wide - weight).abs() <= step * largest).all()
    assert not wide[0].any()


# Writing: root mean squares of the difference against those of the weights. fp8 keeps 3 bits behind the point, int8
# 1 / 254 of a row's largest at worst, fp4 one bit.
WRITTEN = {"fp8_scaled": 0.03, "int8": 0.01, "mxfp8": 0.03, "nvfp4": 0.1}
NAMES = {"fp8_scaled": "float8_e4m3fn", "int8": "int8_tensorwise"}


@pytest.mark.parametrize("form", WRITTEN)
def test_a_transformer_written_in_a_form_is_the_one_that_it_was_made_of(
    models: Path, transformer: State, tmp_path: Path, form: str
) -> None:
    file = convert(models / "transformer", tmp_path / "a.safetensors", "file", form=form)
    loaded = load_transformer(file).state_dict()
    assert loaded.keys() == transformer.keys()
    bulk = [name for name in loaded if is_bulk(name)]
    marks = [name for name in load_file(file) if name.endswith(".comfy_quant")]
    assert len(bulk) == len(marks) > 10
    for name, tensor in loaded.items():
        allowed = WRITTEN[form] if name in bulk else 2**-8  # bf16's
        assert (tensor.float() - transformer[name]).norm() <= allowed * transformer[name].norm(), name


@pytest.mark.parametrize("form", NAMES)
def test_a_form_says_by_the_safetensors_library_what_the_weights_were(
    models: Path, transformer: State, tmp_path: Path, form: str
) -> None:
    """weight = stored * scale, as ComfyUI has it, in a file that the library of that name reads."""
    state = load_file(convert(models / "transformer", tmp_path / "a.safetensors", "file", form=form))
    said = json.loads(bytes(state[f"{LAYER}.comfy_quant"].tolist()))
    assert said == {"format": NAMES[form]}
    wide, weight = (
        state[f"{LAYER}.weight"].float() * state[f"{LAYER}.weight_scale"],
        transformer[f"{LAYER}.weight"],
    )
    assert (wide - weight).norm() <= WRITTEN[form] * weight.norm()
    assert state["text_proj.weight"].dtype == torch.bfloat16


def test_a_vae_has_nothing_to_quantise(tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    for name, content in networks.make_vae_files():
        (tmp_path / "vae" / name).write_bytes(content)
    with pytest.raises(InvalidRequest, match="the VAE has no matrices to store in int8"):
        convert(tmp_path / "vae", tmp_path / "a.safetensors", "file", form="int8")


@pytest.mark.parametrize("form", WRITTEN)
def test_a_text_encoder_written_in_a_form_is_the_one_that_it_was_made_of(
    models: Path, tmp_path: Path, form: str
) -> None:
    file = convert(models / "text_encoder", tmp_path / "t5.safetensors", "file", form=form)
    quantised = TextEncoder.load(file, models / "tokenizer").network.state_dict()
    plain = TextEncoder.load(models / "text_encoder", models / "tokenizer").network.state_dict()
    marked = {name for name in load_file(file) if name.endswith(".comfy_quant")}
    assert len(marked) == sum(map(is_bulk, plain)) > 5
    for name, tensor in quantised.items():
        allowed = WRITTEN[form] if is_bulk(name) else 2**-8
        assert (tensor.float() - plain[name].float()).norm() <= allowed * plain[name].float().norm(), name
    with pytest.raises(InvalidRequest, match="can only become one file"):
        convert(models / "text_encoder", tmp_path / "folder", "folder", form=form)
