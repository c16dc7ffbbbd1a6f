"""The stage of a try: a network namespace with a wire, a broker, a capture, and traffic."""

from __future__ import annotations

import ctypes
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from tests.support.frames import tcp, udp
from tests.support.process import spawn, stop

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0  # seconds for each thing that must come
_CLONE_NEWNET = 0x4000_0000
_T = TypeVar("_T")
_BEGIN = time.monotonic()


class NotSo(Exception):  # noqa: N818 - it is what the try found
    """Something that must be so is not."""


def say(text: str) -> None:
    print(f"{time.monotonic() - _BEGIN:7.1f} s  {text}", flush=True)


def wait(what: str, look: Callable[[], _T | None], patience: float = PATIENCE) -> _T:
    """Wait until there is what ``look`` looks for; say how long it took."""
    begin = time.monotonic()
    while time.monotonic() - begin < patience:
        found = look()
        if found:
            say(f"{what} (after {time.monotonic() - begin:.1f} s)")
            return found
        time.sleep(0.1)
    raise NotSo(f"{what}: not within {patience:.0f} s")


def enter_namespace() -> None:
    """Leave the network for a namespace of our own, with a wire from ``far0`` to ``tap0``."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise NotSo(f"unshare: {os.strerror(ctypes.get_errno())}; run it as root")
    ip("link set lo up")
    ip("link add tap0 type veth peer name far0")
    for name in ("tap0", "far0"):
        ip(f"link set {name} up")


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def fetch(
    url: str,
    data: dict[str, Any] | bytes | None = None,
    *,
    token: str | None = None,
    form: bool = False,
) -> Any:
    """Return the JSON that an URL answers; None if nobody does, or it is not there."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    body = data if data is None or isinstance(data, bytes) else json.dumps(data).encode()
    if body is not None:
        kind = "application/x-www-form-urlencoded" if form else "application/json"
        headers["Content-Type"] = kind
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text.decode()


class Capture:
    """``netring-bpf flows`` on ``tap0``, publishing to a broker."""

    def __init__(self, url: str, *flags: str, log: Path) -> None:
        command = [
            sys.executable, "-c", "from netring_bpf.cli import main; main()",
            "flows", "-i", "tap0", "--backend", "tpacket_v3", "--json", "--mqtt", url,
            "--mqtt-node", "try", "--stats-interval", "2", *flags,
        ]  # fmt: skip
        self.log = log
        with log.open("a") as out:
            self._process = spawn(command, stdout=subprocess.DEVNULL, stderr=out)

    def kill(self) -> None:
        """As a crash: it says no last word."""
        # The process is a shell's child no more: it was replaced by the command.
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> int:
        return stop(self._process)


class Traffic:
    """Frames on the wire, in both directions, from hosts whose shares differ."""

    def __init__(self, seed: int = 1) -> None:
        self._chance = random.Random(seed)
        self._stop = threading.Event()
        self.quiet = threading.Event()
        self._thread = threading.Thread(target=self._send, name="traffic", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _send(self) -> None:
        frames = self._frames()
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind(("far0", 0))
            while not self._stop.wait(0.01):
                if self.quiet.is_set():
                    continue
                for frame in self._chance.sample(frames, 8):
                    try:
                        sock.send(frame)
                    except OSError:  # the link is down
                        break

    @staticmethod
    def _frames() -> list[bytes]:
        made = []
        for host in range(1, 6):
            own, mac = f"192.168.7.{host}", f"02:00:00:00:07:{host:02x}"
            for far in range(1, 4):
                # The first host has the most.
                size = 1200 // host
                out = {"smac": mac, "dmac": "02:00:00:00:07:fe"}
                back = {"smac": "02:00:00:00:07:fe", "dmac": mac}
                away = f"198.51.100.{far}"
                payload = bytes(size)
                made += [
                    udp(own, away, 5000 + far, 443, payload, **out),
                    udp(away, own, 443, 5000 + far, payload, **back),
                    tcp(own, away, 6000 + far, 80, payload, flags="A", **out),
                ]
        return made


def run(command: Sequence[str | Path], **options: Any) -> None:
    subprocess.run([str(word) for word in command], check=True, **options)
