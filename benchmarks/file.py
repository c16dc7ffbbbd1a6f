"""From a capture file to flow records: whole commands, their start included.

Ours, and what users would otherwise take, on files of a million and of ten million packets
(``benchmarks/captures.py``), which lie in the page cache. Slow peers see the smaller one, twice,
and two of them the larger one, once. They give one record a flow, or less, and are compared with
what of ours does so too.
"""

from __future__ import annotations

import compileall
import functools
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.captures import CaptureFile, make
from benchmarks.harness import Case, Options, Report, Results, Table, interleave
from benchmarks.peers import install
from benchmarks.process import run as run_process

__all__ = ["run"]

_HERE = Path(__file__).resolve().parent
_COMMAND = Path(sys.executable).with_name("netring-bpf")
_SIZES = (1_000_000, 10_000_000)
_SLICE = 50_000  # packets that scapy gets
_PACKAGE = _HERE.parent / "netring_bpf"
_ALL = "netring-bpf json"
_ENDED = "netring-bpf json, one record a flow"
_SLOW_ROUNDS = 2


@dataclass(frozen=True, slots=True)
class _Contender:
    """A command, and how many flows the files say that it has left behind: None: it does not."""

    name: str
    command: Callable[[CaptureFile, Path], Sequence[str | Path]]
    flows: Callable[[Path], int | None]
    what: str
    is_slow: bool = False
    is_patient: bool = False  # slow, and yet given the larger file, once
    packets: int | None = None  # that it gets, where it is too slow for all


def _lines(pattern: bytes, folder: Path) -> int:
    """How many lines of the output match."""
    matches = re.compile(pattern).match
    with (folder / "out").open("rb") as file:
        return sum(1 for line in file if matches(line))


def _number(pattern: str, folder: Path) -> int:
    """The sum of what the output says in these words."""
    text = (folder / "out").read_text(errors="replace")
    return sum(int(found) for found in re.findall(pattern, text))


def _ours(name: str, flags: Sequence[str], line: bytes, note: str = "") -> _Contender:
    return _Contender(
        name,
        lambda file, _: [_COMMAND, "flows", "-r", file.path, *flags],
        lambda folder: _lines(line, folder),
        f"`netring-bpf flows -r FILE {' '.join(flags)}`, records into a file{note}",
    )


_JSON = _ours(
    _ALL, ["--format", "json"], rb'\{"event":"ended"',
    " (of flows that start, are established and go on, too)",
)  # fmt: skip
_JSON_ENDED = _ours(_ENDED, ["--format", "json", "--events", "ended"], rb'\{"event":"ended"')
_ZEEK = _ours("netring-bpf zeek", ["--format", "zeek"], rb"[^#]")


def _peer(name: str) -> _Contender:
    return _PEERS[name](install(name))


def _script(name: str) -> Path:
    return _HERE / "peers" / f"{name}_flows.py"


def _tcpdump(program: Path) -> _Contender:
    return _Contender(
        "tcpdump",
        lambda file, _: [program, "-r", file.path, "-w", "/dev/null"],
        lambda _: None,
        "`tcpdump -r FILE -w /dev/null`: reading alone, no flows",
    )


def _softflowd(program: Path) -> _Contender:
    return _Contender(
        "softflowd",
        lambda file, folder: [
            program, "-r", file.path, "-d", "-6", "-m", "4000000", "-p", folder / "pid",
            "-c", "none",
        ],
        lambda folder: _number(r"flushed = +(\d+)", folder),
        "`softflowd -r FILE -d -6 -m 4000000`: counts flows and exports nothing; each direction of "
        "an ICMP exchange is a flow of its own",
    )  # fmt: skip


def _nfpcapd(program: Path) -> _Contender:
    return _Contender(
        "nfpcapd",
        lambda file, folder: [program, "-r", file.path, "-w", folder],
        lambda _: None,
        "`nfpcapd -r FILE -w FOLDER`: its binary records into files; each direction is a flow",
    )


def _argus(program: Path) -> _Contender:
    return _Contender(
        "argus",
        lambda file, folder: [program, "-r", file.path, "-w", folder / "argus"],
        lambda _: None,
        "`argus -r FILE -w FILE`: its binary records into a file",
        is_slow=True,
    )


def _nfstream(python: Path) -> _Contender:
    return _Contender(
        "nfstream",
        lambda file, _: [python, _script("nfstream"), file.path],
        lambda folder: _number(r"^(\d+)$", folder),
        "`NFStreamer(source=FILE, statistical_analysis=False, n_dissections=0)`, iterated",
        is_slow=True,
        is_patient=True,
    )


def _tshark(program: Path) -> _Contender:
    return _Contender(
        "tshark",
        lambda file, _: [program, "-n", "-q", "-r", file.path, "-z", "conv,tcp", "-z", "conv,udp"],
        lambda folder: _lines(rb".*<->", folder),
        "`tshark -n -q -r FILE -z conv,tcp -z conv,udp`: conversations, none of ICMP",
        is_slow=True,
    )


def _dpkt(python: Path) -> _Contender:
    return _Contender(
        "dpkt",
        lambda file, _: [python, _script("dpkt"), file.path],
        lambda folder: _number(r"^(\d+)$", folder),
        "a loop over `dpkt.pcap.Reader` that counts packets and bytes by five-tuple",
        is_slow=True,
        is_patient=True,
    )


def _scapy(python: Path) -> _Contender:
    return _Contender(
        "scapy",
        lambda file, _: [python, _script("scapy"), file.path, str(_SLICE)],
        lambda _: None,
        f"such a loop over scapy's `PcapReader`, for {_SLICE:,} packets; its time is extrapolated",
        is_slow=True,
        packets=_SLICE,
    )


_PEERS: dict[str, Callable[[Path], _Contender]] = {
    "argus": _argus,
    "dpkt": _dpkt,
    "nfpcapd": _nfpcapd,
    "nfstream": _nfstream,
    "scapy": _scapy,
    "softflowd": _softflowd,
    "tcpdump": _tcpdump,
    "tshark": _tshark,
}


def _measure(contender: _Contender, file: CaptureFile) -> Mapping[str, float]:
    """One run, in a folder of its own; ours must find every flow."""
    with tempfile.TemporaryDirectory(dir=file.path.parent) as name:
        folder = Path(name)
        done = run_process(contender.command(file, folder), folder / "out")
        flows = contender.flows(folder)
    if contender.name.startswith("netring-bpf") and flows != file.flows:
        raise RuntimeError(f"{contender.name}: {flows} flows, {file.path} has {file.flows}")
    share = file.packets / min(contender.packets or file.packets, file.packets)
    figures = {"wall": done.wall * share, "cpu": done.cpu * share, "peak": float(done.peak)}
    return figures if flows is None else {**figures, "flows": float(flows)}


def _race(contenders: Sequence[_Contender], file: CaptureFile, rounds: int) -> Results:
    return interleave(
        [Case(c.name, functools.partial(_measure, c, file)) for c in contenders], rounds
    )


def _rows(
    contenders: Sequence[_Contender], file: CaptureFile, results: Results, first: str
) -> Table:
    """With the ratios to the contender ``first``."""
    rows = []
    for contender in contenders:
        name = contender.name
        figures = results.values[name]
        wall = results.spread(name, "wall")
        rows.append(
            (
                name,
                wall.text(2),
                f"{results.median(name, 'cpu'):.2f}",
                f"{file.packets / wall.median / 1e6:.2f}",
                f"{max(figures['peak']) / (1 << 20):.0f}",
                f"{figures['flows'][0]:,.0f}" if "flows" in figures else "",
                "" if name == first else results.ratio(name, first, "wall").text(1),
            )
        )
    columns = (
        "", "seconds", "CPU seconds", "million packets/s", "peak MB", "flows",
        f"times that of {first}",
    )  # fmt: skip
    title = f"{file.packets:,} packets, {file.flows:,} flows, {file.size / (1 << 20):,.0f} MB"
    return Table(title, columns, tuple(rows))


def run(options: Options) -> Report:
    """Every contender on the smaller file, the fast ones on the larger one as well."""
    # As pip does with what it installs; else, where Python is told to write no byte code, each run
    # would compile ours anew, and not the peers.
    compileall.compile_dir(_PACKAGE, quiet=1)
    sizes = (20_000, 50_000) if options.quick else _SIZES
    ours = [_JSON, _JSON_ENDED, _ZEEK]
    peers = [_peer(name) for name in options.against if name in _PEERS]
    quick = [*ours, *(peer for peer in peers if not peer.is_slow)]
    slow = [peer for peer in peers if peer.is_slow]
    tables = []
    figures: dict[str, Mapping[str, Sequence[float]]] = {}
    races = [(quick, size, options.rounds, _ALL) for size in sizes]
    if slow:
        rounds = min(options.rounds, _SLOW_ROUNDS)
        races.insert(1, ([_JSON, _JSON_ENDED, *slow], sizes[0], rounds, _ENDED))
    patient = [peer for peer in peers if peer.is_patient]
    if patient:
        races.append(([_JSON, _JSON_ENDED, *patient], sizes[1], 1, _ENDED))
    for contenders, size, rounds, first in races:
        file = make(size)
        results = _race(contenders, file, rounds)
        tables.append(_rows(contenders, file, results, first))
        for name, values in results.values.items():
            figures.setdefault(f"{name}, {size} packets", values)
    notes = [f"- {contender.name}: {contender.what}." for contender in (*ours, *peers)]
    return Report("file", tuple(tables), tuple(notes), figures)
