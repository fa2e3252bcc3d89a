"""Runs a workflow on a ComfyUI and fetches its video: one photo and a sentence, from a Python program.

    pip install aiohttp
    python docs/examples/comfyui_client.py me.jpg "A man waves." --output waving.mp4

The workflow is in the API form (workflows/api/). What to know about ComfyUI's answers: POST /prompt refuses a workflow
(status 400) only where none of its outputs can run. Where one output is invalid and another is not, it answers 200,
leaves the invalid one out, and the run "succeeds" without the video: `node_errors` of that answer tells, so a client
must read it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import uuid
from pathlib import Path
from typing import Any

import aiohttp

WORKFLOW = Path(__file__).parents[2] / "workflows" / "api" / "quick_start.json"


class RunFailed(Exception):
    """The host refused the workflow or a node failed; the message is for the user."""


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("photo", type=Path)
    parser.add_argument("prompt")
    parser.add_argument("--output", type=Path, default=Path("video.mp4"))
    parser.add_argument("--workflow", type=Path, default=WORKFLOW, help="in the API form")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--server", default="127.0.0.1:8188", help="its address (default: %(default)s)")
    args = parser.parse_args()

    workflow = json.loads(args.workflow.read_text("utf-8"))
    address = args.server if "://" in args.server else f"http://{args.server}"
    async with aiohttp.ClientSession(address) as session:
        set_input(workflow, "LoadImage", "image", await upload(session, args.photo))
        workflow["prompt"]["inputs"]["text"] = args.prompt
        set_input(workflow, "KSampler", "seed", args.seed)
        outputs = await run(session, workflow)
        await download(session, find_video(outputs), args.output)
    print(args.output)


def set_input(workflow: dict[str, Any], class_type: str, name: str, value: Any) -> None:
    """Sets an input of every node of that class."""
    for node in workflow.values():
        if node["class_type"] == class_type:
            node["inputs"][name] = value


async def upload(session: aiohttp.ClientSession, photo: Path) -> str:
    """Puts a photo into the host's input folder; returns the name under which it is there."""
    form = aiohttp.FormData()
    form.add_field("image", photo.read_bytes(), filename=photo.name)
    async with session.post("/upload/image", data=form) as answer:
        answer.raise_for_status()
        return (await answer.json())["name"]


async def run(session: aiohttp.ClientSession, workflow: dict[str, Any]) -> dict[str, Any]:
    """Queues the workflow, shows its progress, and returns {node: outputs} when it has ended well.

    The socket is opened first, or a short run could end before anybody listens. Raises RunFailed.
    """
    client = uuid.uuid4().hex
    async with session.ws_connect("/ws", params={"clientId": client}, max_msg_size=0) as socket:
        prompt_id = await queue(session, workflow, client)
        await follow(socket, prompt_id)
    return await read_outputs(session, prompt_id)


async def read_outputs(session: aiohttp.ClientSession, prompt_id: str) -> dict[str, Any]:
    """{node: outputs} of a run that has just ended: the host announces the end a moment before its history has it."""
    for _ in range(100):
        async with session.get(f"/history/{prompt_id}") as answer:
            history = await answer.json()
        if prompt_id in history:
            return history[prompt_id]["outputs"]
        await asyncio.sleep(0.1)
    raise RunFailed("the run ended, but the host's history does not have it")


async def queue(session: aiohttp.ClientSession, workflow: dict[str, Any], client: str) -> str:
    async with session.post("/prompt", json={"prompt": workflow, "client_id": client}) as answer:
        said = await answer.json()
    if said.get("error") or said.get("node_errors"):  # the second with status 200, too
        raise RunFailed(describe_refusal(said))
    return said["prompt_id"]


def describe_refusal(said: dict[str, Any]) -> str:
    """One line for each invalid input of the host's answer."""
    lines = [
        f"{node} ({about['class_type']}): {error['message']}: {error['details']}"
        for node, about in (said.get("node_errors") or {}).items()
        for error in about["errors"]
    ]
    return "\n".join(lines) or said["error"]["message"]


async def follow(socket: aiohttp.ClientWebSocketResponse, prompt_id: str) -> None:
    """Reads events until the run has ended. Raises RunFailed with the sentence of the node that failed."""
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.TEXT:  # pictures of the preview
            continue
        event = json.loads(message.data)
        data = event["data"]
        if data.get("prompt_id") != prompt_id:
            continue
        if event["type"] == "progress":
            print(
                f"\r{data['node']}: {data['value']} of {data['max']}   ", end="", file=sys.stderr, flush=True
            )
        elif event["type"] == "execution_error":
            raise RunFailed(f"{data['node_id']} ({data['node_type']}): {data['exception_message'].strip()}")
        elif event["type"] == "execution_interrupted":
            raise RunFailed("the run was stopped")
        elif event["type"] == "execution_success":
            print(file=sys.stderr)
            return
    raise RunFailed("the host closed the connection before the run had ended")


def find_video(outputs: dict[str, Any]) -> dict[str, str]:
    """The first video among the outputs: filename, subfolder and type, as /view takes them."""
    for output in outputs.values():
        for files in output.values():
            for file in files if isinstance(files, list) else []:
                if isinstance(file, dict) and str(file.get("filename", "")).endswith((".mp4", ".webm")):
                    return {key: file[key] for key in ("filename", "subfolder", "type")}
    raise RunFailed("the run made no video")


async def download(session: aiohttp.ClientSession, file: dict[str, str], target: Path) -> None:
    async with session.get("/view", params=file) as answer:
        answer.raise_for_status()
        target.write_bytes(await answer.read())


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (RunFailed, aiohttp.ClientError, OSError) as error:
        sys.exit(f"error: {error}")
