"""``netring-bpf top`` as a process on a terminal: live traffic, a file, and how it ends."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.cli.command import COMMAND, LISTEN, query, send
from tests.kernel.cli.terminal import Terminal
from tests.support.home import home_frames
from tests.support.patience import PATIENCE
from tests.support.rig import PORT
from tests.support.savefiles import pcap

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.lab import Namespace

pytestmark = pytest.mark.requires("root", "netns", "bcc")

CONTROL = re.compile(r"\x1b(\[[0-9;?<>=]*[a-zA-Z]|[()][A-Z0-9]|[=>])")
LEFT = "\x1b[?1049l"  # the screen of before is back


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    # Python's readline sets them for its children, behind the back of os.environ.
    os.unsetenv("COLUMNS")
    os.unsetenv("LINES")


@contextlib.contextmanager
def top(
    namespace: Namespace, arguments: Sequence[str]
) -> Iterator[tuple[subprocess.Popen[str], Terminal]]:
    """Run the command on a terminal of its own."""
    with Terminal(100) as terminal:
        process = namespace.popen(
            [COMMAND, "top", *arguments],
            stdin=terminal.line, stdout=terminal.line, stderr=terminal.line,
        )  # fmt: skip
        terminal.hand_over()
        try:
            yield process, terminal
        finally:
            process.kill()
            process.wait()


def seen(terminal: Terminal) -> str:
    return CONTROL.sub("", terminal.shown)


def ended(process: subprocess.Popen[str], terminal: Terminal) -> int:
    terminal.read_to_the_end()
    assert LEFT in terminal.shown
    return process.wait(PATIENCE)


def test_live_traffic_is_on_the_screen_and_q_ends_it(namespace: Namespace) -> None:
    with top(namespace, ["-i", PORT, *LISTEN, "--interval", "0.1"]) as (process, terminal):
        terminal.wait_for("loss 0 (0 %)")
        send(namespace, *(query(1000 + n) for n in range(20)))
        terminal.wait_for("10.0.0.1:1019")
        terminal.type(b"6")
        terminal.wait_for("udp/53")
        terminal.type(b"q")
        assert ended(process, terminal) == 0
    assert "books balanced" in seen(terminal)
    assert "BOOKS OFF" not in seen(terminal)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_gives_the_terminal_back(
    namespace: Namespace, tmp_path: Path, number: signal.Signals
) -> None:
    path = tmp_path / "home.pcap"
    path.write_bytes(pcap(home_frames(5)))
    with top(namespace, ["-r", str(path)]) as (process, terminal):
        terminal.wait_for("203.0.113.10:443")
        process.send_signal(number)
        assert ended(process, terminal) == 0


def test_a_capture_of_standard_input_leaves_the_keys_to_the_terminal(
    namespace: Namespace, tmp_path: Path
) -> None:
    path = tmp_path / "home.pcap"
    path.write_bytes(pcap(home_frames(5)))
    piped = ["setsid", "--ctty", "--wait", "sh", "-c", f"cat {path} | {COMMAND} top -r -"]
    with Terminal(100) as terminal:
        process = namespace.popen(
            piped, stdin=terminal.line, stdout=terminal.line, stderr=terminal.line
        )
        terminal.hand_over()
        try:
            terminal.wait_for("203.0.113.10:443")
            terminal.type(b"q")
            assert ended(process, terminal) == 0
        finally:
            process.kill()
            process.wait()


def test_the_duration_ends_it(namespace: Namespace) -> None:
    with top(namespace, ["-i", PORT, *LISTEN, "--duration", "0.5"]) as (process, terminal):
        assert ended(process, terminal) == 0


def test_a_wrong_interface_is_told_before_any_screen(namespace: Namespace) -> None:
    with top(namespace, ["-i", "nonesuch"]) as (process, terminal):
        [line] = terminal.read_to_the_end()
        assert "there is no such interface" in line
        assert process.wait(PATIENCE) == 1
    assert "\x1b" not in terminal.shown


def test_with_no_color_no_colour_is_sent(
    namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    path = tmp_path / "home.pcap"
    path.write_bytes(pcap(home_frames(5)))
    with top(namespace, ["-r", str(path)]) as (process, terminal):
        terminal.wait_for("203.0.113.10:443")
        terminal.type(b"q")
        assert ended(process, terminal) == 0
    styles = {code for codes in re.findall(r"\x1b\[([0-9;]*)m", terminal.shown)
              for code in codes.split(";")}  # fmt: skip
    # 39 and 49 are the terminal's own; the others no colours, but bold, dim and so on.
    assert styles - {"", "39", "49"} <= {"0", "1", "2", "3", "4", "7"}


def test_without_a_terminal_it_says_so(namespace: Namespace) -> None:
    done = namespace.run([COMMAND, "top", "-i", PORT], check=False, timeout=PATIENCE)
    assert done.returncode == 1
    assert done.stderr == (
        "netring-bpf: top needs a terminal; flows and devices print lines anywhere\n"
    )
