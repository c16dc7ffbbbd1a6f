"""The lines of a table for people: what they say, and that they fit the screen."""

from __future__ import annotations

import re

import pytest
from rich.cells import cell_len

from netring_bpf import (
    App,
    AppEvent,
    CaptureError,
    Endpoint,
    Event,
    FlowEnd,
    FlowEnded,
    FlowStarted,
    Lagged,
)
from netring_bpf.cli.screen import Screen
from netring_bpf.cli.table import Table, layout_of, row
from netring_bpf.errors import NetringError
from tests.support.events import flow

SECOND = 1_000_000_000
STYLE = re.compile(r"\x1b\[[0-9;]*m")
WIDTHS = (20, 40, 60, 79, 80, 81, 92, 100, 101, 120, 132, 160, 200, 300)


def named(name: str) -> FlowEnded:
    """A flow by TLS to this name."""
    return FlowEnded(10, flow(1)._replace(app=App("tls", name, "sni")), FlowEnd.FIN)


def lines_of(*events: Event, columns: int | None, rows: int | None = 24) -> list[str]:
    return Table(lambda: Screen(columns, rows)).lines(events).decode().splitlines()


@pytest.mark.parametrize(
    ("app", "resp_name", "shown"),
    [
        (None, None, "ShADd fin"),
        (App("bittorrent"), None, "ShADd fin bittorrent"),
        (App("tls", "www.example.org", "sni"), "web.example.org", "ShADd fin tls www.example.org"),
        (App("tls"), "web.example.org", "ShADd fin tls web.example.org"),
        (None, "web.example.org", "ShADd fin web.example.org"),
        (App("http", "a\u202eb\x1b[2J"), None, "ShADd fin http a\\u202eb\\x1b[2J"),
    ],
)
def test_the_line_of_a_flow_names_what_is_inside(
    app: App | None, resp_name: str | None, shown: str
) -> None:
    plain = flow(1)
    with_name = plain._replace(app=app, resp=plain.resp._replace(name=resp_name))
    line, _ = row(FlowEnded(10, with_name, FlowEnd.FIN))
    assert line.endswith(f"  {shown}")


def test_an_exchange_has_a_line_of_its_own() -> None:
    line, style = row(AppEvent(10, flow(1), App("dns", "example.org", "dns")))
    assert line.split()[1] == "app"
    assert line.endswith("  ShADd dns example.org")
    assert style == "cyan"


def test_a_screen_of_eighty_columns_shows_whole_addresses_of_ipv4_bytes_and_what_matters() -> None:
    ended = named("www.example.org")
    ends = Endpoint(bytes([192, 168, 100, 200]), 54321), Endpoint(bytes([203, 0, 113, 100]), 50443)
    key = ended.flow.key._replace(orig=ends[0], resp=ends[1])
    plain = ended.flow
    orig, resp = plain.orig._replace(bytes=1_234_567), plain.resp._replace(bytes=999)
    seen = plain._replace(key=key, orig=orig, resp=resp)
    found = lines_of(
        FlowStarted(37 * SECOND, plain._replace(app=None)),
        FlowEnded(37 * SECOND, seen, FlowEnd.FIN),
        columns=80,
    )
    assert found == [
        "time     evt proto originator            responder                bytes how",
        "00:00:37 new tcp   10.0.0.1:1            10.0.0.2:80              501 B ShADd",
        "00:00:37 end tcp   192.168.100.200:54321 203.0.113.100:50443     1.2 MB www.exa…",
    ]


def test_a_wider_screen_shows_both_directions_the_duration_and_packets() -> None:
    lasting = named("www.example.org").flow._replace(start=0, last=65 * SECOND)
    event = FlowEnded(65 * SECOND, lasting, FlowEnd.FIN)
    assert lines_of(event, columns=120) == [
        "time     event       proto originator            responder                 sent received  "
        "lasted how",
        "00:01:05 ended       tcp   10.0.0.1:1            10.0.0.2:80              301 B    200 B  "
        "1m 05s www.example.org tls fi…",
    ]
    assert lines_of(event, columns=160) == [
        "time            event       proto originator                    responder                 "
        "    orig pkts     sent resp pkts received  lasted how",
        "00:01:05.000000 ended       tcp   10.0.0.1:1                    10.0.0.2:80               "
        "            3    301 B         2    200 B  1m 05s www.example.org tls…",
    ]


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("name", ["a.example", "x" * 10_000, "\u8a9e" * 300, "a\u0301" * 40])
def test_no_line_is_wider_than_the_screen(columns: int, name: str) -> None:
    wide = Endpoint(bytes.fromhex("20010db8123456789abcdef011112222"), 65535)
    long = named(name)
    long = long._replace(
        flow=long.flow._replace(
            key=long.flow.key._replace(orig=wide, resp=wide, vlans=(10, 20)), one_sided=True
        )
    )
    header, line = lines_of(long, columns=columns)
    assert cell_len(header) <= columns
    assert cell_len(line) <= columns
    assert line.endswith("…") or columns == 300


@pytest.mark.parametrize("columns", [80, 100])
def test_a_long_address_keeps_its_port_and_both_of_its_ends(columns: int) -> None:
    wide = Endpoint(bytes.fromhex("20010db8123456789abcdef011112222"), 65535)
    plain = flow(1)
    seen = FlowStarted(10, plain._replace(key=plain.key._replace(resp=wide)))
    _, line = lines_of(seen, columns=columns)
    assert line.split()[4] == "[2001:d…1:2222]:65535"


def test_all_columns_and_the_whole_name_are_there_where_no_width_is_known() -> None:
    header, line = lines_of(named("x" * 1000), columns=None, rows=None)
    assert header == row_header()
    assert line.endswith("tls " + "x" * 1000)


def row_header() -> str:
    return layout_of(None).header()


@pytest.mark.parametrize("rows", [5, 24])
def test_the_header_comes_again_before_it_has_scrolled_away(rows: int) -> None:
    table = Table(lambda: Screen(80, rows))
    shown = [table.header().decode().rstrip()]
    for n in range(3 * rows):
        shown += table.lines([FlowStarted(n, flow(n % 9 + 1))]).decode().splitlines()
        # The cursor's line is the last of the screen, and empty.
        on_screen = shown[-(rows - 1) :]
        assert any(line.startswith("time ") for line in on_screen)
    assert sum(line.startswith("time ") for line in shown) == 1 + (3 * rows - 1) // (rows - 2)


def test_lines_that_are_wrapped_count_as_those_that_they_need() -> None:
    table = Table(lambda: Screen(80, 6))
    told = CaptureError(10, NetringError("x" * 200))  # three lines
    table.header()
    assert table.lines([told]).decode().count("time ") == 0
    assert table.lines([Lagged(10, 1)]).decode().count("time ") == 0
    assert table.lines([Lagged(10, 1)]).decode().count("time ") == 1


def test_a_screen_that_changes_its_size_gets_a_header_for_its_new_columns() -> None:
    screens = [Screen(80, 24), Screen(80, 24), Screen(120, 24)]
    table = Table(lambda: screens.pop(0))
    event = FlowStarted(10, flow(1))
    found = b"".join(table.lines([event]) for _ in range(3)).decode().splitlines()
    assert [line.split()[1] for line in found] == ["evt", "new", "new", "event", "started"]


def test_colours_are_there_where_they_are_wanted_and_change_no_letter() -> None:
    events = [FlowStarted(10, flow(1)), Lagged(10, 3), named("www.example.org")]
    plain = Table(lambda: Screen(100, 24)).lines(events).decode()
    coloured = Table(lambda: Screen(100, 24), colours=True).lines(events).decode()
    assert "\x1b" not in plain
    assert "\x1b[32m" in coloured
    assert STYLE.sub("", coloured) == plain
