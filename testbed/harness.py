"""A real ComfyUI in a process of its own, driven the way its page and its API clients drive it.

    with Host.start(folder, base) as host:
        run = host.run(graph)              # queue, follow the websocket, collect outputs
        run.latents(), run.files("video")

`base` is the base directory of ComfyUI: models/, input/, output/, temp/, user/ and custom_nodes/ live there, the last
with a link to this repository, so nothing of the host's own folder is read or written. Needs aiohttp and psutil, which
every host requires itself; they are imported late so that tests can be listed without them.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

PACK = Path(__file__).parents[1]
PACK_FOLDER = "ComfyUI-EchoVideo"
FOLDERS = ("models", "input", "output", "temp", "user", "custom_nodes")
START_SECONDS = 600  # on a busy machine
ANSWER_SECONDS = 300  # also on a busy one
FINISHED = ("execution_success", "execution_error", "execution_interrupted")

Message = dict[str, Any]
Graph = dict[str, dict[str, Any]]


class Refused(Exception):
    """The host rejected a prompt. `details` is its answer: {"error": {...}, "node_errors": {...}}."""

    def __init__(self, details: dict[str, Any]) -> None:
        super().__init__(json.dumps(details, indent=1))
        self.details = details


@dataclass
class Run:
    """The outcome of one queued prompt: `status` is success, error or interrupted."""

    status: str
    messages: list[Message]
    outputs: dict[str, dict[str, Any]]
    base: Path
    previews: int = 0
    error: dict[str, Any] = field(default_factory=dict)
    preview: bytes = b""
    """The last one, a JPEG."""

    def __post_init__(self) -> None:
        self.error.setdefault("exception_message", "")

    @property
    def message(self) -> str:
        """What the user reads after a node has failed."""
        return str(self.error["exception_message"]).strip()

    def latents(self, node: str = "latents_saved") -> Tensor:
        """What the SaveLatent node `node` wrote: raw latents [B, 16, t, h, w]."""
        from safetensors.torch import load_file

        return load_file(self.files(node)[0])["latent_tensor"]

    def files(self, node: str) -> list[Path]:
        """Every file that node `node` reported, in its order."""
        items = [
            item for value in self.outputs.get(node, {}).values() if isinstance(value, list) for item in value
        ]
        named = [item for item in items if isinstance(item, dict) and "filename" in item]
        return [
            self.base / item.get("type", "output") / item["subfolder"] / item["filename"] for item in named
        ]


class Host:
    """A started host. Use `Host.start`."""

    def __init__(self, folder: Path, base: Path, port: int, process: subprocess.Popen[bytes]) -> None:
        self.folder, self.base, self.port, self.process = folder, base, port, process
        self.address = f"127.0.0.1:{port}"
        self.log_file = name_log(base, port)

    @classmethod
    @contextmanager
    def start(
        cls, folder: Path, base: Path, *arguments: str, environment: dict[str, str] | None = None
    ) -> Iterator[Host]:
        """Starts the host in `folder` on a free port with base directory `base`, and stops it at the end."""
        for name in FOLDERS:
            (base / name).mkdir(parents=True, exist_ok=True)
        link = base / "custom_nodes" / PACK_FOLDER
        if not link.exists():
            link.symlink_to(PACK, target_is_directory=True)
        port = free_port()
        command = [sys.executable, str(Path(__file__).parent / "launch.py"), "--cpu", "--port", str(port)]
        command += ["--disable-auto-launch", "--base-directory", str(base)]
        command += ["--database-url", "sqlite:///:memory:", *arguments]
        with name_log(base, port).open("wb") as log:
            variables = {**os.environ, "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1", **(environment or {})}
            process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=variables)
        host = cls(folder, base, port, process)
        try:
            host.wait_until_ready()
            yield host
        finally:
            host.stop()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the host ended with {self.process.returncode}:\n{self.log()[-4000:]}")
            try:
                self.get("/system_stats")
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.25)
            else:
                return
        raise TimeoutError(f"no answer from the host in {START_SECONDS} s:\n{self.log()[-4000:]}")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def log(self) -> str:
        """Everything that the host has written so far."""
        return self.log_file.read_text(errors="replace", encoding="utf-8")

    def memory(self) -> int:
        """Resident memory of the host's process, bytes."""
        import psutil

        return psutil.Process(self.process.pid).memory_info().rss

    def node(self, kind: str, **inputs: Any) -> dict[str, Any]:
        """A node of the host's own in the API's form: inputs not given take the host's defaults."""
        about = self.get(f"/object_info/{urllib.parse.quote(kind)}")[kind]["input"]
        defaults = {}
        for id, (type_, *options) in {**about.get("required", {}), **about.get("optional", {})}.items():
            known = options[0] if options else {}
            choices = type_ if isinstance(type_, list) else known.get("options", [None])
            default = known.get("default", choices[0] if choices else None)
            if default is not None:
                defaults[id] = default
        return {"class_type": kind, "inputs": {**defaults, **inputs}}

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=ANSWER_SECONDS) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def post(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(f"http://{self.address}{path}", json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise Refused(json.loads(error.read())) from None
        return json.loads(text) if text else None

    def run(
        self,
        graph: Graph,
        timeout: float = 300,
        on_message: Callable[[Message], None] | None = None,
        extra_data: dict[str, Any] | None = None,
    ) -> Run:
        """Queues `graph` (API form) and follows it to its end. Raises Refused if the host does not accept it."""
        return asyncio.run(asyncio.wait_for(self._run(graph, on_message, extra_data or {}), timeout))

    async def _run(
        self, graph: Graph, on_message: Callable[[Message], None] | None, extra_data: dict[str, Any]
    ) -> Run:
        import aiohttp

        client, messages, previews, preview = str(uuid.uuid4()), [], 0, b""
        url = f"http://{self.address}/ws?clientId={client}"
        async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as socket_:
            body = {"prompt": graph, "client_id": client, "extra_data": extra_data}
            prompt = (await asyncio.to_thread(self.post, "/prompt", body))["prompt_id"]
            async for raw in socket_:
                if raw.type is aiohttp.WSMsgType.BINARY:
                    previews, preview = previews + 1, raw.data[8:]  # after its kind and its form
                    continue
                if raw.type is not aiohttp.WSMsgType.TEXT:
                    break
                message = json.loads(raw.data)
                if message.get("data", {}).get("prompt_id", prompt) != prompt:
                    continue
                messages.append(message)
                if on_message is not None:
                    await asyncio.to_thread(on_message, message)
                if message["type"] in FINISHED:
                    break
            else:
                raise ConnectionError(f"the host closed the connection:\n{self.log()[-4000:]}")
        last = messages[-1]
        run = Run(last["type"].removeprefix("execution_"), messages, {}, self.base, previews, preview=preview)
        if run.status == "error":
            run.error = last["data"]
        while not (history := await asyncio.to_thread(self.get, f"/history/{prompt}")):
            await asyncio.sleep(0.05)  # written a moment after the last message
        run.outputs = history[prompt]["outputs"]
        return run


def name_log(base: Path, port: int) -> Path:
    return base / f"host-{port}.log"  # several hosts may share a base


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def expect_failure(host: Host, graph: dict[str, Any]) -> str:
    """Runs `graph`, which must fail, and returns what the user reads."""
    try:
        run = host.run(graph)
    except Refused as refusal:  # newer hosts check choices before they start
        return str(refusal)
    assert run.status == "error"
    return run.message
