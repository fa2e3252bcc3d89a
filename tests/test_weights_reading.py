"""Files of weights are read as the safetensors library and torch read them, whole or not at all, and so written."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from echovideo_model.errors import InvalidRequest, ModelFileMissing, WrongModelFile
from echovideo_model.weights import writing as tensorwriter
from echovideo_model.weights.reading import DTYPES, open_tensors
from echovideo_model.weights.writing import write_file, write_folder

in_a_folder = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)
specs = st.dictionaries(
    st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
    st.tuples(shapes, st.sampled_from(sorted(DTYPES.values(), key=str)), st.integers(0, 99)),
    min_size=1,
    max_size=6,
)


def filled(spec: tuple[tuple[int, ...], torch.dtype, int]) -> Tensor:
    shape, dtype, seed = spec
    values = torch.randint(0, 100, shape, generator=torch.Generator().manual_seed(seed))
    return values.to(dtype)


def same(one: Tensor, other: Tensor) -> bool:
    """Equal to the bit, NaN included."""
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    return torch.equal(
        one.contiguous().view(-1).view(torch.uint8), other.contiguous().view(-1).view(torch.uint8)
    )


def same_states(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)


def planned(state: dict[str, Tensor]) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in state.items()}


def reader(state: dict[str, Tensor]) -> Callable[[Iterable[str]], Iterator[Tensor]]:
    return lambda names: (state[name] for name in names)


def read(path: Path) -> dict[str, Tensor]:
    return dict(open_tensors(path).tensors())


def refusal(error: type[Exception], path: Path) -> str:
    """The one sentence with which opening `path` is refused; it names the file or folder and ends in a remedy."""
    with pytest.raises(error) as caught:
        open_tensors(path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert str(path) in sentence or path.parent.name in sentence
    return sentence


@contextmanager
def read_or_refused() -> Iterator[None]:
    """Whatever is in the file, nothing but our own errors comes out, in one line."""
    sentence = ""
    try:
        yield
    except (WrongModelFile, ModelFileMissing) as error:
        sentence = str(error)
    assert "\n" not in sentence


def everything_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# ---- one file --------------------------------------------------------------------------------------------------


@in_a_folder
@given(specs)
def test_what_the_library_writes_is_read_to_the_bit(tmp_path: Path, spec: dict[str, Any]) -> None:
    state = {name: filled(one) for name, one in spec.items()}
    safetensors.torch.save_file(state, tmp_path / "a.safetensors", {"who": "me"})
    opened = open_tensors(tmp_path / "a.safetensors")
    assert same_states(dict(opened.tensors()), state)
    assert opened.shapes == {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert opened.bytes == sum(tensor.nbytes for tensor in state.values())
    assert opened.metadata == {"who": "me"}


@in_a_folder
@given(specs)
def test_the_library_reads_what_is_written_to_the_bit(tmp_path: Path, spec: dict[str, Any]) -> None:
    state = {name: filled(one) for name, one in spec.items()}
    write_file(tmp_path / "a.safetensors", planned(state), reader(state), {"who": "me"})
    assert same_states(safetensors.torch.load_file(tmp_path / "a.safetensors"), state)
    with safetensors.safe_open(tmp_path / "a.safetensors", "pt") as opened:
        assert opened.metadata() == {"who": "me"}


def test_every_tensor_of_a_written_file_is_aligned_to_its_elements(tmp_path: Path) -> None:
    """Three bytes of float8 before float32 would leave it askew, which older readers refuse."""
    state = {"a": torch.zeros(3, dtype=torch.float8_e4m3fn), "b": torch.zeros(2), "c": torch.zeros(1).half()}
    write_file(tmp_path / "a.safetensors", planned(state), reader(state), {})
    entries = open_tensors(tmp_path / "a.safetensors").entries
    assert all(entry.offset % entry.dtype.itemsize == 0 for entry in entries.values())


def test_tensors_that_are_views_are_written_as_they_look(tmp_path: Path) -> None:
    whole = torch.arange(12.0).view(3, 4)
    state = {
        "turned": whole.T,
        "every second": whole[:, ::2],
        "one": whole[1, 1],
        "grown": whole[:1].expand(5, 4),
    }
    write_file(tmp_path / "a.safetensors", planned(state), reader(state), {})
    assert same_states(read(tmp_path / "a.safetensors"), state)


def test_tensors_are_given_in_the_order_asked_for(tmp_path: Path) -> None:
    safetensors.torch.save_file({name: torch.ones(2) for name in "abc"}, tmp_path / "a.safetensors")
    assert [name for name, _ in open_tensors(tmp_path / "a.safetensors").tensors(["c", "a"])] == ["c", "a"]


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs Linux's list of mapped files")
def test_tensors_are_mapped_and_a_change_never_reaches_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    safetensors.torch.save_file({"a": torch.ones(5000), "b": torch.ones(5000)}, file)
    before, state = file.read_bytes(), read(file)
    assert str(file) in Path("/proc/self/maps").read_text(encoding="utf-8")
    state["a"].mul_(2)
    assert state["a"].sum() == 10_000
    assert state["b"].sum() == 5_000
    assert file.read_bytes() == before


@in_a_folder
@given(st.data())
def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path, data: st.DataObject) -> None:
    file = tmp_path / "a.safetensors"
    whole = safetensors.torch.save({"a": torch.ones(20), "b": torch.ones(3)})
    file.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1), label="bytes left")])
    assert "not a complete .safetensors" in refusal(WrongModelFile, file)


@pytest.mark.parametrize(
    "start", [b"\xff\xd8\xff\xe0\0\x10JFIF\0", b"<!DOCTYPE html>", b"version https://git-lfs"]
)
@pytest.mark.parametrize("name", ["me.jpg", "model.safetensors"])
def test_what_is_no_weights_at_all_is_not_said_to_be_cut_short(
    tmp_path: Path, name: str, start: bytes
) -> None:
    (tmp_path / name).write_bytes(start + bytes(999))
    said = refusal(WrongModelFile, tmp_path / name)
    assert f"{name} is not a weight file" in said
    assert "truncated" not in said


POINTER = b"""version https://git-lfs.github.com/spec/v1
oid sha256:4ab1d6435d639628a6f3e5008dd4f929edf4c4124b1a7169e1048f9fef534cdf
size 260665334
"""


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "a.bin", "a.safetensors.index.json"])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (POINTER, "a Git LFS pointer"),
        (b"\n\n<!DOCTYPE html><html><body>404</body></html>" + b" " * 500, "an HTML page"),
        (b"<html>\n<head><title>Log in</title>", "an HTML page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "an XML page"),
        (bytes(20_000), "nothing but zeros"),
        (b"GGUF" + bytes(range(100)), "a GGUF file"),
    ],
    ids=["pointer", "page", "older page", "xml", "zeros", "gguf"],
)
def test_what_lies_in_the_place_of_weights_is_called_what_it_is(
    tmp_path: Path, name: str, content: bytes, what: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert what in refusal(WrongModelFile, tmp_path / name)


@in_a_folder
@given(st.binary(max_size=200))
def test_noise_is_refused(tmp_path: Path, noise: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(noise)
    refusal(WrongModelFile, tmp_path / "a.safetensors")


@pytest.mark.skipif(
    tuple(map(int, safetensors.__version__.split(".")[:2])) < (0, 6),
    reason="safetensors does not name such dtypes before 0.6",
)
def test_a_dtype_that_torch_does_not_have_is_named(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"12")
    assert "F4" in refusal(WrongModelFile, tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", ["none.safetensors", "n" * 300, "zero\0byte", "", "none.json", "none.pth"])
def test_a_path_where_nothing_can_be_is_said_to_hold_nothing(tmp_path: Path, name: str) -> None:
    assert "echovideo models download" in refusal(ModelFileMissing, tmp_path / name)


# ---- a folder --------------------------------------------------------------------------------------------------


def write_shards(folder: Path, *shards: dict[str, Tensor], **index: str) -> Path:
    """Shards 0.safetensors, 1.safetensors, ... and their index, `index` overriding what it says."""
    weight_map = {}
    for number, shard in enumerate(shards):
        safetensors.torch.save_file(shard, folder / f"{number}.safetensors")
        weight_map |= dict.fromkeys(shard, f"{number}.safetensors")
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": weight_map | index}), encoding="utf-8")
    return path


def test_shards_are_read_as_one_file_by_their_folder_or_their_index(tmp_path: Path) -> None:
    index = write_shards(tmp_path, {"a": torch.ones(2)}, {"b": torch.zeros(3)})
    expected = {"a": torch.ones(2), "b": torch.zeros(3)}
    assert same_states(read(tmp_path), expected)
    assert same_states(read(index), expected)


def test_of_a_name_in_two_shards_the_index_says_which_one_counts(tmp_path: Path) -> None:
    write_shards(tmp_path, {"a": torch.ones(2)}, {"a": torch.zeros(2)}, a="0.safetensors")
    assert same_states(read(tmp_path), {"a": torch.ones(2)})


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write_shards(tmp_path, {"a": torch.ones(2)}, {"b": torch.zeros(3)}, {"c": torch.zeros(1)})
    (tmp_path / "1.safetensors").unlink()
    assert "lacks 1.safetensors of 3 shards" in refusal(ModelFileMissing, tmp_path)


def test_a_shard_cut_short_is_named(tmp_path: Path) -> None:
    write_shards(tmp_path, {"a": torch.ones(2)}, {"b": torch.zeros(3)})
    os.truncate(tmp_path / "1.safetensors", 70)
    assert str(tmp_path / "1.safetensors") in refusal(WrongModelFile, tmp_path)


def test_a_tensor_that_its_shard_does_not_hold_is_named(tmp_path: Path) -> None:
    write_shards(tmp_path, {"a": torch.ones(2)}, {"b": torch.zeros(3)}, ghost="1.safetensors")
    assert "says that ghost is in 1.safetensors" in refusal(WrongModelFile, tmp_path)
    write_shards(tmp_path, {"a": torch.ones(2)}, {"b": torch.zeros(3)}, b="0.safetensors")
    assert "says that b is in 0.safetensors" in refusal(WrongModelFile, tmp_path)


@pytest.mark.parametrize(
    "name", ["../secret.safetensors", "/secret.safetensors", "sub/0.safetensors", "..", "", "x.json", "0.png"]
)
def test_an_index_reaches_no_file_but_weights_beside_it(tmp_path: Path, name: str) -> None:
    safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / "secret.safetensors")
    (tmp_path / "model" / "sub").mkdir(parents=True)
    name = str(tmp_path / name[1:]) if name.startswith("/") else name
    write_shards(tmp_path / "model", {"b": torch.ones(2)}, a=name)
    assert "not a weight file beside it" in refusal(WrongModelFile, tmp_path / "model")


def test_an_index_that_names_itself_ends(tmp_path: Path) -> None:
    index = write_shards(tmp_path, {"b": torch.ones(2)}, a="model.safetensors.index.json")
    refusal(WrongModelFile, index)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@in_a_folder
@given(
    st.binary(max_size=40)
    | st.sampled_from([b"[" * 100_000, b"", b"null", b"\xff\xfe"])
    | json_values.map(lambda value: json.dumps(value).encode())
    | json_values.map(lambda value: json.dumps({"weight_map": value}).encode())
)
def test_an_index_of_any_content_is_refused_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_bytes(content)
    with read_or_refused():
        assert open_tensors(index).entries == {}  # {"weight_map": {}} is an index, of nothing


def test_a_folder_with_two_files_and_no_index_asks_which(tmp_path: Path) -> None:
    for name in ("one.safetensors", "two.safetensors"):
        safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / name)
    assert "one.safetensors, two.safetensors" in refusal(WrongModelFile, tmp_path)


def test_shards_in_a_folder_are_one_model_without_an_index_too(tmp_path: Path) -> None:
    for number, name in ((1, "a"), (2, "b")):
        safetensors.torch.save_file(
            {name: torch.ones(2)}, tmp_path / f"mine-0000{number}-of-00002.safetensors"
        )
    assert read(tmp_path).keys() == {"a", "b"}
    (tmp_path / "mine-00001-of-00002.safetensors").unlink()
    assert "lacks mine-00001-of-00002.safetensors" in refusal(ModelFileMissing, tmp_path)


@pytest.mark.parametrize("space", ["", " "])
def test_a_browser_s_second_download_of_a_shard_is_to_be_renamed(tmp_path: Path, space: str) -> None:
    file = tmp_path / f"mine-00002-of-00002{space}(1).safetensors"
    safetensors.torch.save_file({"a": torch.ones(2)}, file)
    for path in (file, tmp_path):
        assert "rename it to mine-00002-of-00002.safetensors" in refusal(WrongModelFile, path)


def test_a_browser_s_second_download_of_a_whole_file_is_that_file(tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / "mine (1).safetensors")
    assert read(tmp_path).keys() == {"a"}


def test_an_empty_folder_is_said_to_hold_nothing(tmp_path: Path) -> None:
    assert "no weights in the folder" in refusal(ModelFileMissing, tmp_path)


def test_a_folder_may_be_called_like_a_file_and_hold_folders_and_hidden_files(tmp_path: Path) -> None:
    folder = tmp_path / "x.safetensors"
    (folder / "inner.safetensors").mkdir(parents=True)
    (folder / "._one.safetensors").write_bytes(b"what a Mac leaves on other disks")
    assert "no weights in the folder" in refusal(ModelFileMissing, folder)
    safetensors.torch.save_file({"a": torch.ones(2)}, folder / "one.safetensors")
    assert same_states(read(folder), {"a": torch.ones(2)})


# ---- pickles ---------------------------------------------------------------------------------------------------


NESTED: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "flat": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "module": lambda state: {"module": state},
    "a trainer's": lambda state: {
        "model": state,
        "optimizer": {"state": {0: {"step": torch.ones(1)}}, "param_groups": [{"lr": 0.1}]},
        "rng": torch.zeros(9, dtype=torch.uint8),
    },
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("nested", NESTED)
def test_pickles_of_either_kind_are_read(tmp_path: Path, zipped: bool, nested: str) -> None:
    state = {"a": torch.ones(2, 3).bfloat16(), "b": torch.arange(6).view(2, 3).T}
    held = NESTED[nested](state)
    torch.save(held, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert same_states(read(tmp_path / "a.pth"), state)
    assert same_states(read(tmp_path), state)


def test_which_of_two_models_in_a_pickle_is_not_guessed(tmp_path: Path) -> None:
    state = {"a": torch.ones(2)}
    torch.save({"model": state, "ema": state, "epoch": 3}, tmp_path / "a.pth")
    assert "several models, 'model' and 'ema'" in refusal(WrongModelFile, tmp_path / "a.pth")


class Touch:
    """A pickle of it makes a file when it is loaded carelessly."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt"])
@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_nothing_in_a_pickle_runs(tmp_path: Path, suffix: str, kind: str) -> None:
    trace, file = tmp_path / "it ran", tmp_path / f"a{suffix}"
    held = {"a": torch.ones(2), "b": Touch(trace)}
    if kind == "pickle":
        file.write_bytes(pickle.dumps(held))
    else:
        torch.save(held, file, _use_new_zipfile_serialization=kind == "zip")
    assert "does not hold plain weights" in refusal(WrongModelFile, file)
    assert not trace.exists()
    with open(file, "rb") as opened:  # the trap works: it is the reading that is careful
        pickle.load(opened) if kind == "pickle" else torch.load(file, weights_only=False)
    assert trace.exists()


def test_a_tar_archive_is_not_even_opened(tmp_path: Path) -> None:
    """torch.load knows an old format in tar files; before torch 2.6 weights_only did not hold for it."""
    with tarfile.open(tmp_path / "a.pth", "w") as archive:
        content = pickle.dumps(Touch(tmp_path / "it ran"))
        info = tarfile.TarInfo("pickle")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    assert "tar archive" in refusal(WrongModelFile, tmp_path / "a.pth")
    assert everything_in(tmp_path) == ["a.pth"]


@pytest.mark.parametrize(
    "held",
    [
        [1, 2],
        torch.ones(2),
        {"a": 1},
        {3: torch.ones(1)},
        {"a": torch.ones(1, dtype=torch.complex64)},
        None,
        "s",
    ],
    ids=lambda held: type(held).__name__,
)
def test_a_pickle_of_something_else_is_refused(tmp_path: Path, held: Any) -> None:
    torch.save(held, tmp_path / "a.pth")
    refusal(WrongModelFile, tmp_path / "a.pth")


@in_a_folder
@given(st.data())
def test_a_damaged_pickle_is_read_or_refused_and_nothing_else(tmp_path: Path, data: st.DataObject) -> None:
    buffer = io.BytesIO()
    zipped = data.draw(st.booleans(), label="zip")
    torch.save({"a": torch.ones(4)}, buffer, _use_new_zipfile_serialization=zipped)
    content = bytearray(buffer.getvalue())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4), label="changed"):
        content[place] = data.draw(st.integers(0, 255))
    (tmp_path / "a.pth").write_bytes(content[: data.draw(st.integers(0, len(content)), label="bytes left")])
    with read_or_refused():
        read(tmp_path / "a.pth")


# ---- writing a folder ------------------------------------------------------------------------------------------

STATE = {
    f"{name}.weight": torch.full((100,), float(number)) for number, name in enumerate("abcde")
}  # 400 bytes each


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorwriter, "SHARD_BYTES", 900)


@pytest.mark.usefixtures("small_shards")
def test_a_folder_holds_config_shards_and_index_under_the_released_names(tmp_path: Path) -> None:
    index = write_folder(tmp_path / "new", "model", planned(STATE), reader(STATE), {"width": 3})
    assert everything_in(tmp_path / "new") == [
        "config.json",
        "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors",
        "model-00003-of-00003.safetensors",
        "model.safetensors.index.json",
    ]
    assert json.loads((tmp_path / "new" / "config.json").read_text(encoding="utf-8")) == {"width": 3}
    content = json.loads(index.read_text(encoding="utf-8"))
    assert content["metadata"] == {"total_size": 2000}
    for name, shard in content["weight_map"].items():
        assert same(safetensors.torch.load_file(index.parent / shard)[name], STATE[name])


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("number", [1, 2, 3])
def test_any_shard_stands_for_all_of_them_where_there_is_no_index(tmp_path: Path, number: int) -> None:
    write_folder(tmp_path, "model", planned(STATE), reader(STATE), {}).unlink()
    shard = tmp_path / f"model-{number:05}-of-00003.safetensors"
    opened = open_tensors(shard)
    assert opened.path == shard
    for name, tensor in opened.tensors(STATE):
        assert same(tensor, STATE[name])
    other = tmp_path / f"model-{number % 3 + 1:05}-of-00003.safetensors"
    other.unlink()
    with pytest.raises(ModelFileMissing, match=other.name):
        open_tensors(shard)


@pytest.mark.parametrize("name", ["model-00002-of-00001.safetensors", "model-00001-of-00001.safetensors"])
def test_a_name_that_only_looks_like_a_shard_s_is_one_file(tmp_path: Path, name: str) -> None:
    safetensors.torch.save_file(STATE, tmp_path / name)
    assert open_tensors(tmp_path / name).shapes.keys() == STATE.keys()


@in_a_folder
@given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=12))
def test_no_shard_exceeds_the_limit_unless_one_tensor_does(sizes: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensorwriter, "SHARD_BYTES", 64)
        groups = tensorwriter._split({str(n): ((size,), torch.float32) for n, size in enumerate(sizes)})
    assert [name for group in groups for name in group] == [str(n) for n in range(len(sizes))]
    for group in groups:
        assert len(group) == 1 or sum(4 * shape[0] for shape, _ in group.values()) <= 64


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError(28, "No space left on device")])
@pytest.mark.parametrize("after", range(5))
def test_an_interrupted_folder_leaves_nothing(tmp_path: Path, interruption: Any, after: int) -> None:
    def failing(names: Iterable[str]) -> Iterator[Tensor]:
        for name in names:
            if name == list(STATE)[after]:
                raise interruption
            yield STATE[name]

    with pytest.raises((KeyboardInterrupt, InvalidRequest)):
        write_folder(tmp_path / "new" / "model", "model", planned(STATE), failing, {"width": 3})
    assert everything_in(tmp_path) == []


@pytest.mark.usefixtures("small_shards")
def test_a_folder_in_use_is_refused_so_that_no_shards_are_mixed(tmp_path: Path) -> None:
    write_folder(tmp_path / "model", "model", planned(STATE), reader(STATE), {})
    before = everything_in(tmp_path)
    with pytest.raises(InvalidRequest, match="not empty"):
        write_folder(
            tmp_path / "model", "model", planned({"a": torch.ones(1)}), reader({"a": torch.ones(1)}), {}
        )
    assert everything_in(tmp_path) == before
    assert same_states(read(tmp_path / "model"), STATE)


def test_an_interrupted_file_leaves_the_older_one_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    write_file(file, planned(STATE), reader(STATE), {})

    def failing(names: Iterable[str]) -> Iterator[Tensor]:
        yield torch.ones(100)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_file(file, planned(STATE), failing, {})
    assert everything_in(tmp_path) == ["a.safetensors"]
    assert same_states(read(file), STATE)


def test_a_file_larger_than_the_memory_is_opened(tmp_path: Path) -> None:
    """A sparse file of 1 TB: the header alone is read."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [10**12], "data_offsets": [0, 10**12]}}).encode()
    file = tmp_path / "a.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header)
    try:
        os.truncate(file, 8 + len(header) + 10**12)
    except OSError:
        pytest.skip("no sparse files of that size here")
    assert open_tensors(file).entries["w"].numel == 10**12
