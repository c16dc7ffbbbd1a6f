"""From a capture file to flow records: whole commands, their start included.

Our commands and the tools that users would otherwise take read files of a million and of ten
million packets (``captures.py``), which lie in the page cache. The floor is tcpdump, which reads
the file and keeps no flows; it takes its turn in every round. Slow peers read the smaller file
twice, and the patient ones read the larger file once. A slow peer gives one record a flow at most,
so it is compared with the command of ours that does the same. A third file has the traffic of the
web (``web.py``), which our command reads with names on and off.
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

from benchmarks.captures import CaptureFile, make, make_web
from benchmarks.harness import Case, Options, Report, Results, Table, interleave
from benchmarks.peers import install, is_installed
from benchmarks.process import run as run_process

__all__ = ["run"]

_HERE = Path(__file__).resolve().parent
_COMMAND = Path(sys.executable).with_name("netring-bpf")
_SIZES = (1_000_000, 10_000_000)
_WEB = 500_000  # packets of the web
_SLICE = 50_000  # packets for scapy
_PACKAGE = _HERE.parent / "netring_bpf"
_ALL = "netring-bpf json"
_ENDED = "netring-bpf json, one record a flow"
_SLOW_ROUNDS = 2
_FLOOR = "tcpdump"
_NO_FLOOR = "No floor: tcpdump is not installed (`--against tcpdump` installs it)."


@dataclass(frozen=True, slots=True)
class _Contender:
    """A command. ``flows`` counts the flows in its output; None where the output has no count."""

    name: str
    command: Callable[[CaptureFile, Path], Sequence[str | Path]]
    flows: Callable[[Path], int | None]
    what: str
    is_slow: bool = False
    is_patient: bool = False  # slow, but fast enough to read the larger file once
    packets: int | None = None  # as many as it reads of the file; None: all


def _lines(pattern: bytes, folder: Path) -> int:
    """Count the lines of the output that match."""
    matches = re.compile(pattern).match
    with (folder / "out").open("rb") as file:
        return sum(1 for line in file if matches(line))


def _number(pattern: str, folder: Path) -> int:
    """Sum the numbers that the pattern finds in the output."""
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
    ": one when a flow starts, is established, goes on and ends",
)  # fmt: skip
_JSON_ENDED = _ours(_ENDED, ["--format", "json", "--events", "ended"], rb'\{"event":"ended"')
_ZEEK = _ours("netring-bpf zeek", ["--format", "zeek"], rb"[^#]")
_NAMES = ("off", "service", "all")
_BY_NAMES = [
    _ours(
        f"{_ENDED}, names {names}",
        ["--format", "json", "--events", "ended", "--names", names],
        rb'\{"event":"ended"',
    )
    for names in _NAMES
]


def _peer(name: str) -> _Contender:
    return _PEERS[name](install(name))


def _script(name: str) -> Path:
    return _HERE / "peers" / f"{name}_flows.py"


def _tcpdump(program: Path) -> _Contender:
    return _Contender(
        _FLOOR,
        lambda file, _: [program, "-r", file.path, "-w", "/dev/null"],
        lambda _: None,
        "`tcpdump -r FILE -w /dev/null`: the floor; it reads and keeps no flows",
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
        f"the same loop over scapy's `PcapReader`, for {_SLICE:,} packets; the time is scaled up",
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
    """Run it once in a folder of its own; our commands must find every flow."""
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
    contenders: Sequence[_Contender], file: CaptureFile, results: Results, first: str, what: str
) -> Table:
    """One row a contender, with its times of the floor's and of the time of ``first``."""

    def times(name: str, other: str, digits: int) -> str:
        if other not in results.values:
            return "none"
        return "" if name == other else results.ratio(name, other, "wall").text(digits)

    rows = []
    for name in (contender.name for contender in contenders):
        figures = results.values[name]
        wall = results.spread(name, "wall")
        rows.append(
            (
                name,
                times(name, _FLOOR, 2),
                times(name, first, 1),
                wall.text(2),
                f"{results.median(name, 'cpu'):.2f}",
                f"{file.packets / wall.median / 1e6:.2f}",
                f"{max(figures['peak']) / (1 << 20):.0f}",
                f"{figures['flows'][0]:,.0f}" if "flows" in figures else "",
            )
        )
    columns = (
        "", "times tcpdump's reading", f"times {first}", "seconds", "CPU seconds",
        "million packets/s", "peak MB", "flows",
    )  # fmt: skip
    title = f"{file.packets:,} packets{what}, {file.flows:,} flows, {file.size / (1 << 20):,.0f} MB"
    return Table(title, columns, tuple(rows))


def run(options: Options) -> Report:
    """Race all on the smaller file, the fast ones on the larger one, ours on that of the web."""
    # pip compiles the peers' modules when it installs them. Each run would compile our modules anew
    # if Python writes no byte code.
    compileall.compile_dir(_PACKAGE, quiet=1)
    sizes = (20_000, 50_000) if options.quick else _SIZES
    ours = [_JSON, _JSON_ENDED, _ZEEK]
    has_floor = _FLOOR in options.against or is_installed(_FLOOR)
    floor = [_peer(_FLOOR)] if has_floor else []
    peers = [_peer(name) for name in options.against if name in _PEERS and name != _FLOOR]
    quick = [*floor, *ours, *(peer for peer in peers if not peer.is_slow)]
    slow = [peer for peer in peers if peer.is_slow]
    tables = []
    figures: dict[str, Mapping[str, Sequence[float]]] = {}
    races = [(quick, size, options.rounds, _ALL) for size in sizes]
    if slow:
        rounds = min(options.rounds, _SLOW_ROUNDS)
        races.insert(1, ([*floor, _JSON, _JSON_ENDED, *slow], sizes[0], rounds, _ENDED))
    patient = [peer for peer in peers if peer.is_patient]
    if patient:
        races.append(([*floor, _JSON, _JSON_ENDED, *patient], sizes[1], 1, _ENDED))
    files = [(*race, make(race[1]), "") for race in races]
    size = sizes[0] if options.quick else _WEB
    contenders, first = [*floor, *_BY_NAMES], _BY_NAMES[0].name
    files.append((contenders, size, options.rounds, first, make_web(size), " of the web"))
    for contenders, size, rounds, first, file, what in files:
        results = _race(contenders, file, rounds)
        tables.append(_rows(contenders, file, results, first, what))
        for name, values in results.values.items():
            figures.setdefault(f"{name}, {size} packets{what}", values)
    shown = (*floor, *ours, *_BY_NAMES, *peers)
    notes = [f"- {contender.name}: {contender.what}." for contender in shown]
    return Report("file", tuple(tables), (*notes, *([] if floor else [_NO_FLOOR])), figures)
