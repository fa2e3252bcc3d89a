"""Looks, steadiness, sharpness and FID next to the libraries they stand for, with seeded networks on both sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from echovideo_model.errors import InvalidRequest, WrongModelFile
from echovideo_model.metrics import realism
from echovideo_model.metrics.frames import as_tensor, crop_centre, shrink_short_side

SIZES = st.integers(32, 300)


def noise(count: int, height: int = 96, width: int = 160, seed: int = 0) -> list[np.ndarray]:
    coarse = np.random.default_rng(seed).integers(0, 256, (count, height // 8, width // 8, 3), dtype=np.uint8)
    return list(coarse.repeat(8, 1).repeat(8, 2))


def torchvision() -> object:
    return pytest.importorskip(
        "torchvision", reason="VBench's transforms are torchvision's, which is not here"
    )


@settings(max_examples=8, deadline=None)
@given(SIZES, SIZES, st.sampled_from(["bicubic", "bilinear"]))
def test_frames_shrink_as_torchvision_shrinks_tensors_without_antialiasing(
    height: int, width: int, mode: str
) -> None:
    transforms = torchvision().transforms
    pictures = torch.randint(0, 256, (2, 3, height, width)).float()
    resize = transforms.Resize(224, transforms.InterpolationMode(mode), antialias=False)
    found = shrink_short_side(pictures, 224, mode)
    assert torch.allclose(found, resize(pictures), atol=1e-3)  # of 255
    assert torch.allclose(crop_centre(found, 224), transforms.CenterCrop(224)(found))


def write_aesthetic(folder: Path) -> tuple[Path, Path]:
    from tests.test_metrics_text import write_clip

    torch.save(nn.Linear(16, 1).state_dict(), folder / "head.pth")
    return write_clip(folder), folder / "head.pth"


def test_aesthetic_quality_is_vbench_s(tmp_path: Path) -> None:
    from transformers import CLIPModel

    transforms = torchvision().transforms
    folder, file = write_aesthetic(tmp_path)
    frames = noise(3)
    network = CLIPModel.from_pretrained(folder).eval()
    head = nn.Linear(16, 1)
    head.load_state_dict(torch.load(file, weights_only=True))
    prepare = transforms.Compose(
        [
            transforms.Resize(224, transforms.InterpolationMode.BICUBIC, antialias=False),
            transforms.CenterCrop(224),
            transforms.Lambda(lambda pictures: pictures / 255),
            transforms.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ]
    )
    with torch.no_grad():
        pixels = prepare(as_tensor(frames))
        tokens = torch.zeros(1, 3, dtype=torch.long)
        embeddings = network(input_ids=tokens, pixel_values=pixels).image_embeds
        expected = head(F.normalize(embeddings, dim=-1))[:, 0] / 10
    assert realism.AestheticScorer.load(folder, file).score(frames) == pytest.approx(
        expected.tolist(), abs=1e-5
    )


def test_an_aesthetic_layer_of_another_model_is_refused(tmp_path: Path) -> None:
    folder, file = write_aesthetic(tmp_path)
    torch.save(nn.Linear(512, 1).state_dict(), file)
    with pytest.raises(WrongModelFile, match="aesthetic"):
        realism.AestheticScorer.load(folder, file)


def write_dino(folder: Path) -> Path:
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    network = ViTModel(ViTConfig(**sizes, image_size=224, patch_size=16), add_pooling_layer=False)
    for name, parameter in network.named_parameters():
        if "position" in name:
            parameter.data.normal_()
    network.save_pretrained(folder)
    return folder


def test_subject_consistency_is_the_class_token_s_likeness_to_the_frame_before_and_the_first(
    tmp_path: Path,
) -> None:
    from transformers import ViTModel

    folder = write_dino(tmp_path)
    frames = noise(4, 224, 224)
    network = ViTModel.from_pretrained(folder, add_pooling_layer=False).eval()
    mean, deviation = (torch.tensor(c)[:, None, None] for c in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        tokens = network(pixel_values=(as_tensor(frames) / 255 - mean) / deviation).last_hidden_state[:, 0]
    likeness = F.cosine_similarity(tokens[:, None], tokens[None], dim=-1).clamp(min=0)
    expected = [float(likeness[number, number - 1] + likeness[number, 0]) / 2 for number in (1, 2, 3)]
    assert realism.SubjectConsistency.load(folder).score(frames) == pytest.approx(expected, abs=1e-5)


def test_a_still_picture_of_any_shape_is_consistent_and_one_frame_is_nothing(tmp_path: Path) -> None:
    judge = realism.SubjectConsistency.load(write_dino(tmp_path))
    for height, width in ((96, 160), (136, 72)):
        assert judge.score(noise(1, height, width) * 3) == pytest.approx((1.0, 1.0), abs=1e-6)
    with pytest.raises(InvalidRequest, match="consistency needs two"):
        judge.score(noise(1))


@given(st.integers(7, 30), st.integers(7, 30))
@settings(max_examples=20, deadline=None)
def test_dino_s_positions_are_read_a_little_off_where_transformers_reads_them(
    rows: int, columns: int
) -> None:
    """Read by another operator of PyTorch where DINO's scale, (rows + 0.1) / 14, leads."""
    table = torch.randn(1, 196, 3, generator=torch.Generator().manual_seed(0))
    positions = torch.cat([torch.full((1, 1, 3), -7.0), table], 1)
    found = realism.resize_dino_positions(positions, rows, columns)
    assert torch.equal(found[:, :1], positions[:, :1])
    if rows == columns == 14:
        assert torch.equal(found, positions)
        return
    places = [
        (2 * torch.arange(count) + 1) / (count + 0.1) - 1 for count in (rows, columns)
    ]  # -1..1 over the table
    grid = torch.stack(torch.meshgrid(*places, indexing="ij")[::-1], -1)[None]
    table = table.unflatten(1, (14, 14)).permute(0, 3, 1, 2)
    read = F.grid_sample(table, grid, mode="bicubic", padding_mode="border", align_corners=False)
    assert torch.allclose(found[:, 1:], read.flatten(2).transpose(1, 2), atol=1e-4)


def test_imaging_quality_is_pyiqa_s_musiq(tmp_path: Path) -> None:
    architecture = pytest.importorskip("pyiqa.archs.musiq_arch", reason="imaging quality needs pyiqa")
    transforms = torchvision().transforms
    torch.manual_seed(0)
    network = architecture.MUSIQ(pretrained=False).eval()
    torch.save(network.state_dict(), tmp_path / "musiq.pth")
    judge = realism.ImagingQuality.load(tmp_path / "musiq.pth")
    for height, width in ((96, 160), (768, 400)):
        frames = noise(2, height, width)
        pictures = as_tensor(frames)
        if height > 512:
            pictures = transforms.Resize((512, int(512 / 768 * 400)), antialias=False)(pictures)
        with torch.no_grad():
            expected = [float(network(picture[None] / 255)) / 100 for picture in pictures]
        assert judge.score(frames) == pytest.approx(expected, abs=1e-5)


def test_the_script_s_distance_is_the_frechet_distance_of_each_vector_taken_twice() -> None:
    linalg = pytest.importorskip("scipy.linalg")
    one, other = torch.randn(2, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    covariances = [np.cov(np.stack([vector.numpy()] * 2).T) for vector in (one, other)]
    root = linalg.sqrtm(covariances[0] @ covariances[1] + 1e-30 * np.eye(64)).real
    frechet = float((one - other).square().sum()) + np.trace(sum(covariances) - 2 * root)
    assert realism.face_feature_distance(one, other) == pytest.approx(frechet, rel=1e-5)


def test_face_features_are_those_of_torchvision_s_published_inception(tmp_path: Path) -> None:
    vision = torchvision()
    from PIL import Image

    torch.manual_seed(0)
    network = vision.models.inception_v3(weights=None, init_weights=False, transform_input=True).eval()
    torch.save(network.state_dict(), tmp_path / "inception.pth")
    (face,) = noise(1, 224, 224)
    pixels = vision.transforms.ToTensor()(vision.transforms.Resize((299, 299))(Image.fromarray(face)))[None]
    network.fc = nn.Identity()
    with torch.no_grad():
        expected = network(pixels)[0]
        network.transform_input = False
        without = network(pixels)[0]
    found = realism.InceptionFeatures.load(tmp_path / "inception.pth")(face)
    assert found.shape == (2048,)
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    assert (found - without).abs().max() > 1e-3 * expected.abs().max()


class Inner(nn.Module):
    """In the place of FID's Inception: 2048 features of the 299 x 299 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(48, 2048))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(pixels, 4).flatten(1) @ self.weight


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = Inner()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.layers(pixels)


def write_fid_inception(folder: Path) -> Path:
    torch.manual_seed(0)
    path = folder / realism.FID_INCEPTION
    torch.jit.script(Outer()).save(str(path))
    return path


def test_fid_features_are_clean_fid_s(tmp_path: Path) -> None:
    path = write_fid_inception(tmp_path)
    torchscript = pytest.importorskip("cleanfid.inception_torchscript", reason="needs clean-fid")
    from cleanfid.resize import build_resizer

    frames = noise(3, 104, 160)
    resized = np.stack([build_resizer("clean")(frame) for frame in frames])
    with torch.no_grad():
        expected = torchscript.InceptionV3W(str(path.parent), download=False)(
            torch.from_numpy(resized).permute(0, 3, 1, 2)
        )
    judge = realism.FidInception.load(path)
    found = torch.stack([judge(frame) for frame in frames])
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("counts", [(6, 7), (200, 40), (300, 200)])  # fewer and more frames than features
def test_fid_is_the_frechet_distance_of_the_two_sets_features(counts: tuple[int, int]) -> None:
    linalg = pytest.importorskip("scipy.linalg")
    generator = np.random.default_rng(0)
    mixed = generator.normal(size=(64, 64))
    features = [
        generator.normal(size=(count, 64)) @ mixed * scale + scale
        for count, scale in zip(counts, (1, 2), strict=True)
    ]
    means, covariances = [one.mean(0) for one in features], [np.cov(one.T) for one in features]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = np.square(means[0] - means[1]).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    ours, others = map(torch.from_numpy, features)
    assert realism.frechet_distance(ours, others) == pytest.approx(expected, rel=1e-5)
    assert realism.frechet_distance(ours, ours) == pytest.approx(0, abs=1e-9 * expected)


def test_fid_is_torchmetrics_fid() -> None:
    library = pytest.importorskip("torchmetrics.image.fid", reason="needs torchmetrics")
    network = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten())
    network.num_features = 48
    metric = library.FrechetInceptionDistance(feature=network)
    pictures = (
        torch.rand(2, 90, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 255
    )
    pictures[1] **= 0.9
    features = [network(one) for one in pictures]
    for number, one in enumerate(pictures):
        metric.update(one, real=bool(number))
    assert realism.frechet_distance(*features) == pytest.approx(float(metric.compute()), rel=1e-5)


def test_fid_needs_two_frames_of_each() -> None:
    with pytest.raises(InvalidRequest, match="not 7 and 1"):
        realism.frechet_distance(torch.zeros(7, 4), torch.zeros(1, 4))


def test_a_damaged_torchscript_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "inception.pt").write_bytes(b"no zip")
    with pytest.raises(WrongModelFile, match="FID's Inception"):
        realism.FidInception.load(tmp_path / "inception.pt")
