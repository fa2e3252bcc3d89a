"""Face parsing with BiSeNet (arXiv 1808.00897): which pixels of an aligned face are face.

The network is the one of the released parsing_bisenet.pth (ResNet-18 context path, whose 1/8 features also serve
as the spatial path; 19 classes of CelebAMask-HQ), with its parameter names. The two auxiliary heads in that file,
conv_out16 and conv_out32, are for training and are not loaded.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..weights.family import PARSER, Shapes, open_family
from ..weights.loading import load

CLASSES = 19
WIDTH = 64  # channels after the first convolution, which all others are multiples of; the released network's
# background 0, ears 7 and 8, earring 9, neck 14, necklace 15, clothes 16, hat 18
NOT_FACE = (0, 7, 8, 9, 14, 15, 16, 18)
_TRAINING_HEADS = ("conv_out16.", "conv_out32.")


class ConvNorm(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class ResidualBlock(nn.Module):
    """ResNet's basic block: two 3 x 3 convolutions around a skip, which is projected where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.downsample is None else self.downsample(x)
        return F.relu(skip + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class ResNet18(nn.Module):
    """Features at 1/8 (2 width channels), 1/16 (4 width) and 1/32 (8 width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = self._layer(width, width, 1)
        self.layer2 = self._layer(width, 2 * width, 2)
        self.layer3 = self._layer(2 * width, 4 * width, 2)
        self.layer4 = self._layer(4 * width, 8 * width, 2)

    @staticmethod
    def _layer(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        first = ResidualBlock(inputs, outputs, stride)
        return nn.Sequential(first, ResidualBlock(outputs, outputs, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, padding=1)
        eighth = self.layer2(self.layer1(x))
        sixteenth = self.layer3(eighth)
        return eighth, sixteenth, self.layer4(sixteenth)


class AttentionRefinement(nn.Module):
    """Channels weighed by what the whole picture holds of them (paper, section 3.2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = ConvNorm(inputs, outputs, 3)
        self.conv_atten = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        features = self.conv(x)
        weights = self.bn_atten(self.conv_atten(_mean(features)))  # [B, C, 1, 1]
        return features * weights.sigmoid()


class ContextPath(nn.Module):
    """From coarse to fine: the picture's mean, 1/32 and 1/16 refined and added on the way up to 1/8."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.resnet = ResNet18(width)
        self.arm16 = AttentionRefinement(4 * width, 2 * width)
        self.arm32 = AttentionRefinement(8 * width, 2 * width)
        self.conv_head32 = ConvNorm(2 * width, 2 * width, 3)
        self.conv_head16 = ConvNorm(2 * width, 2 * width, 3)
        self.conv_avg = ConvNorm(8 * width, 2 * width, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        eighth, sixteenth, thirtysecond = self.resnet(x)
        context = self.arm32(thirtysecond) + self.conv_avg(_mean(thirtysecond))
        context = self.conv_head32(F.interpolate(context, sixteenth.shape[-2:]))  # nearest
        context = self.arm16(sixteenth) + context
        return eighth, self.conv_head16(F.interpolate(context, eighth.shape[-2:]))


class FeatureFusion(nn.Module):
    """Spatial and context features as one, channels weighed as in AttentionRefinement (paper, section 3.3)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convblk = ConvNorm(4 * width, 4 * width, 1)
        self.conv1 = nn.Conv2d(4 * width, width, 1, bias=False)
        self.conv2 = nn.Conv2d(width, 4 * width, 1, bias=False)

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        features = self.convblk(torch.cat([spatial, context], 1))  # [B, 2 width + 2 width, h, w]
        weights = self.conv2(F.relu(self.conv1(_mean(features))))  # [B, 4 width, 1, 1]
        return features + features * weights.sigmoid()


class Head(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = ConvNorm(4 * width, 4 * width, 3)
        self.conv_out = nn.Conv2d(4 * width, CLASSES, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.conv(x))


class BiSeNet(nn.Module):
    """Class logits of every pixel: [B, 3, H, W], ImageNet-normalised RGB, to [B, 19, H, W]."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.cp = ContextPath(width)
        self.ffm = FeatureFusion(width)
        self.conv_out = Head(width)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.conv_out(self.ffm(*self.cp(x)))  # [B, 19, H / 8, W / 8]
        return F.interpolate(logits, x.shape[-2:], mode="bilinear", align_corners=True)


def _mean(x: Tensor) -> Tensor:
    """Over the whole picture: [B, C, h, w] -> [B, C, 1, 1]."""
    return x.mean((2, 3), keepdim=True)


class FaceParser:
    """Separates a face from its background."""

    def __init__(self, network: BiSeNet) -> None:
        self.network = network.eval()

    @classmethod
    def load(cls, path: str | Path) -> FaceParser:
        """From parsing_bisenet.pth or the same tensors as .safetensors, in float32; the width is read off them.

        Raises ModelFileMissing, or WrongModelFile for a damaged file or another network.
        """
        opened = open_family(path, PARSER).without(_TRAINING_HEADS)
        with torch.device("meta"):
            network = BiSeNet(_width(opened.shapes))
        return cls(load(network, opened).to(torch.float32))

    @torch.no_grad()
    def labels(self, aligned: np.ndarray) -> np.ndarray:
        """The class of every pixel, 0..18: uint8 [H, W] for an aligned face, uint8 RGB [H, W, 3]."""
        device = next(self.network.parameters()).device  # wherever a host has moved it
        pixels = torch.tensor(aligned, device=device).permute(2, 0, 1)[None] / 255
        mean = torch.tensor([0.485, 0.456, 0.406], device=device).view(3, 1, 1)  # ImageNet's
        deviation = torch.tensor([0.229, 0.224, 0.225], device=device).view(3, 1, 1)
        logits = self.network((pixels - mean) / deviation)  # [1, 19, H, W]
        return logits[0].argmax(0).to(torch.uint8).cpu().numpy()

    def mask(self, aligned: np.ndarray) -> np.ndarray:
        """Where there is face (skin, features, hair, glasses): bool [H, W]."""
        return ~np.isin(self.labels(aligned), NOT_FACE)

    def face_picture(self, aligned: np.ndarray) -> np.ndarray:
        """The aligned face with everything else black: uint8 [H, W, 3]."""
        return aligned * self.mask(aligned)[..., None]


def _width(shapes: Shapes) -> int:
    first = shapes["cp.resnet.conv1.weight"]
    return first[0] if len(first) == 4 and first[0] else WIDTH
