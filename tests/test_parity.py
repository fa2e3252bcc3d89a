"""Every recorded number of the reference is reproduced, and the judge that says so can also say no."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks.parity import CHECKS, check_file, main

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", CHECKS)
def test_the_reference_is_reproduced(name: str) -> None:
    rows = check_file(GOLDEN / name)
    assert rows
    assert [row for row in rows if not row.passed] == []


def altered(name: str, folder: Path, key: str, change: float) -> Path:
    """A golden file with one value of `key` changed by a share of its largest one."""
    with safe_open(GOLDEN / name, "pt") as file:
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    flat = tensors[key] = tensors[key].clone()
    flat.view(-1)[3] += change * flat.abs().max()
    save_file(tensors, folder / name, metadata)
    return folder


@pytest.mark.parametrize(
    ("name", "key", "change"),
    [
        ("dit.safetensors", "fused_context", 2e-4),
        ("scheduler.safetensors", "dpm_10_step4", 2e-4),
        ("rope.safetensors", "480x848x13_cos", 2e-5),
        ("pipeline.safetensors", "latents_step2", 2e-3),
    ],
)
def test_a_number_that_is_off_by_twice_the_tolerance_is_found(
    name: str, key: str, change: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(altered(name, tmp_path, key, change)) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.endswith("FAIL")]
    assert len(failed) == 1
    assert failed[0].split()[0] in (key, key.split("_")[0])


def test_a_folder_with_nothing_to_run_is_not_a_pass(tmp_path: Path) -> None:
    assert main(tmp_path) == 2


def test_other_step_counts_and_sizes_in_a_file_are_run(tmp_path: Path) -> None:
    scales = json.loads((GOLDEN / "dynamic_cfg.json").read_text(encoding="utf-8"))
    scales["scales"] = {"10": scales["scales"]["10"]}
    (tmp_path / "dynamic_cfg.json").write_text(json.dumps(scales), encoding="utf-8")
    shutil.copy(GOLDEN / "transformer_keys.json", tmp_path)
    assert main(tmp_path) == 0
    assert [row.name for row in check_file(tmp_path / "dynamic_cfg.json")] == ["reference guidance, 10 steps"]


def test_nan_is_a_failure(tmp_path: Path) -> None:
    assert main(altered("dit.safetensors", tmp_path, "output", float("nan"))) == 1
