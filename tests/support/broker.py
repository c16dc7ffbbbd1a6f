"""A real MQTT broker, and a subscriber that is nobody's code but mosquitto's."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.support.patience import PATIENCE
from tests.support.process import spawn, stop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from tests.support.lab import Namespace

_HOST = "127.0.0.1"


class BrokerError(RuntimeError):
    """mosquitto did not do as told; the message holds what it printed."""


class Broker:
    """A mosquitto of our own on a free port of 127.0.0.1. A context manager.

    ``users`` maps names to passwords, ``password_file`` is a file of mosquitto_passwd's; without
    either anybody may connect. ``certfile`` and ``keyfile`` (PEM) make the listener speak TLS.
    With ``namespace`` it runs there, whose loopback has to be up; ``host`` is then another address
    of its own, if given. The port stays the same over ``stop()``, ``kill()`` and ``start()``.
    Nothing persists.
    """

    def __init__(
        self,
        *,
        namespace: Namespace | None = None,
        host: str = _HOST,
        users: Mapping[str, str] | None = None,
        password_file: str | os.PathLike[str] | None = None,
        certfile: str | os.PathLike[str] | None = None,
        keyfile: str | os.PathLike[str] | None = None,
        config: Sequence[str] = (),
    ) -> None:
        self.port = 0
        self._namespace, self._host = namespace, host
        self._scheme = "mqtts" if certfile else "mqtt"
        self._process: subprocess.Popen[str] | None = None
        self._directory = tempfile.TemporaryDirectory(prefix="netring-broker-")
        self._home = Path(self._directory.name)
        if users:
            password_file = self._passwords(users)
        self._settings = [
            "persistence false",
            "log_dest stderr",
            # Started by root it would become the user mosquitto, who cannot read our files.
            *(["user root"] if os.geteuid() == 0 else []),
            f"allow_anonymous {'false' if password_file else 'true'}",
            *([f"password_file {password_file}"] if password_file else []),
            *([f"certfile {certfile}", f"keyfile {keyfile}"] if certfile else []),
            *config,
        ]
        try:
            self.start()
        except BaseException:
            self._directory.cleanup()
            raise

    @property
    def url(self) -> str:
        """Its address, as ``mqtt://127.0.0.1:PORT`` (``mqtts`` with TLS)."""
        return f"{self._scheme}://{self._host}:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the running broker."""
        if self._process is None:
            raise BrokerError("the broker is not running")
        return self._process.pid

    @property
    def log(self) -> str:
        """The broker's output since its latest start."""
        try:
            return (self._home / "log").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def start(self) -> None:
        """Start it; returns when it accepts connections."""
        if self._process is not None:
            raise BrokerError("the broker is running already")
        # A port found free may be taken before mosquitto has it: look for another one then.
        for _ in range(1 if self.port else 5):
            port = self.port or self._free_port()
            if self._started_on(port):
                self.port = port
                return
        raise BrokerError(f"mosquitto did not start: {self.log}")

    def stop(self) -> None:
        """End it with SIGTERM and wait for it; its clients are told. Does nothing if ended."""
        if self._process is not None:
            self.resume()  # a frozen process takes no SIGTERM
            stop(self._process)
            self._process = None

    def kill(self) -> None:
        """End it with SIGKILL and wait for it: a crash, as its clients see it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay and nothing is answered, until ``resume()``."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused broker go on."""
        os.kill(self.pid, signal.SIGCONT)

    def reload(self) -> None:
        """Have it read its files of rules and passwords again (SIGHUP)."""
        os.kill(self.pid, signal.SIGHUP)

    def close(self) -> None:
        """End it and remove its files."""
        self.stop()
        self._directory.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _started_on(self, port: int) -> bool:
        config = self._home / "mosquitto.conf"
        config.write_text("\n".join([f"listener {port} {self._host}", *self._settings, ""]))
        with (self._home / "log").open("w") as log:
            start = self._namespace.popen if self._namespace else spawn
            process = start([_program("mosquitto"), "-c", str(config)], stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            # Its own word first: it might be somebody else who answers on that port.
            if " running" in self.log and self._accepts(port):
                self._process = process
                return True
            time.sleep(0.005)
        stop(process)
        return False

    def _where(self) -> AbstractContextManager[None]:
        return self._namespace.enter() if self._namespace else contextlib.nullcontext()

    def _free_port(self) -> int:
        with self._where(), socket.socket() as sock:
            sock.bind((self._host, 0))
            port: int = sock.getsockname()[1]
            return port

    def _accepts(self, port: int) -> bool:
        with (
            self._where(),
            contextlib.suppress(OSError),
            socket.create_connection((self._host, port), 1),
        ):
            return True
        return False

    def _passwords(self, users: Mapping[str, str]) -> Path:
        path = self._home / "passwords"
        path.touch(0o600)
        for name, password in users.items():
            # One by one: -U, which hashes a whole file, cuts a password at a colon.
            hashing = [_program("mosquitto_passwd"), "-b", str(path), name, password]
            subprocess.run(hashing, check=True, capture_output=True)
        return path


@dataclass(frozen=True, slots=True)
class Message:
    """A message as mosquitto_sub got it."""

    topic: str
    payload: bytes
    qos: int
    retain: bool

    @property
    def text(self) -> str:
        """The payload as text."""
        return self.payload.decode(errors="surrogateescape")


class MosquittoSub:
    """A mosquitto_sub of its own process, subscribed when the constructor returns.

    A context manager. It connects again by itself when the broker returns. ``extra`` are more
    arguments, such as ``["-u", "name", "-P", "password"]``; ``namespace`` is the broker's.
    """

    # The payload in hex and the topic last: neither can be mistaken for anything else.
    _FORMAT = "message %r %q %x %t"

    def __init__(
        self,
        port: int,
        topic: str = "#",
        *,
        qos: int = 1,
        extra: Sequence[str] = (),
        namespace: Namespace | None = None,
    ) -> None:
        self._changed = threading.Condition()
        self._received: list[Message] = []
        self._output: list[str] = []
        self._subscribed = 0
        self._ended = self._closing = False
        # -d: it then says when its subscription was acknowledged; -oL: and says so at once, where
        # it would otherwise keep it for a full buffer.
        argv = ["stdbuf", "-oL", _program("mosquitto_sub"), "-h", _HOST, "-p", str(port)]
        start = namespace.popen if namespace else spawn
        self._process = start(
            [*argv, "-q", str(qos), "-t", topic, "-d", "-F", self._FORMAT, *extra],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self._read, name="mosquitto_sub")
        self._reader.start()
        try:
            self.wait_subscribed()
        except BaseException:
            self.close()
            raise

    @property
    def received(self) -> list[Message]:
        """A copy of everything received so far."""
        with self._changed:
            return list(self._received)

    @property
    def messages(self) -> list[tuple[str, str]]:
        """Everything received so far as pairs of topic and text."""
        return [(message.topic, message.text) for message in self.received]

    def wait_for(
        self, predicate: Callable[[list[Message]], bool], timeout: float = PATIENCE
    ) -> list[Message]:
        """Wait until ``predicate`` holds for all messages received; return them."""
        with self._changed:
            if not self._changed.wait_for(lambda: predicate(self._received), timeout):
                raise TimeoutError(f"after {timeout} s: {len(self._received)} messages")
            return list(self._received)

    def wait_subscribed(self, times: int = 1, timeout: float = PATIENCE) -> None:
        """Wait until it has subscribed so many times: once more after each broker restart."""
        with self._changed:
            self._changed.wait_for(lambda: self._subscribed >= times or self._ended, timeout)
            if self._subscribed < times:
                raise BrokerError(f"mosquitto_sub did not subscribe: {' | '.join(self._output)}")

    def close(self) -> None:
        """End it; what it received stays readable."""
        with self._changed:
            self._closing = True
        stop(self._process)
        self._reader.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                with self._changed:
                    # The signal that ends it makes it speak in the middle of a line.
                    if not self._closing:
                        self._take(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _take(self, line: str) -> None:
        if line.startswith("message "):
            _, retain, qos, payload, topic = line.split(" ", 4)
            self._received.append(Message(topic, bytes.fromhex(payload), int(qos), retain == "1"))
            return
        self._output.append(line)
        if line.startswith("Subscribed (mid:"):
            self._subscribed += 1


def _program(name: str) -> str:
    # Debian keeps the broker in /usr/sbin, which is not on everybody's PATH.
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if found is None:
        raise BrokerError(f"{name} is not installed")
    return found
