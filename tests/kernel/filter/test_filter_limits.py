"""The largest filters there are: nearly 4,096 instructions, through the verifier."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.filters import EXPRESSIONS
from benchmarks.frames import SAMPLES
from netring_bpf import Filter
from netring_bpf.bpf import program as program_module
from netring_bpf.bpf.engines import open_engine
from netring_bpf.filter.libpcap import Interpreter
from tests.support.frames import udp
from tests.support.grammar import Frames
from tests.support.sizes import size

pytestmark = pytest.mark.requires("root", "bcc")

THREE_CAPABILITIES = 1 << 12 | 1 << 13 | 1 << 39
LARGE: dict[str, tuple[int, Callable[[int], str]]] = {
    "fixed loads": (1980, lambda n: f"ether[{n % 200}] != {n % 251}"),
    "behind an IPv4 header": (1980, lambda n: f"tcp[{n % 60}] = {n % 251}"),
    "arithmetic": (1700, lambda n: f"udp[{n % 60}:2] + ip[{n % 40}] = {n}"),
}
HELD = [pytest.param(THREE_CAPABILITIES, id="capabilities"), pytest.param(-1, id="root")]


@pytest.mark.parametrize("held", size(HELD[:1], HELD))
@pytest.mark.parametrize("name", size(["arithmetic"], list(LARGE)))
def test_a_filter_of_the_largest_size_loads_and_is_right(
    name: str, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_module, "effective", lambda: held)
    count, part = LARGE[name]
    word = " and " if "!=" in part(0) else " or "
    large = Filter(word.join(map(part, range(count))))
    assert 3700 < len(large.instructions) <= 4096
    judge = Interpreter(large.instructions)
    frames = [*Frames(1).batch(200), bytes(range(1, 251)), udp("10.0.0.1", "10.0.0.2", 1, 2)]
    with open_engine("xdp", large) as engine:
        said = [engine.matches(frame, len(frame)) for frame in frames]
    assert said == [judge.run(frame, len(frame)) != 0 for frame in frames]


@pytest.mark.parametrize("expression", size(EXPRESSIONS[::8], EXPRESSIONS))
def test_every_everyday_filter_loads_and_matches_what_it_should(expression: str) -> None:
    """Those of the table in docs/filters.md."""
    live = Filter(expression).for_interface("lo")
    with open_engine("xdp", live) as engine:
        said = [engine.matches(frame, len(frame)) for frame in SAMPLES]
    assert said == [live.matches(frame) for frame in SAMPLES]
    assert any(said)


@pytest.mark.long
def test_four_hundred_hosts_are_one_filter() -> None:
    hosts = [f"10.{n >> 8}.{n & 255}.7" for n in range(400)]
    many = Filter(" or ".join(f"host {host}" for host in hosts))
    with open_engine("xdp", many) as engine:
        for host, expected in ((hosts[0], True), (hosts[399], True), ("10.9.9.7", False)):
            frame = udp("192.168.0.1", host, 1, 2)
            assert engine.matches(frame, len(frame)) is expected
