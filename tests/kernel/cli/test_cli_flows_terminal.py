"""``netring-bpf flows`` on a terminal: a table, unless JSON is asked for."""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING

import pytest

from netring_bpf.cli.table import HEADER
from tests.kernel.cli.command import HOW, LISTEN, A, B, Flows, opening, query, send, summary
from tests.kernel.cli.terminal import Terminal
from tests.support.frames import udp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.lab import Namespace

pytestmark = pytest.mark.requires("root", "netns", "bcc")


@contextlib.contextmanager
def on_a_terminal(
    namespace: Namespace, *arguments: str, columns: int = 200
) -> Iterator[tuple[Flows, Terminal]]:
    """Run the command on a terminal of its own, as under a login shell."""
    with (
        Terminal(columns) as terminal,
        Flows(
            namespace, *LISTEN, *arguments,
            stdin=terminal.line, stdout=terminal.line, before=["setsid", "--ctty"],
        ) as command,
    ):  # fmt: skip
        terminal.hand_over()
        yield command.capturing(), terminal


@pytest.mark.parametrize("columns", [80, 200])
def test_on_a_terminal_it_is_a_table_that_ctrl_c_ends(
    namespace: Namespace, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    frame = query(1001)
    with on_a_terminal(namespace, columns=columns) as (command, terminal):
        send(namespace, frame)
        terminal.wait_for("started")
        terminal.type(b"\x03")
        done = command.finish()
        header, *rows = terminal.read_to_the_end()
    assert done.status == 0
    assert header == HEADER
    shared = ["udp", f"{A}:1001", f"{B}:53", "1", str(len(frame)), "0", "0", "0.000", "D"]
    assert [row.split()[1:] for row in rows] == [
        ["started", *shared],
        ["ended", *shared, "shutdown"],
    ]
    for row in rows:
        assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{6}", row.split()[0])
    assert done.err == [
        opening(HOW["tpacket_v3"]),
        *summary(1, keyed=1, seen=1, passed=1, started=1, ended=1),
    ]


def test_on_a_terminal_addresses_are_shown_letter_for_letter(namespace: Namespace) -> None:
    a, b = "fd00:a::1", "fd00:b::2"
    with on_a_terminal(namespace, "-c", "1") as (command, terminal):
        send(namespace, udp(a, b, 1001, 53))
        assert command.finish().status == 0
        _, row = terminal.read_to_the_end()
    assert row.split()[3:5] == [f"[{a}]:1001", f"[{b}]:53"]


def test_json_on_a_terminal_prints_json_lines(namespace: Namespace) -> None:
    with on_a_terminal(namespace, "--json", "-c", "2", columns=40) as (command, terminal):
        send(namespace, query(1001), query(1002))
        assert command.finish().status == 0
        lines = terminal.read_to_the_end()
    assert [json.loads(line)["orig_port"] for line in lines] == [1001, 1002]
