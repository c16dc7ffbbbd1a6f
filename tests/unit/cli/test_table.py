"""The lines of a table for people: the protocol inside a flow, and its name."""

from __future__ import annotations

import pytest

from netring_bpf import App, AppEvent, FlowEnd, FlowEnded
from netring_bpf.cli.table import row
from tests.support.events import flow


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
    named = plain._replace(app=app, resp=plain.resp._replace(name=resp_name))
    line, _ = row(FlowEnded(10, named, FlowEnd.FIN))
    assert line.endswith(f"  {shown}")


def test_an_exchange_has_a_line_of_its_own() -> None:
    line, style = row(AppEvent(10, flow(1), App("dns", "example.org", "dns")))
    assert line.split()[1] == "app"
    assert line.endswith("  ShADd dns example.org")
    assert style == "cyan"
