"""The benchmarks' scripts run, here with small things to measure; what they measure is no business of tests."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from benchmarks import cpu, full_size, gpu, scale
from echovideo_model.tiny.networks import TRANSFORMER_SIZES

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


def test_the_table_of_workers_finds_the_driver_s_limit(capsys: Captured) -> None:
    free = dict.fromkeys(scale.WORKERS, 1e-12)
    scale.print_table(job=0.01, wait=free, megabyte=0.0, seconds=100, video=3)
    printed = capsys.readouterr().out
    assert "at 10,000 workers" in printed  # a hundredth of a second each, a hundred seconds long
    assert [line.split()[1] for line in printed.splitlines()[2:6]] == ["1", "8", "64", "1000"]
    assert "| 10.00% |" in printed
