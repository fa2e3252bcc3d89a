"""The API workflows with the clients that people have: curl and plain HTTP, and comfy-cli."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from echovideo_model import __version__
from echovideo_model.provenance import TRAINED
from echovideo_model.tiny import PORTRAITS
from testbed.checkpoints import PHOTOS, write_lora
from testbed.harness import PACK, Graph, Host
from testbed.shipped import NAMES, api_form, check_video, length, small

CURL = re.compile(r"^curl -s http://127\.0\.0\.1:8188/prompt(?:.*\\\n)*.*", re.MULTILINE)
COMFY = re.compile(r"^comfy run .*", re.MULTILINE)
CLIENT = re.compile(r"^python docs/examples/comfyui_client\.py .*", re.MULTILINE)
WORKFLOW = Path("workflows", "api", "quick_start.json")  # as README.md names it, from this pack's folder
Comfy = Callable[..., "subprocess.CompletedProcess[str]"]


def put(graph: Graph, folder: Path) -> Path:
    path = folder / WORKFLOW
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(graph), "utf-8")
    return path


def test_the_readmes_curl_starts_a_run_and_plain_http_fetches_its_video(host: Host, tmp_path: Path) -> None:
    if shutil.which("curl") is None or shutil.which("bash") is None:
        pytest.skip("needs curl and bash")
    graph = small("quick_start", seed=101)  # of its own: a host tells no files of what it has in its cache
    put(graph, tmp_path)
    command = CURL.search((PACK / "README.md").read_text("utf-8"))
    assert command is not None
    line = command[0].replace("127.0.0.1:8188", host.address)
    answer = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, check=True).stdout
    prompt = json.loads(answer)["prompt_id"]

    deadline = time.monotonic() + 120
    while not (history := host.get(f"/history/{prompt}")):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert history[prompt]["status"]["status_str"] == "success"
    (file,) = history[prompt]["outputs"]["save"]["images"]
    with urllib.request.urlopen(f"http://{host.address}/view?{urllib.parse.urlencode(file)}") as video:
        (tmp_path / "video.mp4").write_bytes(video.read())
    check_video(tmp_path / "video.mp4", length(graph))
    with av.open(str(tmp_path / "video.mp4")) as container:
        told = container.metadata
    assert json.loads(told["digital_source_type"]) == TRAINED
    assert json.loads(told["made_with"]) == f"EchoVideo, ComfyUI-EchoVideo {__version__}"
    assert json.loads(told["prompt"]).keys() == graph.keys()  # nothing of the host's own is lost


def run_client(host: Host, graph: Graph, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    workflow = tmp_path / "workflow.json"
    workflow.write_text(json.dumps(graph), "utf-8")
    photo = host.base / "input" / PHOTOS[0]
    client = PACK / "docs" / "examples" / "comfyui_client.py"
    command = [
        sys.executable,
        str(client),
        str(photo),
        "A man waves.",
        "--output",
        str(tmp_path / "waving.mp4"),
    ]
    command += ["--workflow", str(workflow), "--server", host.address, "--seed", "103"]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300)


def test_the_readmes_line_finds_its_workflow_and_says_that_nobody_answers(folder: Path) -> None:
    line = CLIENT.search((PACK / "README.md").read_text("utf-8"))
    assert line is not None
    program, *rest = [str(PORTRAITS[0]) if word == "me.jpg" else word for word in shlex.split(line[0])]
    assert program == "python"
    command = [sys.executable, *rest, "--server", "http://127.0.0.1:1"]
    done = subprocess.run(command, cwd=PACK, capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 1
    assert done.stderr.startswith("error: Cannot connect to host 127.0.0.1:1 ")


def test_the_example_client_shows_progress_and_fetches_the_video(host: Host, tmp_path: Path) -> None:
    graph = small("quick_start")
    done = run_client(host, graph, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "latents: 2 of" in done.stderr
    check_video(tmp_path / "waving.mp4", length(graph))


def test_the_example_client_reads_node_errors_of_a_run_that_would_succeed_without_a_video(
    host: Host, tmp_path: Path
) -> None:
    graph = small("quick_start")
    graph["latents"]["inputs"]["sampler_name"] = "eulr"
    answer = host.post("/prompt", {"prompt": graph})
    assert "latents" in answer["node_errors"]  # with status 200: the identity is an output, too
    done = run_client(host, graph, tmp_path)
    assert done.returncode == 1
    assert "latents (KSampler): Value not in list: sampler_name: 'eulr'" in done.stderr
    assert not (tmp_path / "waving.mp4").exists()


def test_the_example_client_passes_on_what_a_node_says(host: Host, tmp_path: Path) -> None:
    graph = small("quick_start", steps=1)
    graph["identity"]["inputs"]["face_index"] = 7
    done = run_client(host, graph, tmp_path)
    assert done.returncode == 1
    assert "identity (EchoVideoIdentity): " in done.stderr
    assert "7" in done.stderr


@pytest.fixture
def comfy(tmp_path: Path) -> Comfy:
    """Runs comfy-cli; its settings go to a home of its own, and it reports to nobody."""
    program = shutil.which("comfy")
    if program is None:
        pytest.skip("no comfy-cli on the PATH: pip install comfy-cli, or run scripts/test_host.sh")
    home = str(tmp_path / "home")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "COMFY"))}
    environment |= {"HOME": home, "USERPROFILE": home, "DO_NOT_TRACK": "1"}

    def run(*arguments: str, input: str = "") -> subprocess.CompletedProcess[str]:
        command = [program, *arguments]
        return subprocess.run(
            command,
            input=input,
            capture_output=True,
            encoding="utf-8",
            env=environment,
            cwd=tmp_path,
            timeout=300,
        )

    return run


def place(host: Host) -> tuple[str, ...]:
    return ("--host", "127.0.0.1", "--port", str(host.port))


def last(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What a command ended with: one line of JSON wherever its output is no terminal."""
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_the_readmes_comfy_cli_runs_a_workflow_and_fetches_its_video(
    host: Host, comfy: Comfy, tmp_path: Path
) -> None:
    graph = small("quick_start", seed=102)
    put(graph, tmp_path)
    line = COMFY.search((PACK / "README.md").read_text("utf-8"))
    assert line is not None
    run, fetch = (shlex.split(part)[1:] for part in line[0].split("|"))
    done = comfy(*run, *place(host))
    assert done.returncode == 0, done.stdout + done.stderr
    assert last(done)["data"]["status"] == "completed"
    fetched = comfy(*fetch, input=done.stdout)
    assert fetched.returncode == 0, fetched.stdout + fetched.stderr
    (video,) = (tmp_path / "videos").glob("*.mp4")
    check_video(video, length(graph))


def test_comfy_cli_shows_what_a_node_says_of_its_failure(host: Host, comfy: Comfy, tmp_path: Path) -> None:
    Image.new("RGB", (320, 240), "#8a8f98").save(host.base / "input" / "wall.png")
    graph = small("quick_start")
    graph["photo"]["inputs"]["image"] = "wall.png"
    put(graph, tmp_path)
    done = comfy("run", "--workflow", WORKFLOW.as_posix(), "--wait", *place(host))
    assert done.returncode != 0
    assert "no face" in done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_comfy_cli_makes_the_api_form_of_the_pages_form(host: Host, comfy: Comfy, name: str) -> None:
    """The same nodes, links and values; more only where the host has optional ones that the API may leave out."""
    write_lora(host.base, "cogvideox_lora.safetensors", "diffusers")
    path = str(PACK / "workflows" / f"{name}.json")
    done = comfy("run", "--workflow", path, "--print-prompt", "--json", *place(host))
    assert done.returncode == 0, done.stdout + done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    (made,) = (event["prompt"] for event in events if event["type"] == "prompt_preview")
    api = api_form(name)
    names = dict(zip(sorted(made, key=int), api, strict=True))
    known = host.get("/object_info")
    for id, one in made.items():
        wanted = api[names[id]]
        assert one["class_type"] == wanted["class_type"]
        about = known[one["class_type"]]["input"]
        inputs = {
            key: [names[value[0]], value[1]] if isinstance(value, list) else value
            for key, value in one["inputs"].items()
        }
        assert inputs.keys() - wanted["inputs"].keys() <= about.get("optional", {}).keys()
        here = about["required"].keys() | about.get("optional", {}).keys()
        for key in wanted["inputs"].keys() & here:
            assert inputs[key] == wanted["inputs"][key]
