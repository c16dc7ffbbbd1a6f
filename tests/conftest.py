"""Every test gets honest skips, and a watch for what it leaves behind."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.support import sizes
from tests.support.ordinary_user import OrdinaryUser
from tests.support.paths import ORACLES, ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_GRACE = 20.0  # seconds, for what ends by itself a moment after a test
_M_MMAP_THRESHOLD = -3  # of <malloc.h>
# Descriptors matter in these folders.
_FD_CHECKED = tuple(ROOT / "tests" / name for name in ("broker", "kernel", "native"))


def _lack_of_root() -> str | None:
    return None if os.geteuid() == 0 else "not running as root"


def _lack_of_netns() -> str | None:
    return _complaint("unshare", "--net", "true")


def _lack_of_bcc() -> str | None:
    # In a process of its own: BCC is the distribution's, and nothing to have in this one.
    return _complaint("/usr/bin/python3", "-c", "import bcc; bcc.BPF")


def _lack_of_broker() -> str | None:
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
    missing = [name for name in ("mosquitto", "mosquitto_sub") if not shutil.which(name, path=path)]
    return f"{', '.join(missing)} not installed" if missing else None


def _lack_of_tcpdump() -> str | None:
    return None if shutil.which("tcpdump") else "tcpdump is not installed"


def _lack_of_tshark() -> str | None:
    return None if shutil.which("tshark") else "tshark is not installed"


def _lack_of_clients() -> str | None:
    missing = [n for n in ("busybox", "curl", "dig", "getent", "ssh") if not shutil.which(n)]
    return f"{', '.join(missing)} not installed" if missing else None


def _lack_of_browser() -> str | None:
    return None if shutil.which("chromium") else "chromium is not installed"


def _lack_of_prometheus() -> str | None:
    missing = [name for name in ("prometheus", "promtool") if not shutil.which(name)]
    return f"{', '.join(missing)} not installed" if missing else None


def _lack_of_shells() -> str | None:
    missing = [name for name in ("fish", "groff", "zsh") if not shutil.which(name)]
    return f"{', '.join(missing)} not installed" if missing else None


def _lack_of_systemd() -> str | None:
    return None if shutil.which("systemd-analyze") else "systemd-analyze is not installed"


def _lack_of_avahi() -> str | None:
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
    return None if shutil.which("avahi-daemon", path=path) else "avahi-daemon is not installed"


def _lack_of_clang() -> str | None:
    if shutil.which("clang-14") is None:
        return "clang-14 is not installed"
    folder = subprocess.run(
        ["clang-14", "-print-resource-dir"], check=True, capture_output=True, text=True
    ).stdout.strip()
    found = list(Path(folder).rglob("libclang_rt.fuzzer*.a"))
    return None if found else "libclang-rt-14-dev is not installed"


def _lack_of_oracles() -> str | None:
    return None if ORACLES.is_dir() else "the oracles are not beside the checkout"


def _complaint(*argv: str) -> str | None:
    try:
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        return f"{argv[0]} is not installed"
    said = done.stderr.strip().splitlines()
    return (said[-1] if said else f"{argv[0]} failed") if done.returncode else None


_FEATURES: dict[str, Callable[[], str | None]] = {
    "root": _lack_of_root,
    "netns": _lack_of_netns,
    "bcc": _lack_of_bcc,
    "broker": _lack_of_broker,
    "oracles": _lack_of_oracles,
    "tcpdump": _lack_of_tcpdump,
    "tshark": _lack_of_tshark,
    "clang": _lack_of_clang,
    "clients": _lack_of_clients,
    "browser": _lack_of_browser,
    "avahi": _lack_of_avahi,
    "prometheus": _lack_of_prometheus,
    "shells": _lack_of_shells,
    "systemd": _lack_of_systemd,
}


@functools.cache
def lack_of(feature: str) -> str | None:
    """Why this machine does not offer ``feature``; None where it does."""
    return _FEATURES[feature]()


def _required() -> frozenset[str]:
    named = os.environ.get("NETRING_REQUIRE", "").split(",")
    return frozenset(filter(None, map(str.strip, named)))


def _check_names(names: frozenset[str], where: str) -> None:
    if unknown := sorted(names - _FEATURES.keys()):
        known = ", ".join(sorted(_FEATURES))
        raise pytest.UsageError(f"{where}: unknown feature {', '.join(unknown)}; known: {known}")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="all tests, each at its full size")


def pytest_configure(config: pytest.Config) -> None:
    """A misspelt promise would be no promise; and the user's cache is the user's."""
    sizes.is_long = config.getoption("--long")
    # A slow machine makes no test wrong.
    settings.register_profile(
        "patient", deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("patient")
    _check_names(_required(), "NETRING_REQUIRE")
    # nohup, and a shell's background jobs, leave signals ignored, and the programs under test would
    # inherit that.
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    # The kernel's blocks are zero already. Once a large block has been freed, glibc takes the next
    # ones from its heap, and fills all of a table with zeros of which a test uses a few rows.
    with contextlib.suppress(AttributeError):  # another libc
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 128 << 10)
    if hasattr(config, "workerinput"):  # a worker has the cache of the process that started it
        return
    cache = tempfile.mkdtemp(prefix="netring-cache-")
    config.add_cleanup(functools.partial(shutil.rmtree, cache))
    os.environ["NETRING_BPF_CACHE"] = cache


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A misspelt feature would skip for ever; and the long tests are for ``--long``."""
    for item in items:
        for mark in item.iter_markers("requires"):
            _check_names(frozenset(mark.args), item.nodeid)
    if not config.getoption("--long"):
        left_out = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish() -> None:
    """The collections around the tests pass over all that was imported: they are many."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot run, unless it was promised that it can."""
    for mark in item.iter_markers("requires"):
        for feature in mark.args:
            if reason := lack_of(feature):
                if feature in _required():
                    pytest.fail(f"NETRING_REQUIRE names {feature}: {reason}", pytrace=False)
                pytest.skip(f"{feature}: {reason}")


@pytest.fixture(scope="session")
def ordinary_user() -> Iterator[OrdinaryUser]:
    """A user who runs the package without root's rights."""
    with OrdinaryUser.with_a_copy() as user:
        yield user


@pytest.fixture(autouse=True)
def _leaves_nothing_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    watch_fds = any(request.path.is_relative_to(folder) for folder in _FD_CHECKED)
    children, threads = _children(), set(threading.enumerate())
    fds = _descriptors() if watch_fds else {}
    yield

    def leftovers() -> str:
        if left := sorted(_children() - children):
            return f"child processes left behind: {left}"
        if running := sorted(t.name for t in set(threading.enumerate()) - threads):
            return f"threads left running: {running}"
        after = _descriptors() if watch_fds else {}
        if len(after) > len(fds):
            gc.collect()  # it costs much time, so only where something seems to be left
            after = _descriptors()
        # Counted, not compared: one from before may have come back under another number.
        if len(after) > len(fds):
            new = {fd: target for fd, target in after.items() if fds.get(fd) != target}
            return f"file descriptors left open: {new}"
        return ""

    deadline = time.monotonic() + _GRACE
    while (found := leftovers()) and time.monotonic() < deadline:
        time.sleep(0.01)
    if found:
        pytest.fail(found, pytrace=False)


def _children() -> set[int]:
    """Our child processes, ended but not waited for among them."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            found.update(map(int, (task / "children").read_text().split()))
        except FileNotFoundError:  # the thread has ended meanwhile
            continue
    return found


def _descriptors() -> dict[int, str]:
    found: dict[int, str] = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the one the listing itself used
            continue
    return found
