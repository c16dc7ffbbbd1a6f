"""The demo keeps its promises: exact books, and nothing left behind however it ends."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import re
import select
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from tests.support.paths import ROOT
from tests.support.patience import PATIENCE
from tests.support.process import spawn
from tests.support.sizes import size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

pytestmark = pytest.mark.requires("root", "netns", "bcc", "broker")

DEMO = str(ROOT / "scripts" / "demo")
BACKENDS = ["af_xdp", "tpacket_v3"]
WAYS_TO_STOP = ["term", "ctrl-c", "kill"]
ATTACH = {"af_xdp": "native", "tpacket_v3": None}
KEYS = {
    "backend", "attach", "fallback_reason", "frames", "flows", "events", "subscribers", "mqtt",
    "books", "setup_seconds",
}  # fmt: skip

_libc = ctypes.CDLL(None, use_errno=True)
_SYS_BPF = {"x86_64": 321, "aarch64": 280}.get(platform.machine())
_BPF_PROG_GET_NEXT_ID = 11
_PR_SET_CHILD_SUBREAPER = 36


class _NextId(ctypes.Structure):
    _fields_ = (("start", ctypes.c_uint32), ("next", ctypes.c_uint32), ("flags", ctypes.c_uint32))


def loaded_programs() -> set[int]:
    """The ids of every BPF program in the kernel."""
    if _SYS_BPF is None:
        pytest.skip(f"the number of bpf(2) on {platform.machine()} is not known here")
    ids: set[int] = set()
    request = _NextId()
    size = ctypes.sizeof(request)
    while _libc.syscall(_SYS_BPF, _BPF_PROG_GET_NEXT_ID, ctypes.byref(request), size) == 0:
        ids.add(request.next)
        request.start = request.next
    return ids


def programs_of(pid: int) -> set[int]:
    """The ids of the BPF programs that a process has descriptors of, or links of."""
    ids: set[int] = set()
    for name in os.listdir(f"/proc/{pid}/fdinfo"):
        with contextlib.suppress(FileNotFoundError):
            info = Path(f"/proc/{pid}/fdinfo/{name}").read_text()
            ids.update(map(int, re.findall(r"^prog_id:\s*(\d+)$", info, re.MULTILINE)))
    return ids


def interfaces() -> list[tuple[int, str]]:
    """The interfaces of the namespace we are in."""
    shown = subprocess.run(["ip", "-j", "link"], check=True, capture_output=True, text=True)
    return [(entry["ifindex"], entry["ifname"]) for entry in json.loads(shown.stdout)]


def children_of(pid: int) -> set[int]:
    found: set[int] = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found.update(map(int, (task / "children").read_text().split()))
    return found


class Demo:
    """The demo as a process in a session of its own.

    Processes that it leaves behind become our children: see ``adopting``.
    """

    def __init__(self, home: Path, *arguments: str, path: str | None = None) -> None:
        home.mkdir(exist_ok=True)
        self.home = home
        env = {**os.environ, "TMPDIR": str(home), **({"PATH": path} if path else {})}
        self.process = spawn(
            # In a session, hence a process group, of its own: what Ctrl-C at a terminal reaches.
            [DEMO, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
        )
        self._changed = threading.Condition()
        self._written: dict[str, list[str]] = {"out": [], "err": []}
        self._ended: set[str] = set()
        self._readers = [
            threading.Thread(target=self._read, args=(name, stream))
            for name, stream in (("out", self.process.stdout), ("err", self.process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str, stream: Any) -> None:
        with stream:
            for line in stream:
                with self._changed:
                    self._written[name].append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._ended.add(name)
            self._changed.notify_all()

    @property
    def out(self) -> list[str]:
        with self._changed:
            return list(self._written["out"])

    @property
    def err(self) -> list[str]:
        with self._changed:
            return list(self._written["err"])

    def wait_for(self, holds: Callable[[str], bool]) -> None:
        """Wait until a line of stderr holds: with --json the events go there."""
        with self._changed:
            written = self._written["err"]
            self._changed.wait_for(
                lambda: "err" in self._ended or any(map(holds, written)), PATIENCE
            )
            assert any(map(holds, written)), written

    def in_the_middle(self) -> dict[int, list[str]]:
        """Wait until flows come; return its processes, each with its command line."""
        self.wait_for(lambda line: " started " in line)
        return {pid: command_line(pid) for pid in self.pids()}

    def pids(self) -> list[int]:
        """The process, its children, their children and so on."""
        found, new = set(), {self.process.pid}
        while new:
            found |= new
            new = {child for pid in new for child in children_of(pid)} - found
        return sorted(found)

    def finish(self, timeout: float = PATIENCE) -> int:
        """Wait for the end, and until all its output is read."""
        status = self.process.wait(timeout)
        for reader in self._readers:
            reader.join(PATIENCE)
            assert not reader.is_alive(), "somebody still has the demo's output open"
        return status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join(PATIENCE)


def command_line(pid: int) -> list[str]:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    return []


def those_of(commands: Mapping[int, list[str]], *words: str) -> list[int]:
    """The processes with all these words on their command line; a path counts by its name."""
    return [
        pid
        for pid, argv in commands.items()
        if set(words) <= {os.path.basename(argument) for argument in argv}
    ]


@contextlib.contextmanager
def adopting() -> Iterator[None]:
    """Become the parent of whatever our descendants leave behind when they end."""
    assert _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        assert _libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0


def ended_within(pid: int, seconds: float) -> bool:
    """Wait for the end of a process, any, and bury it if it is a child of ours."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        if not select.select([descriptor], [], [], seconds)[0]:
            return False
    finally:
        os.close(descriptor)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
    return True


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A directory for its temporary files; around it, a look at what may not change."""
    before, children = interfaces(), children_of(os.getpid())
    with adopting():
        yield tmp_path / "temporary"
        orphans = children_of(os.getpid()) - children
        left = {pid: command_line(pid) for pid in orphans if not ended_within(pid, PATIENCE)}
        for pid in left:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    assert left == {}
    assert interfaces() == before


def assert_nothing_left(commands: Mapping[int, list[str]], programs: set[int]) -> None:
    """None of its processes, hence none of its namespaces; no program in the kernel."""
    left = {pid: argv for pid, argv in commands.items() if not ended_within(pid, PATIENCE)}
    assert left == {}
    deadline = time.monotonic() + PATIENCE
    while loaded := programs & loaded_programs():
        assert time.monotonic() < deadline, f"XDP programs left in the kernel: {loaded}"


def assert_no_files_left(demo: Demo) -> None:
    assert sorted(demo.home.rglob("*")) == []


# -- the whole of it --


@pytest.mark.parametrize("backend", size(BACKENDS[:1], BACKENDS))
def test_the_books_of_a_whole_run_balance(home: Path, backend: str) -> None:
    begin = time.monotonic()
    with Demo(home, "--json", "--seconds", "4", "--backend", backend) as demo:
        commands = demo.in_the_middle()
        programs = programs_of(demo.process.pid)
        assert len(programs) == (1 if backend == "af_xdp" else 0)
        assert programs <= loaded_programs()
        status = demo.finish()
        assert_nothing_left(commands, programs)
        assert_no_files_left(demo)
    assert status == 0, demo.err
    [line] = demo.out
    summary = json.loads(line)
    assert set(summary) == KEYS
    assert (summary["backend"], summary["attach"]) == (backend, ATTACH[backend])
    assert summary["fallback_reason"] is None
    assert summary["books"] == "balanced"
    assert 0.0 < summary["setup_seconds"] < time.monotonic() - begin

    frames = summary["frames"]
    assert set(frames) == {"offered", "passed", "redirected", "received", "keyed"}
    assert frames["keyed"] == frames["received"]
    # The noise of one round: 20 datagrams, and a page over TCP; the rest is the filter's.
    assert frames["offered"] - frames["received"] > 20
    if backend == "af_xdp":
        assert frames["passed"] + frames["redirected"] == frames["offered"]
        assert frames["redirected"] == frames["received"]
    else:
        assert frames["passed"] == frames["offered"]
        assert frames["redirected"] == 0

    # With this little time it talks for one round: 3 connections, 5 queries, 1 ping.
    assert summary["flows"] == {"started": 9, "ended": 9}
    # Each starts and ends, the connections are established besides; 12 requests, 5 queries.
    assert summary["events"] == {"published": 9 + 3 + 9 + 12 + 5}
    assert summary["subscribers"] == [
        {"name": name, "delivered": 38, "lagged": 0} for name in ("printer", "counter")
    ]
    assert summary["mqtt"] == {"accepted": 9, "acknowledged": 9, "dropped": 0, "received": 9}

    # The events themselves are on stderr: a header, and a line each.
    kinds = [row.split()[1] for row in demo.err[1:]]
    assert len(kinds) == 38
    assert kinds.count("app") == 17
    assert (kinds.count("started"), kinds.count("established"), kinds.count("ended")) == (9, 3, 9)


@pytest.mark.long
def test_for_people_it_prints_a_table_and_a_summary(home: Path) -> None:
    with Demo(home, "--seconds", "4", "--backend", "tpacket_v3") as demo:
        assert demo.finish() == 0, demo.err
    assert demo.err == []
    assert len(demo.out) == 1 + 38 + 1 + 7
    assert demo.out[0].split()[:3] == ["time", "event", "proto"]
    *_, setup, books = demo.out
    assert re.fullmatch(r"set-up: \d+\.\d s", setup)
    assert books == "books: balanced"


@pytest.mark.long
def test_two_at_once_are_strangers(home: Path, tmp_path: Path) -> None:
    with (
        Demo(home, "--json", "--seconds", "4", "--backend", "af_xdp") as one,
        Demo(tmp_path / "other", "--json", "--seconds", "4", "--backend", "af_xdp") as other,
    ):
        assert (one.finish(), other.finish()) == (0, 0), [*one.err, *other.err]
        for demo in (one, other):
            assert_no_files_left(demo)
    for demo in (one, other):
        summary = json.loads("\n".join(demo.out))
        assert summary["books"] == "balanced"
        assert summary["mqtt"] == {"accepted": 9, "acknowledged": 9, "dropped": 0, "received": 9}


# -- stopped in the middle --


@pytest.mark.parametrize("backend", size(BACKENDS[:1], BACKENDS))
@pytest.mark.parametrize("how", size(WAYS_TO_STOP[1:], WAYS_TO_STOP))
def test_stopped_in_the_middle_it_leaves_nothing(home: Path, backend: str, how: str) -> None:
    with Demo(home, "--json", "--seconds", "60", "--backend", backend) as demo:
        commands = demo.in_the_middle()
        holders = those_of(commands, "cat")
        assert len(holders) == 3
        assert len(those_of(commands, "mosquitto")) == 1
        assert len(those_of(commands, "mosquitto_sub")) == 1
        programs = programs_of(demo.process.pid)
        assert len(programs) == (1 if backend == "af_xdp" else 0)
        assert programs <= loaded_programs()
        match how:
            case "term":
                demo.process.terminate()
            case "ctrl-c":
                os.killpg(demo.process.pid, signal.SIGINT)
            case "kill":
                demo.process.kill()
        status = demo.finish()
        assert_nothing_left(commands, programs)
    assert demo.out == []
    if how == "kill":
        assert status == -signal.SIGKILL
        # A killed process cannot remove files: the broker's are what may stay.
        assert [path.name for path in home.iterdir() if "netring-broker-" not in path.name] == []
        return
    assert status == 128 + (signal.SIGTERM if how == "term" else signal.SIGINT)
    assert_no_files_left(demo)
    assert demo.err[-1] == "demo: stopped by a signal; everything is taken down"
    assert not any("Traceback" in line for line in demo.err), "\n".join(demo.err)


@pytest.mark.long
def test_an_impatient_second_ctrl_c_leaves_nothing_either(home: Path) -> None:
    with Demo(home, "--json", "--seconds", "60", "--backend", "af_xdp") as demo:
        commands = demo.in_the_middle()
        programs = programs_of(demo.process.pid)
        for _ in range(2):
            os.killpg(demo.process.pid, signal.SIGINT)
        assert demo.finish() != 0
        assert_nothing_left(commands, programs)
        assert_no_files_left(demo)
    assert demo.out == []


# -- errors in the middle --


@pytest.fixture
def path_without_mosquitto_sub(tmp_path: Path) -> str:
    """Every program there is but that one: the broker runs, its subscriber cannot."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for directory in os.get_exec_path():
        with contextlib.suppress(FileNotFoundError):
            for program in os.scandir(directory):
                link = folder / program.name
                if program.name != "mosquitto_sub" and not link.is_symlink():
                    link.symlink_to(program.path)
    return str(folder)


def test_without_mosquitto_sub_it_says_so_and_leaves_nothing(
    home: Path, path_without_mosquitto_sub: str
) -> None:
    with Demo(home, "--json", "--seconds", "4", path=path_without_mosquitto_sub) as demo:
        status = demo.finish()
        assert_no_files_left(demo)
    assert (status, demo.out) == (1, [])
    assert demo.err == ["demo: mosquitto_sub is not installed"]


@pytest.mark.parametrize("role", size(["server"], ["client", "server"]))
def test_without_one_of_its_actors_it_says_so_and_leaves_nothing(home: Path, role: str) -> None:
    with Demo(home, "--json", "--seconds", "60", "--backend", "af_xdp") as demo:
        commands = demo.in_the_middle()
        programs = programs_of(demo.process.pid)
        [actor] = those_of(commands, "actors.py", role)
        os.kill(actor, signal.SIGKILL)
        status = demo.finish()
        assert_nothing_left(commands, programs)
        assert_no_files_left(demo)
    assert (status, demo.out) == (1, [])
    assert demo.err[-1] == "demo: the demo's client failed"


@pytest.mark.long
def test_without_its_broker_the_books_are_off_and_nothing_is_left(home: Path) -> None:
    with Demo(home, "--json", "--seconds", "5", "--backend", "tpacket_v3") as demo:
        commands = demo.in_the_middle()
        [broker] = those_of(commands, "mosquitto")
        os.kill(broker, signal.SIGKILL)
        status = demo.finish()
        assert_nothing_left(commands, set())
        assert_no_files_left(demo)
    assert status == 1
    summary = json.loads("\n".join(demo.out))
    assert summary["books"] == "off"
    mqtt = summary["mqtt"]
    assert mqtt["accepted"] == summary["flows"]["ended"]
    assert (mqtt["acknowledged"], mqtt["received"]) == (0, 0)
    assert f"flows acknowledged = accepted: 0 ≠ {mqtt['accepted']}" in demo.err[-1]


def test_wrong_usage_exits_with_2(home: Path) -> None:
    with Demo(home, "--seconds", "many") as demo:
        assert demo.finish() == 2
    assert demo.out == []
    assert demo.err[-1].startswith("scripts/demo: error: argument --seconds")
