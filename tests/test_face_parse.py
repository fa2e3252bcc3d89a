"""The parser is the published BiSeNet, loads what is published, and keeps the face alone."""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from echovideo_model.errors import ModelFileMissing, WrongModelFile
from echovideo_model.face.parse import CLASSES, NOT_FACE, BiSeNet, FaceParser
from echovideo_model.tiny.weights import draw_parameter, draw_state
from tests.faces import card, golden


@lru_cache
def state() -> dict[str, Tensor]:
    return draw_state(BiSeNet(), int(golden("bisenet")[1]["seed"]))


@lru_cache
def network() -> BiSeNet:
    network = BiSeNet()
    network.load_state_dict(state())
    return network.eval()


def test_parameter_names_and_shapes_are_the_published_ones() -> None:
    published = json.loads(golden("bisenet")[1]["keys"])
    needed = {
        name: shape for name, shape in published.items() if not name.startswith(("conv_out16", "conv_out32"))
    }
    assert {name: list(entry.shape) for name, entry in BiSeNet().state_dict().items()} == needed


def test_the_recorded_logits_are_reproduced() -> None:
    picture = torch.from_numpy(golden("pipeline")[0]["image"].numpy()).permute(2, 0, 1)[None] / 255
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    with torch.no_grad():
        logits = network()((picture - mean) / deviation)[..., ::8, ::8]
    recorded = golden("bisenet")[0]["logits_64"]
    assert (logits - recorded).abs().max() <= 1e-4 * recorded.abs().max()


def test_the_recorded_labels_are_reproduced() -> None:
    labels = FaceParser(network()).labels(card(512, 512))
    recorded = golden("bisenet")[0]["labels"].numpy()
    assert labels.dtype == np.uint8
    assert (labels == recorded).mean() >= 0.999


def test_everything_but_the_face_becomes_black_and_the_face_stays() -> None:
    aligned = np.maximum(card(192, 256), 1)
    parser = FaceParser(network())
    labels, picture = parser.labels(aligned), parser.face_picture(aligned)
    removed = np.isin(labels, [0, 7, 8, 9, 14, 15, 16, 18])
    assert 0 < removed.mean() < 1
    assert not picture[removed].any()
    np.testing.assert_array_equal(picture[~removed], aligned[~removed])
    np.testing.assert_array_equal(parser.mask(aligned), ~removed)


def test_every_class_of_the_data_set_is_either_face_or_not() -> None:
    face = {"skin": 1, "brows": 2, "other brow": 3, "eye": 4, "other eye": 5, "glasses": 6, "nose": 10}
    face |= {"mouth": 11, "upper lip": 12, "lower lip": 13, "hair": 17}
    assert sorted([*NOT_FACE, *face.values()]) == list(range(CLASSES))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_released_file_loads_with_its_training_heads_left_out(
    suffix: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    heads = ("conv_out16.conv_out.weight", "conv_out32.conv_out.weight")
    whole = {**state(), **{name: draw_parameter(name, (19, 64, 1, 1)) for name in heads}}
    whole = {name: entry.to(dtype) if entry.is_floating_point() else entry for name, entry in whole.items()}
    path = tmp_path / f"parsing_bisenet{suffix}"
    save_file(whole, path) if suffix == ".safetensors" else torch.save(whole, path)
    aligned = card(128, 128)
    labels = FaceParser.load(path).labels(aligned)
    assert (labels == FaceParser(network()).labels(aligned)).mean() > (
        0.999 if dtype == torch.float32 else 0.97
    )


def test_the_legacy_pickle_format_loads_too(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "parsing_bisenet.pth", _use_new_zipfile_serialization=False)
    FaceParser.load(tmp_path / "parsing_bisenet.pth")


def test_a_missing_file_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ModelFileMissing, match="echovideo models download"):
        FaceParser.load(tmp_path / "parsing_bisenet.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(suffix: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"parser{suffix}"
    few = {"a": torch.zeros(5000), "b": torch.zeros(7)}
    save_file(few, path) if suffix == ".safetensors" else torch.save(few, path)
    path.write_bytes(path.read_bytes()[: round(path.stat().st_size * share)])
    with pytest.raises(WrongModelFile, match=r"truncated|not hold plain weights"):
        FaceParser.load(path)


def test_another_network_is_called_what_it_is(tmp_path: Path) -> None:
    save_file({"transformer_blocks.0.attn1.to_q.weight": torch.zeros(4, 4)}, tmp_path / "parser.safetensors")
    with pytest.raises(WrongModelFile, match=r"not the BiSeNet face parser but one shard of a"):
        FaceParser.load(tmp_path / "parser.safetensors")


def test_another_shape_is_refused_by_name(tmp_path: Path) -> None:
    torch.save({**state(), "conv_out.conv_out.weight": torch.zeros(11, 256, 1, 1)}, tmp_path / "parser.pth")
    with pytest.raises(
        WrongModelFile, match=r"conv_out\.conv_out\.weight \[11, 256, 1, 1\] instead of \[19, 256, 1, 1\]"
    ):
        FaceParser.load(tmp_path / "parser.pth")


def test_nan_in_the_weights_is_refused_by_name(tmp_path: Path) -> None:
    torch.save({**state(), "cp.resnet.bn1.bias": torch.full((64,), torch.nan)}, tmp_path / "parser.pth")
    with pytest.raises(WrongModelFile, match=r"NaN or infinity in cp\.resnet\.bn1\.bias"):
        FaceParser.load(tmp_path / "parser.pth")


@pytest.mark.parametrize("content", [[torch.zeros(3)], {"state_dict": {"a": torch.zeros(3)}}, torch.zeros(3)])
def test_a_pickle_of_something_else_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "parser.pth")
    with pytest.raises(WrongModelFile):
        FaceParser.load(tmp_path / "parser.pth")


@pytest.mark.parametrize("wrapper", ["module", "state_dict", "model"])
def test_a_trainer_s_checkpoint_is_unwrapped(wrapper: str, tmp_path: Path) -> None:
    torch.save(
        {wrapper: {f"module.{name}": entry for name, entry in state().items()}, "epoch": 3},
        tmp_path / "a.pth",
    )
    aligned = card(64, 64)
    np.testing.assert_array_equal(
        FaceParser.load(tmp_path / "a.pth").labels(aligned), FaceParser(network()).labels(aligned)
    )


def test_what_is_not_read_is_refused_by_name(tmp_path: Path) -> None:
    torch.save({**state(), "cp.resnet.conv1.weight_scale_inv": torch.ones(1)}, tmp_path / "parser.pth")
    with pytest.raises(WrongModelFile, match="weight_scale_inv"):
        FaceParser.load(tmp_path / "parser.pth")


def test_nothing_in_a_pickle_is_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    torch.save({"cp.resnet.conv1.weight": Trap()}, tmp_path / "parser.pth")
    with pytest.raises(WrongModelFile):
        FaceParser.load(tmp_path / "parser.pth")
    assert not (tmp_path / "sprung").exists()
