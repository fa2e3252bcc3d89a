"""The pack as the host sees it: it loads quietly, and every node describes itself."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from echovideo_model.weights.comfyui import read_extra_folders
from testbed.graphs import identity
from testbed.harness import PACK, Host


def our_nodes(host: Host) -> dict[str, dict]:
    return {name: about for name, about in host.get("/object_info").items() if name.startswith("EchoVideo")}


def test_it_loads_and_says_so_in_one_line(host: Host) -> None:
    lines = [line for line in host.log().splitlines() if "ComfyUI-EchoVideo 0" in line]
    assert len(lines) == 1
    assert f"{len(our_nodes(host))} nodes" in lines[0]
    assert "IMPORT FAILED" not in host.log()


def test_every_node_says_what_it_is_for(host: Host) -> None:
    for name, about in our_nodes(host).items():
        assert about["display_name"], name
        assert len(about["description"]) > 60, name
        assert about["category"] == "EchoVideo", name


def test_every_input_and_output_has_a_tooltip(host: Host) -> None:
    for name, about in our_nodes(host).items():
        for kind in ("required", "optional"):
            for id, (_, options) in about["input"].get(kind, {}).items():
                assert options.get("tooltip"), f"{name}: {id}"
        assert all(about["output_tooltips"]), name


def test_without_insightface_all_nodes_are_there_and_the_face_node_says_what_to_install(
    folder: Path, base: Path, host: Host, tmp_path: Path
) -> None:
    (tmp_path / "insightface.py").write_text("raise ImportError('not installed')", encoding="utf-8")
    with Host.start(folder, base, environment={"PYTHONPATH": str(tmp_path)}) as bare:
        assert our_nodes(bare).keys() == our_nodes(host).keys()
        run = bare.run(identity())
        assert run.status == "error"
        assert "pip install" in run.message
        assert "insightface" in run.message


def test_extra_model_paths_mean_to_the_command_what_they_mean_to_the_host(
    folder: Path, tmp_path: Path
) -> None:
    """`echovideo models install` looks where this host says that it will look."""
    shared = tmp_path / "shared"
    text = f"""
        one: {{base_path: shared, is_default: true, vae: "a/\\nb", unet: unet, facemodels: {tmp_path}/faces}}
        two: {{clip: t5, insightface: {shared}/faces}}
        three:
    """
    (tmp_path / "extra_model_paths.yaml").write_text(text, encoding="utf-8")
    config = ("--extra-model-paths-config", str(tmp_path / "extra_model_paths.yaml"))
    with Host.start(folder, tmp_path, *config) as host:
        said = re.findall(r"Adding extra search path (\w+) (.+)", host.log())
    newer = {"unet": "diffusion_models", "clip": "text_encoders"}
    told = {(newer.get(kind, kind), place.strip()) for kind, place in said}
    read = read_extra_folders(tmp_path)
    assert {(kind, str(place)) for kind, places in read.items() for place in places} == told
    assert len(told) == 6


def test_a_host_that_is_too_old_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "folder_paths", ModuleType("folder_paths"))
    spec = importlib.util.spec_from_file_location("too_old", PACK / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ImportError, match=r"needs ComfyUI 0\.3\.64 or newer"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
