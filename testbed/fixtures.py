"""Fixtures of the host and browser tests: which host, and one running instance of it for the whole session.

The host is the folder in $COMFYUI_PATH, else the one that this pack is installed in (two folders up), else
~/comfy/ComfyUI. Its requirements must be installed in the Python that runs the tests; scripts/test_host.sh takes care
of both.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.checkpoints import write_checkpoints
from testbed.harness import PACK, Host
from testbed.launch import stand_in_for_torchvision


def host_folder() -> Path | None:
    candidates = [Path(os.environ["COMFYUI_PATH"])] if os.environ.get("COMFYUI_PATH") else []
    candidates += [PACK.parents[1], Path.home() / "comfy" / "ComfyUI"]
    return next(
        (c for c in candidates if (c / "main.py").is_file() and (c / "comfyui_version.py").is_file()), None
    )


def reason_to_skip() -> str | None:
    if host_folder() is None:
        return "no ComfyUI here: set COMFYUI_PATH to its folder, or run scripts/test_host.sh"
    missing = [name for name in ("aiohttp", "psutil", "torchsde") if importlib.util.find_spec(name) is None]
    if missing:
        return (
            f"the host's requirements are not installed here ({', '.join(missing)}): run scripts/test_host.sh"
        )
    return None


@pytest.fixture(scope="session")
def folder() -> Path:
    """The host's own folder; skips if there is none."""
    if reason := reason_to_skip():
        pytest.skip(reason)
    found = host_folder()
    assert found is not None
    stand_in_for_torchvision()  # transformers, which writes the tiny text encoder, imports it too
    return found


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny models in the released layout, as the library reads them."""
    return tmp_path_factory.mktemp("tiny") / "models"


@pytest.fixture(scope="session")
def base(folder: Path, released: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base directory that the session's host works in, with the tiny models in it."""
    made = tmp_path_factory.mktemp("comfy")
    write_checkpoints(made, released)
    (made / "custom_nodes").mkdir()
    (made / "custom_nodes" / "probe").symlink_to(Path(__file__).parent / "probe", target_is_directory=True)
    return made


@pytest.fixture(scope="session")
def host(folder: Path, base: Path) -> Iterator[Host]:
    """One running host with this pack, shared by all tests of a session."""
    with Host.start(folder, base, "--preview-method", "latent2rgb") as running:
        yield running
