"""``netring-bpf flows`` on a terminal: a table, unless JSON is asked for."""

from __future__ import annotations

import contextlib
import json
import os
import re
from typing import TYPE_CHECKING

import pytest

from netring_bpf.cli.table import layout_of
from tests.kernel.cli.command import HOW, LISTEN, A, B, Flows, opening, query, send, summary
from tests.kernel.cli.terminal import Terminal
from tests.support.frames import udp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.lab import Namespace

pytestmark = pytest.mark.requires("root", "netns", "bcc")


@pytest.fixture(autouse=True)
def _size_is_the_terminal_s() -> None:
    # Python's readline sets them for its children, behind the back of os.environ.
    os.unsetenv("COLUMNS")
    os.unsetenv("LINES")


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


@pytest.mark.parametrize(
    ("columns", "kinds", "shown"),
    [
        (80, ("new", "end"), "60 B"),
        (120, ("started", "ended"), "60 B 0 B 0.000 s"),
        (200, ("started", "ended"), "1 60 B 0 0 B 0.000 s"),
    ],
)
def test_on_a_terminal_it_is_a_table_that_ctrl_c_ends(
    namespace: Namespace,
    columns: int,
    kinds: tuple[str, str],
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    frame = query(1001)
    assert len(frame) == 60
    with on_a_terminal(namespace, columns=columns) as (command, terminal):
        send(namespace, frame)
        terminal.wait_for(kinds[0])
        terminal.type(b"\x03")
        done = command.finish()
        header, *rows = terminal.read_to_the_end()
    assert done.status == 0
    assert header == layout_of(columns).header()
    shared = ["udp", f"{A}:1001", f"{B}:53", *shown.split()]
    assert [row.split()[1:] for row in rows] == [
        [kinds[0], *shared, "D"],
        [kinds[1], *shared, *(["shutdow…"] if columns == 80 else ["shutdown", "D"])],
    ]
    for row in rows:
        assert len(row) <= columns
        assert re.fullmatch(r"\d\d:\d\d:\d\d(\.\d{6})?", row.split()[0])
    assert b"\x1b[" in terminal.raw
    assert done.err == [
        opening(HOW["tpacket_v3"]),
        *summary(1, keyed=1, seen=1, passed=1, started=1, ended=1),
    ]


def test_a_terminal_that_is_resized_gets_lines_of_its_new_width(namespace: Namespace) -> None:
    with on_a_terminal(namespace, columns=80) as (command, terminal):
        send(namespace, query(1001))
        terminal.wait_for(":1001")
        terminal.resize(120)
        send(namespace, query(1002))
        terminal.wait_for(":1002")
        terminal.type(b"\x03")
        assert command.finish().status == 0
        shown = terminal.read_to_the_end()
    assert [line.split()[1] for line in shown] == [
        "evt", "new", "event", "started", "ended", "ended",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "variable", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["NO_COLOR", "TERM=dumb"]
)
def test_no_escape_is_sent_to_a_terminal_where_nobody_wants_colours(
    namespace: Namespace, variable: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name, value in variable.items():
        monkeypatch.setenv(name, value)
    with on_a_terminal(namespace, "-c", "1", columns=80) as (command, terminal):
        send(namespace, query(1001))
        assert command.finish().status == 0
        assert len(terminal.read_to_the_end()) == 2
    assert b"\x1b" not in terminal.raw


@pytest.mark.parametrize(("asked", "columns"), [("100", 100), ("300", 200), ("wide", 200)])
def test_columns_of_the_environment_makes_lines_shorter_and_none_longer_than_the_terminal(
    namespace: Namespace, asked: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", asked)
    with on_a_terminal(namespace, "-c", "1", columns=200) as (command, terminal):
        send(namespace, query(1001))
        assert command.finish().status == 0
        header, _ = terminal.read_to_the_end()
    assert header == layout_of(columns).header()


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
