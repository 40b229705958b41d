import struct
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from multitask.errors import UserError
from multitask.models.archive import read
from tests.archives import (
    Call,
    Storage,
    damaged,
    entries,
    not_covered,
    pickled,
    tensor,
    write,
    write_legacy,
    write_torch,
)

CONTENT = {
    "network": OrderedDict(a=torch.arange(6.0).reshape(2, 3), b=torch.tensor(5)),
    "half": torch.ones(4, dtype=torch.bfloat16),
    "view": torch.arange(10)[2:8:2],
    "texts": ["x", 1, 2.5, None, True, (3, "y"), {4}],
    "milestones": Counter({30: 1}),
    "size": torch.Size([2, 3]),
}
FOUR = struct.pack("<4f", 1, 2, 3, 4)


def same(one: Any, other: Any) -> bool:
    """Whether two contents of files are the same to the last bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.save(CONTENT, tmp_path / "a.pt")
    return tmp_path / "a.pt"


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("mmap", [True, False])
def test_read_has_what_was_saved(tmp_path: Path, new: bool, mmap: bool) -> None:
    torch.save(CONTENT, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    assert same(read(tmp_path / "a.pt", mmap=mmap), CONTENT)


def test_read_of_a_whole_module_s_state_keeps_its_parameters(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    torch.save({"state": module.state_dict(), "parameters": list(module.parameters())}, tmp_path / "a.pt")
    found = read(tmp_path / "a.pt")
    assert same(found["state"], module.state_dict())
    assert torch.equal(found["parameters"][0], module[0].weight)


def test_read_refuses_whatever_a_disk_changes(saved: Path) -> None:
    whole = saved.read_bytes()
    kinds: Counter[str] = Counter()
    for kind, broken in damaged(whole, np.random.default_rng(0), 100):
        saved.write_bytes(broken)
        try:
            assert same(read(saved), CONTENT)
        except UserError:
            kinds[kind] += 1
    assert kinds["truncated"] == 20
    assert min(kinds.values()) >= 10


def test_read_of_flips_that_no_check_sum_covers_is_refused_or_right(saved: Path) -> None:
    whole, positions = saved.read_bytes(), not_covered(saved)
    assert len(positions) > 1000
    outcomes: Counter[bool] = Counter()
    for number, position in enumerate(positions):
        if number % 5:
            continue
        broken = bytearray(whole)
        broken[position] ^= 1 << (number // 5) % 8
        saved.write_bytes(broken)
        try:
            assert same(read(saved), CONTENT)
            outcomes[True] += 1
        except UserError:
            outcomes[False] += 1
    assert min(outcomes.values()) > 50


def test_read_refuses_an_entry_that_torch_would_not_read(saved: Path) -> None:
    """Of an entry marked as a folder torch reads nothing, without an error."""
    with zipfile.ZipFile(saved) as archive:
        start = archive.start_dir
    broken = bytearray(saved.read_bytes())
    assert broken[start : start + 4] == b"PK\x01\x02"
    broken[start + 38] |= 0x10
    saved.write_bytes(broken)
    assert "a folder, 'a/data.pkl', among its entries" in refused(saved)


def test_read_refuses_compressed_entries(tmp_path: Path) -> None:
    content = {"w": tensor(Storage(10**6), (10**6,), (1,))}
    path = write_torch(tmp_path / "a.pt", content, bytes(4 * 10**6), how=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10_000
    assert "compressed entries, such as 'archive/data.pkl'" in refused(path)


def test_read_refuses_entries_that_share_bytes(saved: Path) -> None:
    """A directory may name the same bytes many times; torch would make room for each."""
    contents = entries(saved)
    path = write(saved, {**contents, "a/data/9": bytes(100_000)})
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        start, last = archive.start_dir, archive.infolist()[-1]
        number = len(archive.infolist())
    directory = whole[start:-22]
    entry = directory[directory.rindex(b"PK\x01\x02") :]
    copies = b"".join(entry.replace(b"a/data/9", b"a/data/" + mark) for mark in (b"A", b"B", b"C"))
    size = len(directory) + len(copies)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, number + 3, number + 3, size, start, 0)
    path.write_bytes(whole[:start] + directory + copies + end)
    assert last.file_size == 100_000
    assert "entries of 4" in refused(path)
    assert "bytes in a file of 1" in refused(path)


def test_read_refuses_two_directories_of_which_torch_takes_the_other(saved: Path) -> None:
    whole = saved.read_bytes()
    assert "its end is not that of an archive" in refused(write_bytes(saved, whole + b"more"))
    with zipfile.ZipFile(write(saved, {"a/data.pkl": pickled({})})) as archive:
        start = archive.start_dir
    other = saved.read_bytes()
    assert "its directory does not lie at its end" in refused(write_bytes(saved, whole + other))
    assert "its directory does not lie at its end" in refused(
        write_bytes(saved, other[:start] + b"gap" + other[start:])
    )


def test_read_refuses_two_entries_of_one_name(tmp_path: Path) -> None:
    contents = {"a/data.pkl": pickled({}), "a/DATA.pkl": pickled({"other": 1}), "a/version": b"3\n"}
    assert "two entries 'a/DATA.pkl'" in refused(write(tmp_path / "a.pt", contents))
    assert "2 entries data.pkl" in refused(write(tmp_path / "a.pt", {"b/data.pkl": b"", "a/data.pkl": b""}))


def write_bytes(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tensor(Storage(4), (4,), (1,)), ""),
        (tensor(Storage(10**9), (10**9,), (1,)), "a storage '0' of 4000000000 bytes, of which 16 are stored"),
        (tensor(Storage(4), (10**9,), (0,)), r"a tensor of (1000000000,), of which 4 elements"),
        (tensor(Storage(4), (2, 2), (2, 2)), r"a tensor of (2, 2), of which 4 elements"),
        (tensor(Storage(4), (2,), (1,), offset=3), r"a tensor of (2,), of which 4 elements"),
        (tensor(Storage(4), (2**40, 2**40), (1, 1)), "of which 4 elements"),
        (tensor(Storage(4), (-2,), (-1,)), "needed a tensor"),
        (tensor(Storage(4), (1,) * 9, (1,) * 9), "of at most 8 dimensions"),
        (Storage(4, key="7"), "a storage '7' of 16 bytes, of which 0 are stored"),
        (Call(torch._utils._rebuild_meta_tensor_no_storage, torch.float32, (2,), (1,), False), "no_storage'"),
        (Call(bytearray, 10**10), "bytearray'"),
        (Call(OrderedDict, [(str(key), None) for key in range(100_001)]), "more than 100000 copied values"),
        (Call(torch.Size, (1,) * 100_001), "more than 100000 copied values"),
        (Call(eval, "1"), "needed tensors, numbers and texts, found '__builtin__.eval'"),
        (Call(torch.Tensor, 10**9), "found 'torch.Tensor'"),
    ],
)
def test_read_makes_nothing_larger_than_what_is_stored(tmp_path: Path, content: Any, message: str) -> None:
    path = write_torch(tmp_path / "a.pt", {"w": content}, FOUR)
    if not message:
        assert torch.equal(read(path)["w"], torch.tensor([1.0, 2.0, 3.0, 4.0]))
        return
    assert message in refused(path)


def test_read_refuses_sparse_tensors(tmp_path: Path) -> None:
    torch.save({"w": torch.eye(3).to_sparse()}, tmp_path / "a.pt")
    assert "needed tensors, numbers and texts, found 'torch._utils._rebuild_sparse_tensor'" in refused(
        tmp_path / "a.pt"
    )


def test_read_of_an_old_file_is_bounded_likewise(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    whole = tensor(Storage(4, old=True), (4,), (1,))
    assert torch.equal(read(write_legacy(path, {"w": whole}, (4, FOUR)))["w"], torch.tensor([1.0, 2.0, 3.0, 4.0]))
    larger = tensor(Storage(10**9, old=True), (4,), (1,))
    assert "tensors of 4000000000 bytes in a file of" in refused(write_legacy(path, {"w": larger}, (4, FOUR)))
    wider = tensor(Storage(4, old=True), (10**9,), (0,))
    assert "of which 4 elements are stored" in refused(write_legacy(path, {"w": wider}, (4, FOUR)))
    assert "found '__builtin__.bytearray'" in refused(write_legacy(path, {"w": Call(bytearray, 10**10)}))
    refused(write_legacy(path, {"w": whole}, (4, FOUR[:8])))


@pytest.mark.parametrize("content", [b"", b"weights", b"PK\x03\x04", b"PK\x03\x04" + bytes(100), bytes(1000)])
def test_read_of_something_else_says_so(tmp_path: Path, content: bytes) -> None:
    assert refused(write_bytes(tmp_path / "a.pt", content))


def test_read_of_a_dict_with_attributes_is_refused(tmp_path: Path) -> None:
    content = OrderedDict(a=1)
    content.__dict__["attribute"] = list(range(10))
    torch.save(content, tmp_path / "a.pt")
    assert "an OrderedDict with attributes" in refused(tmp_path / "a.pt")
