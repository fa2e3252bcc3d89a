"""`echovideo models install` lays files out so that the shipped workflows run without touching a list."""

from __future__ import annotations

import argparse
import ast
import hashlib
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from huggingface_hub import hf_hub_url

from echovideo_model.commands import models
from echovideo_model.errors import InvalidRequest
from echovideo_model.face.detect import DETECTOR, RECOGNISER
from echovideo_model.weights import comfyui as layout
from echovideo_model.weights.comfyui import HOST, select_for_host
from echovideo_model.weights.released import GROUPS, OPTIONAL, TABLE, ModelFile
from tests.http_server import Hub, Served

ROOT = Path(__file__).parents[1]
WORKFLOWS, API_WORKFLOWS = (  # all but the one on the nano model, which comes with the pack
    sorted(
        path for path in ROOT.glob(f"workflows/{form}*.json") if not path.stem.startswith(("try_it", "01 "))
    )
    for form in ("", "api/")
)
FOLDER_OF_CHOICE = {  # a loader's input -> the constant of nodes/host/folders.py whose files it lists
    "model_name": "DIFFUSION_MODELS",
    "text_encoder_name": "TEXT_ENCODERS",
    "vae_name": "VAE",
    "siglip_name": "CLIP_VISION",
    "parser_name": "FACE_PARSERS",
}


def host_folders() -> dict[str, str]:
    """The folder names of nodes/host/folders.py, which cannot be imported without a host."""
    names: dict[str, str] = {}
    for statement in ast.parse((ROOT / "nodes/host/folders.py").read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Tuple):
            keys = [ast.unparse(target) for target in statement.targets[0].elts]
            names.update(zip(keys, ast.literal_eval(statement.value), strict=True))
    return names


def choices(workflow: Path) -> set[tuple[str, str]]:
    """Folder and name of every weight file that an API workflow chooses."""
    folders = host_folders()
    return {
        (folders[FOLDER_OF_CHOICE[id]], value)
        for node in json.loads(workflow.read_text(encoding="utf-8")).values()
        if node["class_type"].startswith("EchoVideoLoad")
        for id, value in node["inputs"].items()
        if id in FOLDER_OF_CHOICE
    }


def content_of(file: ModelFile) -> bytes:
    return f"the bytes of {file.repository}/{file.source}".encode() * 50


def tiny(file: ModelFile) -> ModelFile:
    """A row with the same names and small content; what the real row does not know is unknown here, too."""
    content = content_of(file)
    known = (len(content), hashlib.sha256(content).hexdigest())
    return replace(file, size=known[0] if file.size else None, sha256=known[1] if file.sha256 else None)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub with a small file in place of each real one."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(layout, "HOST", tuple(map(tiny, HOST)))
    with Hub({f"{file.repository}/{file.source}": Served(content_of(file)) for file in HOST}) as hub:
        yield hub


@pytest.fixture
def comfyui(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "main.py").touch()
    return tmp_path


def install(comfyui: Path, hub: Hub | None = None, *arguments: str) -> int:
    parser = argparse.ArgumentParser()
    models.register(parser.add_subparsers())
    endpoint = ["--endpoint", hub.address] if hub else []
    args = parser.parse_args(["models", "install", "--comfyui", str(comfyui), *endpoint, *arguments])
    result: int = args.run(args)
    return result


def installed(comfyui: Path) -> set[str]:
    folder = comfyui / "models"
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".download.lock"
    }


def put(path: Path, content: bytes = b"the user's own") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# --- the table of the host -----------------------------------------------------------------------------------------


def test_every_file_goes_to_a_folder_that_the_nodes_search() -> None:
    for file in HOST:
        assert PurePosixPath(file.path).parts[0] in host_folders().values()


def test_every_host_file_is_a_row_of_the_main_table_or_the_one_file_t5() -> None:
    sources = {(file.repository, file.source): file for file in TABLE}
    own = [file for file in HOST if (file.repository, file.source) not in sources]
    assert [file.path for file in own] == ["text_encoders/t5xxl_fp16.safetensors"]
    for file in HOST:
        if file not in own:
            assert replace(sources[file.repository, file.source], path=file.path) == file
    assert {file.group for file in HOST} == set(GROUPS) - {*OPTIONAL, "tokenizer"}


def test_the_host_s_t5_has_the_size_of_t5_xxl_in_16_bits_with_its_embedding_twice() -> None:
    sizes = {file.path: file.size or 0 for file in (*TABLE, *HOST)}
    sharded = sum(sizes[f"text_encoder/model-0000{n}-of-00002.safetensors"] for n in (1, 2))
    embedding = 32128 * 4096 * 2
    assert abs(sizes["text_encoders/t5xxl_fp16.safetensors"] - sharded - embedding) < 10_000


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_the_downloads_that_a_workflow_offers_are_those_that_install_makes(workflow: Path) -> None:
    """All but antelopev2's .onnx, which no page can look for; its notes have those, too."""
    page = json.loads(workflow.read_text(encoding="utf-8"))
    note = "\n".join(node["widgets_values"][0] for node in page["nodes"] if node["type"] == "MarkdownNote")
    known = {}
    for file in HOST:
        folder, _, name = file.path.rpartition("/")
        url = hf_hub_url(
            file.repository, file.source, revision=file.revision, endpoint="https://huggingface.co"
        )
        assert f"**models/{file.path}** [download]({url})" in note
        checked = {"hash": file.sha256, "hash_type": "SHA256"} if file.sha256 else {}
        if not name.endswith(".onnx"):
            known[name] = {"name": name, "url": url, "directory": folder, **checked}
    offered = [entry for node in page["nodes"] for entry in node["properties"].get("models", [])]
    assert {entry["name"]: entry for entry in offered} == known
    assert len(offered) == len(known)
    assert page["models"] == [
        entry for entry in offered if entry["name"] == "echovideo-00002-of-00002.safetensors"
    ]
    assert "**echovideo models install --comfyui PATH**" in note


# --- installing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_main", [True, False], ids=["ComfyUI's folder", "a base directory"])
def test_after_install_every_shipped_workflow_finds_what_it_chooses(
    hub: Hub, comfyui: Path, with_main: bool
) -> None:
    if not with_main:
        (comfyui / "main.py").unlink()
    assert install(comfyui, hub, "--accept-licenses") == 0
    assert installed(comfyui) == {file.path for file in HOST}
    for file in HOST:
        assert (comfyui / "models" / file.path).read_bytes() == content_of(file)
    assert len(API_WORKFLOWS) == len(WORKFLOWS) > 0
    for workflow in API_WORKFLOWS:
        assert len(choices(workflow)) == len(FOLDER_OF_CHOICE)
        for folder, name in choices(workflow):
            assert (comfyui / "models" / folder / name).is_file()
    transformer = {path.name for path in (comfyui / "models/diffusion_models").iterdir()}
    assert transformer == {
        f"echovideo-0000{n}-of-00002.safetensors" for n in (1, 2)
    }  # all parts, side by side
    detectors = comfyui / "models" / host_folders()["INSIGHTFACE"] / "models/antelopev2"
    assert {path.name for path in detectors.iterdir()} == {DETECTOR, RECOGNISER}


def test_a_second_install_asks_nobody_for_anything(
    hub: Hub, comfyui: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(comfyui, hub, "--accept-licenses")
    hub.requests.clear()
    monkeypatch.setattr(sys, "stdin", io.StringIO())  # no terminal: consent could not be given
    assert install(comfyui, hub) == 0
    assert hub.requests == []


def test_only_what_is_missing_is_fetched(hub: Hub, comfyui: Path) -> None:
    install(comfyui, hub, "--accept-licenses")
    (comfyui / "models/facemodels/parsing_bisenet.pth").unlink()
    hub.requests.clear()
    assert install(comfyui, hub) == 0  # MIT: no consent needed
    assert {request.path.rpartition("/")[2] for request in hub.requests} == {"parsing_bisenet.pth"}
    assert installed(comfyui) == {file.path for file in HOST}


@pytest.mark.parametrize(
    "name", ["vae/cogvideox_vae.safetensors", "diffusion_models/echovideo-00001-of-00002.safetensors"]
)
def test_a_file_of_the_user_s_is_never_replaced(hub: Hub, comfyui: Path, name: str) -> None:
    own = put(comfyui / "models" / name)
    other = put(comfyui / "models/vae/another.safetensors")
    assert install(comfyui, hub, "--accept-licenses") == 0
    assert own.read_bytes() == other.read_bytes() == b"the user's own"
    assert installed(comfyui) == {file.path for file in HOST} | {"vae/another.safetensors"}


def test_a_kept_file_that_is_not_the_published_one_is_named(
    hub: Hub, comfyui: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(comfyui / "models/vae/cogvideox_vae.safetensors")
    assert install(comfyui, hub, "--only", "vae") == 0
    assert (
        "Left as it was: vae/cogvideox_vae.safetensors is not the published file" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("group", "there"),
    [
        ("text_encoder", ["clip/t5xxl_fp16.safetensors"]),
        ("transformer", [f"unet/echovideo-0000{n}-of-00002.safetensors" for n in (1, 2)]),
        ("face_encoder", [f"insightface/antelopev2/antelopev2/{name}" for name in (DETECTOR, RECOGNISER)]),
    ],
)
def test_what_the_host_finds_elsewhere_is_not_fetched_again(
    hub: Hub, comfyui: Path, group: str, there: list[str]
) -> None:
    sources = {Path(file.path).name: content_of(file) for file in HOST}
    for path in there:
        put(comfyui / "models" / path, sources[Path(path).name])
    assert install(comfyui, hub, "--accept-licenses", "--only", group) == 0
    assert installed(comfyui) - {"facemodels/parsing_bisenet.pth"} == set(there)


@pytest.mark.parametrize(
    ("begun", "rest"),
    [
        ("unet/echovideo-00001-of-00002.safetensors", "unet/echovideo-00002-of-00002.safetensors"),
        (f"insightface/mine/{RECOGNISER}", f"insightface/mine/{DETECTOR}"),
    ],
)
def test_files_that_are_read_together_end_up_together(comfyui: Path, begun: str, rest: str) -> None:
    put(comfyui / "models" / begun)
    assert {begun, rest} <= {file.path for file in select_for_host(comfyui / "models")}


EXTRA = """
comfyui:
  base_path: ../shared
  is_default: true
  vae: |
    other
    autoencoders
  unet: unet
  insightface: faces/
without_base:
  clip: {absolute}
nothing:
"""


def test_what_lies_where_extra_model_paths_says_is_not_fetched_again(
    hub: Hub, comfyui: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    absolute, shared = tmp_path_factory.mktemp("absolute"), comfyui.parent / "shared"
    (comfyui / "extra_model_paths.yaml").write_text(EXTRA.format(absolute=absolute), encoding="utf-8")
    there = [
        put(shared / "autoencoders" / "cogvideox_vae.safetensors"),
        *(put(shared / f"unet/deep/echovideo-0000{part}-of-00002.safetensors") for part in (1, 2)),
        *(put(shared / "faces/antelopev2" / name) for name in (DETECTOR, RECOGNISER)),
        put(absolute / "t5xxl_fp16.safetensors"),
    ]
    assert install(comfyui, hub) == 0  # nothing that is left needs consent
    assert installed(comfyui) == {
        "facemodels/parsing_bisenet.pth",
        "clip_vision/siglip-base-patch16-224.safetensors",
    }
    said = capsys.readouterr().out
    assert all(f"{path.name} in {path.parent}" in said for path in there)


def test_one_part_of_a_model_elsewhere_is_not_the_model(hub: Hub, comfyui: Path) -> None:
    (comfyui / "extra_model_paths.yaml").write_text("mine: {diffusion_models: elsewhere}", encoding="utf-8")
    put(comfyui / "elsewhere" / "echovideo-00001-of-00002.safetensors")
    assert install(comfyui, hub, "--accept-licenses", "--only", "transformer") == 0
    assert len(installed(comfyui)) == 2


@pytest.mark.parametrize("text", ["mine: [", "mine: {vae: [a, b]}", "- mine", "mine: words"])
def test_extra_model_paths_that_cannot_be_read_are_named(comfyui: Path, text: str) -> None:
    (comfyui / "extra_model_paths.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidRequest, match=r"extra_model_paths\.yaml cannot be read .*: fix it or move"):
        install(comfyui)


# --- refusals ------------------------------------------------------------------------------------------------------


def test_restricted_weights_need_consent(hub: Hub, comfyui: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(InvalidRequest, match=r"--accept-licenses: CC BY-NC 4\.0: .*InsightFace"):
        install(comfyui, hub)
    assert hub.requests == []
    assert installed(comfyui) == set()


@pytest.mark.parametrize("group", ["tokenizer", "reference", "unet"])
def test_a_group_of_which_the_nodes_read_nothing_is_refused(comfyui: Path, group: str) -> None:
    with pytest.raises(InvalidRequest, match=rf'unknown group "{group}".*choose from transformer, '):
        install(comfyui, None, "--only", group)


def test_a_folder_that_is_no_comfyui_is_refused_by_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"lacks main\.py and models/: "):
        install(tmp_path)
    (tmp_path / "main.py").touch()
    with pytest.raises(InvalidRequest, match="lacks models/: "):
        install(tmp_path)
    (tmp_path / "main.py").unlink()
    (tmp_path / "models").touch()
    with pytest.raises(InvalidRequest, match=r"lacks main\.py and models/: "):
        install(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"models"}
