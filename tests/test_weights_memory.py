"""Loading takes the memory of what is made, converting that of one tensor, whatever the size of the file."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from echovideo_model.tiny.networks import TRANSFORMER_SIZES
from echovideo_model.tiny.weights import draw_parameter
from echovideo_model.transformer import EchoVideoTransformer
from echovideo_model.weights.family import list_shapes
from echovideo_model.weights.writing import write_file

if sys.platform != "linux":
    pytest.skip("needs Linux's account of a process's memory", allow_module_level=True)

MEASURE = """
import json, sys
from pathlib import Path
import torch
from echovideo_model.weights.loading import convert, load_transformer

def kilobytes(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(field))

def peak(work):
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest level so far
    before = kilobytes("VmRSS")
    made = work()  # still there when the peak is read
    return 1024 * (kilobytes("VmHWM") - before)

file, target = map(Path, sys.argv[1:])
fp8 = torch.float8_e4m3fn
torch.set_num_threads(2)
load_transformer(sys.argv[1]).proj_out.weight.to(fp8)  # what every process loads once: code, thread pools
print(json.dumps({
    "load": peak(lambda: load_transformer(file)),
    "cast": peak(lambda: load_transformer(file, fp8)),
    "convert": peak(lambda: convert(file, target / "one.safetensors", "file", fp8)),
    "shard": peak(lambda: convert(file, target / "shards", "folder")),
}))
"""


def test_memory_follows_what_is_made_and_not_the_file(tmp_path: Path) -> None:
    """Peak resident memory, pages of mapped files counted in, above the level before, in a process of its own."""
    with torch.device("meta"):
        network = EchoVideoTransformer(replace(TRANSFORMER_SIZES, blocks=12, heads=16))
    shapes = list_shapes(network)

    def read(names: Iterable[str]) -> Iterator[Tensor]:
        return (draw_parameter(name, shapes[name]).bfloat16() for name in names)

    file = tmp_path / "large.safetensors"
    write_file(file, {name: (shape, torch.bfloat16) for name, shape in shapes.items()}, read, {})
    size, largest = file.stat().st_size, 2 * max(map(math.prod, shapes.values()))
    assert size > 290e6
    assert 6 * largest < 0.2 * size

    done = subprocess.run(
        [sys.executable, "-c", MEASURE, file, tmp_path], capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    peaks = json.loads(done.stdout)
    made = (tmp_path / "one.safetensors").stat().st_size  # what casting makes, in memory as in the file
    assert made < 0.6 * size
    assert peaks["load"] <= 6 * largest  # nothing is made: the weights stay in the file
    assert peaks["cast"] <= 1.1 * made
    assert peaks["convert"] <= 6 * largest
    assert peaks["shard"] <= 6 * largest
