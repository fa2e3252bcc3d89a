"""The tiny set is a whole release in small: the libraries that read the released files read it the same way."""

from __future__ import annotations

import errno
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest
import sentencepiece
import torch
import transformers
from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from echovideo_model import tiny
from echovideo_model.errors import InvalidRequest
from echovideo_model.tiny import checkpoints
from echovideo_model.tiny.weights import draw_parameter, draw_state
from echovideo_model.weights.folders import require
from echovideo_model.weights.released import GROUPS, NEEDED, OPTIONAL

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tmp_path_factory.mktemp("models") / "tiny")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


# The files ----------------------------------------------------------------------------------------------------


def test_every_file_of_the_release_is_there_under_its_released_name(models: Path) -> None:
    assert {file.path for file in NEEDED} <= {path for path, _ in tiny.make_files()}
    for group in set(GROUPS) - set(OPTIONAL):
        assert require(models, group)


def test_the_set_takes_less_than_60_megabytes(models: Path) -> None:
    assert sum(path.stat().st_size for path in models.rglob("*") if path.is_file()) < 60e6


def test_another_build_would_be_equal_to_the_byte(models: Path) -> None:
    written = contents(models)
    del written[checkpoints.STAMP]
    assert dict(tiny.make_files()) == written


def test_what_is_there_and_whole_is_not_written_again(models: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in models.rglob("*")}
    assert tiny.build(models) == models
    assert {path: path.stat().st_mtime_ns for path in models.rglob("*")} == before


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A set of two small files in the place of the real one."""
    monkeypatch.setattr(checkpoints, "make_files", lambda: iter([("vae/one", b"1"), ("two", b"22")]))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("damage", ["truncated", "missing", "older code", "no stamp content"])
def test_a_set_that_is_damaged_or_of_older_code_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    folder = tmp_path / "set"
    with monkeypatch.context() as patch:
        if damage == "older code":
            patch.setattr(checkpoints, "_version", lambda: "older")
        tiny.build(folder)
    whole = contents(folder)
    if damage == "truncated":
        (folder / "two").write_bytes(b"2")
    if damage == "missing":
        (folder / "vae" / "one").unlink()
    if damage == "no stamp content":
        (folder / checkpoints.STAMP).write_text("[]", encoding="utf-8")
    tiny.build(folder)
    assert contents(folder)["two"] == b"22"
    assert contents(folder).keys() == whole.keys()
    assert json.loads((folder / checkpoints.STAMP).read_bytes())["version"] == checkpoints._version()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_an_interrupted_build_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> Iterator[tuple[str, bytes]]:
        yield "vae/one", b"1"
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "make_files", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tiny.build(tmp_path / "deep" / "set")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick")
def test_a_full_disk_is_said_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def limited(path: Path, content: bytes) -> int:
        if len(content) > 1:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", limited)
    with pytest.raises(InvalidRequest, match="disk is full"):
        tiny.build(tmp_path / "deep" / "set")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick")
def test_a_folder_with_other_files_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"me")
    with pytest.raises(InvalidRequest, match="other files"):
        tiny.build(tmp_path)
    with pytest.raises(InvalidRequest, match="cannot use"):
        tiny.build(tmp_path / "holiday.jpg")
    assert contents(tmp_path) == {"holiday.jpg": b"me"}


@pytest.mark.usefixtures("quick")
def test_of_two_builds_at_the_same_time_either_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "set"
    alone = checkpoints._put_in_place

    def overtaken(made: Path, place: Path) -> None:
        monkeypatch.setattr(checkpoints, "_put_in_place", alone)
        tiny.build(folder)  # the other process
        alone(made, place)

    monkeypatch.setattr(checkpoints, "_put_in_place", overtaken)
    tiny.build(folder)
    assert contents(folder)["two"] == b"22"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_importing_the_room_loads_none_of_the_heavy_libraries() -> None:
    heavy = ("onnx", "onnxruntime", "insightface", "cv2", "transformers", "diffusers", "av")
    program = f"import sys, echovideo_model.tiny; print(*(set({heavy}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
        encoding="utf-8",
    )
    assert done.stdout.split() == []


# The networks -------------------------------------------------------------------------------------------------


def test_a_parameter_depends_on_its_name_shape_and_seed_alone() -> None:
    torch.manual_seed(1)
    first = draw_parameter("some.weight", (64, 32, 3))
    torch.manual_seed(2)
    assert torch.equal(draw_parameter("some.weight", torch.Size([64, 32, 3])), first)
    assert not torch.equal(draw_parameter("some.weight", (64, 32, 3), seed=1), first)
    assert not torch.equal(draw_parameter("other.weight", (64, 32, 3)), first)
    assert first.var().item() == pytest.approx(1 / 96, rel=0.1)
    assert draw_parameter("norm.weight", (4096,)).mean().item() == pytest.approx(1, abs=0.01)
    assert draw_parameter("norm.bias", (4096,)).std().item() == pytest.approx(0.1, rel=0.1)


def test_counters_start_at_zero_and_running_variances_are_positive() -> None:
    state = draw_state(torch.nn.BatchNorm2d(512, device="meta"))
    assert state["num_batches_tracked"] == 0
    assert state["running_var"].min() >= 0.5
    assert state["running_mean"].min() < 0


def transformer_state(models: Path) -> dict[str, torch.Tensor]:
    folder = models / "transformer"
    index = json.loads(
        (folder / "diffusion_pytorch_model.safetensors.index.json").read_text(encoding="utf-8")
    )
    shards = {file: load_file(folder / file) for file in sorted(set(index["weight_map"].values()))}
    assert len(shards) == 2
    assert index["metadata"]["total_size"] == sum(
        t.nbytes for shard in shards.values() for t in shard.values()
    )
    return {name: shards[file][name] for name, file in index["weight_map"].items()}


def test_the_transformer_has_the_released_names_with_fewer_blocks_and_layers(models: Path) -> None:
    released = json.loads((ROOT / "tests" / "golden" / "transformer_keys.json").read_text(encoding="utf-8"))
    fewer = re.compile(r"transformer_blocks\.(\d+)\.|face_prj_wofc\.layers\.(\d+)\.")
    expected = {}
    for name, shape in released.items():
        found = fewer.match(name)
        if found is None or int(found[1] or found[2]) < 2:
            expected[name] = len(shape)
    assert {name: tensor.ndim for name, tensor in transformer_state(models).items()} == expected


def test_diffusers_loads_the_transformer_and_leaves_only_iitf_over(models: Path) -> None:
    config = CogVideoXTransformer3DModel.load_config(models / "transformer")
    network = CogVideoXTransformer3DModel.from_config(config)
    missing, unexpected = network.load_state_dict(transformer_state(models), strict=False)
    assert missing == []
    iitf = {"face_prj_wofc", "face_info_proj", "face_proj", "text_proj"}
    assert {name.partition(".")[0] for name in unexpected} == iitf


def test_diffusers_loads_the_autoencoder_whole(models: Path) -> None:
    network, info = AutoencoderKLCogVideoX.from_pretrained(models / "vae", output_loading_info=True)
    assert not any(info.values())
    with torch.no_grad():
        video = network.decode(torch.zeros(1, 16, 3, 4, 6)).sample
    assert video.shape == (1, 3, 9, 32, 48)
    assert video.isfinite().all()


def test_transformers_loads_the_text_encoder_whole(models: Path) -> None:
    network, info = transformers.T5EncoderModel.from_pretrained(
        models / "text_encoder", output_loading_info=True
    )
    assert not any(info.values())
    weights = draw_parameter("shared.weight", network.shared.weight.shape)
    assert torch.equal(network.encoder.embed_tokens.weight, weights)


def test_transformers_loads_siglip_whole(models: Path) -> None:
    folder = models / "clip_visual_encoder"
    network, info = transformers.SiglipModel.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values())
    with torch.no_grad():
        tokens = network.vision_model(torch.zeros(1, 3, 224, 224)).last_hidden_state
    assert tokens.shape == (1, 196, 768)


# The tokenizer ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loader", [transformers.T5Tokenizer, transformers.AutoTokenizer])
@settings(max_examples=30, deadline=None)
@given(
    prompt=st.text(
        st.characters(codec="latin-1", exclude_categories=["Cc", "Zs"]) | st.just(" "), max_size=60
    )
)
def test_transformers_and_sentencepiece_cut_a_prompt_alike(models: Path, loader: type, prompt: str) -> None:
    tokenizer = tokenizer_of(models, loader)
    model = sentencepiece_of(models)
    assert tokenizer(prompt).input_ids == [*model.encode(prompt), model.eos_id()]


@lru_cache
def tokenizer_of(models: Path, loader: type) -> transformers.PreTrainedTokenizerBase:
    return loader.from_pretrained(models / "tokenizer")


@lru_cache
def sentencepiece_of(models: Path) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=str(models / "tokenizer" / "spiece.model"))


def test_prompts_are_padded_and_cut_to_226_tokens_as_the_model_wants(models: Path) -> None:
    tokenizer = tokenizer_of(models, transformers.AutoTokenizer)
    short, long = tokenizer(
        ["A woman smiles.", "walking " * 500], padding="max_length", max_length=226, truncation=True
    ).input_ids
    assert len(short) == len(long) == 226
    assert short[-1] == tokenizer.pad_token_id == 0
    assert long[-1] == tokenizer.eos_token_id == 1


def test_common_words_are_one_token_and_come_back_as_written(models: Path) -> None:
    model = sentencepiece_of(models)
    assert model.encode("a man walks", out_type=str) == ["▁a", "▁man", "▁walks"]
    assert model.decode(model.encode("A zebra, smiling!")) == "A zebra, smiling!"
    assert model.encode("日") == [*model.encode(" .")[:1], model.unk_id()]


def test_every_token_has_its_row_in_the_text_encoder(models: Path) -> None:
    rows = json.loads((models / "text_encoder" / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    tokenizer = tokenizer_of(models, transformers.AutoTokenizer)
    assert len(tokenizer) <= rows
    assert tokenizer.convert_tokens_to_ids("<extra_id_0>") == len(tokenizer) - 1
