"""A download ends with the right files or with one clear sentence, whatever the server does; no wrong file gets in."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace

import huggingface_hub.constants
import pytest
import torch
from huggingface_hub.utils import WeakFileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from echovideo_model import cli
from echovideo_model.commands import models
from echovideo_model.errors import Cancelled, EchoVideoError, InvalidRequest, ModelFileMissing, WrongModelFile
from echovideo_model.weights import download, released
from echovideo_model.weights.checking import verify
from echovideo_model.weights.download import fetch, plan
from echovideo_model.weights.released import Licence, ModelFile
from tests.http_server import COMMIT, Hub, Served

FREE = Licence("MIT", "https://example.org/mit")
RESTRICTED = Licence("No Trade", "https://example.org/no-trade", forbids_commercial_use=True)
BYTES = bytes(range(256)) * 40  # 10,240 bytes: ten of the pieces that the tests' transfers are made in


@pytest.fixture(autouse=True)
def _small_pieces_and_no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1024)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def known(content: bytes = BYTES, path: str = "vae/model.bin") -> ModelFile:
    """A row of a table that tells size and hash."""
    return ModelFile("vae", path, len(content), sha256(content), "them/model", "main", path, FREE)


def unknown(path: str = "vae/model.bin") -> ModelFile:
    """A row of a table that tells neither."""
    return ModelFile("vae", path, None, None, "them/model", "main", path, FREE)


def serving(served: Served, path: str = "vae/model.bin") -> Hub:
    return Hub({f"them/model/{path}": served})


def get(hub: Hub, folder: Path, *files: ModelFile) -> list[Path]:
    return fetch(folder, plan(folder, files, endpoint=hub.address))


def everything_in(folder: Path) -> list[str]:
    """Relative paths of the files, but for the lock."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".download.lock"
    )


# --- the good course of things -------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", [known(), unknown()], ids=["table knows it", "table knows nothing"])
def test_a_file_arrives_at_its_place_and_nothing_else_is_left(tmp_path: Path, file: ModelFile) -> None:
    with serving(Served(BYTES)) as hub:
        assert get(hub, tmp_path, file) == [tmp_path / "vae/model.bin"]
    assert (tmp_path / "vae/model.bin").read_bytes() == BYTES
    assert everything_in(tmp_path) == ["vae/model.bin"]


def test_a_file_on_the_web_comes_from_its_own_address_whatever_the_mirror_and_its_etag(
    tmp_path: Path,
) -> None:
    with serving(Served(BYTES, etag=sha256(b"something else"))) as hub, Hub({}) as mirror:
        file = replace(unknown(), repository=f"{hub.address}/them/model/resolve/v1", revision="")
        assert fetch(tmp_path, plan(tmp_path, [file], endpoint=mirror.address)) == [
            tmp_path / "vae/model.bin"
        ]
        assert mirror.requests == []
        assert {request.path for request in hub.requests} == {"/them/model/resolve/v1/vae/model.bin"}
        assert {request.authorization for request in hub.requests} == {None}
    assert (tmp_path / "vae/model.bin").read_bytes() == BYTES


def test_a_file_that_is_right_by_the_table_needs_no_network(tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae/model.bin").write_bytes(BYTES)
    with serving(Served(BYTES)) as hub:
        assert get(hub, tmp_path, known()) == []
        assert hub.requests == []


@pytest.mark.parametrize("etag", [sha256(BYTES), git_hash(BYTES), "whatever"])
def test_a_file_that_the_table_does_not_know_is_compared_with_what_the_hub_says(
    tmp_path: Path, etag: str
) -> None:
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae/model.bin").write_bytes(BYTES)
    with serving(Served(BYTES, etag=etag)) as hub:
        assert get(hub, tmp_path, unknown()) == []
        assert hub.gets() == []


def test_a_wrong_file_is_replaced_and_stays_as_it_is_until_the_right_one_has_arrived(tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae/model.bin").write_bytes(b"of last year")
    with serving(Served(BYTES, sent=BYTES[::-1])) as hub:
        with pytest.raises(WrongModelFile):
            get(hub, tmp_path, known())
        assert (tmp_path / "vae/model.bin").read_bytes() == b"of last year"
        hub.files["them/model/vae/model.bin"].sent = None
        get(hub, tmp_path, known())
    assert (tmp_path / "vae/model.bin").read_bytes() == BYTES


def test_the_version_that_was_asked_about_is_the_one_that_is_fetched(tmp_path: Path) -> None:
    with serving(Served(BYTES)) as hub:
        get(hub, tmp_path, unknown())
        assert [f"{request.method} {request.path}" for request in hub.requests] == [
            "HEAD /them/model/resolve/main/vae/model.bin",
            f"GET /them/model/resolve/{COMMIT}/vae/model.bin",
        ]


def test_an_empty_file_can_be_fetched(tmp_path: Path) -> None:
    with serving(Served(b"")) as hub:
        get(hub, tmp_path, known(b""))
    assert (tmp_path / "vae/model.bin").read_bytes() == b""


# --- a line that breaks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resets", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("sends_length", [True, False], ids=["length said", "length unsaid"])
def test_a_lost_connection_is_gone_on_from_where_it_broke(
    tmp_path: Path, resets: bool, sends_length: bool
) -> None:
    served = Served(BYTES, drops=[3000, 0, 2500], resets=resets, sends_length=sends_length)
    with serving(served) as hub:
        get(hub, tmp_path, known())
        ranges = [request.range for request in hub.gets()]
    assert (tmp_path / "vae/model.bin").read_bytes() == BYTES
    assert len(ranges) == 4
    assert ranges[0] is None
    if not resets:  # a reset connection loses what is in flight, a broken one the last begun piece
        assert ranges[1] == ("bytes=2048-" if sends_length else "bytes=3000-")


def test_a_server_that_cannot_go_on_is_asked_for_the_whole_file_again(tmp_path: Path) -> None:
    with serving(Served(BYTES, drops=[3000], ranges=False)) as hub:
        get(hub, tmp_path, known())
    assert (tmp_path / "vae/model.bin").read_bytes() == BYTES
    assert everything_in(tmp_path) == ["vae/model.bin"]


def test_a_connection_that_is_lost_again_and_again_ends_in_an_error_and_keeps_what_came(
    tmp_path: Path,
) -> None:
    with serving(Served(BYTES, drops=[4096] + [0] * 100)) as hub:
        with pytest.raises(
            ModelFileMissing, match=r"vae/model\.bin cannot be downloaded .* \(4096 bytes are here already\)"
        ):
            get(hub, tmp_path, known())
        assert everything_in(tmp_path) == [f"vae/model.bin.{sha256(BYTES)[:8]}.part"]
        served = hub.files["them/model/vae/model.bin"]
        served.drops.clear()
        hub.requests.clear()
        get(hub, tmp_path, known())
        assert [request.range for request in hub.gets()] == ["bytes=4096-"]
    assert (tmp_path / "vae/model.bin").read_bytes() == BYTES
    assert everything_in(tmp_path) == ["vae/model.bin"]


def child(hub: Hub, folder: Path, content: bytes, *, beforehand: str = "") -> subprocess.Popen[str]:
    """Another process that fetches the file with that content in pieces of 1,024 bytes."""
    program = f"""
        import huggingface_hub.constants, resource, sys
        from pathlib import Path
        from echovideo_model.weights.download import fetch, plan
        from echovideo_model.weights.released import Licence, ModelFile
        huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = 1024
        {beforehand}
        path, licence = "vae/model.bin", Licence("MIT", "")
        file = ModelFile("vae", path, {len(content)}, "{sha256(content)}", "them/model", "main", path, licence)
        folder, address = Path(sys.argv[1]), sys.argv[2]
        fetch(folder, plan(folder, [file], endpoint=address))
    """
    return subprocess.Popen(
        [sys.executable, "-c", dedent(program), str(folder), hub.address],
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


posix_only = pytest.mark.skipif(os.name != "posix", reason="POSIX signals and limits")


@posix_only
def test_ctrl_c_keeps_what_came_and_the_next_run_goes_on_from_there(tmp_path: Path) -> None:
    content = BYTES * 100
    part = tmp_path / f"vae/model.bin.{sha256(content)[:8]}.part"
    with serving(Served(content, stalls_after=len(content) - 5)) as hub:
        process = child(hub, tmp_path, content)
        assert hub.stalled.wait(20)
        deadline = time.monotonic() + 20
        while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
            pass
        process.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in process.communicate(timeout=20)[1]
        assert everything_in(tmp_path) == [part.relative_to(tmp_path).as_posix()]
        kept = part.stat().st_size
        hub.files["them/model/vae/model.bin"].stalls_after = None
        hub.requests.clear()
        get(hub, tmp_path, known(content))
        assert [request.range for request in hub.gets()] == [f"bytes={kept}-"]
    assert (tmp_path / "vae/model.bin").read_bytes() == content


@posix_only
def test_a_disk_that_fills_up_meanwhile_is_said_at_once_and_not_tried_again(tmp_path: Path) -> None:
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))"
    with serving(Served(BYTES)) as hub:
        stderr = child(hub, tmp_path, BYTES, beforehand=limit).communicate(timeout=20)[1]
        assert "InvalidRequest: cannot write" in stderr
        assert "choose another folder" in stderr
        assert len(hub.gets()) == 1
    assert not (tmp_path / "vae/model.bin").exists()


# --- a server that lies --------------------------------------------------------------------------------------------


def test_corrupt_bytes_never_reach_the_final_name_and_a_later_run_works(tmp_path: Path) -> None:
    corrupt = BYTES[:5000] + b"!" + BYTES[5001:]
    with serving(Served(BYTES, sent=corrupt)) as hub:
        with pytest.raises(WrongModelFile) as caught:
            get(hub, tmp_path, known())
        assert all(part in str(caught.value) for part in ("vae/model.bin", sha256(BYTES), sha256(corrupt)))
        assert everything_in(tmp_path) == []
        hub.files["them/model/vae/model.bin"].sent = None
        get(hub, tmp_path, known())
    assert (tmp_path / "vae/model.bin").read_bytes() == BYTES


def test_corrupt_bytes_are_seen_by_the_hash_that_the_hub_states_where_the_table_has_none(
    tmp_path: Path,
) -> None:
    for etag in (sha256(BYTES), git_hash(BYTES)):
        with (
            serving(Served(BYTES, etag=etag, sent=BYTES[::-1])) as hub,
            pytest.raises(WrongModelFile, match=f"expected .* {etag}"),
        ):
            get(hub, tmp_path, unknown())
    assert everything_in(tmp_path) == []


def test_a_spoilt_part_of_an_earlier_run_costs_a_second_transfer_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    (tmp_path / f"vae/model.bin.{sha256(BYTES)[:8]}.part").write_bytes(b"!" * 4096)
    with serving(Served(BYTES)) as hub:
        get(hub, tmp_path, known())
        assert [request.range for request in hub.gets()] == ["bytes=4096-", None]
    assert (tmp_path / "vae/model.bin").read_bytes() == BYTES


def test_a_part_of_another_version_is_not_gone_on_from_and_does_not_stay(tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae/model.bin.0ddc0de5.part").write_bytes(b"!" * 4096)
    with serving(Served(BYTES)) as hub:
        get(hub, tmp_path, known())
        assert [request.range for request in hub.gets()] == [None]
    assert everything_in(tmp_path) == ["vae/model.bin"]


def test_a_file_that_is_another_one_by_what_the_hub_says_is_refused_before_the_transfer(
    tmp_path: Path,
) -> None:
    for served in (Served(BYTES + b"more"), Served(BYTES[::-1]), Served(BYTES, stated_size=7)):
        with serving(served) as hub:
            with pytest.raises(
                WrongModelFile, match=r"vae/model\.bin is a different file at http.*expected .*, got "
            ):
                get(hub, tmp_path, known())
            assert hub.gets() == []
    assert everything_in(tmp_path) == []


@pytest.mark.parametrize("stated", [len(BYTES) - 1, len(BYTES) + 1, 0, 10**6])
def test_a_server_that_lies_about_the_length_cannot_place_a_file(tmp_path: Path, stated: int) -> None:
    with serving(Served(BYTES, stated_size=stated)) as hub, pytest.raises((WrongModelFile, ModelFileMissing)):
        get(hub, tmp_path, unknown())
    assert not (tmp_path / "vae/model.bin").exists()


@pytest.mark.parametrize("sends_length", [True, False])
def test_a_server_that_sends_less_or_more_than_it_said_cannot_place_a_file(
    tmp_path: Path, sends_length: bool
) -> None:
    for sent in (BYTES[:-1], BYTES + b"!", b""):
        with (
            serving(Served(BYTES, sent=sent, sends_length=sends_length)) as hub,
            pytest.raises((WrongModelFile, ModelFileMissing), match=r"vae/model\.bin .*bytes"),
        ):
            get(hub, tmp_path, known())
        assert not (tmp_path / "vae/model.bin").exists()


# --- a server that refuses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "remedy"),
    [(401, "hf auth login"), (403, "hf auth login"), (404, "--endpoint"), (500, "--endpoint")],
)
def test_a_refusal_names_the_file_the_address_the_status_and_a_remedy(
    tmp_path: Path, status: int, remedy: str
) -> None:
    with serving(Served(BYTES, statuses=[status] * 100)) as hub:
        with pytest.raises(ModelFileMissing) as caught:
            get(hub, tmp_path, known())
        assert all(
            part in str(caught.value) for part in ("vae/model.bin", hub.address, f"HTTP {status}", remedy)
        )
        assert len(hub.requests) <= 4
    assert caught.value.exit_code == 3


def test_a_passing_failure_of_the_server_is_waited_out(tmp_path: Path) -> None:
    with serving(Served(BYTES, statuses=[500, 503])) as hub:
        offers = plan(tmp_path, [known()], endpoint=hub.address)
        hub.files["them/model/vae/model.bin"].statuses[:] = [502, 500]
        fetch(tmp_path, offers)
    assert (tmp_path / "vae/model.bin").read_bytes() == BYTES


def test_a_server_that_is_not_there_is_an_error_with_its_address(tmp_path: Path) -> None:
    with serving(Served(BYTES)) as hub:
        address = hub.address
    with pytest.raises(ModelFileMissing, match=address) as caught:
        plan(tmp_path, [known()], endpoint=address)
    assert re.match(
        r"127\.0\.0\.1 cannot be reached \(.+\) to download vae/model\.bin from", str(caught.value)
    )


def test_a_name_that_nobody_knows_is_a_hub_that_cannot_be_reached(tmp_path: Path) -> None:
    with pytest.raises(
        ModelFileMissing, match=r"^mirror\.invalid cannot be reached \(.+\(0 bytes are here already\); run"
    ):
        plan(tmp_path, [known()], endpoint="https://mirror.invalid")


@pytest.mark.parametrize("endpoint", ["", "mirror", "ftp://mirror", "http://", "http://[::1", "http://a:b"])
def test_an_endpoint_that_is_no_address_is_refused(tmp_path: Path, endpoint: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a mirror's address"):
        plan(tmp_path, [known()], endpoint=endpoint)


def test_being_told_to_stay_offline_is_said_at_once(tmp_path: Path) -> None:
    imports = "import sys; from pathlib import Path; from echovideo_model.weights.download import plan"
    program = f"{imports}; plan(Path(sys.argv[1]))"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    child = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        encoding="utf-8",
    )
    assert "ModelFileMissing" in child.stderr
    assert "unset HF_HUB_OFFLINE" in child.stderr


def echovideo(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as the HTTP library reads its environment when it is imported."""
    return subprocess.run(
        [sys.executable, "-m", "echovideo_model", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(Path(download.__file__).parents[2]), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        encoding="utf-8",
    )


def test_the_access_token_is_sent_to_no_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with serving(Served(BYTES)) as hub:
        fetch(tmp_path / "a", plan(tmp_path, [known()], endpoint=hub.address))
        assert {request.authorization for request in hub.requests} == {None}
        monkeypatch.setattr(download, "HUB", ("http", "127.0.0.1"))  # as if that were the Hub
        fetch(tmp_path / "b", plan(tmp_path, [known()], endpoint=hub.address))
        assert {request.authorization for request in hub.requests[-2:]} == {"Bearer hf_secret"}


def test_a_mirror_in_the_environment_is_one_too(tmp_path: Path) -> None:
    with serving(Served(BYTES)) as hub:
        command = ("models", "download", "--accept-licenses", "--only", "transformer", "--models", tmp_path)
        echovideo(*command, HF_TOKEN="hf_secret", HF_ENDPOINT=hub.address)
        assert {request.authorization for request in hub.requests} == {None}


@pytest.mark.parametrize(
    "address", ["http://huggingface.co", "https://huggingface.co.evil", "https://hf-mirror.com"]
)
def test_the_access_token_goes_to_the_hub_alone_and_never_in_the_clear(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert download._token(f"{address}/them/model/resolve/main/a") is False
    assert download._token("https://huggingface.co/them/model/resolve/main/a") is None  # whatever there is


@pytest.mark.parametrize("token", ["hf_sécret", "hf_a b", "“hf_secret”", "hf_\udcff"])
def test_a_token_that_no_request_can_carry_is_said_to_be_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(InvalidRequest, match="contains an invalid character") as caught:
        plan(tmp_path, [known()])
    assert token not in str(caught.value)


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "socks5h://127.0.0.1:9", "gopher://127.0.0.1:9"])
def test_a_proxy_that_cannot_be_used_is_named(tmp_path: Path, proxy: str) -> None:
    child = echovideo(
        *("models", "download", "--models", tmp_path / "models", "--accept-licenses", "--only", "vae"),
        *("--endpoint", "https://mirror.invalid"),
        ALL_PROXY=proxy,
    )
    assert child.returncode == 3
    assert child.stderr.count("\n") == 1
    if proxy.startswith("socks"):
        assert re.search(r"uses SOCKS, which needs (socksio|PySocks): .* -m pip install", child.stderr)
    assert not (tmp_path / "models").exists()


# --- servers that answer with something else ------------------------------------------------------------------------

PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>The network asks you to.</body></html>"


class Portal(BaseHTTPRequestHandler):
    """Answers every request with the same page, or with zeros, and 200."""

    protocol_version = "HTTP/1.1"
    sizes: dict[str, int]
    zeros: bool
    etag: str | None

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.wfile.write(self.answer())

    def answer(self) -> bytes:
        size = next((size for name, size in self.sizes.items() if self.path.endswith(name)), 1_000)
        body = bytes(size) if self.zeros else PAGE
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        if self.etag:
            self.send_header("ETag", f'"{getattr(hashlib, self.etag)(body).hexdigest()}"')
        self.end_headers()
        return body

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


@contextmanager
def portal(zeros: bool, etag: str | None, sizes: dict[str, int]) -> Iterator[str]:
    handler = type("Handler", (Portal,), {"zeros": zeros, "etag": etag, "sizes": sizes})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("etag", [None, "sha256", "md5"])
@pytest.mark.parametrize("zeros", [False, True], ids=["a page", "zeros of the right length"])
@pytest.mark.parametrize("group", [*released.GROUPS, None])
def test_a_server_that_sends_the_same_to_everybody_gives_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], group: str | None, zeros: bool, etag: str | None
) -> None:
    sizes = {file.source: file.size for file in released.TABLE if file.size is not None and file.size < 10**6}
    only = ["--only", group] if group else []
    with portal(zeros, etag, sizes) as address:
        command = ["models", "download", "--accept-licenses", "--models", str(tmp_path / "new"), *only]
        status = cli.main([*command, "--endpoint", address])
    assert status != 0
    said = capsys.readouterr()
    assert "present and correct" not in said.out
    assert said.err.count("\n") == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("content", [PAGE, bytes(5_000), b"", b"[]"], ids=["page", "zeros", "empty", "list"])
@pytest.mark.parametrize(
    "name",
    ["transformer/config.json", "transformer/dit.safetensors", "transformer/dit.safetensors.index.json"],
)
def test_what_lies_there_is_looked_into_where_no_hash_is_published(
    tmp_path: Path, name: str, content: bytes
) -> None:
    row = ModelFile("transformer", name, None, None, "them/model", "main", name, FREE)
    (tmp_path / "transformer").mkdir()
    (tmp_path / name).write_bytes(content)
    (check,) = verify(tmp_path, [row])
    assert check.status == "damaged"
    with portal(False, None, {}) as address:
        assert [offer.file for offer in plan(tmp_path, [row], endpoint=address)] == [row]


def test_a_shard_with_a_hole_is_damaged_to_verify(tmp_path: Path) -> None:
    row = ModelFile("transformer", "a.safetensors", None, None, "them/model", "main", "a.safetensors", FREE)
    state = {f"blocks.{number}.weight": torch.ones(64, 64) for number in range(8)} | {
        "b.bias": torch.zeros(64)
    }
    save_file(state, tmp_path / row.path)
    assert verify(tmp_path, [row])[0].status == "unchecked"
    whole = (tmp_path / row.path).read_bytes()
    (tmp_path / row.path).write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    (check,) = verify(tmp_path, [row])
    assert check.status == "damaged"
    assert "only zeros in blocks." in check.detail


# --- a folder that does not suit -----------------------------------------------------------------------------------


def test_too_little_free_space_is_refused_before_the_transfer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=0))
    with serving(Served(BYTES)) as hub:
        with pytest.raises(
            InvalidRequest, match=r"0\.00 GB are needed, but only 0\.00 GB are free in "
        ) as caught:
            get(hub, tmp_path / "new", known())
        assert hub.gets() == []
    assert str(tmp_path / "new") in str(caught.value)
    assert everything_in(tmp_path) == []


def test_what_has_arrived_already_needs_no_space_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vae").mkdir()
    (tmp_path / f"vae/model.bin.{sha256(BYTES)[:8]}.part").write_bytes(BYTES[:6000])
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=len(BYTES) - 6000))
    with serving(Served(BYTES)) as hub:
        get(hub, tmp_path, known())
    assert (tmp_path / "vae/model.bin").read_bytes() == BYTES


def test_a_folder_that_cannot_be_written_is_refused_before_the_transfer(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with serving(Served(BYTES)) as hub:
        with pytest.raises(InvalidRequest, match="cannot write"):
            get(hub, tmp_path / "file/models", known())
        assert hub.gets() == []


def test_a_folder_in_the_place_of_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "vae/model.bin/inside").mkdir(parents=True)
    with serving(Served(BYTES)) as hub, pytest.raises(InvalidRequest, match=r"cannot write .*model\.bin"):
        get(hub, tmp_path, known())


def test_a_second_download_into_the_same_folder_is_refused(tmp_path: Path) -> None:
    with (
        serving(Served(BYTES)) as hub,
        WeakFileLock(tmp_path / ".download.lock"),
        pytest.raises(InvalidRequest, match="another download"),
    ):
        get(hub, tmp_path, known())


# --- for every way of misbehaving ----------------------------------------------------------------------------------

misbehaviour = st.builds(
    Served,
    content=st.just(BYTES),
    etag=st.sampled_from([None, git_hash(BYTES), "whatever"]),
    statuses=st.lists(st.sampled_from([200, 200, 401, 404, 416, 500, 503]), max_size=4),
    drops=st.lists(st.integers(0, len(BYTES)), max_size=5),
    resets=st.booleans(),
    ranges=st.booleans(),
    stated_size=st.one_of(st.none(), st.none(), st.integers(0, 2 * len(BYTES))),
    sent=st.one_of(
        st.none(), st.none(), st.integers(0, len(BYTES)).map(lambda n: BYTES[:n] + b"!" + BYTES[n + 1 :])
    ),
    sends_length=st.booleans(),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(served=misbehaviour, left=st.integers(0, len(BYTES) + 10), knows=st.booleans())
def test_whatever_the_server_does_the_file_is_right_or_absent_and_an_honest_server_mends_it(
    tmp_path_factory: pytest.TempPathFactory, served: Served, left: int, knows: bool
) -> None:
    folder = tmp_path_factory.mktemp("models")
    file = known() if knows else unknown()
    target = folder / file.path
    if left:
        target.parent.mkdir()
        (folder / f"vae/model.bin.{served.tag[:8]}.part").write_bytes(BYTES[:left])
    if not knows and served.tag == "whatever":
        served.etag = None  # nobody states a hash: nothing could tell
    with serving(served) as hub:
        try:
            get(hub, folder, file)
            assert target.read_bytes() == BYTES
        except EchoVideoError:
            assert not target.exists()
    with serving(Served(BYTES)) as hub:
        get(hub, folder, file)
    assert target.read_bytes() == BYTES
    assert everything_in(folder) == [file.path]


# --- verify --------------------------------------------------------------------------------------------------------

STATES = [
    "right",
    "absent",
    "shorter",
    "changed",
    "empty",
    "folder",
    "dangling link",
    "loop of links",
    "unreadable",
]


def put(path: Path, state: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "right": BYTES,
        "shorter": BYTES[:-1],
        "changed": BYTES[::-1],
        "empty": b"",
        "unreadable": BYTES,
    }
    if state in content:
        path.write_bytes(content[state])
    if state == "folder":
        path.mkdir()
    if state == "dangling link":
        path.symlink_to(path.with_name("nowhere"))
    if state == "loop of links":
        path.symlink_to(path)
    if state == "unreadable":
        path.chmod(0)


@settings(max_examples=60, deadline=None)
@given(
    states=st.lists(st.sampled_from(STATES), max_size=6),
    knows=st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_verify_has_a_word_for_every_file_of_every_folder_and_raises_nothing(
    tmp_path_factory: pytest.TempPathFactory, states: list[str], knows: list[bool]
) -> None:
    folder = tmp_path_factory.mktemp("models")
    files = [known(path=f"vae/{n}") if knows[n] else unknown(f"vae/{n}") for n in range(len(states))]
    for file, state in zip(files, states, strict=True):
        put(folder / file.path, state)
    expected = {
        "right": ("ok",),
        "shorter": ("wrong size",),
        "empty": ("wrong size",),
        "changed": ("wrong hash",),
        "unreadable": ("unchecked", "ok"),  # "ok" for a user who may read everything
    }
    for check, file, state in zip(verify(folder, files), files, states, strict=True):
        assert check.file == file
        if state in expected:
            assert check.status in (expected[state] if file.sha256 else ("unchecked",))
        else:
            assert check.status == "missing"


@pytest.mark.parametrize("folder", ["/nonexistent", "/dev/null", "", "a\0b"])
def test_verify_of_a_folder_that_is_none_finds_everything_missing(folder: str) -> None:
    assert {check.status for check in verify(Path(folder))} == {"missing"}


SHARDS = [f"transformer/dit-0000{number}-of-00002.safetensors" for number in (1, 2)]
INDEX = "transformer/dit.safetensors.index.json"


def sharded(folder: Path) -> list[ModelFile]:
    """Two shards with their index, of which the table knows no hash."""
    (folder / "transformer").mkdir()
    for shard, name in zip(SHARDS, "ab", strict=True):
        save_file({name: torch.ones(9)}, folder / shard)
    names = [Path(shard).name for shard in SHARDS]
    (folder / INDEX).write_text(
        json.dumps({"weight_map": dict(zip("ab", names, strict=True))}), encoding="utf-8"
    )
    return [unknown(path) for path in (INDEX, *SHARDS)]


def test_a_shard_without_a_hash_that_is_cut_short_is_damaged(tmp_path: Path) -> None:
    files = sharded(tmp_path)
    assert [check.status for check in verify(tmp_path, files)] == ["unchecked"] * 3
    whole = (tmp_path / SHARDS[1]).read_bytes()
    for left in (0, 4, 30, len(whole) - 1):
        (tmp_path / SHARDS[1]).write_bytes(whole[:left])
        checks = verify(tmp_path, files)
        assert [check.status for check in checks] == ["unchecked", "unchecked", "damaged"]
        assert f"({left} bytes) is not a complete .safetensors file" in checks[2].detail
    assert {check.status for check in verify(tmp_path, files, hashing=False)} == {"unchecked"}


def test_an_index_without_its_shards_is_damaged(tmp_path: Path) -> None:
    files = sharded(tmp_path)
    (tmp_path / SHARDS[0]).unlink()
    index, first, second = verify(tmp_path, files)
    assert (index.status, first.status, second.status) == ("damaged", "missing", "unchecked")
    assert f"lacks {Path(SHARDS[0]).name} of 2 shards" in index.detail
    (tmp_path / INDEX).write_text((tmp_path / INDEX).read_text(encoding="utf-8")[:-5], encoding="utf-8")
    index = verify(tmp_path, files)[0]
    assert index.status == "damaged"
    assert "is not a shard index" in index.detail


def test_verify_says_what_was_expected_and_what_is_there(tmp_path: Path) -> None:
    put(tmp_path / "vae/model.bin", "changed")
    detail = verify(tmp_path, [known()])[0].detail
    assert detail == f"expected sha256 {sha256(BYTES)}, got {sha256(BYTES[::-1])}"


# --- the command line ----------------------------------------------------------------------------------------------

OTHER = b"other weights" * 99


@pytest.fixture
def small_table(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A table of two files, one of them restricted, in place of the real one, and a Hub that serves them."""
    table = (
        known(),
        replace(known(OTHER, "transformer/config.json"), group="transformer", licence=RESTRICTED),
    )
    monkeypatch.setattr(released, "TABLE", table)
    monkeypatch.setattr(released, "NEEDED", table)
    files = {"them/model/vae/model.bin": Served(BYTES), "them/model/transformer/config.json": Served(OTHER)}
    with Hub(files) as hub:
        yield hub


def command(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    models.register(parser.add_subparsers())
    args = parser.parse_args(["models", *map(str, arguments)])
    result: int = args.run(args)
    return result


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_download_then_list_then_verify(
    small_table: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ("--models", tmp_path)
    assert command("verify", *here) == 3
    assert command("download", *here, "--endpoint", small_table.address, "--accept-licenses") == 0
    capsys.readouterr()
    assert command("list", *here, "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(file["path"], file["state"]) for file in listed["files"]] == [
        ("vae/model.bin", "there"),
        ("transformer/config.json", "there"),
    ]
    assert command("verify", *here, "--json") == 0
    verified = json.loads(capsys.readouterr().out)
    assert verified["right"] is True
    assert [file["status"] for file in verified["files"]] == ["ok", "ok"]


def test_verify_returns_3_and_names_what_is_wrong(
    small_table: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "vae/model.bin", "changed")
    assert command("verify", "--models", tmp_path) == 3
    shown = capsys.readouterr().out
    assert "wrong hash  vae/model.bin" in shown
    assert "missing     transformer/config.json" in shown
    assert f'echovideo models download --models "{tmp_path}"' in shown


def test_verify_returns_3_and_says_that_a_file_without_a_hash_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(released, "NEEDED", tuple(sharded(tmp_path)))
    assert command("verify", "--models", tmp_path) == 0
    os.truncate(tmp_path / SHARDS[1], 90)
    capsys.readouterr()
    assert command("verify", "--models", tmp_path) == 3
    shown = capsys.readouterr().out
    assert f"damaged     {SHARDS[1]}  (" in shown
    assert "2 unchecked, 1 damaged" in shown
    assert command("verify", "--models", tmp_path, "--json") == 3
    verified = json.loads(capsys.readouterr().out)
    assert verified["right"] is False
    assert [file["status"] for file in verified["files"]] == ["unchecked", "unchecked", "damaged"]


def test_list_shows_size_licence_and_source_of_every_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert command("list", "--models", tmp_path) == 0
    shown = capsys.readouterr().out
    for file in released.TABLE:
        assert file.path in shown
        assert file.licence.name in shown
        assert file.repository in shown


def test_only_fetches_the_named_groups(small_table: Hub, tmp_path: Path) -> None:
    assert command("download", "--models", tmp_path, "--endpoint", small_table.address, "--only", "vae") == 0
    assert everything_in(tmp_path) == ["vae/model.bin"]


def test_only_refuses_a_group_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r'unknown group "unet".*transformer'):
        command("download", "--models", tmp_path, "--only", "unet")


def test_restricted_weights_need_the_flag_where_nobody_can_be_asked(
    small_table: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(InvalidRequest, match=r"--accept-licenses: No Trade: https://example\.org/no-trade"):
        command("download", "--models", tmp_path, "--endpoint", small_table.address)
    assert small_table.requests == []


@pytest.mark.parametrize("answer", ["y\n", "Yes\n", "n\n", "\n", ""])
def test_at_a_terminal_one_question_covers_all_restricted_weights(
    small_table: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str,
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    if answer.lower().startswith("y"):
        assert command("download", "--models", tmp_path, "--endpoint", small_table.address) == 0
        assert len(everything_in(tmp_path)) == 2
    else:
        with pytest.raises(Cancelled):
            command("download", "--models", tmp_path, "--endpoint", small_table.address)
        assert small_table.requests == []
    assert capsys.readouterr().out.count("[y/N]") == 1


def test_nothing_is_asked_once_the_restricted_weights_are_there(
    small_table: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer/config.json").write_bytes(OTHER)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert command("download", "--models", tmp_path, "--endpoint", small_table.address) == 0


def test_ctrl_c_ends_with_130(small_table: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "fetch", interrupted)
    with pytest.raises(Cancelled) as caught:
        command("download", "--models", tmp_path, "--endpoint", small_table.address, "--accept-licenses")
    assert caught.value.exit_code == 130
