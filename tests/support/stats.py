"""What aggregates must come to: the sums of the flows that ended, made anew from each of them."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from netring_bpf import Event, Flow, FlowEnded, StatsUpdated, Sums, Top, Traffic
from netring_bpf.aggregate.options import PRIVATE

__all__ = ["Rows", "flow_rows", "flow_traffic", "rows_of", "stats_of", "sum_of_tops", "traffic_of"]

#: Of each kind and key: packets and bytes sent, packets and bytes received, flows.
Rows: TypeAlias = dict[tuple[str, str], tuple[int, int, int, int, int]]
Key = tuple[str, str]
_PREFIX = {4: 24, 6: 48}
_WITH_PORTS = {6: "tcp", 17: "udp", 132: "sctp"}


def stats_of(events: Iterable[Event]) -> list[StatsUpdated]:
    """The aggregates among events, whose intervals follow each other."""
    found = [event for event in events if isinstance(event, StatsUpdated)]
    assert [event.number for event in found] == list(range(1, len(found) + 1))
    assert all(event.start <= event.ts for event in found)
    assert all(a.ts <= b.start for a, b in itertools.pairwise(found))
    return found


def traffic_of(stats: Sequence[StatsUpdated]) -> Traffic:
    """The traffic of all intervals."""
    directions = zip(*(event.traffic for event in stats), strict=True)
    return Traffic(*(sum(each, Sums()) for each in directions))


def sum_of_tops(stats: Sequence[StatsUpdated]) -> Rows:
    """The rows of all intervals, by key."""
    return _added(row for event in stats for row in _rows(event.top))


def rows_of(top: Top) -> Rows:
    """The rows of one ``Top``, by key."""
    return _added(_rows(top))


def _rows(top: Top) -> Iterator[tuple[Key, tuple[int, ...]]]:
    for kind, rows in top._asdict().items():
        for row in rows:
            assert row.error == 0
            yield (kind, row.key), (
                row.packets_sent, row.bytes_sent, row.packets_received, row.bytes_received,
                row.flows,
            )  # fmt: skip


def _added(rows: Iterable[tuple[Key, tuple[int, ...]]]) -> Rows:
    found: Rows = {}
    for key, row in rows:
        found[key] = tuple(map(sum, zip(found.get(key, (0,) * 5), row, strict=True)))  # type: ignore[assignment]
    return found


# -- of the flows --


def flow_rows(events: Iterable[Event]) -> Rows:
    """The rows that the flows make which ended."""
    return _added(row for e in events if isinstance(e, FlowEnded) for row in _rows_of_flow(e.flow))


def _rows_of_flow(flow: Flow) -> Iterator[tuple[Key, tuple[int, ...]]]:
    orig = (flow.orig.packets, flow.orig.bytes)
    resp = (flow.resp.packets, flow.resp.bytes)
    both = tuple(map(sum, zip(orig, resp, strict=True)))
    for kind, (one, other) in _ends(flow):
        if one == other:
            yield (kind, one), (*both, *both, 1)
        else:
            yield (kind, one), (*orig, *resp, 1)
            yield (kind, other), (*resp, *orig, 1)
    service = flow.app.protocol if flow.app else f"{flow.key.proto_name} other"
    yield ("services", service if flow.key.proto else "other"), (*orig, *resp, 1)
    if flow.key.proto in _WITH_PORTS:
        port = f"{_WITH_PORTS[flow.key.proto]}/{flow.key.resp.port}"
        yield ("ports", port), (*orig, *resp, 1)
    name = (flow.app.name if flow.app else None) or flow.resp.name
    if name:
        yield ("names", name.lower()), (*orig, *resp, 1)


def _ends(flow: Flow) -> Iterator[tuple[str, tuple[str, str]]]:
    if flow.macs is not None:
        yield "devices", (flow.macs[0].hex(":"), flow.macs[1].hex(":"))
    if len(flow.key.orig.packed) != 6:
        ends = (flow.key.orig, flow.key.resp)
        yield "hosts", (ends[0].text, ends[1].text)
        yield "prefixes", (_prefix(ends[0].packed), _prefix(ends[1].packed))


def _prefix(packed: bytes) -> str:
    address = ipaddress.ip_address(packed)
    return str(ipaddress.ip_network((address, _PREFIX[address.version]), strict=False))


def flow_traffic(events: Iterable[Event], local: Sequence[str] = PRIVATE) -> Traffic:
    """The traffic that the flows make which ended."""
    networks = [ipaddress.ip_network(prefix) for prefix in local]

    def is_local(packed: bytes) -> bool:
        if len(packed) == 6:
            return False
        address = ipaddress.ip_address(packed)
        return any(address in network for network in networks)

    found = [Sums() for _ in Traffic._fields]
    place: Callable[[bool, bool], int] = lambda sender, receiver: (  # noqa: E731
        (2 if receiver else 1) if sender else (0 if receiver else 3)
    )
    for event in events:
        if isinstance(event, FlowEnded):
            flow = event.flow
            orig, resp = is_local(flow.key.orig.packed), is_local(flow.key.resp.packed)
            found[place(orig, resp)] += Sums(flow.orig.packets, flow.orig.bytes, 1)
            found[place(resp, orig)] += Sums(flow.resp.packets, flow.resp.bytes, 0)
    return Traffic(*found)
