"""The Python owner of the C reader: the one file that calls ``nr_reader_*``."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, cast

from netring_bpf._core import ffi, lib
from netring_bpf.errors import ClosedError, SyscallError, limits_explained
from netring_bpf.events.batch import EventBatch
from netring_bpf.events.event import Packet
from netring_bpf.events.layout import TUNNELS, Layout, mask_of
from netring_bpf.filter.interpreter import native_program
from netring_bpf.fork import close_in_child, held_off
from netring_bpf.remedies import install_anywhere
from netring_bpf.ring.books import capture_statistics
from netring_bpf.ring.flow_options import DEFAULT_MAX_FLOWS, FlowKey, FlowOptions
from netring_bpf.ring.names import AddressNames
from netring_bpf.ring.options import BusyPoll, TpacketOptions, XdpOptions
from netring_bpf.statistics import CaptureStatistics, QueueStatistics

if TYPE_CHECKING:
    from netring_bpf.filter.filter import Filter
    from netring_bpf.filter.libpcap import Instruction

__all__ = [
    "ASKS",
    "AS_IS",
    "FRAMES",
    "MAX_SOURCES",
    "NO_CRYPTO",
    "PCAP",
    "PCAPNG",
    "Blocks",
    "Copied",
    "FileInterface",
    "Growth",
    "Reader",
    "SharedSums",
    "Span",
    "first_time",
]

ASKS = int(lib.NR_READER_ASKS)  #: what ``Reader.run()`` returns for want of a filter
MAX_SOURCES = int(lib.NR_MAX_SOURCES)  #: of one reader
NO_CRYPTO = (
    "libcrypto is missing: flows of QUIC have no names, and TLS has no JA4; install OpenSSL "
    f'({install_anywhere("libcrypto")}), or choose names="service"'
)
# The forms in which Reader.copy() gives the records of a capture file; api.h describes them.
AS_IS, PCAPNG = int(lib.NR_COPY_AS_IS), int(lib.NR_COPY_PCAPNG)
PCAP, FRAMES = int(lib.NR_COPY_PCAP), int(lib.NR_COPY_FRAMES)

_KEYS = {
    FlowKey.FIVE_TUPLE: lib.NR_KEY_FIVE_TUPLE,
    FlowKey.HOST_PAIR: lib.NR_KEY_HOST_PAIR,
    FlowKey.MAC_PAIR: lib.NR_KEY_MAC_PAIR,
}
_NAMES = {
    "all": lib.NR_NAMES_ALL,
    "service": lib.NR_NAMES_SERVICE,
    "off": lib.NR_NAMES_OFF,
}
_TUNNELS = {kind: number for number, kind in TUNNELS.items()}
_PROBLEMS = {
    lib.NR_FILE_TRUNCATED: "the file ends inside of a record: it was cut, or is still written",
    lib.NR_FILE_NO_CAPTURE: "this is neither pcap nor pcapng",
    lib.NR_FILE_BAD_VERSION: "a version of the format that is not known",
    lib.NR_FILE_BAD_LENGTH: "a record whose length makes no sense",
    lib.NR_FILE_BAD_BLOCK: "a block that contradicts itself",
    lib.NR_FILE_BAD_INTERFACE: "a packet of an interface that was not described",
    lib.NR_FILE_TOO_MANY_INTERFACES: "more than 65536 interfaces",
    lib.NR_FILE_EMPTY: "it is empty, without one byte",
}
_NS = 1_000_000_000
_RECORDS_ROOM = 1 << 20  # for the application records of the events that are taken at once
_PACKET_BATCH = 64
_PACKET_BUFFER = _PACKET_BATCH * 65_576  # PACKET_ROOM and BLOCK_ROOM of raw_packets.c


class Blocks(NamedTuple):
    """Enhanced packet blocks of pcapng.

    ``frames``: their number; ``first``, ``last``: timestamps of the first and the last, in
    nanoseconds since the epoch.
    """

    data: bytes
    frames: int
    first: int
    last: int


class Growth(NamedTuple):
    """How a flow table grows: from so many ``flows``, up to so many bytes of ``memory``."""

    flows: int
    memory: int


class Copied(NamedTuple):
    """Records of a capture file, and what is known of it after them.

    ``linktype``, ``other_linktype``: the link type of all frames in the form ``PCAP``, and that of
    a frame which has another; None if there is none. ``open``: bytes of a record that is not
    complete yet, with those that were given before; ``open_frame``: it has one of the frames.
    ``asks``: as ``ASKS`` of ``run()``.
    """

    data: bytes
    frames: int
    ended: bool
    is_pcap: bool
    is_pcapng: bool
    linktype: int | None
    other_linktype: int | None
    open: int
    open_frame: bool
    asks: bool


class FileInterface(NamedTuple):
    """An interface of a capture file. ``has_ns``: the times of a pcap file are nanoseconds."""

    linktype: int
    snaplen: int
    has_ns: bool


class Span(NamedTuple):
    """When an interval began and ended, in nanoseconds since the Unix epoch."""

    start: int
    end: int


class SharedSums(Protocol):
    """The sums of a capture's flows, which its readers share: ``nr_aggregate`` of ``api.h``."""

    @property
    def native(self) -> Any:
        """The aggregate as C has it; a reader keeps this object alive."""


class Reader:
    """Owns the rings, the flow table and the hand-off: ``nr_reader`` of ``api.h``.

    One thread calls ``run()``, ``packets()`` or ``blocks()``; any may call ``stop()`` and
    ``statistics()``.

    ``first_id``, ``id_step``: of the flows' ids; ``id_by_frame`` adds a hash of the first frame.
    ``growth``: how a table without a cap grows; it does not if this is None. ``names``: a table of
    names that the reader shares with others; by default it has its own. ``sums``: what counts the
    flows by interval; nothing does if this is None.
    """

    def __init__(
        self,
        options: FlowOptions,
        *,
        first_id: int = 1,
        id_step: int = 1,
        id_by_frame: bool = False,
        growth: Growth | None = None,
        names: AddressNames | None = None,
        sums: SharedSums | None = None,
    ) -> None:
        self.first_id = first_id
        self._sums = sums
        self.names: AddressNames = names or AddressNames()
        # A cap that is asked for is kept to.
        grows = growth if options.max_flows is None else None
        flows = grows.flows if grows else options.max_flows or DEFAULT_MAX_FLOWS
        native = ffi.new(
            "nr_flow_options *",
            {
                "half_open_ns": int(options.half_open * _NS),
                "idle_tcp_ns": int(options.idle_tcp * _NS),
                "idle_udp_ns": int(options.idle_udp * _NS),
                "idle_icmp_ns": int(options.idle_icmp * _NS),
                "idle_other_ns": int(options.idle_other * _NS),
                "close_delay_ns": int(options.close_delay * _NS),
                "active_ns": int((options.active_timeout or 0) * _NS),
                "update_ns": int((options.update_interval or 0) * _NS),
                "fragment_ns": int(options.fragment_timeout * _NS),
                "fragment_slots": options.max_fragmented,
                "max_flows": flows,
                "event_slots": options.event_slots,
                "first_packets": options.first_packets,
                "packet_statistics": options.packet_statistics,
                "one_sided": options.one_sided,
                "reassembled": options.reassembled,
                "ignore_server_ports": not options.server_ports,
                "kinds": mask_of(options.events),
                "port_timeout_count": len(options.port_timeouts),
                "port_timeouts": [
                    {"idle_ns": int(t.timeout * _NS), "port": t.port, "proto": t.number}
                    for t in options.port_timeouts
                ],
                "decode": {
                    "tunnel_depth": options.tunnel_depth,
                    "tunnel_port_count": len(options.tunnel_ports),
                    "tunnel_ports": [
                        {"port": t.port, "kind": _TUNNELS[t.kind]} for t in options.tunnel_ports
                    ],
                    "key": _KEYS[options.key],
                    "key_vlan": options.key_vlan,
                    "directional": options.directional,
                    "verify_checksums": options.verify_checksums,
                    "trust_sliced": options.sliced == "trust",
                },
                "hash_key": os.urandom(16),
                "first_id": first_id,
                "id_step": id_step,
                "id_by_frame": id_by_frame,
                "grow_bytes": grows.memory if grows else 0,
                "names": _NAMES[options.names],
                "names_bytes": options.names_memory,
                "address_names": self.names.native,
                "aggregate": ffi.NULL if sums is None else sums.native,
            },
        )
        what = f"make a flow table of {flows} flows"
        self._reader = None
        close_in_child(self)
        with limits_explained(what):
            with held_off():
                self._reader = lib.nr_reader_create(native)
                failure = ffi.errno
            if self._reader == ffi.NULL:
                self._reader = None
                raise SyscallError(what, failure)
            try:
                self._layout = Layout(
                    lib.nr_reader_event_size(self._reader),
                    options.packet_statistics,
                    options.first_packets,
                )
                self._take_limit = min(options.event_slots, 4096)
                self._events_size = self._take_limit * self._layout.size + _RECORDS_ROOM
                self._events = ffi.new("uint64_t[]", self._events_size // 8)
                self._used = ffi.new("uint32_t *")
            except BaseException:
                self.close()
                raise
        self._keep: list[Any] = []
        self._programs: dict[int, tuple[Filter, Any, Any]] = {}  # of files, by the id of a filter
        self._block_buffer: Any = None
        self._copy: Any = None
        self._sources = 0
        self.descriptors: list[int] = []  #: of the sources, to poll

    # -- sources; SyscallError has the kernel's errno --

    def add_xsk(self, ifindex: int, queue: int, options: XdpOptions, *, snaplen: int) -> int:
        """Open an AF_XDP socket bound to ``queue``; returns its descriptor.

        ``options`` must have ``ring_size``, ``chunk_size`` and ``chunks``.
        """
        native = ffi.new(
            "nr_xsk_options *",
            {
                "ifindex": ifindex,
                "queue": queue,
                "ring_size": options.ring_size,
                "chunk_size": options.chunk_size,
                "chunks": options.chunks,
                "snaplen": snaplen,
                "huge_pages": options.huge_pages,
            },
        )
        with held_off():
            rc = lib.nr_reader_add_xsk(self._open(), native)
        return self._added(rc, "open an AF_XDP socket")

    def set_busy_poll(self, options: BusyPoll) -> None:
        """Before ``run()``: set up busy polling of the AF_XDP socket added last.

        Raises ``SyscallError``.
        """
        error = -lib.nr_reader_set_busy_poll(
            self._open(), self._sources - 1, options.microseconds, options.budget
        )
        if error:
            raise SyscallError("set busy polling", error)

    def add_tpacket(
        self,
        ifindex: int,
        program: Sequence[Instruction] | int,
        options: TpacketOptions,
        *,
        ignore_outgoing: bool,
    ) -> int:
        """Open a TPACKET_V3 ring on the interface; returns its descriptor.

        ``program``: the filter, as classic BPF or as the descriptor of an eBPF program.
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
        with held_off():
            rc = lib.nr_reader_add_tpacket(self._open(), native)
        return self._added(rc, "open a TPACKET_V3 ring")

    def set_filter(self, program: Sequence[Instruction] | int) -> None:
        """Swap the filter of every TPACKET_V3 socket while it runs. Raises ``SyscallError``."""
        if isinstance(program, int):
            error = -lib.nr_reader_set_filter_program(self._open(), program)
        else:
            native = ffi.new("nr_bpf_insn[]", [tuple(i) for i in program])
            error = -lib.nr_reader_set_filter(self._open(), native, len(program))
        if error:
            raise SyscallError("swap the filter of a TPACKET_V3 socket", error)

    def set_snaplen(self, snaplen: int) -> None:
        """From now on, give out at most ``snaplen`` bytes of a frame from AF_XDP sockets."""
        lib.nr_reader_set_snaplen(self._open(), snaplen)

    def add_replay(self, records: bytes) -> None:
        """Read frames from memory, in the format that ``api.h`` describes."""
        buffer = ffi.from_buffer(records)
        self._keep.append(buffer)
        rc = lib.nr_reader_add_replay(self._open(), buffer, len(records))
        self._added(rc, "open a replay")

    def add_savefile(self, descriptor: int, *, replaces: int | None = None) -> int:
        """Read frames from a capture file; the caller keeps the descriptor and closes it.

        ``replaces``: the number of a file that was read to its end, which this one takes over.
        Returns the file's number. Not while the reader runs.
        """
        if replaces is None:
            rc = lib.nr_reader_add_savefile(self._open(), descriptor)
            self._added(rc, "open a capture file")
        else:
            rc = lib.nr_reader_replace_savefile(self._open(), replaces, descriptor)
            if rc < 0:
                raise SyscallError("open a capture file", -rc)
        return int(rc)

    def read_until(self, ts: int | None) -> None:
        """Read all files as one, in the order of time, up to the frames of ``ts``; None: all.

        ``run()`` then returns; it can be called again. Not while the reader runs.
        """
        error = -lib.nr_reader_read_until(self._open(), 2**64 - 1 if ts is None else ts)
        if error:
            raise SyscallError("read several capture files", error)

    def is_read(self, source: int) -> bool:
        """Whether this capture file was read to its end. Not while the reader runs."""
        return bool(lib.nr_reader_source_is_read(self._open(), source))

    def ask_filters(self, source: int = 0) -> None:
        """Before ``run()``: read only matching frames of a capture file.

        ``run()`` then returns ``ASKS`` at a frame whose link type has no filter yet.
        """
        if error := -lib.nr_reader_ask_filters(self._open(), source):
            raise SyscallError("filter a capture file", error)

    def ask_links(self, source: int = 0) -> None:
        """Before ``run()``: have it return ``ASKS`` as well at link types that are not read."""
        if error := -lib.nr_reader_ask_links(self._open(), source):
            raise SyscallError("read a capture file", error)

    def asks_unread(self, source: int) -> bool:
        """After ``run()`` returned ``ASKS``: whether this file's link type is not read."""
        return bool(lib.nr_reader_asks_unread(self._open(), source))

    def asked_filter(self) -> tuple[int, int, bool]:
        """After ``run()`` returned ``ASKS``: return the file and link type that want a filter.

        And whether they have a quick one, and want an exact one.
        """
        linktype, exact = ffi.new("uint32_t *"), ffi.new("uint32_t *")
        source = lib.nr_reader_asking(self._open(), linktype, exact)
        return int(source), int(linktype[0]), bool(exact[0])

    def filter_savefile(
        self, source: int, linktype: int, filter: Filter | None, *, quick: bool = False
    ) -> None:
        """Set the filter of one link type of a file; None lets none of its frames through.

        Not while ``run()`` runs. ``quick``: it errs on frames that were cut at an address; at the
        first of them ``run()`` asks for an exact one. Raises ``SyscallError``.
        """
        native = ffi.NULL
        if filter is not None:
            if id(filter) not in self._programs:  # several files may have the same
                made = native_program(filter.instructions, filter.sets)
                self._programs[id(filter)] = filter, *made
            native = self._programs[id(filter)][1]
        error = -lib.nr_reader_filter_savefile(self._open(), source, linktype, native, quick)
        if error:
            raise SyscallError("filter a capture file", error)

    def savefile_offset(self, source: int = 0) -> int:
        """Return the bytes read of a capture file so far. From any thread."""
        return int(lib.nr_reader_savefile_offset(self._open(), source))

    def savefile_problem(self, source: int = 0) -> tuple[str, int] | None:
        """After ``run()``: return the defect of a capture file and its offset, or None."""
        state = ffi.new("nr_savefile_state *")
        lib.nr_reader_savefile_state(self._open(), source, state)
        if state.problem == lib.NR_FILE_FINE:
            return None
        if state.problem == lib.NR_FILE_UNREADABLE:
            return os.strerror(state.error), state.offset
        return _PROBLEMS[state.problem], state.offset

    def set_live(self, source: int) -> None:
        """Let time go on by the clock while this pipe brings nothing. Not while ``run()`` runs."""
        lib.nr_reader_set_live(self._open(), source)

    def file_interface(self, number: int) -> FileInterface | None:
        """Return an interface that the capture file has described by now, None if it has not."""
        told = ffi.new("nr_interface_description *")
        if lib.nr_reader_describe_interface(self._open(), self._sources - 1, number, told):
            return None
        return FileInterface(told.linktype, told.snaplen, bool(told.has_ns))

    def _added(self, index: int, call: str) -> int:
        if index < 0:
            raise SyscallError(call, -index)
        self._sources += 1
        self.descriptors.append(int(lib.nr_reader_source_fd(self._reader, index)))
        return self.descriptors[-1]

    @property
    def zero_copy(self) -> bool:
        """Whether every AF_XDP socket shares its memory with the driver."""
        return self._sources > 0 and all(
            lib.nr_reader_source_zero_copy(self._open(), i) for i in range(self._sources)
        )

    @property
    def huge_pages(self) -> bool:
        """Whether the UMEM of every AF_XDP socket is of huge pages."""
        return self._sources > 0 and all(
            lib.nr_reader_source_huge_pages(self._open(), i) for i in range(self._sources)
        )

    @property
    def napi_ids(self) -> tuple[int, ...]:
        """The NAPI instance of each AF_XDP socket's latest frame; 0 if none or unknown."""
        return tuple(
            int(lib.nr_reader_source_napi_id(self._open(), i)) for i in range(self._sources)
        )

    def make_fanout(self) -> int:
        """Make a fanout group of the TPACKET_V3 socket, for others to join; returns its id."""
        group = int(lib.nr_reader_make_fanout(self._open(), self._sources - 1))
        if group < 0:
            raise SyscallError("make a fanout group of TPACKET_V3 sockets", -group)
        return group

    def join_fanout(self, group: int) -> None:
        """Share the frames of a fanout group from now on. Raises ``SyscallError``."""
        error = -lib.nr_reader_join_fanout(self._open(), self._sources - 1, group)
        if error:
            raise SyscallError("join a fanout group of TPACKET_V3 sockets", error)

    # -- the loop --

    def run(self) -> int:
        """Read until ``stop()`` or the end of a replay; returns 0, or a negated errno.

        Blocks, without the GIL. ``-ENODEV``: the interface is gone. ``ASKS``: a capture file has a
        link type without a filter; set one, and call this again.
        """
        return int(lib.nr_reader_run(self._open()))

    def stop(self) -> None:
        """Make ``run()``, ``packets()`` or ``blocks()`` return soon. From any thread."""
        error = lib.nr_reader_stop(self._open())
        if error:
            raise SyscallError("stop the reader", -error)

    def flush(self) -> int:
        """After ``run()``: end live flows, as far as there is room for their events.

        Returns the number of live flows left: take the events, then call again.
        """
        return int(lib.nr_reader_flush(self._open()))

    def discard(self) -> None:
        """After ``run()``: count the events that are left as lost, as nobody will take them."""
        lib.nr_reader_discard(self._open())

    def finish(self, limit: int, *, lend: bool = False) -> Iterator[EventBatch]:
        """After ``run()``: end the live flows and yield all events that are left.

        An empty batch stands where ``take_interval()`` has one. ``lend``: take them by ``lend()``.
        """
        left = self.flush()
        while True:
            batch = self.lend(limit) if lend else self.take(limit)
            if not batch and not self.awaits_interval:
                return
            yield batch  # an empty one, where an interval comes first
            if not batch:
                self.take_interval()  # unless the caller has
            if left:
                left = self.flush()

    # -- intervals of the sums --

    @property
    def awaits_interval(self) -> bool:
        """Whether an interval of a file has to be taken before more events come."""
        return bool(lib.nr_reader_awaits_interval(self._open()))

    def take_interval(self) -> Span | None:
        """Add an interval that is over to the sums, and return when it was; None: there is none.

        An interval of a file comes after the events before its end. For the taker of the events.
        """
        span = ffi.new("nr_interval_span *")
        if not lib.nr_reader_take_interval(self._open(), span):
            return None
        return Span(span.start, span.end)

    def take_last_interval(self) -> Span:
        """After ``finish()``: add all that was counted and is not in the sums yet."""
        span = ffi.new("nr_interval_span *")
        lib.nr_reader_take_last_interval(self._open(), span)
        return Span(span.start, span.end)

    # -- events and packets --

    @property
    def lacks_crypto(self) -> bool:
        """Whether names are read, and the library is missing that opens QUIC and makes JA4."""
        return bool(lib.nr_reader_lacks_crypto(self._open()))

    def fileno(self) -> int:
        """Return the eventfd that is readable when events wait."""
        return int(lib.nr_reader_event_fd(self._open()))

    def take(self, limit: int) -> EventBatch:
        """Take up to ``limit`` events, in order. Never blocks."""
        count = self._take(limit)
        raw = bytes(ffi.buffer(self._events, self._used[0]))
        return EventBatch(raw, self._layout, count)

    def lend(self, limit: int) -> EventBatch:
        """As ``take()``, without a copy: the next ``take()`` or ``lend()`` overwrites the events.

        They can be encoded as text, and not be decoded: their bytes are no ``bytes``.
        """
        if self._layout.statistics or self._layout.first_packets:
            return self.take(limit)  # JSON of these parts is made of decoded events
        count = self._take(limit)
        raw = cast("bytes", ffi.buffer(self._events, self._used[0]))
        return EventBatch(raw, self._layout, count)

    def _take(self, limit: int) -> int:
        count: int = lib.nr_reader_take(
            self._open(),
            self._events,
            min(limit, self._take_limit),
            self._events_size,
            self._used,
        )
        return count

    def packets(self, limit: int, timeout: float) -> list[Packet]:
        """Copy up to ``limit`` frames out, waiting up to ``timeout`` seconds for the first.

        Empty after the timeout, ``stop()`` or a signal: its handler runs when this returns. Raises
        ``SyscallError``.
        """
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
            return self._nothing(count)
        return [
            Packet(p.ts, bytes(ffi.buffer(buffer + p.offset, p.caplen)), p.len)
            for p in packets[0:count]
        ]

    @staticmethod
    def _nothing(rc: int) -> list[Packet]:
        if rc != -errno.EINTR:
            raise SyscallError("read packets", -rc)
        return []

    def flow_time(self) -> int:
        """Return the time that flows have now, in nanoseconds since the Unix epoch."""
        return int(lib.nr_reader_flow_time(self._open()))

    def quiesce(self) -> None:
        """Take in no new frames; ``packets()`` and ``blocks()`` give those in the rings."""
        lib.nr_reader_quiesce(self._open())

    def blocks(self, limit: int, timeout: float) -> Blocks | None:
        """Copy up to ``limit`` frames out as pcapng blocks; waits as ``packets()``.

        None after the timeout, ``stop()`` or a signal. Raises ``SyscallError``.
        """
        if self._block_buffer is None:
            self._block_buffer = ffi.new("uint8_t[]", _PACKET_BUFFER), ffi.new("nr_block_span *")
        buffer, span = self._block_buffer
        count = lib.nr_reader_blocks(
            self._open(), buffer, _PACKET_BUFFER, limit, span, round(timeout * 1000)
        )
        if count < 0:
            self._nothing(count)
        if count <= 0:
            return None
        data = bytes(ffi.buffer(buffer, span.size))
        return Blocks(data, count, span.first_ts, span.last_ts)

    def copy(self, form: int, limit: int, timeout: float) -> Copied:
        """Copy records of the capture file with up to ``limit`` frames; waits as ``packets()``.

        ``form``: ``AS_IS``, ``PCAPNG``, ``PCAP`` or ``FRAMES``. With a limit of 0 it reads until it
        knows the file's format. Raises ``SyscallError``.
        """
        if self._copy is None:
            buffer = ffi.new("uint8_t[]", 2 * lib.NR_COPY_ROOM)
            none = lib.NR_COPY_NO_LINKTYPE
            fields = {"out": buffer, "size": len(buffer), "linktype": none, "other_linktype": none}
            self._copy = ffi.new("nr_file_copy *", fields), buffer
        copy, buffer = self._copy
        copy.form, copy.max = form, limit
        rc = lib.nr_reader_copy(self._open(), self._sources - 1, copy, round(timeout * 1000))
        if rc < 0 and rc != -errno.EAGAIN:
            self._nothing(rc)
        return Copied(
            bytes(ffi.buffer(buffer, copy.used)),
            copy.frames,
            bool(copy.ended),
            bool(copy.is_pcap),
            bool(copy.is_pcapng),
            None if copy.linktype == lib.NR_COPY_NO_LINKTYPE else int(copy.linktype),
            None if copy.other_linktype == lib.NR_COPY_NO_LINKTYPE else int(copy.other_linktype),
            int(copy.open),
            bool(copy.open_frame),
            rc == -errno.EAGAIN,
        )

    def books(self) -> Any:
        """Return the reader's counters: an ``nr_statistics``."""
        books = ffi.new("nr_statistics *")
        lib.nr_reader_statistics(self._open(), books)
        return books

    def statistics(
        self,
        backend: str,
        attach: str | None,
        queues: tuple[QueueStatistics, ...],
        matches: Mapping[str, int],
    ) -> CaptureStatistics:
        """Return the reader's books, with the other arguments as fields."""
        return capture_statistics(self.books(), backend, attach, queues, matches)

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
            self._keep = []
            self._programs = {}

    def abandon(self) -> None:
        """In a forked child: free its copy, and leave the parent's rings alone."""
        if self._reader is not None:
            reader, self._reader = self._reader, None
            lib.nr_reader_abandon(reader)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def first_time(descriptor: int) -> int | None:
    """Return the time of a capture file's first frame, whose beginning this reads.

    None if no frame can be read. Waits for the data of a pipe.
    """
    found = ffi.new("uint64_t *")
    rc = lib.nr_first_time(descriptor, found)
    if rc < 0:
        raise SyscallError("open a capture file", -rc)
    return int(found[0]) if rc else None
