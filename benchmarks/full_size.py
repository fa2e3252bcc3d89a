"""What the command line takes for the transformer in its real size: seconds, memory, sizes of files.

    python -m benchmarks.full_size FOLDER          (on a disk with 30 GB free; what is made there is removed again)

A transformer with the released shapes (5.6e9 parameters) and seeded weights is written to FOLDER in the released
layout, two shards in bf16. Then each command runs in a process of its own. Memory: the process's highest resident
size; pages of mapped files count, although the system takes them back when it needs them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from echovideo_model.transformer import EchoVideoTransformer, TransformerSizes
from echovideo_model.weights.family import list_shapes
from echovideo_model.weights.writing import write_folder

STEM = "diffusion_pytorch_model"
SIZES = TransformerSizes()
LOAD = """
import sys
from echovideo_model.weights.loading import load_transformer
network = load_transformer(sys.argv[1])
"""


def write_released(folder: Path) -> Path:
    """The shards and their index, with small random weights; returns the index."""
    with torch.device("meta"):
        shapes = list_shapes(EchoVideoTransformer(SIZES))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1 << 24, generator=generator).mul_(0.02).to(torch.bfloat16)

    def read(names: Iterable[str]) -> Iterator[Tensor]:
        for name in names:
            count = torch.Size(shapes[name]).numel()
            yield noise.repeat(-(-count // len(noise)))[:count].reshape(shapes[name])

    planned = {name: (shape, torch.bfloat16) for name, shape in shapes.items()}
    return write_folder(folder, STEM, planned, read, {})


def measured(*command: str) -> tuple[float, float]:
    """Wall-clock seconds and peak resident GB of a Python process; raises if it fails."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if status:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e9


def size_of(path: Path) -> float:
    """GB of the weights at `path`, a file or an index beside its shards."""
    files = [path] if path.suffix == ".safetensors" else path.parent.glob("*.safetensors")
    return sum(file.stat().st_size for file in files) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    with tempfile.TemporaryDirectory(dir=parser.parse_args().folder) as made:
        index = write_released(Path(made) / "transformer")
        one, small = Path(made) / "bf16.safetensors", Path(made) / "fp8.safetensors"
        convert = ("-m", "echovideo_model", "convert", str(index))
        rows = (
            ("inspect the shards", ("-m", "echovideo_model", "inspect", str(index)), index),
            ("convert to one file, bf16", (*convert, str(one)), one),
            ("convert to one file, fp8", (*convert, str(small), "--weight-dtype", "fp8_e4m3fn"), small),
            ("load the shards", ("-c", LOAD, str(index)), index),
            ("load the fp8 file", ("-c", LOAD, str(small)), small),
        )
        print("| command | seconds | peak resident GB | GB on disk |\n|---|---|---|---|")
        for name, command, file in rows:
            seconds, memory = measured(*command)
            print(f"| {name} | {seconds:.1f} | {memory:.2f} | {size_of(file):.2f} |", flush=True)


if __name__ == "__main__":
    main()
