"""``netring-bpf serve`` as a process."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.kernel.cli.command import COMMAND, LISTEN, Lines, query, run, send
from tests.support.patience import wait_until
from tests.support.rig import PORT, SENDER
from tests.support.savefiles import pcap
from tests.support.web import TOKEN, timed

if TYPE_CHECKING:
    from tests.support.lab import Namespace

pytestmark = pytest.mark.requires("root", "netns", "clients")


class Serving:
    """The command, which serves at ``url``."""

    def __init__(self, namespace: Namespace, *arguments: str) -> None:
        self._namespace = namespace
        namespace.ip("link set lo up")
        self.process = namespace.popen(
            [COMMAND, "serve", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self.process.stderr is not None
        self.err = Lines(self.process.stderr)
        said = self.err.wait_for(lambda line: "serving on" in line)
        found = re.fullmatch(r"netring-bpf: serving on (http://\S+/)", said)
        assert found is not None
        self.url = found[1]

    def get(self, path: str, *headers: str) -> tuple[int, Any]:
        """The status of an answer, and its value."""
        shown = [word for header in headers for word in ("-H", header)]
        done = self._namespace.run(
            ["curl", "-s", "-w", "\n%{http_code}", *shown, f"{self.url}{path}"]
        ).stdout
        body, _, status = done.rpartition("\n")
        return int(status), json.loads(body) if body.startswith("{") else body

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def serving(namespace: Namespace, *arguments: str) -> Iterator[Serving]:
    made = Serving(namespace, *arguments)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()
        made.err.all()
        assert made.process.stdout is not None
        made.process.stdout.close()


def test_an_interface_is_served_until_a_signal(namespace: Namespace) -> None:
    with serving(namespace, "-i", PORT, *LISTEN, "--listen", "127.0.0.1:0", "udp") as at:
        send(namespace, query(1000), query(1001))
        wait_until(lambda: at.get("api/stats")[1]["stats"])
        wait_until(lambda: at.get("api/stats")[1]["stats"]["since_start"]["total"]["packets"] == 2)
        assert at.get("healthz")[0] == 200
        assert at.get("api/info")[1]["info"]["interface"] == PORT
        assert 'id="chart"' in at.get("")[1]
        assert at.end() == 0
    assert [line for line in at.err.all() if "Traceback" in line] == []


def test_a_page_says_that_the_link_was_down_at_the_start(namespace: Namespace) -> None:
    namespace.ip(f"link set {SENDER} down")
    with serving(namespace, "-i", PORT, *LISTEN, "--listen", "127.0.0.1:0") as at:
        wait_until(lambda: at.get("healthz")[0] == 503)
        assert at.get("healthz")[1]["status"] == "link_down"
        namespace.ip(f"link set {SENDER} up")
        wait_until(lambda: at.get("healthz")[0] == 200)
        assert at.end() == 0
    assert any("the link is down" in line for line in at.err.all())


def test_a_file_is_served_after_its_end(namespace: Namespace, tmp_path: Path) -> None:
    path = tmp_path / "file.pcap"
    path.write_bytes(pcap(timed(query(1000 + n) for n in range(20))))
    with serving(namespace, "-r", str(path), "--listen", "127.0.0.1:0") as at:
        wait_until(lambda: at.get("healthz")[1]["status"] == "ended")
        assert len(at.get("api/flows")[1]["flows"]) == 20
        assert at.end(signal.SIGINT) == 0


def test_another_address_asks_for_the_token(namespace: Namespace, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    token.chmod(0o644)
    where = ("serve", "-i", PORT, *LISTEN, "--listen", "0.0.0.0:0")
    refused = run(namespace, *where)
    assert (refused.status, "needs a token" in refused.err[-1]) == (1, True)
    readable = run(namespace, *where, "--token-file", str(token))
    assert (readable.status, "chmod 600" in readable.err[-1]) == (1, True)
    token.chmod(0o600)
    with serving(namespace, *where[1:], "--token-file", str(token)) as at:
        at.url = at.url.replace("0.0.0.0", "127.0.0.1")
        assert at.get("api/info")[0] == 401
        assert at.get("api/info", f"Authorization: Bearer {TOKEN}")[0] == 200
        assert at.get("api/info", f"Authorization: Bearer {TOKEN}", "Host: evil.example")[0] == 421


def test_a_port_in_use_ends_it(namespace: Namespace) -> None:
    with serving(namespace, "-i", PORT, *LISTEN, "--listen", "127.0.0.1:0") as at:
        taken = at.url.removeprefix("http://").rstrip("/")
        done = run(namespace, "serve", "-i", PORT, *LISTEN, "--listen", taken)
        assert (done.status, "another program listens there" in done.err[-1]) == (1, True)


def test_wrong_flags_are_told(namespace: Namespace) -> None:
    for flags in ((), ("-i", PORT, "-r", "file"), ("-i", PORT, "--listen", "8080")):
        assert run(namespace, "serve", *flags).status == 2
    missing = run(namespace, "serve", "-i", PORT, "--token-file", "/nowhere/token")
    assert (missing.status, "/nowhere/token" in missing.err[-1]) == (1, True)
