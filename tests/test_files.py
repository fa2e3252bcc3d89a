"""Outputs are whole or absent: nothing half-written, nothing left behind, and one sentence when it cannot be."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from echovideo_model.errors import InvalidRequest
from echovideo_model.files import check_writable, write_atomically

posix_only = pytest.mark.skipif(os.name != "posix", reason="POSIX limits and permissions")


def everything_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def write_half_of(target: Path, interruption: type[BaseException]) -> None:
    with write_atomically(target) as temporary:
        temporary.write_bytes(b"half")
        raise interruption


def test_the_file_appears_only_when_the_block_has_succeeded(tmp_path: Path) -> None:
    target = tmp_path / "video.mp4"
    with write_atomically(target) as temporary:
        temporary.write_bytes(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert everything_in(tmp_path) == ["video.mp4"]


def test_the_temporary_name_is_hidden_beside_the_target_and_has_its_suffix(tmp_path: Path) -> None:
    with write_atomically(tmp_path / "video.mp4") as temporary:
        assert temporary.parent == tmp_path.resolve()
        assert temporary.name.startswith(".")
        assert temporary.suffix == ".mp4"
        temporary.touch()


def test_a_file_gets_the_permissions_that_any_new_file_gets(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with write_atomically(tmp_path / "ours") as temporary:
        temporary.touch()
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "plain").stat().st_mode
    )


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupted_block_leaves_nothing_and_is_heard_of(
    tmp_path: Path, interruption: type[BaseException]
) -> None:
    with pytest.raises(interruption):
        write_half_of(tmp_path / "new" / "folder" / "video.mp4", interruption)
    assert everything_in(tmp_path) == []


def test_an_interrupted_block_leaves_the_older_file_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "video.mp4"
    target.write_bytes(b"older")
    with pytest.raises(KeyboardInterrupt):
        write_half_of(target, KeyboardInterrupt)
    assert target.read_bytes() == b"older"
    assert everything_in(tmp_path) == ["video.mp4"]


def test_missing_folders_are_made(tmp_path: Path) -> None:
    with write_atomically(tmp_path / "a" / "b" / "c.png") as temporary:
        temporary.write_bytes(b"whole")
    assert (tmp_path / "a" / "b" / "c.png").read_bytes() == b"whole"


def test_folders_that_were_there_stay_when_the_block_fails(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError), write_atomically(tmp_path / "a" / "b" / "c.png"):
        raise ValueError
    assert everything_in(tmp_path) == ["a"]


@posix_only
def test_a_link_stays_a_link_and_the_file_it_means_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real.mp4").write_bytes(b"older")
    (tmp_path / "latest.mp4").symlink_to("real.mp4")
    with write_atomically(tmp_path / "latest.mp4") as temporary:
        temporary.write_bytes(b"newer")
    assert (tmp_path / "latest.mp4").is_symlink()
    assert (tmp_path / "real.mp4").read_bytes() == b"newer"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stem=st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=60))
def test_every_name_that_the_system_takes_is_written(tmp_path: Path, stem: str) -> None:
    target = tmp_path / f"{stem}.mp4"
    check_writable(target)
    with write_atomically(target) as temporary:
        temporary.write_text(stem, "utf-8", newline="")
    assert target.read_bytes() == stem.encode()
    target.unlink()
    assert everything_in(tmp_path) == []


def test_the_longest_name_that_the_system_takes_is_written(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 251 + ".mp4")
    check_writable(target)
    with write_atomically(target) as temporary:
        temporary.touch()
    assert target.exists()


def test_checking_leaves_nothing_behind_and_touches_nothing(tmp_path: Path) -> None:
    older = tmp_path / "older.mp4"
    older.write_bytes(b"older")
    check_writable(older)
    check_writable(tmp_path / "new" / "folder" / "video.mp4")
    assert everything_in(tmp_path) == ["older.mp4"]
    assert older.read_bytes() == b"older"


def refused_by_both(target: str | Path, *words: str) -> None:
    """check_writable says it before the work, write_atomically says the same sentence, and the target is named."""
    with pytest.raises(InvalidRequest) as early:
        check_writable(target)
    with pytest.raises(InvalidRequest) as late, write_atomically(target) as temporary:
        temporary.write_bytes(b"never")
    assert str(early.value) == str(late.value)
    for word in (str(target), *words):
        assert word in str(early.value)
    assert "\n" not in str(early.value)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    refused_by_both(tmp_path, "it is a folder", "give the name of a file in it")
    refused_by_both("", "it is a folder")


def test_a_file_used_as_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused_by_both(tmp_path / "file" / "video.mp4", "is a file, not a folder")
    refused_by_both(tmp_path / "file" / "deeper" / "video.mp4", "is a file, not a folder")
    assert everything_in(tmp_path) == ["file"]


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    refused_by_both(tmp_path / ("n" * 300 + ".mp4"), "too long", "choose a shorter name")
    refused_by_both(tmp_path / ("n" * 300) / "video.mp4", "too long", "choose a shorter name")


def test_a_zero_byte_in_the_name_is_refused() -> None:
    refused_by_both("video\0.mp4", "null byte")


@posix_only
def test_a_device_and_a_circle_of_links_are_refused(tmp_path: Path) -> None:
    refused_by_both("/dev/null", "device")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    (tmp_path / "a.mp4").symlink_to("b.mp4")
    (tmp_path / "b.mp4").symlink_to("a.mp4")
    refused_by_both(tmp_path / "a.mp4", "loop of links")


@contextmanager
def without_root() -> Iterator[None]:
    """File permissions hold for everybody but root: step down while the block runs."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@posix_only
def test_a_folder_that_may_not_be_written_is_refused() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        with without_root():
            refused_by_both(folder / "video.mp4", "permission is denied", "that you may write to")
            refused_by_both(folder / "new" / "video.mp4", "permission is denied")
        folder.chmod(0o755)
        assert everything_in(folder) == []


DISK_FULL = """
import resource, sys
from pathlib import Path
from echovideo_model.errors import InvalidRequest
from echovideo_model.files import write_atomically

def by_python(path):
    path.write_bytes(bytes(100_000))

def by_pillow(path):
    import os
    from PIL import Image
    Image.frombytes("RGB", (256, 256), os.urandom(256 * 256 * 3)).save(path, "PNG")

resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    with write_atomically(Path(sys.argv[1])) as temporary:
        globals()["by_" + sys.argv[2]](temporary)
except InvalidRequest as error:
    print(error)
    sys.exit(error.exit_code)
"""


@posix_only
@pytest.mark.parametrize("writer", ["python", "pillow"])
def test_running_out_of_space_is_one_sentence_and_leaves_nothing(tmp_path: Path, writer: str) -> None:
    target = tmp_path / "new" / "file.bin"
    run = subprocess.run(
        [sys.executable, "-c", DISK_FULL, target, writer], capture_output=True, text=True, encoding="utf-8"
    )
    assert run.returncode == 2, run.stderr
    assert run.stdout.count("\n") == 1
    assert str(target) in run.stdout
    assert "exceeds the size limit" in run.stdout
    assert everything_in(tmp_path) == []


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EROFS, "read-only"),
        (errno.EDQUOT, "quota"),
        (errno.EIO, "reported an error"),
    ],
)
def test_what_the_system_says_while_writing_is_said_in_one_sentence(
    tmp_path: Path, code: int, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words), write_atomically(tmp_path / "video.mp4"):
        raise OSError(code, os.strerror(code))
    assert everything_in(tmp_path) == []


def test_an_error_about_another_file_passes_through_unchanged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), write_atomically(tmp_path / "video.mp4"):
        (tmp_path / "missing.jpg").read_bytes()
    with pytest.raises(ConnectionResetError), write_atomically(tmp_path / "video.mp4"):
        raise ConnectionResetError(errno.ECONNRESET, "reset")
    assert everything_in(tmp_path) == []


@posix_only
def test_a_full_device_is_named_as_the_reason(tmp_path: Path) -> None:
    """/dev/full answers every write as a full disk does."""
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with (
        pytest.raises(InvalidRequest, match="the disk is full; free some space"),
        write_atomically(tmp_path / "a"),
    ):
        Path("/dev/full").write_bytes(b"x")
