"""One step of the full-size transformer on a GPU, bf16: against diffusers' and against the matrix ceiling.

    python -m benchmarks.gpu [--height 480 --width 848 --frames 49] [--rounds 5]

Prints milliseconds per forward (batch 2, as guidance needs it), the ratio to diffusers' CogVideoXTransformer3DModel
with the same weights, the share of the bf16 ceiling that each reaches, and the peak memory. The ceiling is what an
8192 x 8192 x 8192 product reaches on the same device in the same run; the work counted is that of the matrix products
and of attention. Weights are seeded (5.6e9 parameters, 11.2 GB each side; the sides take turns on the device).
With --device cpu and --blocks 1 it runs anywhere, to try the script itself; those figures mean nothing.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch
from torch import Tensor, nn

from echovideo_model.rotary import rotary_table
from echovideo_model.transformer import EchoVideoTransformer, TransformerSizes

BATCH = 2


def seconds_of(run: Callable[[], object], rounds: int, device: torch.device) -> float:
    """Median wall-clock seconds of `run`, after one uncounted call."""
    taken = []
    for count in range(rounds + 1):
        _wait(device)
        start = time.perf_counter()
        run()
        _wait(device)
        if count:
            taken.append(time.perf_counter() - start)
    return median(taken)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ceiling(device: torch.device, rounds: int) -> float:
    """Operations per second of a large bf16 matrix product."""
    n = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * n**3 / seconds_of(lambda: a @ b, rounds, device)


def work(sizes: TransformerSizes, tokens: int) -> float:
    """Operations of one forward: 12 width^2 products a token and block, and attention's two."""
    per_block = 2 * 12 * sizes.width**2 * tokens + 4 * sizes.width * tokens**2
    return float(BATCH * sizes.blocks * per_block)


def filled(network: nn.Module, device: torch.device) -> nn.Module:
    """The network, made on the meta device, with small random bf16 weights on `device`."""
    network = network.to(torch.bfloat16).to_empty(device=device).eval().requires_grad_(False)
    generator = torch.Generator(device).manual_seed(0)
    for parameter in network.parameters():
        parameter.normal_(0, 0.02, generator=generator)
    return network


def ours(
    sizes: TransformerSizes, device: torch.device, x: Tensor, t: Tensor, context: Tensor
) -> Callable[[], object]:
    with torch.device("meta"):
        network = EchoVideoTransformer(sizes)
    network = filled(network, device)  # type: ignore[assignment]
    noisy, face = x[:, :16], x[:, 16:, :1]
    return lambda: network(noisy, t, context, face)


def theirs(
    sizes: TransformerSizes, device: torch.device, x: Tensor, t: Tensor, context: Tensor
) -> Callable[[], object]:
    from diffusers import CogVideoXTransformer3DModel

    with torch.device("meta"):
        network = CogVideoXTransformer3DModel(
            num_attention_heads=sizes.heads,
            in_channels=sizes.in_channels,
            num_layers=sizes.blocks,
            use_rotary_positional_embeddings=True,
        )
    network = filled(network, device)
    table = rotary_table(x.shape[2], x.shape[3] // 2, x.shape[4] // 2)
    rotary = tuple(part.repeat_interleave(2, dim=-1).to(device) for part in (table.real, table.imag))
    both = x.transpose(1, 2).contiguous()
    return lambda: network(both, context, t, image_rotary_emb=rotary)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=848)
    parser.add_argument("--frames", type=int, default=49)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--blocks", type=int, default=TransformerSizes().blocks)
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    device, sizes = torch.device(args.device), replace(TransformerSizes(), blocks=args.blocks)
    text = sizes.iitf
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA GPU here; --device cpu --blocks 1 --frames 1 tries the script")
    grid = ((args.frames - 1) // 4 + 1, args.height // 8, args.width // 8)
    x = torch.randn(BATCH, 32, *grid, device=device, dtype=torch.bfloat16)
    context = torch.randn(BATCH, text.text_tokens, text.text_width, device=device, dtype=torch.bfloat16)
    t = torch.full((BATCH,), 500, device=device)
    operations = work(sizes, text.text_tokens + grid[0] * grid[1] * grid[2] // 4)
    most = ceiling(device, args.rounds)
    print(
        f"{torch.cuda.get_device_name() if device.type == 'cuda' else 'CPU'}, bf16 ceiling {most / 1e12:.0f} TFLOP/s"
    )
    print(f"{'side':<10} {'ms':>9} {'of ceiling':>11} {'peak GiB':>9}")
    taken = {}
    for name, side in (("ours", ours), ("diffusers", theirs)):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        run = side(sizes, device, x, t, context)
        taken[name] = seconds_of(run, args.rounds, device)
        peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else float("nan")
        print(f"{name:<10} {taken[name] * 1e3:9.1f} {operations / taken[name] / most:11.1%} {peak:9.2f}")
        del run
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    print(f"ours / diffusers: {taken['ours'] / taken['diffusers']:.3f}")


if __name__ == "__main__":
    main()
