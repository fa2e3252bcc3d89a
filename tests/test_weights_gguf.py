"""GGUF files are read and written as the `gguf` package has them, and T5 under llama.cpp's names."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from echovideo_model.cli import main
from echovideo_model.errors import DependencyMissing, InvalidRequest, ModelFileMissing, WrongModelFile
from echovideo_model.text import TextEncoder
from echovideo_model.weights.folders import require
from echovideo_model.weights.gguf_files import to_llama_name, to_released_name
from echovideo_model.weights.loading import convert, inspect, is_bulk, load_transformer
from tests.tiny_models import State, stored, write_networks

gguf = pytest.importorskip("gguf", reason="pip install gguf")
quants = pytest.importorskip("gguf.quants")
Kind = gguf.GGMLQuantizationType

BULK_ERROR = {
    "q8_0": 0.01,
    "q4_0": 0.12,
}  # root mean square; Q8_0 keeps 1 / 127 of a block's largest, Q4_0 1 / 8


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny transformer, text encoder and tokenizer in the released layout."""
    return write_networks(tmp_path_factory.mktemp("models"), "transformer", "text_encoder", "tokenizer")


@pytest.fixture(scope="module")
def transformer(models: Path) -> State:
    return stored(models / "transformer")


def write(path: Path, architecture: str, state: State, kind: Any, **texts: str) -> dict[str, np.ndarray]:
    """A GGUF by the package alone; returns the numbers that the package reads in it."""
    writer, meant = gguf.GGUFWriter(path, architecture), {}
    for key, text in texts.items():
        writer.add_string(key, text)
    for name, tensor in state.items():
        array = tensor.float().numpy()
        narrow = array.ndim == 2 and array.shape[1] % 32 == 0 and "norm" not in name
        packed = quants.quantize(array, kind if narrow else Kind.F32)
        writer.add_tensor(name, packed, raw_dtype=kind if narrow else None)
        meant[name] = quants.dequantize(packed, kind) if narrow else array
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return meant


READ = [Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q5_1, Kind.Q5_0, Kind.Q4_1, Kind.Q4_0]


@pytest.mark.parametrize("kind", READ, ids=lambda kind: kind.name)
def test_a_transformer_of_every_type_holds_the_numbers_that_the_package_reads(
    transformer: State, tmp_path: Path, kind: Any
) -> None:
    meant = write(tmp_path / "a.gguf", "echovideo", transformer, kind, config='{"num_layers": 2}')
    loaded = load_transformer(tmp_path / "a.gguf", torch.float32).state_dict()
    assert loaded.keys() == transformer.keys()
    for name, tensor in loaded.items():
        assert torch.equal(tensor, torch.from_numpy(meant[name])), name
    found = inspect(tmp_path / "a.gguf")
    assert (found.family, found.complete) == ("EchoVideo transformer", True)
    assert found.parameters == sum(tensor.numel() for tensor in transformer.values())
    assert {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}.get(kind.name, kind.name) in found.dtypes
    assert found.metadata["config"] == '{"num_layers": 2}'


def test_a_quantised_file_is_bfloat16_in_memory_small_tensors_too(transformer: State, tmp_path: Path) -> None:
    write(tmp_path / "a.gguf", "echovideo", transformer, Kind.Q8_0)
    assert {p.dtype for p in load_transformer(tmp_path / "a.gguf").parameters()} == {torch.bfloat16}
    write(tmp_path / "b.gguf", "echovideo", transformer, Kind.F32)
    assert {p.dtype for p in load_transformer(tmp_path / "b.gguf").parameters()} == {torch.float32}


@pytest.mark.parametrize("form", BULK_ERROR)
def test_what_convert_writes_the_package_reads(
    models: Path, transformer: State, tmp_path: Path, form: str
) -> None:
    file = convert(models / "transformer", tmp_path / "a.gguf", "file", form=form)
    reader = gguf.GGUFReader(file)
    assert reader.fields["general.architecture"].contents() == "echovideo"
    assert [tensor.name for tensor in reader.tensors] == list(transformer)
    loaded = load_transformer(file, torch.float32).state_dict()
    kinds: dict[str, set[str]] = {"bulk": set(), "other": set()}
    for tensor in reader.tensors:
        name, wide = tensor.name, quants.dequantize(tensor.data, tensor.tensor_type)
        kinds["bulk" if is_bulk(name) else "other"].add(tensor.tensor_type.name)
        assert torch.equal(loaded[name], torch.from_numpy(np.array(wide)).view(transformer[name].shape)), name
        allowed = BULK_ERROR[form] if is_bulk(name) else 2**-8  # bf16's
        assert (loaded[name] - transformer[name]).norm() <= allowed * transformer[name].norm(), name
    assert kinds == {"bulk": {form.upper()}, "other": {"BF16", "F32"}}
    again = convert(file, tmp_path / "b.safetensors", "file")
    plain, expected = load_file(again), load_transformer(file).state_dict()
    assert all(torch.equal(plain[name], expected[name]) for name in expected)


# ---- T5 ----------------------------------------------------------------------------------------------------------


def test_names_are_llama_cpp_s() -> None:
    """The package has llama.cpp's own table, by the names of transformers."""
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.T5ENCODER, 24)
    parts = ("q", "k", "v", "o", "relative_attention_bias")
    block = [f"layer.0.SelfAttention.{part}" for part in parts]
    block += ["layer.0.layer_norm", "layer.1.layer_norm"]
    block += [f"layer.1.DenseReluDense.{part}" for part in ("wi_0", "wi_1", "wo")]
    names = [f"encoder.block.{number}.{part}.weight" for number in (0, 7, 23) for part in block]
    names += ["shared.weight", "encoder.final_layer_norm.weight"]
    theirs = {name: table.get_name(name, (".weight",)) for name in names}
    assert {name: to_llama_name(name) for name in names} == theirs
    assert [to_released_name(name, theirs.values()) for name in theirs.values()] == names
    first_version = [name.replace("wi_1", "wi") for name in names if "wi_0" not in name]
    theirs = {name: table.get_name(name, (".weight",)) for name in first_version}
    assert {name: to_llama_name(name) for name in first_version} == theirs
    assert [to_released_name(name, theirs.values()) for name in theirs.values()] == first_version


@pytest.mark.parametrize("kind", [Kind.F16, Kind.Q8_0, Kind.Q5_1, Kind.Q4_0], ids=lambda kind: kind.name)
def test_a_t5_of_llama_cpp_s_is_read(models: Path, tmp_path: Path, kind: Any) -> None:
    state = stored(models / "text_encoder")
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.T5ENCODER, 2)
    renamed = {table.get_name(name, (".weight",)): tensor for name, tensor in state.items()}
    meant = write(tmp_path / "t5.gguf", "t5encoder", renamed, kind)
    wide = {name: torch.from_numpy(meant[table.get_name(name, (".weight",))]) for name in state}
    save_file(wide, tmp_path / "wide.safetensors")
    encoders = [
        TextEncoder.load(tmp_path / name, models / "tokenizer", torch.float32)
        for name in ("t5.gguf", "wide.safetensors")
    ]
    ours, theirs = (encoder.encode(["a man reads"]) for encoder in encoders)
    assert torch.equal(ours, theirs)
    assert TextEncoder.load(tmp_path / "t5.gguf", models / "tokenizer").network.dtype == torch.bfloat16
    assert inspect(tmp_path / "t5.gguf").family == "T5 text encoder"


def test_a_whole_t5_of_llama_cpp_s_gives_its_encoder(models: Path, tmp_path: Path) -> None:
    state = {to_llama_name(name): tensor for name, tensor in stored(models / "text_encoder").items()}
    decoder = {"dec.blk.0.attn_q.weight": torch.ones(2, 2), "output.weight": torch.ones(2, 2)}
    write(tmp_path / "t5.gguf", "t5", state | decoder, Kind.Q8_0)
    TextEncoder.load(tmp_path / "t5.gguf", models / "tokenizer")


@pytest.mark.parametrize("form", BULK_ERROR)
def test_a_t5_is_written_under_llama_cpp_s_names(models: Path, tmp_path: Path, form: str) -> None:
    file = convert(models / "text_encoder", tmp_path / "t5.gguf", "file", form=form)
    reader = gguf.GGUFReader(file)
    assert reader.fields["general.architecture"].contents() == "t5encoder"
    assert {"token_embd.weight", "enc.blk.1.ffn_gate.weight", "enc.output_norm.weight"} <= {
        tensor.name for tensor in reader.tensors
    }
    encoders = (file, models / "text_encoder")
    ours, plain = (TextEncoder.load(one, models / "tokenizer").network.state_dict() for one in encoders)
    for name, tensor in ours.items():
        allowed = BULK_ERROR[form] if is_bulk(name) else 2**-8
        assert (tensor.float() - plain[name].float()).norm() <= allowed * plain[name].float().norm(), name


# ---- where it lies -----------------------------------------------------------------------------------------------


def test_a_models_folder_may_hold_them(models: Path, tmp_path: Path) -> None:
    (tmp_path / "transformer").mkdir()
    (tmp_path / "text_encoder").mkdir()
    with pytest.raises(ModelFileMissing):
        require(tmp_path, "transformer")
    file = convert(models / "transformer", tmp_path / "transformer" / "small.gguf", "file", form="q4_0")
    convert(models / "text_encoder", tmp_path / "text_encoder" / "t5.gguf", "file", form="q8_0")
    assert require(tmp_path, "transformer") == file == require(file, "transformer")
    TextEncoder.load(require(tmp_path, "text_encoder"), models / "tokenizer")
    load_transformer(tmp_path / "transformer")
    convert(models / "transformer", tmp_path / "transformer" / "other.safetensors", "file")
    with pytest.raises(InvalidRequest, match=r"other\.safetensors, .*small\.gguf"):
        require(tmp_path, "transformer")


# ---- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [4, 9, 30, 400, 5000, 0.5, 0.999])
def test_a_file_that_is_cut_short_is_refused(models: Path, tmp_path: Path, kept: float) -> None:
    content = convert(models / "transformer", tmp_path / "a.gguf", "file", form="q8_0").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(
        content[: kept if isinstance(kept, int) else int(kept * len(content))]
    )
    with pytest.raises(WrongModelFile, match=r"cut\.gguf .*truncated; download it again") as caught:
        load_transformer(tmp_path / "cut.gguf")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"\x08\0\0\0\0\0\0\0{}      ", "is not a GGUF file: download it again"),
        (b"", "is not a GGUF file"),
    ],
)
def test_what_is_no_gguf_is_said_to_be_none(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.gguf").write_bytes(content)
    with pytest.raises(WrongModelFile, match=words):
        load_transformer(tmp_path / "a.gguf")


def test_without_the_package_the_command_that_installs_it_is_said(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = convert(models / "transformer", tmp_path / "a.gguf", "file", form="q8_0")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(DependencyMissing, match=r"a\.gguf is a GGUF file.*-m pip install gguf"):
        load_transformer(file)
    with pytest.raises(DependencyMissing, match="-m pip install gguf"):
        convert(models / "transformer", tmp_path / "b.gguf", "file", form="q8_0")
    assert not (tmp_path / "b.gguf").exists()


def test_the_command_line_writes_one_and_says_what_its_name_needs(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(models / "transformer")
    assert main(["convert", source, str(tmp_path / "a.gguf"), "--weight-dtype", "q4_0"]) == 0
    assert inspect(tmp_path / "a.gguf").dtypes.keys() == {"Q4_0", "bfloat16", "float32"}
    for target, dtype, words in (
        ("b.gguf", "bf16", "would be a GGUF: choose --weight-dtype q8_0 or q4_0"),
        ("b.safetensors", "q8_0", "must end in .gguf"),
        ("folder", "q8_0", "a GGUF is always one file"),
        ("b.gguf", "q3_k", "nvfp4, q8_0, q4_0"),
    ):
        assert main(["convert", source, str(tmp_path / target), "--weight-dtype", dtype]) == 2
        assert words in capsys.readouterr().err
