"""`echovideo doctor`, and what a program or a shell hears: failures as JSON, completions, a machine without PyTorch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from echovideo_model import __version__, cli
from echovideo_model.commands import inspect
from tests.command_line.command import PHOTO, Run, in_a_process

WITHOUT_TORCH = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from echovideo_model import cli
sys.exit(cli.main(sys.argv[1:]))
"""


def test_doctor_tells_versions_device_and_models_and_nothing_private(
    echovideo: Run, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    host = tmp_path / "programs" / "ComfyUI"
    (host / "models").mkdir(parents=True)
    (host / "comfyui_version.py").write_text('__version__ = "0.26.0"\n', encoding="utf-8")
    done = echovideo("doctor", "--json", "--comfyui", host)
    facts = json.loads(done.out)
    assert done.status == 0
    assert facts["echovideo"] == __version__
    assert facts["packages"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert facts["device"]["default"] in ("cuda", "cuda:0", "mps", "cpu")
    assert facts["host"]["version"] == "0.26.0"
    assert facts["host"]["folder"] == "~/programs/ComfyUI"
    assert "vae/config.json" in json.dumps(facts["models"])
    assert "diffusion_models/" in facts["host"]["models"]["missing"][0]
    told = done.out + echovideo("doctor", "--comfyui", host).out
    monkeypatch.chdir(host / "models")
    assert json.loads(echovideo("doctor", "--json").out)["host"] == facts["host"]
    assert str(tmp_path) not in told
    assert str(models.parent) not in told


@pytest.mark.parametrize(
    ("arguments", "kind", "status"),
    [
        (("inspect", "nothing", "--json"), "ModelFileMissing", 3),
        (("generate", PHOTO, "--prompt", "a", "--frames", 50, "--json"), "InvalidRequest", 2),
        (("generate", "--json"), "InvalidRequest", 2),
        (("doctor", "--json", "--nonsense"), "InvalidRequest", 2),
    ],
)
def test_a_failure_is_one_json_object_for_a_program_and_a_sentence_for_people(
    echovideo: Run, arguments: tuple[object, ...], kind: str, status: int
) -> None:
    done = echovideo(*arguments)
    told = json.loads(done.out)
    assert done.status == told["status"] == status
    assert told["error"] == kind
    assert told["sentence"] in done.err
    assert "\n" not in told["sentence"]


@pytest.mark.parametrize("arguments", [("inspect", PHOTO), ("draw",), ("generate", PHOTO, "--prompt", "a")])
def test_without_pytorch_it_is_one_sentence_and_3(arguments: tuple[object, ...]) -> None:
    process = in_a_process(*arguments, code=WITHOUT_TORCH)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (3, "")
    assert err.startswith("echovideo: PyTorch is not installed: pip install torch")
    assert err.count("\n") == 1


def test_a_torchvision_made_for_another_pytorch_is_one_sentence_and_3(
    echovideo: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(args: object) -> int:  # as transformers does
        cause = RuntimeError("operator torchvision::nms does not exist")
        raise ModuleNotFoundError("Could not import module 'SiglipVisionModel'.") from cause

    monkeypatch.setattr(inspect, "run", fail)
    done = echovideo("inspect", "file")
    assert done.status == 3
    assert "torchvision does not fit this PyTorch (operator torchvision::nms does not exist): " in done.err


def test_doctor_works_without_pytorch_and_says_so() -> None:
    process = in_a_process("doctor", "--json", code=WITHOUT_TORCH)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert json.loads(out)["device"]["error"] == "PyTorch does not load: ModuleNotFoundError"


@pytest.mark.skipif(sys.platform == "win32", reason="bash's way of asking")
def test_a_shell_completes_commands_and_options(tmp_path: Path) -> None:
    pytest.importorskip("argcomplete")
    for line, expected in (("echovideo gen", "generate"), ("echovideo score --pl", "--plot")):
        environment = {
            **os.environ,
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "said"),
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
            "PYTHONPATH": str(Path(cli.__file__).parents[1]),
        }
        command = [sys.executable, "-m", "echovideo_model"]
        subprocess.run(command, env=environment, check=True, timeout=120)
        assert expected in (tmp_path / "said").read_text(encoding="utf-8")
