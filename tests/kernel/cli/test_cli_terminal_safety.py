"""No name that somebody else chose gives orders to the terminal that shows it."""

from __future__ import annotations

import os
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.kernel.cli.command import COMMAND, LIMIT
from tests.support.frames import udp
from tests.support.lab import Namespace
from tests.support.replay import Frame
from tests.support.savefiles import pcap

pytestmark = pytest.mark.requires("root", "netns", "bcc")

ORDER = "\x1b[2J\x9b"  # clears the screen; U+009B begins an order too
SHOWN = r"\x1b[2J\x9b"
NAME = "e" + ORDER
STYLE = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[hl]|\x1b\[[0-9]*[AK]")  # of rich


class Screen:
    """What a process shows on a terminal: its standard output and error."""

    def __init__(self, namespace: Namespace, argv: Sequence[str]) -> None:
        self._master, line = os.openpty()
        try:
            self.process = namespace.popen(argv, stdin=line, stdout=line, stderr=line)
        finally:
            os.close(line)
        self._shown = b""

    def wait_for(self, text: str) -> None:
        while text not in self.text:
            assert self._read(), self.text

    @property
    def text(self) -> str:
        return self._shown.decode(errors="surrogateescape")

    def to_the_end(self) -> str:
        while self._read():
            pass
        self.process.wait(LIMIT)
        return self.text

    def _read(self) -> bool:
        assert select.select([self._master], [], [], LIMIT)[0], f"silence after {self.text!r}"
        try:
            self._shown += os.read(self._master, 1 << 16)
        except OSError:  # EIO: nobody has the other end any more
            return False
        return True

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


def show(
    namespace: Namespace, *argv: str, act: Callable[[Screen], None] = lambda _: None
) -> tuple[int, str]:
    """The status and the text, of which a terminal obeys nothing but the styles."""
    screen = Screen(namespace, [COMMAND, *argv])
    try:
        act(screen)
        text = screen.to_the_end()
        status = screen.process.returncode
    finally:
        screen.close()
    left = STYLE.sub("", text).replace("\r\n", "\n").replace("\r", "")
    assert [char for char in left if not char.isprintable() and char != "\n"] == []
    return status, left


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with Namespace() as found:
        found.run(["ip", "link", "add", NAME, "type", "veth", "peer", "name", "other"])
        for name in (NAME, "other"):
            found.run(["ip", "link", "set", name, "up"])
        yield found


@pytest.mark.parametrize(
    ("format", "down"), [("table", f"e{SHOWN} is down"), ("json", r"e\u001b[2J\u009b")]
)
def test_an_interface(namespace: Namespace, format: str, down: str) -> None:
    def act(screen: Screen) -> None:
        screen.wait_for("capturing on")
        namespace.run(["ip", "link", "set", "other", "down"])
        screen.wait_for(down)
        namespace.run(["ip", "link", "del", "other"])

    status, text = show(namespace, "flows", "-i", NAME, "--format", format, act=act)
    assert status == 1
    assert f"capturing on e{SHOWN} (" in text
    assert down in text
    assert text.count(f"netring-bpf: capture on e{SHOWN}: the interface is gone") == 1


def test_an_interface_that_is_not_there_or_goes_while_recording(
    namespace: Namespace, tmp_path: Path
) -> None:
    def act(screen: Screen) -> None:
        screen.wait_for("recording")
        namespace.run(["ip", "link", "del", "other"])

    file = str(tmp_path / f"{ORDER}.pcapng")
    status, text = show(namespace, "flows", "-i", f"{ORDER}x")
    assert (status, SHOWN in text) == (1, True)
    status, text = show(namespace, "record", "-i", NAME, "-w", file, act=act)
    assert status == 1
    assert f"recording e{SHOWN} (" in text
    assert f"capture on e{SHOWN}: the interface is gone" in text


def test_a_file_good_or_broken_or_absent(namespace: Namespace, tmp_path: Path) -> None:
    path = tmp_path / f"{ORDER}\n.pcap"
    shown = rf"{SHOWN}\x0a.pcap"
    whole = pcap([Frame(udp("10.0.0.1", "10.0.0.2", 1, 53))])
    for content, status, told in (
        (whole, 0, f"/{shown}\n"),
        (whole[:-3], 1, f"/{shown}: at byte"),
        (b"no capture at all", 1, f"/{shown}: this is neither pcap nor pcapng"),
        (None, 1, f"/{shown}: no file has a name like this"),
    ):
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        for command in ("flows", "filter"):
            expression = ["udp"] if command == "filter" else []
            done, text = show(namespace, command, "-r", str(path), *expression)
            assert done == status or command == "filter"
            if command == "flows":
                assert told in text


@pytest.mark.parametrize(
    "words",
    [
        ["flows", "-i", "lo", "--duration", ORDER],
        ["flows", "-i", "lo", "--nosuch" + ORDER],
        ["flows", "-i", "lo", "tcp port " + ORDER],
        ["nosuch" + ORDER],
        ["--nosuch" + ORDER],
        ["record", "-i", "lo", "-w", ORDER, "--rotate-size", ORDER],
    ],
)
def test_the_words_of_the_command_line(namespace: Namespace, words: list[str]) -> None:
    status, text = show(namespace, *words)
    assert status in {1, 2}
    assert r"\x1b[2J" in text


@pytest.mark.requires("broker")
def test_what_a_broker_says(namespace: Namespace) -> None:
    refusal = ORDER.encode()
    properties = bytes([0x1F, 0, len(refusal)]) + refusal  # reason string
    body = bytes([0, 0x87, len(properties)]) + properties  # not authorized
    with namespace.enter():
        namespace.ip("link set lo up")
        server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                client.recv(4096)
                client.sendall(bytes([0x20, len(body)]) + body)
                time.sleep(0.05)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        url = f"mqtt://127.0.0.1:{port}"
        _, text = show(
            namespace, "flows", "-i", NAME, "--mqtt", url, "--json",
            act=lambda screen: screen.wait_for("flows wait in the outbox")
            or screen.process.terminate(),
        )  # fmt: skip
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()
    assert "trying again, flows wait in the outbox" in text
