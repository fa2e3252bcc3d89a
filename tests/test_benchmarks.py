"""The benchmarks' scripts run, here with small things to measure; what they measure is no business of tests."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks import cpu, full_size, gpu, long_videos, memory, on_nano, scale, steps
from echovideo_model.pipeline import Pipeline
from echovideo_model.tiny.networks import TRANSFORMER_SIZES

README = Path(__file__).parents[1] / "README.md"

Captured = pytest.CaptureFixture[str]


def test_the_gpu_s_benchmark_compares_with_diffusers(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = ["--height", "64", "--width", "64", "--frames", "1"]
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cpu", "--blocks", "1", "--rounds", "1", *size])
    gpu.main()
    ratio = re.search(r"^ours / diffusers: (\d+\.\d+)$", capsys.readouterr().out, re.MULTILINE)
    assert ratio is not None
    assert float(ratio[1]) > 0


def test_the_cpu_s_benchmark_finds_both_sides_equal(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cpu.CASES, "small", lambda: cpu._transformer(4, 6))
    monkeypatch.setattr(cpu, "measure_memory", lambda name, side: 1.0)  # in a process that knows no "small"
    monkeypatch.setattr(cpu, "THREADS", 1)
    monkeypatch.setattr(sys, "argv", ["cpu", "--rounds", "1", "small"])
    cpu.main()
    assert float(capsys.readouterr().out.split()[-1]) < 1e-4  # the largest difference


@pytest.mark.skipif(sys.platform == "win32", reason="asks the system as POSIX has it")
def test_the_files_benchmark_runs_every_command_and_leaves_nothing(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(full_size, "SIZES", TRANSFORMER_SIZES)
    monkeypatch.setattr(sys, "argv", ["full_size", str(tmp_path)])
    full_size.main()
    rows = capsys.readouterr().out.splitlines()
    assert [row.split("|")[1].strip().split()[0] for row in rows[2:]] == [
        "inspect",
        "convert",
        "convert",
        "load",
        "load",
    ]
    assert list(tmp_path.iterdir()) == []


def test_live_bytes_are_those_that_pytorch_s_profiler_sees(pipeline: Pipeline) -> None:
    x, tokens = torch.zeros(1, 16, 5, 16, 16), pipeline.encode_prompts(["A woman waves."])["A woman waves."]

    def predict() -> None:
        pipeline.transformer(x, torch.tensor([1]), tokens, attend=memory.FusedAttention())

    predict()  # makes the table of rotations, which is kept
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        predict()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    with torch.no_grad(), memory.LiveBytes() as live:
        predict()
    assert live.peak == pytest.approx(np.cumsum(changes).max(), rel=0.05)
    assert live.now < live.peak / 10


def test_readme_s_table_of_memory_is_the_computed_one() -> None:
    rows = [
        line
        for line in README.read_text(encoding="utf-8").splitlines()
        if line.startswith("| memory of the GPU, 848 x 480")
    ]
    figures = " | ".join(f"{memory.count_sampling(848, 480, dtype) / 1e9:.1f} GB" for dtype in memory.WEIGHTS)
    assert rows == [f"| memory of the GPU, 848 x 480, 49 frames | {figures} |"]


def test_the_table_of_workers_finds_the_driver_s_limit(capsys: Captured) -> None:
    free = dict.fromkeys(scale.WORKERS, 1e-12)
    scale.print_table(job=0.01, wait=free, megabyte=0.0, seconds=100, video=3)
    printed = capsys.readouterr().out
    assert "at 10,000 workers" in printed  # a hundredth of a second each, a hundred seconds long
    assert [line.split()[1] for line in printed.splitlines()[2:6]] == ["1", "8", "64", "1000"]
    assert "| 10.00% |" in printed


def made(value: int, curve: tuple[float | None, ...] = (1.0,)) -> on_nano.Made:
    return on_nano.Made(np.full((2, 4, 4, 3), value, np.uint8), 1.0, curve, "")


def test_psnr_is_of_the_mean_error_over_all_videos() -> None:
    assert on_nano.psnr([(made(10), made(10))]) == float("inf")
    one, two = (made(10), made(10)), (made(10), made(30))
    assert on_nano.psnr([two]) == pytest.approx(20 * np.log10(255 / 20))
    assert on_nano.psnr([one, two]) == pytest.approx(on_nano.psnr([two]) + 10 * np.log10(2))


def test_a_frame_without_a_face_counts_as_no_likeness() -> None:
    video = made(0, (0.8, None, 0.6, 0.6))
    assert video.similarity == pytest.approx(0.5)
    assert video.faces == 0.75


def test_likeness_over_time_is_the_mean_of_all_videos_in_equal_parts() -> None:
    rising, none = tuple(np.arange(16) / 16), (None,) * 16
    parts = long_videos.over_time([made(0, rising), made(0, none)])
    assert parts == pytest.approx([(2 * part + 0.5) / 32 for part in range(8)])


def test_only_the_sampling_is_timed() -> None:
    times = iter([3.0, 7.5])

    class Process:
        def cpu_times(self) -> SimpleNamespace:
            return SimpleNamespace(user=next(times), system=0.0)

    watch = on_nano.Stopwatch(Process())  # type: ignore[arg-type]
    for name in ("model", "latents", "frames", None):
        watch({"type": "executing", "data": {"node": name}})
        watch({"type": "progress", "data": {"value": 1}})
    assert watch.seconds == 4.5


@pytest.mark.parametrize(
    ("log", "shown"), [("EasyCache - skipped 6/20 steps (1.43x speedup).", "6.0"), ("got prompt", "")]
)
def test_the_steps_skipped_are_the_hosts_own_count(log: str, shown: str) -> None:
    row = [on_nano.Made(np.zeros(0), 1.0, (), f"{log}\n")] * 2
    assert steps.steps_skipped(row) == shown
