"""How good the frames look and how close they are to real ones: aesthetics, consistency, image quality, FID."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InvalidRequest, WrongModelFile
from .frames import Frames, as_tensor, crop_centre, normalise, resize, shrink_short_side
from .judges import DOWNLOAD, fill, from_transformers, import_judge
from .text import DEVIATION, MEAN, SIDE

CLIP_LARGE, AESTHETIC = "clip-vit-large-patch14", "sa_0_4_vit_l_14_linear.pth"
DINO = "dino-vitb16"
MUSIQ = "musiq_spaq_ckpt-358bb6af.pth"
INCEPTION = "inception_v3_google-0cc3c7bd.pth"  # torchvision's, of ConsisID's script
FID_INCEPTION = "inception-2015-12-05.pt"  # the original FID's, as TorchScript
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MAX_MUSIQ_SIDE = 512
FID_SIDE = 299
OnFrame = Callable[[int, int], None]


class AestheticScorer:
    """CLIP ViT-L/14's image half, and LAION's linear layer from its embedding to a score of 0 to 10."""

    def __init__(self, network: nn.ModuleDict, head: nn.Module, device: torch.device | str = "cpu") -> None:
        self.network, self.head, self.device = network.to(device), head.to(device), device

    @classmethod
    def load(cls, folder: Path, head: Path, device: torch.device | str = "cpu") -> AestheticScorer:
        """Raises ModelFileMissing or WrongModelFile."""
        clip = from_transformers("CLIPModel", folder)
        layer = torch.nn.utils.skip_init(nn.Linear, clip.config.projection_dim, 1)
        network = nn.ModuleDict({"picture": clip.vision_model, "projection": clip.visual_projection})
        return cls(network, fill(layer, head, "LAION's aesthetic layer"), device)

    @torch.inference_mode()
    def score(self, frames: Frames, on_frame: OnFrame | None = None) -> tuple[float, ...]:
        """AestheticQuality (VBench) of each frame, score / 10; the mean is the video's.

        The shorter side to 224 without antialiasing, the middle square of it, the embedding normalised.
        """
        scores = []
        for number, frame in enumerate(frames, start=1):
            pixels = crop_centre(shrink_short_side(as_tensor([frame]), SIDE, "bicubic"), SIDE)
            pixels = normalise(pixels, MEAN, DEVIATION).to(self.device)
            embedding = self.network["projection"](self.network["picture"](pixel_values=pixels).pooler_output)
            scores.append(float(self.head(F.normalize(embedding, dim=-1))) / 10)
            if on_frame is not None:
                on_frame(number, len(frames))
        return tuple(scores)


class SubjectConsistency:
    """DINO ViT-B/16: whether the frames keep showing the same thing."""

    def __init__(self, network: Any, device: torch.device | str = "cpu") -> None:
        self.network, self.device = network.to(device), device
        embeddings = self.network.embeddings
        embeddings.interpolate_pos_encoding = lambda tokens, height, width: resize_dino_positions(
            embeddings.position_embeddings, height // 16, width // 16
        )

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> SubjectConsistency:
        """Raises ModelFileMissing or WrongModelFile."""
        return cls(from_transformers("ViTModel", folder, add_pooling_layer=False), device)

    @torch.inference_mode()
    def score(self, frames: Frames, on_frame: OnFrame | None = None) -> tuple[float, ...]:
        """Subject consistency (VBench) of each frame from the second on; the mean is the video's.

        The mean of its similarity to the frame before and to the first one, each clamped at 0. The shorter side is 224
        pixels long, nothing is cropped. Raises InvalidRequest for one frame.
        """
        if len(frames) < 2:
            raise InvalidRequest("1 frame: consistency needs two")
        scores, first, before = [], None, None
        for number, frame in enumerate(frames, start=1):
            features = self._features(frame)
            if first is None or before is None:
                first = features
            else:
                likeness = [max(0.0, float(features @ other)) for other in (before, first)]
                scores.append(sum(likeness) / 2)
            before = features
            if on_frame is not None:
                on_frame(number, len(frames))
        return tuple(scores)

    def _features(self, frame: np.ndarray) -> Tensor:
        """The class token of a frame, of length 1: [768]."""
        pixels = shrink_short_side(as_tensor([frame]), SIDE, "bilinear")
        pixels = normalise(pixels, IMAGENET_MEAN, IMAGENET_DEVIATION).to(self.device)
        hidden = self.network(pixel_values=pixels, interpolate_pos_encoding=True).last_hidden_state
        return F.normalize(hidden[0, 0], dim=0)


def resize_dino_positions(embeddings: Tensor, rows: int, columns: int) -> Tensor:
    """DINO's learned positions [1, 1 + n n, C] for a grid of rows x columns patches: [1, 1 + rows columns, C].

    DINO scales by (rows + 0.1) / n, so as not to lose a row to rounding, and reads its table at places that differ a
    little from those of transformers, which scales by rows / n.
    """
    own, grid = embeddings[:, :1], embeddings[:, 1:]
    side = round(grid.shape[1] ** 0.5)
    if rows == columns == side:
        return embeddings
    grid = grid.unflatten(1, (side, side)).permute(0, 3, 1, 2)  # [1, n n, C] -> [1, C, n, n]
    scale = ((rows + 0.1) / side, (columns + 0.1) / side)
    scaled = F.interpolate(grid, scale_factor=scale, mode="bicubic", recompute_scale_factor=False)
    return torch.cat([own, scaled.flatten(2).transpose(1, 2)], 1)  # [1, C, h, w] -> [1, h w, C]


class ImagingQuality:
    """MUSIQ trained on SPAQ, through pyiqa: noise, blur and exposure of a frame."""

    def __init__(self, network: nn.Module, device: torch.device | str = "cpu") -> None:
        self.network, self.device = network.eval().to(device), device

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> ImagingQuality:
        """Raises ModelFileMissing, WrongModelFile, or DependencyMissing without pyiqa."""
        musiq = import_judge("pyiqa.archs.musiq_arch", "imaging quality").MUSIQ
        with torch.random.fork_rng(devices=[]):  # it draws random weights first
            network = musiq(pretrained=False)
        return cls(fill(network, path, "MUSIQ"), device)

    @torch.inference_mode()
    def score(self, frames: Frames, on_frame: OnFrame | None = None) -> tuple[float, ...]:
        """Imaging quality (VBench) of each frame, MUSIQ / 100; the mean is the video's.

        Frames longer than 512 pixels are reduced to that, without antialiasing.
        """
        scores = []
        for number, frame in enumerate(frames, start=1):
            scores.append(
                float(self.network(limit_long_side(as_tensor([frame])).to(self.device) / 255)) / 100
            )
            if on_frame is not None:
                on_frame(number, len(frames))
        return tuple(scores)


def limit_long_side(pictures: Tensor) -> Tensor:
    """`pictures` [F, 3, H, W] with the longer side at most 512, both rounded down."""
    height, width = pictures.shape[-2:]
    scale = MAX_MUSIQ_SIDE / max(height, width)
    return pictures if scale >= 1 else resize(pictures, int(scale * height), int(scale * width))


class InceptionFeatures:
    """torchvision's Inception v3 without its last layer, as ConsisID's script uses it."""

    def __init__(self, network: nn.Module, device: torch.device | str = "cpu") -> None:
        self.network, self.device = network.eval().to(device), device

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> InceptionFeatures:
        """Raises ModelFileMissing, WrongModelFile, or DependencyMissing without torchvision."""
        models = import_judge("torchvision", "the face feature distance").models
        with torch.random.fork_rng(devices=[]):
            # transform_input: the published weights expect it, and give other numbers without it
            network = models.inception_v3(weights=None, transform_input=True, init_weights=False)
        fill(network, path, "torchvision's Inception v3")
        network.fc = nn.Identity()
        return cls(network, device)

    @torch.inference_mode()
    def __call__(self, face: np.ndarray) -> Tensor:
        """[2048] of a face crop, uint8 RGB: 299 x 299 (Pillow's bilinear), 0..1, not normalised."""
        resized = Image.fromarray(face).resize((FID_SIDE, FID_SIDE), Image.Resampling.BILINEAR)
        features: Tensor = self.network((as_tensor([np.asarray(resized)]) / 255).to(self.device))
        return features[0].cpu()


def face_feature_distance(one: Tensor, other: Tensor) -> float:
    """What ConsisID's script prints as "FID": the squared distance of two feature vectors [2048].

    It compares one face crop with one other, each taken twice, so that both covariances are zero and the Frechet
    distance is the distance of two points. No FID library gives this number.
    """
    return float((one.double() - other.double()).square().sum())


class FidInception:
    """The Inception of the original FID, as NVIDIA's TorchScript file holds it."""

    def __init__(self, network: Any, device: torch.device | str = "cpu") -> None:
        self.network, self.device = network.eval().to(device), device

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> FidInception:
        """Raises WrongModelFile."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # PyTorch's, about TorchScript's future
                return cls(torch.jit.load(path, map_location="cpu"), device)
        except RuntimeError as error:
            reason = str(error).strip().partition("\n")[0]
            raise WrongModelFile(
                f"{path} cannot be read as FID's Inception ({reason}); {DOWNLOAD}"
            ) from error

    @torch.inference_mode()
    def __call__(self, frame: np.ndarray) -> Tensor:
        """float32 [2048] of uint8 RGB [H, W, 3], resized as clean-fid does: Pillow's bicubic in floating point,
        antialiased, clipped, not rounded."""
        channels = [Image.fromarray(channel) for channel in frame.transpose(2, 0, 1).astype(np.float32)]
        resized = [channel.resize((FID_SIDE, FID_SIDE), Image.Resampling.BICUBIC) for channel in channels]
        pixels = torch.from_numpy(np.stack([np.asarray(channel) for channel in resized]).clip(0, 255))
        features: Tensor = self.network.layers((pixels[None].to(self.device) - 128) / 128)
        return features.flatten().cpu()


def frechet_distance(ours: Tensor, others: Tensor) -> float:
    """FID: the Fréchet distance between the normal distributions of two sets of features, [N, C] and [M, C].

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) with means m and covariances S. With S = A^T A, A the centred features
    over sqrt(N - 1), the last trace is the sum of the singular values of A1 A2^T: exact, and milliseconds for some
    hundred frames where the root of a 2048 x 2048 matrix takes a minute. Below some thousand frames FID is biased
    upwards: compare it only between sets of the same size.
    Raises InvalidRequest for fewer than two frames in either.
    """
    if min(len(ours), len(others)) < 2:
        raise InvalidRequest(f"FID needs at least two frames of each, not {len(ours)} and {len(others)}")
    means, factors = [], []
    for features in (ours.double(), others.double()):
        mean = features.mean(0)
        factor = (features - mean) / (len(features) - 1) ** 0.5
        if len(factor) > factor.shape[1]:
            factor = torch.linalg.qr(factor, mode="r").R  # [C, C] with the same A^T A
        means.append(mean)
        factors.append(factor)
    root = torch.linalg.svdvals(factors[0] @ factors[1].T).sum()
    spread = sum(factor.square().sum() for factor in factors)
    return float((means[0] - means[1]).square().sum() + spread - 2 * root)
