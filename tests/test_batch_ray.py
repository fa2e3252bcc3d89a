"""The same table over Ray: the same bytes as on one machine, whatever is killed on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml

from echovideo_model import cli
from echovideo_model.batch.cluster import Cluster, _Recent, _share_out
from echovideo_model.batch.folder import FAILURES
from echovideo_model.errors import DependencyMissing, InvalidRequest
from echovideo_model.tiny import PORTRAITS
from echovideo_model.video import read_mp4
from testbed.checkpoints import write_lora

ROOT = Path(__file__).parents[1]
JOBS = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    for name, portrait in zip(("me.png", "you.png"), PORTRAITS, strict=True):
        shutil.copy(portrait, folder / name)
    (folder / "wall.png").write_bytes(b"no picture")
    write_lora(folder, "style.safetensors", "diffusers")
    rows: list[dict[str, Any]] = [
        {"photos": [("me.png", "you.png")[n % 2]], "prompt": ("A man waves.", "A man nods.")[n // 2 % 2], "seed": n,
         "height": 32, "width": 32, "frames": 1, "steps": 1, "output": f"{n}.mp4"}
        for n in range(JOBS)
    ]  # fmt: skip
    rows[3] |= {"picture": "person", "masks": ["me.png"]}
    rows.append(rows[0] | {"photos": ["wall.png"], "output": "bad.mp4"})
    (folder / "jobs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder


@pytest.fixture(scope="module")
def alone(folder: Path, tiny_set: Path) -> dict[str, bytes]:
    """What one process makes of the table."""
    assert cli.main(command(folder, "alone", tiny_set)) == 1
    return videos(folder / "alone")


def command(folder: Path, output: str, models: Path, *more: str) -> list[str]:
    table = str(folder / "jobs.jsonl")
    return [
        "batch",
        table,
        "--output",
        str(folder / output),
        "--models",
        str(models),
        "--device",
        "cpu",
        "--lora",
        str(folder / "models" / "loras" / "style.safetensors"),
        *more,
    ]


def videos(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.mp4")}


def start(folder: Path, tiny_set: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    arguments = command(folder, "killed", tiny_set, "--ray", "--workers", "2")
    return subprocess.Popen(
        [sys.executable, "-m", "echovideo_model", *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def wait_for(what: Any, driver: subprocess.Popen[bytes]) -> Any:
    while driver.poll() is None:
        if found := what():
            return found
        time.sleep(0.2)
    raise AssertionError(f"ended with {driver.returncode}: {driver.stderr and driver.stderr.read().decode()}")


def find_workers(driver: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process(driver.pid).children(recursive=True)
        if child.name().startswith("ray::_Worker.make")
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_killed_workers_are_replaced_and_a_killed_driver_leaves_nothing_running(
    folder: Path, tiny_set: Path, alone: dict[str, bytes]
) -> None:
    pytest.importorskip("ray")
    driver = start(folder, tiny_set)
    wait_for(lambda: videos(folder / "killed"), driver)
    started = psutil.Process(driver.pid).children(recursive=True)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    _, alive = psutil.wait_procs(started, timeout=120)
    assert not alive

    driver = start(folder, tiny_set)
    wait_for(lambda: find_workers(driver), driver)[0].kill()
    assert driver.stderr is not None
    said = driver.stderr.read().decode()
    assert driver.wait() == 1, said
    assert "line 9: " in said
    assert "wall.png" in said
    assert said.count("\n") == 1  # Ray itself is quiet
    assert videos(folder / "killed") == alone
    failures = (folder / "killed" / FAILURES).read_text("utf-8").splitlines()
    assert [json.loads(line)["output"] for line in failures] == ["bad.mp4"]


def test_the_driver_signs(folder: Path, tiny_set: Path, alone: dict[str, bytes]) -> None:
    pytest.importorskip("ray")
    pytest.importorskip("c2pa", reason='needs c2pa-python: pip install ".[credentials]"')
    from tests.test_credentials import read_credential, write_signer

    (folder / "one.jsonl").write_text((folder / "jobs.jsonl").read_text("utf-8").partition("\n")[0], "utf-8")
    arguments = command(folder, "signed", tiny_set, "--ray", "--workers", "1")
    arguments[1] = str(folder / "one.jsonl")
    assert cli.main([*arguments, "--credential", str(write_signer(folder / "signer.pem"))]) == 0
    assert read_credential(folder / "signed" / "0.mp4")[0] == "Valid"
    frames, _, metadata = read_mp4(folder / "signed" / "0.mp4")
    (folder / "unsigned.mp4").write_bytes(alone["0.mp4"])
    expected, _, same = read_mp4(folder / "unsigned.mp4")
    assert np.array_equal(frames, expected)
    assert metadata == same


@pytest.mark.parametrize(
    ("cluster", "device", "there", "shared"),
    [
        (Cluster(), None, {"CPU": 16, "GPU": 8}, (1, 8)),
        (Cluster(gpus_per_worker=0.5), "cuda", {"CPU": 16, "GPU": 1}, (0.5, 2)),
        (Cluster(gpus_per_worker=0.3), "cuda", {"CPU": 16, "GPU": 0.9}, (0.3, 3)),
        (Cluster(), None, {"CPU": 16}, (0, 14)),
        (Cluster(workers=3), "cpu", {"CPU": 16, "GPU": 8}, (0, 3)),
        (Cluster("auto", workers=64), "cuda", {"CPU": 16}, (1, 64)),  # those that the autoscaler will start
    ],
)
def test_workers_share_what_there_is(
    cluster: Cluster, device: str | None, there: dict[str, float], shared: tuple[float, int]
) -> None:
    assert _share_out(cluster, device, there) == shared


@pytest.mark.parametrize(
    ("cluster", "device", "words"),
    [
        (Cluster(), "cuda", "on 0 GPUs"),
        (Cluster(workers=3), "cuda", "3 workers"),
        (Cluster(), "cuda:1", "cuda:1"),
    ],
)
def test_what_does_not_fit_is_refused(cluster: Cluster, device: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        _share_out(cluster, device, {"CPU": 2.0})


def test_only_what_was_used_last_is_held() -> None:
    recent, made = _Recent(), []
    for key in [*map(str, range(40)), "39", "0"]:
        recent.get(key, lambda key=key: made.append(key))
    assert len(recent) == 32
    assert made == [*map(str, range(40)), "0"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--workers", "2"], "add it"),
        (["--ray", "--workers", "0"], "--workers must be at least 1, not 0"),
        (["--ray", "--gpus-per-worker", "0"], "--gpus-per-worker must be a share such as 0.5, or 1, not 0"),
    ],
)
def test_wrong_options_are_one_sentence(
    folder: Path, tiny_set: Path, more: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(command(folder, "none", tiny_set, *more)) == 2
    assert words in capsys.readouterr().err


def test_without_ray_the_package_is_named(
    folder: Path, tiny_set: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert cli.main(command(folder, "none", tiny_set, "--ray")) == DependencyMissing.exit_code
    assert "pip install" in capsys.readouterr().err


def test_the_cluster_of_the_documentation_is_one_that_ray_takes() -> None:
    util = pytest.importorskip("ray.autoscaler._private.util")
    config = yaml.safe_load((ROOT / "docs" / "examples" / "cluster.yaml").read_text("utf-8"))
    util.validate_config(util.prepare_config(config))
    nodes = config["available_node_types"]
    assert config["head_node_type"] in nodes
    assert sum(node["max_workers"] for node in nodes.values()) >= config["max_workers"]
