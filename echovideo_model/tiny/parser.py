"""A face parser with nothing to train: whatever is not blue is skin.

BiSeNet's widths are part of its released form and so stay, but only two of its channels are used: how warm a
place is (redder than blue) and how cold. They are carried unchanged to the head, which weighs one against the
other. So the blue and teal backgrounds of the portraits in assets/ become black, while skin, hair, lips
and everything grey is kept. All other weights are next to nothing (zeros alone would be taken for a hole that a
download left); a number repeated to a shape is one number in the file.
"""

from __future__ import annotations

import io

import torch
from torch import Tensor

from ..face.parse import BiSeNet

BACKGROUND, SKIN = 0, 1  # of the 19 classes
FREEZING = (
    -1.0
)  # red minus blue in ImageNet's units, between warm and cold: grey is at -0.35, blue skies below
NOTHING = 1e-12
COLD = 5.0  # weighs more than warmth: skies are less blue than skin is red


def make_parser_weights() -> dict[str, Tensor]:
    """The state dict of parsing_bisenet.pth, float32."""
    with torch.device("meta"):
        shapes = {name: entry.shape for name, entry in BiSeNet().state_dict().items()}
    state = {name: _constant(name, shape) for name, shape in shapes.items()}

    def set_entry(name: str, *index: int, value: float) -> None:
        state[name] = state[name].clone(memory_format=torch.contiguous_format)
        state[name][index] = value

    for channel, sign in ((0, 1), (1, -1)):
        for row in (2, 3, 4):  # the middle of the 7 x 7 kernel
            for column in (2, 3, 4):
                set_entry("cp.resnet.conv1.weight", channel, 0, row, column, value=sign / 9)  # red
                set_entry("cp.resnet.conv1.weight", channel, 2, row, column, value=-sign / 9)  # blue
        set_entry("cp.resnet.bn1.bias", channel, value=-sign * FREEZING)
        set_entry("cp.resnet.layer2.0.downsample.0.weight", channel, channel, 0, 0, value=1)
        set_entry("ffm.convblk.conv.weight", channel, channel, 0, 0, value=1)
        set_entry("conv_out.conv.conv.weight", channel, 0, 1, 1, value=sign)
        set_entry("conv_out.conv.conv.weight", channel, 1, 1, 1, value=-sign * COLD)
        set_entry("conv_out.conv_out.weight", (SKIN, BACKGROUND)[channel], channel, 0, 0, value=1)
    return state


def _constant(name: str, shape: torch.Size) -> Tensor:
    """Batch norms that change nothing, next to nothing otherwise: one number, repeated without copies."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    unchanged = name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1)
    matrix = NOTHING if len(shape) > 1 else 0.0
    return torch.full((), 1.0 if unchanged else matrix).expand(shape)


def make_parser_file() -> bytes:
    """parsing_bisenet.pth."""
    file = io.BytesIO()
    torch.save(make_parser_weights(), file)
    return file.getvalue()
