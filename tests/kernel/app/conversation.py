"""Real clients that talk to the servers beside them, over a hub."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.kernel.app.addresses import CLIENT, CLIENT6, LEASED, PORTS, SERVER, SERVER6
from tests.support.broker import Broker
from tests.support.certificates import Certificates
from tests.support.hub import PORT, Hub
from tests.support.paths import ROOT
from tests.support.patience import PATIENCE, wait_until

CURL = ("curl", "--silent", "--show-error", "--insecure", "--max-time", str(PATIENCE))
# The C library looks names up at our server: the client alone has another file in its place.
_RESOLVING = (
    "unshare", "--mount", "sh", "-c",
    'mount --bind "$0" /etc/resolv.conf && exec "$@"',
)  # fmt: skip


def python(module: str) -> list[str]:
    """The command that runs a module of this folder."""
    return ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", f"tests.kernel.app.{module}"]


class Conversation:
    """A client and a server on a hub."""

    def __init__(self, hub: Hub, folder: Path) -> None:
        self.folder = folder
        self.client = hub.host(f"{CLIENT}/24", f"{CLIENT6}/64")
        self.server = hub.host(f"{SERVER}/24", f"{SERVER6}/64")
        self.certificates = Certificates(folder)
        self._numbers = itertools.count()
        self._resolver = folder / "resolv.conf"
        self._resolver.write_text(f"nameserver {SERVER}\n")

    # -- servers --

    @contextlib.contextmanager
    def servers(self) -> Iterator[None]:
        """Run the servers of Python."""
        made = self.certificates
        arguments = [str(made.server), str(made.server_key)]
        with self._serving([*python("servers"), *arguments], "ready"):
            yield

    @contextlib.contextmanager
    def dtls_server(self) -> Iterator[None]:
        """Run openssl's server of DTLS."""
        made = self.certificates
        argv = ["openssl", "s_server", "-dtls1_2", "-accept", f"{SERVER}:{PORTS['dtls']}"]
        argv += ["-cert", str(made.server), "-key", str(made.server_key), "-listen"]
        with self._serving(argv, "ACCEPT"):
            yield

    @contextlib.contextmanager
    def dhcp_server(self) -> Iterator[None]:
        """Run BusyBox's server of DHCP."""
        leases = self.folder / "leases"
        leases.touch()
        settings = self.folder / "udhcpd.conf"
        settings.write_text(
            f"start {LEASED}\nend {LEASED}\ninterface {PORT}\nlease_file {leases}\n"
            f"pidfile {self.folder / 'udhcpd.pid'}\n"
            f"option subnet 255.255.255.0\noption router {SERVER}\noption domain example\n"
            "option lease 600\n"
        )
        argv = ["busybox", "udhcpd", "-f", "-a", "1", str(settings)]
        with self._serving(argv, "started"):
            yield

    @contextlib.contextmanager
    def avahi(self, name: str) -> Iterator[None]:
        """Run a responder of multicast DNS, which has announced this name."""
        settings = self.folder / "avahi.conf"
        settings.write_text(
            f"[server]\nhost-name={name}\nuse-ipv6=no\nallow-interfaces={PORT}\n"
            "enable-dbus=no\n[publish]\npublish-hinfo=no\npublish-workstation=no\n"
        )
        # Its file of the process's number is not that of another one.
        alone = "mount -t tmpfs none /run && mkdir /run/avahi-daemon && exec $0 $@"
        argv = ["unshare", "--mount", "sh", "-c", alone, "avahi-daemon", "-f", str(settings)]
        argv += ["--no-drop-root", "--no-chroot", "--no-rlimits"]
        with self._serving(argv, "startup complete"):
            yield

    @contextlib.contextmanager
    def _serving(self, argv: Sequence[str], ready: str) -> Iterator[None]:
        """Run a server until the block ends; ``ready`` is in what it prints once it serves."""
        log = self.folder / f"{next(self._numbers)}.log"
        with log.open("w") as output:
            process = self.server.popen(
                argv, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            wait_until(lambda: ready in log.read_text() or process.poll() is not None)
            assert process.poll() is None, (argv, log.read_text())
            yield
        finally:
            process.kill()
            process.communicate()

    @contextlib.contextmanager
    def broker(self) -> Iterator[Broker]:
        """Run mosquitto."""
        with Broker(namespace=self.server, host=SERVER) as broker:
            yield broker

    # -- clients --

    def run(self, *argv: str, status: int = 0, input: str | None = None) -> str:
        """Run a client to its end, and return what it printed."""
        whole = [*_RESOLVING, str(self._resolver), *argv]
        done = self.client.run(whole, check=False, input=input)
        assert done.returncode == status, (argv, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def curl(self, *arguments: str, status: int = 0) -> str:
        """Run curl to its end, and return the body."""
        return self.run(*CURL, *arguments, status=status)

    def openssl(self, port: int, name: str, *arguments: str) -> None:
        """Shake hands by openssl's client, and leave."""
        where = ["-connect", f"{SERVER}:{port}", "-servername", name]
        self.run("openssl", "s_client", *where, *arguments, input="Q\n")
