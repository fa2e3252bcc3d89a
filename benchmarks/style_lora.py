"""A LoRA of the style sepia for the nano model (docs/training.md), in ComfyUI's own loader.

    COMFYUI_PATH=path/to/ComfyUI python -m benchmarks.style_lora LORA [--people 3] [--sheet FILE]

The same people and sentences without the LoRA and with it. In a sepia picture red is at least green, and green at least
blue; the table has the share of pixels where that is so. The sheet has five frames of each video.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from einops import rearrange
from PIL import Image

from benchmarks.on_nano import (
    Subject,
    average,
    invite,
    ksampler,
    make,
    nano_host,
    parse,
    person,
    print_table,
    watched,
)
from testbed.graphs import Graph, node, out
from testbed.harness import Host

STEPS = 20


def main() -> None:
    arguments = parse(
        __doc__,
        3,
        lambda parser: (
            parser.add_argument("lora", type=Path),
            parser.add_argument("--sheet", type=Path),
        ),
    )
    with nano_host() as host:
        folder = host.base / "models" / "loras"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(arguments.lora, folder / "style.safetensors")
        videos = [make_both(host, subject) for subject in invite(host, arguments.people)]
    shares = [[sepia_share(frames) for frames in pair] for pair in videos]
    rows = [(str(who), *(f"{share:.2f}" for share in pair)) for who, pair in enumerate(shares)]
    means = ("mean", *(f"{average(column):.2f}" for column in zip(*shares, strict=True)))
    print_table(("person", "without", "with the LoRA"), [*rows, means])
    if arguments.sheet:
        strips = [rearrange(frames[::4], "f h w c -> h (f w) c") for pair in videos for frames in pair]
        Image.fromarray(np.concatenate(strips)).save(arguments.sheet)


def make_both(host: Host, subject: Subject) -> list[np.ndarray]:
    """Frames uint8 [F, H, W, 3] without the LoRA and with it."""
    lora: Graph = {
        "lora": node(
            "LoraLoaderModelOnly", model=out("model"), lora_name="style.safetensors", strength_model=1.0
        )
    }
    scene = person(subject) | lora | watched()
    return [make(host, scene | ksampler(subject, STEPS, model)).frames for model in ("model", "lora")]


def sepia_share(frames: np.ndarray) -> float:
    red, green, blue = (frames[..., channel] for channel in range(3))
    return float(((red >= green) & (green >= blue)).mean())


if __name__ == "__main__":
    main()
