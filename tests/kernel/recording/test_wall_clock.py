"""A step of the wall clock costs no frame of the ring, and begins no file."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from netring_bpf.filter.libpcap import Savefile
from tests.support.frames import udp
from tests.support.lab import Namespace
from tests.support.patience import PATIENCE
from tests.support.rig import PORT, SENDER, wire
from tests.support.sender import send_frames

pytestmark = pytest.mark.requires("root", "netns", "bcc")

FRAMES = [udp("10.0.0.1", "10.0.0.2", 1000 + n, 9) for n in range(4)]
HOUR = 3600
# Records two frames, steps, waits, records two more, and has the ring written if there is one.
CODE = """
import struct, sys, time
import netring_bpf as nr
port, path, clock, step, wait, option, seconds = sys.argv[1:]
options = nr.RecordOptions(**{option: float(seconds)})
capture = nr.Capture(port, backend="af_xdp", filter="udp")
with nr.Recorder(capture, path, options) as recorder:
    for seconds in (int(step), 0):
        print("ready", flush=True)
        recorder.run(count=2)
        with open(clock, "r+b") as file:
            file.write(struct.pack("=q", seconds))
        time.sleep(float(wait))
    if option == "ring_time":
        recorder.trigger()
books = recorder.statistics()
print(books.written, books.files, [str(law) for law in books.equations() if not law.holds])
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shim") / "wall_clock.so"
    source = Path(__file__).with_name("wall_clock.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", path, source], check=True)
    return path


def record(namespace: Namespace, shim: Path, folder: Path, *arguments: str) -> str:
    """Return what the code said at its end."""
    clock = folder / "clock"
    clock.write_bytes(struct.pack("=q", 0))
    process = namespace.popen(
        ["env", f"LD_PRELOAD={shim}", f"WALL_CLOCK={clock}", sys.executable, "-c", CODE,
         PORT, str(folder / "r.pcapng"), str(clock), *arguments],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        for part in (FRAMES[:2], FRAMES[2:]):
            assert process.stdout.readline() == "ready\n"
            assert send_frames(namespace, SENDER, part) == 2
        said = process.stdout.read()
        assert process.wait(PATIENCE) == 0
    return said


def frames_of(folder: Path) -> list[list[bytes]]:
    found = []
    for path in sorted(folder.glob("r-*.pcapng")):
        with Savefile(path) as file:
            found.append([frame.data for frame in file])
    return found


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_the_ring_keeps_its_frames(shim: Path, tmp_path: Path, step: int) -> None:
    with wire() as namespace:
        said = record(namespace, shim, tmp_path, str(step), "0", "ring_time", "600")
    assert said == "4 1 []\n"
    assert frames_of(tmp_path) == [FRAMES]


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_the_ring_forgets_what_is_old(shim: Path, tmp_path: Path, step: int) -> None:
    with wire() as namespace:
        said = record(namespace, shim, tmp_path, str(step), "0.6", "ring_time", "0.5")
    assert said == "2 1 []\n"
    assert frames_of(tmp_path) == [FRAMES[2:]]


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_file_is_as_long_as_it_shall_be(shim: Path, tmp_path: Path, step: int) -> None:
    with wire() as namespace:
        said = record(namespace, shim, tmp_path, str(step), "0", "rotate_time", "600")
    assert said == "4 1 []\n"
    assert frames_of(tmp_path) == [FRAMES]
    folder = tmp_path / "again"
    folder.mkdir()
    with wire() as namespace:
        said = record(namespace, shim, folder, str(step), "0.6", "rotate_time", "0.5")
    assert said == "4 2 []\n"
    assert frames_of(folder) == [FRAMES[:2], FRAMES[2:]]
