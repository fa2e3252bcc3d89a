"""Time and memory of our networks against diffusers' on a CPU: float32, two threads, real channel widths.

    python -m benchmarks.cpu [--rounds 3] [CASE ...]

Both sides get the same seeded weights and inputs. Time: within one process, ours, theirs and a plain matrix product
take turns, and the medians over the rounds are compared, in seconds and in processor seconds (`cpu`), which other
processes disturb less. `floor`: processor seconds of each side as a multiple of what its operations would take at the
matrix product's own rate; the operations are those of theirs. Memory: each side runs once in a fresh process; counted
is the highest resident size during the run, above the size just before it (network and inputs loaded, freed memory
returned to the system). The last column is the largest difference between the two results, relative to the largest
value of theirs.

A case is a function that returns a Case; CASES at the end names them all.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from echovideo_model.iitf import IITFSizes
from echovideo_model.rotary import rotary_table
from echovideo_model.tiny.weights import draw_state
from echovideo_model.transformer import EchoVideoTransformer, TransformerSizes
from echovideo_model.vae.autoencoder import CogVideoXVAE, VAESizes

THREADS = 2
PRODUCT = 4352, 512, 2048  # rows, inner and columns of the matrix product whose rate is the floor's
# PyTorch's counter knows the attentions of GPUs alone.
CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
Run = Callable[[], Tensor]


@dataclass(frozen=True)
class Case:
    """Two ways to the same result. Each builder loads a network and returns the function that is measured."""

    ours: Callable[[], Run]
    theirs: Callable[[], Run]
    time_goal: float
    memory_goal: float | None = None


def transformer() -> Case:
    """One forward of 4 blocks of 8 heads x 64 on latents of 5 x 30 x 53, batch 2, context of the released size."""
    return _transformer(30, 53)


def transformer_480p() -> Case:
    """The same on the latents of 480 x 848 pixels, where attention over 8176 tokens is most of the work."""
    return _transformer(60, 106)


def _transformer(height: int, width: int) -> Case:
    latents, context, timesteps = (
        draw_noise(2, 32, 5, height, width),
        draw_noise(2, IITFSizes.text_tokens, IITFSizes.text_width),
        torch.tensor([999, 500]),
    )

    def ours() -> Run:
        network = seed_network(EchoVideoTransformer(replace(TransformerSizes(), blocks=4, heads=8)))
        noisy, face = latents[:, :16], latents[:, 16:, :1]
        return lambda: network(noisy, timesteps, context, face)

    def theirs() -> Run:
        from diffusers import CogVideoXTransformer3DModel

        network = seed_network(
            CogVideoXTransformer3DModel(
                num_attention_heads=8,
                in_channels=32,
                num_layers=4,
                use_rotary_positional_embeddings=True,
            )
        )
        table = rotary_table(5, height // 2, width // 2)  # diffusers' own table differs from the reference's
        rotary = tuple(part.repeat_interleave(2, dim=-1) for part in (table.real, table.imag))
        both = latents.clone()
        both[:, 16:, 1:] = 0
        both = both.transpose(1, 2)
        return lambda: network(both, context, timesteps, image_rotary_emb=rotary).sample.transpose(1, 2)

    return Case(ours, theirs, time_goal=0.85)


def vae_decode() -> Case:
    """17 frames at 192 x 256 out of latents."""
    latents = draw_noise(1, 16, 5, 24, 32)

    def ours() -> Run:
        vae = _our_vae()
        return lambda: vae.decode(latents)

    def theirs() -> Run:
        vae = _their_vae()
        return lambda: vae.decode(latents).sample

    return Case(ours, theirs, time_goal=0.65, memory_goal=0.45)


def vae_encode() -> Case:
    """One picture of 480 x 848 to a latent, as the face picture is."""
    picture = draw_noise(1, 3, 1, 480, 848)

    def ours() -> Run:
        vae = _our_vae()
        return lambda: vae.encode(picture)[0]

    def theirs() -> Run:
        vae = _their_vae()
        return lambda: vae.encode(picture).latent_dist.mean

    return Case(ours, theirs, time_goal=0.8)


def _our_vae() -> CogVideoXVAE:
    return seed_network(CogVideoXVAE(VAESizes()))


def _their_vae() -> nn.Module:
    from diffusers import AutoencoderKLCogVideoX

    return seed_network(AutoencoderKLCogVideoX.from_config(VAESizes().config()))


def seed_network(network: nn.Module) -> nn.Module:
    network.load_state_dict(draw_state(network))
    return network.eval()


def draw_noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


CASES: dict[str, Callable[[], Case]] = {
    "transformer": transformer,
    "transformer_480p": transformer_480p,
    "vae_decode": vae_decode,
    "vae_encode": vae_encode,
}


def attention_flop(q: torch.Size, k: torch.Size, *_: object, **__: object) -> int:
    """Of two products, queries [B, heads, N, width] with keys [B, heads, M, width] and their weights with values."""
    return 4 * math.prod(q) * k[2]


class Taken(NamedTuple):
    """Medians of what one side takes."""

    seconds: float
    cpu: float  # of all threads together


def measure_time(case: Case, rounds: int) -> tuple[Taken, Taken, float, float]:
    """Ours, theirs, the processor seconds of theirs' operations at the rate of a plain matrix product, and the
    largest difference between the results relative to their largest value."""
    a, b = draw_noise(*PRODUCT[:2]), draw_noise(*PRODUCT[1:])
    with FlopCounterMode(display=False, custom_mapping={CPU_ATTENTION: attention_flop}) as counter:
        theirs = case.theirs()
        theirs()
    runs = case.ours(), theirs, lambda: a @ b
    taken: list[list[Taken]] = [[] for _ in runs]
    for _ in range(rounds):
        results = []
        for run, times in zip(runs, taken, strict=True):
            start = time.perf_counter(), time.process_time()
            results.append(run())
            times.append(Taken(time.perf_counter() - start[0], time.process_time() - start[1]))
    ours, theirs_, product = (Taken(*map(median, zip(*times, strict=True))) for times in taken)
    floor = product.cpu * counter.get_total_flops() / (2 * math.prod(PRODUCT))
    difference = (results[0] - results[1]).abs().max() / results[1].abs().max()
    return ours, theirs_, floor, float(difference)


def measure_memory(name: str, side: str) -> float:
    """MiB that one run of `side` takes above what stood before it; in a process of its own, on Linux."""
    command = [sys.executable, "-m", "benchmarks.cpu", name, "--peak", side]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8").stdout)


def print_peak(case: Case, side: str) -> None:
    run: Run = getattr(case, side)()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what building the weights has freed would hide what the run takes
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the highest resident size starts anew
    before = _resident("VmRSS")
    run()
    print(_resident("VmHWM") - before)


def _resident(key: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--peak", choices=["ours", "theirs"], help="only print one run's MiB (used internally)"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    with torch.inference_mode():
        if arguments.peak:
            print_peak(CASES[arguments.cases[0]](), arguments.peak)
        else:
            print_table(arguments.cases, arguments.rounds)


def print_table(names: list[str], rounds: int) -> None:
    columns = "{:<16} {:>8} {:>8} {:>6} {:>5} {:>6} {:>6} {:>6}   {:>8} {:>10} {:>6} {:>5}   {:>8}"
    times = "ours s", "theirs s", "ratio", "goal", "cpu", "floor", "theirs"
    print(columns.format("case", *times, "ours MiB", "theirs MiB", "ratio", "goal", "max diff"))
    for name in names:
        case = CASES[name]()
        ours, theirs, floor, difference = measure_time(case, rounds)
        our_peak, their_peak = (measure_memory(name, side) for side in ("ours", "theirs"))
        goal = "-" if case.memory_goal is None else f"{case.memory_goal:.2f}"
        print(
            columns.format(
                name,
                f"{ours.seconds:.2f}",
                f"{theirs.seconds:.2f}",
                f"{ours.seconds / theirs.seconds:.3f}",
                f"{case.time_goal:.2f}",
                f"{ours.cpu / theirs.cpu:.3f}",
                f"{ours.cpu / floor:.2f}",
                f"{theirs.cpu / floor:.2f}",
                f"{our_peak:.0f}",
                f"{their_peak:.0f}",
                f"{our_peak / their_peak:.3f}",
                goal,
                f"{difference:.1e}",
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
