"""The cache of compiled programs: the second start compiles nothing, and only we can write it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from netring_bpf import program_cache as cache_module
from netring_bpf.bpf import compiler
from netring_bpf.bpf.engines import open_engine
from netring_bpf.bpf.maps import Maps
from netring_bpf.bpf.program import Program
from netring_bpf.errors import ProgramError
from netring_bpf.filter import live_program
from netring_bpf.filter.filter import Filter
from netring_bpf.filter.filter_set import FilterSet
from netring_bpf.program_cache import MAX_ENTRIES, Cache, directory
from tests.support.frames import tcp, udp

pytestmark = pytest.mark.requires("root", "bcc")

NOBODY = 65_534


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "cache"
    monkeypatch.setenv("NETRING_BPF_CACHE", str(path))
    return path


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache whose one entry is the program of ``tcp``."""
    path = tmp_path_factory.mktemp("compiled") / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NETRING_BPF_CACHE", str(path))
        assert not is_cached("tcp")
    return path


@pytest.fixture
def entry(folder: Path, compiled: Path) -> Path:
    """The entry of ``tcp``, put into the test's own cache."""
    shutil.copytree(compiled, folder)
    [path] = folder.iterdir()
    return path


def is_cached(expression: str, queues: int = 1) -> bool:
    with Maps(queues) as maps, Program.load(FilterSet.of(expression), maps) as program:
        return program.cached


def test_the_second_load_compiles_nothing_and_says_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_cached("tcp port 80")
    monkeypatch.setattr(compiler, "_ask_helper", lambda _: pytest.fail("compiled"))
    assert is_cached("tcp port 80")
    with open_engine("xdp", Filter("tcp port 80")) as engine:
        for frame, expected in (
            (tcp("10.0.0.1", "10.0.0.2", 1, 80), True),
            (udp("10.0.0.1", "10.0.0.2", 1, 80), False),
        ):
            assert engine.matches(frame, len(frame)) is expected
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_another_program_is_another_entry(folder: Path) -> None:
    for different in ({"expression": "tcp"}, {"expression": "udp"},
                      {"expression": "udp", "queues": 2}):  # fmt: skip
        assert not is_cached(**different)  # type: ignore[arg-type]
    assert len(list(folder.iterdir())) == 3


@pytest.mark.usefixtures("entry")
def test_another_bcc_or_another_header_tree_compiles_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_cached("tcp")
    original = compiler._fingerprints
    with monkeypatch.context() as patch:
        patch.setattr(
            compiler, "_fingerprints", lambda paths: [[*x[:3], 7] for x in original(paths)]
        )
        assert not is_cached("tcp")
    assert not is_cached("tcp")
    assert is_cached("tcp")
    with monkeypatch.context() as patch:
        patch.setattr(compiler, "_header_tree", lambda: "another")
        assert not is_cached("tcp")


@pytest.mark.usefixtures("entry")
def test_a_directory_that_others_can_write_is_not_used(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert is_cached("tcp")
    folder.chmod(0o777)
    assert not is_cached("tcp")
    assert "must belong to user 0 and be closed to others" in caplog.text
    folder.chmod(0o700)
    assert is_cached("tcp")
    os.chown(folder, NOBODY, NOBODY)
    assert not is_cached("tcp")


def test_a_link_in_the_place_of_the_directory_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    assert not is_cached("tcp")
    assert not is_cached("tcp")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("harm", ["other owner", "writable", "cut", "changed", "link", "not JSON"])
def test_an_entry_that_is_not_as_we_wrote_it_is_compiled_anew(
    folder: Path, entry: Path, harm: str
) -> None:
    assert is_cached("tcp")
    whole = entry.read_bytes()
    match harm:
        case "other owner":
            os.chown(entry, NOBODY, NOBODY)
        case "writable":
            entry.chmod(0o666)
        case "cut":
            entry.write_bytes(whole[:-1])
        case "changed":
            entry.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        case "link":
            entry.rename(folder.parent / "moved")
            entry.symlink_to(folder.parent / "moved")
        case _:
            Cache(folder).put(entry.name, b"no JSON at all")
    assert not is_cached("tcp")
    assert is_cached("tcp")


def test_an_entry_the_verifier_refuses_is_compiled_anew(folder: Path, entry: Path) -> None:
    assert is_cached("tcp")
    content = Cache(folder).get(entry.name)
    assert content is not None
    made_by = content[: content.index(b'"code"')]
    Cache(folder).put(entry.name, made_by + b'"code": "lQAAAAAAAAA="}')  # exit, r0 unset
    assert not is_cached("tcp")
    assert is_cached("tcp")


def test_the_number_of_entries_is_bounded_and_the_oldest_go(folder: Path) -> None:
    cache = Cache(folder)
    for number in range(MAX_ENTRIES):
        cache.put(f"{number}", b"x")
        os.utime(folder / f"{number}", ns=(0, number))
    assert cache.get("0") == b"x"  # used now, so the newest
    cache.put("one more", b"x")
    assert len(list(folder.iterdir())) == MAX_ENTRIES
    assert cache.get("1") is None
    assert cache.get("0") == b"x"
    cache.put("large", bytes(1 << 21))
    assert cache.get("large") is None


def test_a_cache_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "cache", tmp_path / "file", Path("/proc/none")):
        monkeypatch.setenv("NETRING_BPF_CACHE", str(place))
        assert not is_cached("tcp")


def test_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETRING_BPF_CACHE", "")
    assert directory() is None
    monkeypatch.delenv("NETRING_BPF_CACHE")
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    assert directory() == Path("/var/cache/netring_bpf")
    monkeypatch.setenv("CACHE_DIRECTORY", "/var/cache/service:/var/cache/other")
    assert directory() == Path("/var/cache/service/netring_bpf")
    monkeypatch.delenv("CACHE_DIRECTORY")
    monkeypatch.setattr(cache_module.os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/someone/.xdg")
    assert directory() == Path("/home/someone/.xdg/netring_bpf")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert directory() == Path("/home/someone/.cache/netring_bpf")


def test_many_processes_at_once_leave_whole_entries(folder: Path) -> None:
    child = (
        "from netring_bpf.bpf.maps import Maps\n"
        "from netring_bpf.bpf.program import Program\n"
        "from netring_bpf.filter.filter_set import FilterSet\n"
        "with Maps(1) as maps:\n"
        "    Program.load(FilterSet.of('tcp'), maps).close()\n"
    )
    children = [subprocess.Popen([sys.executable, "-c", child]) for _ in range(4)]
    assert [process.wait() for process in children] == [0] * 4
    assert len(list(folder.iterdir())) == 1
    assert is_cached("tcp")


def test_an_error_is_not_cached(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "_TIMEOUT", 0.001)
    with pytest.raises(ProgramError):
        is_cached("tcp")
    assert not folder.exists()


def test_a_live_program_is_kept_until_libpcap_says_otherwise(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = Filter("vlan 7 and tcp").for_interface("lo")
    with monkeypatch.context() as patch:
        patch.setattr(live_program, "compile_for_interface", lambda *_: pytest.fail("compiled"))
        assert Filter("vlan 7 and tcp").for_interface("lo") == compiled
    monkeypatch.setattr(live_program, "version", lambda: "libpcap version 99")
    [entry] = folder.iterdir()
    assert Filter("vlan 7 and tcp").for_interface("lo") == compiled
    assert len(list(folder.iterdir())) == 2
    assert entry.exists()
