"""The Python owner of the C reader: the only file that knows how C and Python meet."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self, overload

from netring_bpf._core import ffi, lib
from netring_bpf.errors import ClosedError, SyscallError
from netring_bpf.libpcap import Instruction
from netring_bpf.records import (
    Counters,
    Endpoint,
    FiveTuple,
    Flow,
    FlowEnd,
    FlowEnded,
    FlowEstablished,
    FlowEvent,
    FlowStarted,
    FlowUpdated,
    Packet,
)
from netring_bpf.ring.options import FlowOptions, TpacketOptions, XdpOptions
from netring_bpf.statistics import CaptureStatistics, FlowStatistics, QueueStatistics

__all__ = ["EventBatch", "Reader"]

_EVENT = struct.Struct("=8Q16s16s5H4B2x16s")  # nr_event of api.h
_KINDS: dict[int, type[FlowStarted | FlowEstablished | FlowUpdated]] = {
    lib.NR_EVENT_STARTED: FlowStarted,
    lib.NR_EVENT_ESTABLISHED: FlowEstablished,
    lib.NR_EVENT_UPDATED: FlowUpdated,
}
_ENDS = {
    lib.NR_END_FIN: FlowEnd.FIN,
    lib.NR_END_RST: FlowEnd.RST,
    lib.NR_END_IDLE: FlowEnd.IDLE,
    lib.NR_END_EVICTED: FlowEnd.EVICTED,
    lib.NR_END_SHUTDOWN: FlowEnd.SHUTDOWN,
}
_REASONS = {
    lib.NR_CUT_LINK: "cut_link",
    lib.NR_NOT_IP: "not_ip",
    lib.NR_TOO_MANY_TAGS: "too_many_tags",
    lib.NR_CUT_NETWORK: "cut_network",
    lib.NR_BAD_NETWORK: "bad_network",
    lib.NR_FRAGMENT: "fragment",
    lib.NR_TOO_MANY_EXT: "too_many_extensions",
    lib.NR_CUT_TRANSPORT: "cut_transport",
    lib.NR_BAD_TRANSPORT: "bad_transport",
}
_NS = 1_000_000_000
_PACKET_BATCH = 64
_PACKET_BUFFER = _PACKET_BATCH * 65_544


class EventBatch(Sequence[FlowEvent]):
    """Flow events as they crossed from C; each is decoded when first looked at.

    Shared by reference between all subscribers, and so are the decoded events.
    """

    __slots__ = ("_decoded", "_raw")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._decoded: list[FlowEvent | None] = [None] * (len(raw) // _EVENT.size)

    def __len__(self) -> int:
        return len(self._decoded)

    @overload
    def __getitem__(self, index: int) -> FlowEvent: ...
    @overload
    def __getitem__(self, index: slice) -> list[FlowEvent]: ...
    def __getitem__(self, index: int | slice) -> FlowEvent | list[FlowEvent]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        event = self._decoded[index]
        if event is None:
            at = index if index >= 0 else index + len(self)
            event = self._decoded[at] = _decode(self._raw, at)
        return event

    def __iter__(self) -> Iterator[FlowEvent]:
        return (self[i] for i in range(len(self)))


def _decode(raw: bytes, index: int) -> FlowEvent:
    (
        ts,
        flow_id,
        start,
        last,
        orig_packets,
        orig_bytes,
        resp_packets,
        resp_bytes,
        orig_h,
        resp_h,
        orig_p,
        resp_p,
        outer,
        inner,
        icmp_id,
        family,
        proto,
        kind,
        end,
        history,
    ) = _EVENT.unpack_from(raw, index * _EVENT.size)
    size = 4 if family == 4 else 16
    flow = Flow(
        id=flow_id,
        key=FiveTuple(
            proto=proto,
            orig=Endpoint(orig_h[:size], orig_p),
            resp=Endpoint(resp_h[:size], resp_p),
            vlans=tuple(vlan for vlan in (outer, inner) if vlan != lib.NR_NO_VLAN),
            icmp_id=icmp_id,
        ),
        start=start,
        last=last,
        orig=Counters(orig_packets, orig_bytes),
        resp=Counters(resp_packets, resp_bytes),
        history=history.rstrip(b"\0").decode("ascii"),
    )
    if kind == lib.NR_EVENT_ENDED:
        return FlowEnded(ts, flow, _ENDS[end])
    return _KINDS[kind](ts, flow)


class Reader:
    """Owns the rings, the flow table and the hand-off: ``nr_reader`` of ``api.h``.

    ``run()`` or ``packets()`` from one thread; ``stop()`` and ``statistics()`` from any.
    """

    def __init__(self, options: FlowOptions) -> None:
        native = ffi.new(
            "nr_flow_options *",
            {
                "idle_tcp_ns": int(options.idle_tcp * _NS),
                "idle_udp_ns": int(options.idle_udp * _NS),
                "idle_other_ns": int(options.idle_other * _NS),
                "close_delay_ns": int(options.close_delay * _NS),
                "update_ns": int((options.update_interval or 0) * _NS),
                "max_flows": options.max_flows,
                "event_slots": options.event_slots,
                "hash_key": os.urandom(16),
            },
        )
        self._reader = lib.nr_reader_create(native)
        if self._reader == ffi.NULL:
            raise MemoryError(f"a flow table of {options.max_flows} flows")
        self._events = ffi.new("nr_event[]", min(options.event_slots, 4096))
        self._keep: list[Any] = []
        self._sources = 0

    # -- sources: each returns its descriptor, or raises OSError with the kernel's errno --

    def add_xsk(self, ifindex: int, queue: int, options: XdpOptions, *, snaplen: int) -> int:
        """Open an AF_XDP socket bound to ``queue``; returns its descriptor."""
        native = ffi.new(
            "nr_xsk_options *",
            {
                "ifindex": ifindex,
                "queue": queue,
                "ring_size": options.ring_size,
                "chunk_size": options.chunk_size,
                "chunks": options.chunks,
                "snaplen": snaplen,
            },
        )
        return self._added(lib.nr_reader_add_xsk(self._open(), native), "open an AF_XDP socket")

    def add_tpacket(
        self,
        ifindex: int,
        program: Sequence[Instruction] | int,
        options: TpacketOptions,
        *,
        ignore_outgoing: bool,
    ) -> int:
        """Open a TPACKET_V3 ring on the interface; returns its descriptor.

        ``program``: the filter, in classic BPF, or the descriptor of one of eBPF.
        """
        classic = () if isinstance(program, int) else program
        instructions = ffi.new("nr_bpf_insn[]", [tuple(i) for i in classic])
        native = ffi.new(
            "nr_tpacket_options *",
            {
                "ifindex": ifindex,
                "block_size": options.block_size,
                "block_count": options.block_count,
                "retire_ms": max(1, round(options.retire_timeout * 1000)),
                "ignore_outgoing": ignore_outgoing,
                "program_fd": program if isinstance(program, int) else -1,
                "insn_count": len(classic),
                "insns": instructions,
            },
        )
        rc = lib.nr_reader_add_tpacket(self._open(), native)
        return self._added(rc, "open a TPACKET_V3 ring")

    def set_filter(self, program: Sequence[Instruction] | int) -> None:
        """Give every TPACKET_V3 socket another filter, while it runs. Raises ``SyscallError``."""
        if isinstance(program, int):
            error = -lib.nr_reader_set_filter_program(self._open(), program)
        else:
            native = ffi.new("nr_bpf_insn[]", [tuple(i) for i in program])
            error = -lib.nr_reader_set_filter(self._open(), native, len(program))
        if error:
            raise SyscallError("swap the filter of a TPACKET_V3 socket", error)

    def set_snaplen(self, snaplen: int) -> None:
        """From now on, give out so many bytes of a frame from AF_XDP sockets."""
        lib.nr_reader_set_snaplen(self._open(), snaplen)

    def add_replay(self, records: bytes) -> None:
        """Read frames from memory, in the format ``api.h`` gives."""
        buffer = ffi.from_buffer(records)
        self._keep.append(buffer)
        rc = lib.nr_reader_add_replay(self._open(), buffer, len(records))
        self._added(rc, "open a replay")

    def _added(self, index: int, call: str) -> int:
        if index < 0:
            raise SyscallError(call, -index)
        self._sources += 1
        return int(lib.nr_reader_source_fd(self._reader, index))

    @property
    def zero_copy(self) -> bool:
        """Whether every AF_XDP socket shares its memory with the driver."""
        return self._sources > 0 and all(
            lib.nr_reader_source_zero_copy(self._open(), i) for i in range(self._sources)
        )

    # -- the loop --

    def run(self) -> int:
        """Block until ``stop()``, or until a replay is read: 0; else an errno, negated.

        Releases the GIL. ``-ENODEV``: the interface is gone.
        """
        return int(lib.nr_reader_run(self._open()))

    def stop(self) -> None:
        """Make ``run()`` or ``packets()`` return soon. From any thread."""
        error = lib.nr_reader_stop(self._open())
        if error:
            raise SyscallError("stop the reader", -error)

    def flush(self) -> int:
        """After ``run()``: end live flows as far as there is room for their events.

        Returns how many are left: take the events, and call again.
        """
        return int(lib.nr_reader_flush(self._open()))

    # -- what comes out --

    def fileno(self) -> int:
        """Return the eventfd that is readable when events wait."""
        return int(lib.nr_reader_event_fd(self._open()))

    def take(self, limit: int) -> EventBatch:
        """Take up to ``limit`` events, in order. Never blocks."""
        count = lib.nr_reader_take(self._open(), self._events, min(limit, len(self._events)))
        return EventBatch(bytes(ffi.buffer(self._events, count * _EVENT.size)))

    def packets(self, limit: int, timeout: float) -> list[Packet]:
        """Copy up to ``limit`` frames out, waiting ``timeout`` seconds for the first."""
        if not self._keep or not isinstance(self._keep[-1], tuple):
            buffers = (ffi.new("uint8_t[]", _PACKET_BUFFER), ffi.new("nr_packet[]", _PACKET_BATCH))
            self._keep.append(buffers)
        buffer, packets = self._keep[-1]
        count = lib.nr_reader_packets(
            self._open(),
            buffer,
            _PACKET_BUFFER,
            packets,
            min(limit, _PACKET_BATCH),
            round(timeout * 1000),
        )
        if count < 0:
            raise SyscallError("read packets", -count)
        return [
            Packet(p.ts, bytes(ffi.buffer(buffer + p.offset, p.caplen)), p.len)
            for p in packets[0:count]
        ]

    def statistics(
        self,
        backend: str,
        attach: str | None,
        queues: tuple[QueueStatistics, ...],
        matches: Mapping[str, int],
    ) -> CaptureStatistics:
        """Return the reader's books, with what others know of the capture put in."""
        s = ffi.new("nr_statistics *")
        lib.nr_reader_statistics(self._open(), s)
        flows = FlowStatistics(
            started=s.flows_started,
            established=s.flows_established,
            ended={end.value: s.flows_ended[i] for i, end in _ENDS.items()},
            live=s.flows_live,
            peak=s.flows_peak,
            ended_packets=s.ended_packets,
            ended_bytes=s.ended_bytes,
            live_packets=s.live_packets,
            live_bytes=s.live_bytes,
        )
        return CaptureStatistics(
            backend=backend,
            attach=attach,
            queues=queues,
            matches=matches,
            rx_dropped=s.xsk_rx_dropped,
            rx_ring_full=s.xsk_rx_ring_full,
            fill_ring_empty=s.xsk_fill_ring_empty,
            tp_packets=s.tp_packets,
            tp_drops=s.tp_drops,
            in_ring=s.in_ring,
            received=s.received,
            received_bytes=s.received_bytes,
            keyed=s.keyed,
            keyed_bytes=s.keyed_bytes,
            not_keyed={name: s.not_keyed[i] for i, name in _REASONS.items()},
            handed_out=s.handed_out,
            flows=flows,
            events_produced=s.events_produced,
            events_taken=s.events_taken,
            events_lost=s.events_lost,
            link_errors=s.link_errors,
        )

    # -- life --

    def _open(self) -> Any:
        if self._reader is None:
            raise ClosedError("use of a reader that is closed")
        return self._reader

    def close(self) -> None:
        """Free the rings and the table. Idempotent; not while ``run()`` runs."""
        if self._reader is not None:
            reader, self._reader = self._reader, None
            lib.nr_reader_destroy(reader)
            self._keep.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
