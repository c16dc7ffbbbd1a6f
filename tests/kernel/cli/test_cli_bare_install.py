"""The command line of an install without extras: it works, or says at once which one it lacks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.cli.command import LIMIT, Lines
from tests.support.frames import udp
from tests.support.ordinary_user import OrdinaryUser
from tests.support.replay import Frame
from tests.support.rig import PORT, SENDER, wire
from tests.support.savefiles import pcap
from tests.support.sizes import size

pytestmark = pytest.mark.requires("root", "netns")

MAIN = "from netring_bpf.cli import main; main()"


@pytest.fixture(scope="module")
def bare() -> Iterator[list[str]]:
    """The command, with the package and what it cannot do without."""
    with OrdinaryUser.with_a_copy() as user:
        python = str(Path(sys.executable).resolve())
        path = f"PYTHONPATH={user.folder}"
        # -S: without the packages of the distribution.
        yield ["env", path, python, "-S", "-P", "-c", MAIN]


def test_a_link_flap_does_not_end_the_capture(bare: list[str]) -> None:
    with wire() as namespace:
        command = [*bare, "flows", "-i", PORT, "--backend", "tpacket_v3", "--json"]
        process = namespace.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        out, err = Lines(process.stdout), Lines(process.stderr)
        try:
            err.wait_for(lambda line: "capturing on" in line)
            for state in ("down", "up"):
                namespace.ip(f"link set {SENDER} {state}")
                out.wait_for(lambda line, state=state: f"link_{state}" in line)  # type: ignore[misc]
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(LIMIT)
            records = [json.loads(line) for line in out.all()]
            err.all()
    assert status == 0
    assert [(record["event"], record["interface"]) for record in records] == [
        ("link_down", PORT),
        ("link_up", PORT),
    ]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (
            ["--format", "table"],
            'print a table: rich is not installed; pip install "netring-bpf[cli]", or choose '
            "--format json",
        ),
        (
            ["--json", "--mqtt", "mqtt://127.0.0.1"],
            'publish to MQTT: aiomqtt is not installed; pip install "netring-bpf[mqtt]"',
        ),
    ],
)
def test_an_extra_that_is_missing_is_named_before_anything_is_opened(
    bare: list[str], flags: list[str], told: str
) -> None:
    with wire() as namespace:
        done = namespace.run([*bare, "flows", "-i", PORT, *flags], check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"netring-bpf: {told}\n")


def test_a_file_is_read_without_a_progress_bar(bare: list[str], tmp_path: Path) -> None:
    path = tmp_path / "one.pcap"
    path.write_bytes(pcap([Frame(udp("10.0.0.1", "10.0.0.2", 1, 53))]))
    screen, line = os.openpty()
    try:
        done = subprocess.run(
            [*bare, "flows", "-r", str(path), "--events", "ended"],
            stdout=subprocess.PIPE,
            stderr=line,
            check=False,
            timeout=LIMIT,
        )
    finally:
        os.close(line)
        os.close(screen)
    assert done.returncode == 0
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == ["ended"]


@pytest.mark.requires("bcc")
@pytest.mark.parametrize(
    "limit", [*(f"-n {n}" for n in range(6, 26, size(6, 2))), "-v 40000", "-v 80000"]
)
def test_a_command_under_a_limit_works_or_ends_with_a_message(bare: list[str], limit: str) -> None:
    shell = shutil.which("bash") or "sh"
    with wire() as namespace:
        command = [*bare, "flows", "-i", PORT, "--steal", "--duration", "0.1", "--json"]
        done = namespace.run(
            [shell, "-c", f'ulimit {limit}; exec "$@"', "sh", *command], check=False
        )
    assert done.returncode in {0, 1}
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[0].startswith(("netring-bpf: ", "XDP on", "vb: "))
