"""Filters: the language of tcpdump (pcap-filter(7)) as a value, compiled by libpcap.

libpcap makes classic BPF. TPACKET_V3 runs it as it is, ``bpf/cbpf.py`` translates it for XDP,
``ring/bpf/interpreter.c`` runs it on bytes. docs/filters.md tells which bytes of a frame it sees.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self, cast

from netring_bpf.errors import FilterError, OptionError
from netring_bpf.filter.host_lists import find_lists
from netring_bpf.filter.libpcap import (
    DLT_EN10MB,
    NETMASK_UNKNOWN,
    Instruction,
    compile_for_file,
    image,
)
from netring_bpf.filter.live_program import live_program
from netring_bpf.filter.set_program import compile_with_sets, sets_of, show
from netring_bpf.filter.words import FilterWords

if TYPE_CHECKING:
    from netring_bpf.filter.address_set import AddressSet
    from netring_bpf.filter.interpreter import Verdict

__all__ = ["Filter", "Instruction"]

_MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS: the kernel takes no more in a socket filter
_MAX_SNAPLEN = 262_144  # MAXIMUM_SNAPLEN of libpcap
_RET_K = 0x06
_CLASS, _JMP, _JA = 0x07, 0x05, 0x05
_STORES, _SCRATCH_LOADS = {0x02, 0x03}, {0x60, 0x61}


class Filter(FilterWords):
    """A compiled filter expression. Immutable, hashable, picklable.

    The empty expression matches every frame. ``linktype``: the DLT_* number of the frames'
    link layer, 1 for Ethernet. ``snaplen``: a capture takes so many bytes of a frame, at most.
    ``netmask``: of the captured IPv4 network, which only ``ip broadcast`` needs.

    Filters can also be made from values and combined: ``Filter.tcp & Filter.dst_port(443) |
    ~Filter.net("10.0.0.0/8")``. Their first use compiles them.

    Two filters are equal if they are the same program, however it was written. Raises
    ``FilterError`` with libpcap's message and, if it can be known, the position that the message
    is about; ``OptionError``; ``LibpcapMissingError``.
    """

    __slots__ = (
        "_expression", "_instructions", "_linktype", "_live", "_netmask", "_sets", "_snaplen",
        "_verdict",
    )  # fmt: skip

    def __init__(
        self,
        expression: str,
        *,
        linktype: int = DLT_EN10MB,
        snaplen: int = 65_535,
        netmask: str | None = None,
    ) -> None:
        _check_snaplen(snaplen)
        mask = NETMASK_UNKNOWN if netmask is None else _netmask(netmask)
        self._set(expression, linktype, snaplen, mask)
        self.compile()  # a wrong expression raises here, not at its first use

    @classmethod
    def deferred(cls, expression: str) -> Self:
        """Return the filter of an expression that its first use compiles, and finds wrong."""
        return cls._of(expression)

    @classmethod
    def _of(cls, expression: str, *sets: AddressSet) -> Self:
        made = cls.__new__(cls)
        made._set(expression, DLT_EN10MB, 65_535, NETMASK_UNKNOWN, sets)
        return made

    def _set(
        self,
        expression: str,
        linktype: int,
        snaplen: int,
        netmask: int,
        sets: Iterable[AddressSet] = (),
        live: bool = False,
        instructions: tuple[Instruction, ...] | None = None,
    ) -> None:
        self._expression = expression
        self._sets = sets_of(expression, {one.name: one for one in sets})
        self._linktype = linktype
        self._snaplen = snaplen
        self._netmask = netmask
        self._live = live
        self._instructions = instructions
        self._verdict: Verdict | None = None

    # -- properties --

    @property
    def expression(self) -> str:
        """The expression, as given or as rendered from values."""
        return self._expression

    @property
    def linktype(self) -> int:
        """The DLT_* number of the frames' link layer."""
        return self._linktype

    @property
    def snaplen(self) -> int:
        """The bytes of a matching frame that a capture takes, at most."""
        return self._snaplen

    @property
    def is_live(self) -> bool:
        """Whether it sees frames as a live capture does: see ``for_interface``."""
        return self._live

    @property
    def instructions(self) -> tuple[Instruction, ...]:
        """The program, in classic BPF; with ``sets``, also in instructions of our own."""
        if self._instructions is None:
            self._instructions = self._within_bounds(self._compile(optimize=True))
        return self._instructions

    def _compile(self, *, optimize: bool) -> tuple[Instruction, ...]:
        if not self._expression.strip():
            return (Instruction(_RET_K, 0, 0, self._snaplen),)
        options = self._linktype, self._snaplen, self._netmask
        if not self._sets:
            return compile_for_file(self._expression, *options, optimize=optimize)
        return compile_with_sets(
            lambda text: compile_for_file(text, *options, optimize=False),
            self._expression,
            self._sets,
        )

    @property
    def sets(self) -> tuple[AddressSet, ...]:
        """The sets that ``hosts()``, ``nets()`` and the like made, as the program numbers them."""
        return self._sets

    def _within_bounds(self, program: tuple[Instruction, ...]) -> tuple[Instruction, ...]:
        if len(program) > _MAX_INSTRUCTIONS:
            raise FilterError(
                f"filter {self._expression!r}: compiles to {len(program)} instructions, the "
                f"kernel takes {_MAX_INSTRUCTIONS}; name fewer hosts, nets or ports",
                expression=self._expression,
            )
        if _reads_unset_scratch(program):
            raise FilterError(
                f"filter {self._expression!r}: libpcap compiles it to a program that reads memory "
                "it has not set; its verdict is chance, and the kernel refuses it; join what "
                "follows 'geneve' or 'vxlan' to it by 'and', or put it before",
                expression=self._expression,
            )
        return program

    @property
    def matches_all(self) -> bool:
        """Whether every frame matches, so that no filter has to run."""
        code, _, _, k = self.instructions[0]
        return code == _RET_K and k != 0

    @property
    def has_loop(self) -> bool:
        """Whether it jumps backwards, as ``protochain`` does. The kernel refuses such filters."""
        return any(i.code == _JA and i.k > 0x7FFF_FFFF for i in self.instructions)

    def explain(self) -> str:
        """Return the program as a listing, a line per instruction, as ``tcpdump -d`` prints it."""
        lines = image(self.instructions).split("\n")
        for at, instruction in enumerate(self.instructions):
            lines[at] = show(at, instruction, self._sets) or lines[at]
        return "\n".join(lines)

    def compile(self) -> None:
        """Compile it now, if it was not yet. Raises ``FilterError``."""
        _ = self.instructions

    def check(self) -> None:
        """Raise ``FilterError`` if the expression is wrong; quicker than to compile it."""
        if self._instructions is None:
            self._compile(optimize=False)

    def for_linktype(self, linktype: int) -> Self:
        """Return the same filter for frames of another link type; its first use compiles it."""
        if linktype == self._linktype:
            return self
        made = type(self).__new__(type(self))
        made._set(self._expression, linktype, self._snaplen, self._netmask, self._sets)
        return made

    def with_snaplen(self, snaplen: int) -> Self:
        """Return the same filter with another snaplen; its first use compiles it.

        Raises ``OptionError``.
        """
        _check_snaplen(snaplen)
        made = type(self).__new__(type(self))
        made._set(self._expression, self._linktype, snaplen, self._netmask, self._sets)
        return made

    def with_lists_as_sets(self) -> Self | None:
        """Return the same filter with sets in the place of long lists of hosts and nets.

        None if it has no long list. It compiles and runs many times as fast, and errs only on
        frames that were cut at an address: see ``host_lists.py``.
        """
        found = find_lists(self._expression)
        if found is None:
            return None
        expression, sets = found
        made = type(self).__new__(type(self))
        made._set(expression, self._linktype, self._snaplen, self._netmask, (*self._sets, *sets))
        return made

    def for_interface(self, interface: str) -> Self:
        """Return the same filter as tcpdump compiles it for live traffic of ``interface``.

        Such a filter sees a frame without its outermost VLAN tag, as the kernel has taken it out
        by then. Plain expressions therefore match tagged frames; ``vlan`` looks at the tag beside
        the frame. An expression with ``vlan`` that is not in the cache needs CAP_NET_RAW. Raises
        ``FilterError`` also if the filter is not for Ethernet, and ``UnavailableError``.
        """
        if self._linktype != DLT_EN10MB:
            raise FilterError(
                f"filter {self._expression!r}: is for link type {self._linktype}, but captured "
                "frames are Ethernet",
                expression=self._expression,
            )
        program = self.instructions
        # libpcap compiles all other expressions alike for files and for live handles.
        if "vlan" in self._expression and not self._live:
            options = interface, self._snaplen, self._netmask, program
            if self._sets:
                program = compile_with_sets(
                    lambda text: live_program(text, *options, optimize=False),
                    self._expression,
                    self._sets,
                )
            else:
                program = live_program(self._expression, *options)
            program = self._within_bounds(program)
        live = type(self).__new__(type(self))
        live._set(
            self._expression, self._linktype, self._snaplen, self._netmask, self._sets, True,
            program,
        )  # fmt: skip
        return live

    # -- verdicts --

    def matches(
        self, frame: bytes | bytearray | memoryview, wire_length: int | None = None
    ) -> bool:
        """Whether ``frame``, the captured bytes, matches.

        ``wire_length``: the frame's length on the wire, if less was captured.
        """
        return self.run(frame, wire_length) != 0

    def run(self, frame: bytes | bytearray | memoryview, wire_length: int | None = None) -> int:
        """Return how many bytes of ``frame`` a capture would take; 0: it does not match."""
        if wire_length is None:
            wire_length = len(frame)
        elif not len(frame) <= wire_length <= 0xFFFF_FFFF:
            raise OptionError(
                f"wire_length={wire_length!r}: must be at least the {len(frame)} bytes captured",
                option="wire_length",
            )
        if self._verdict is None:
            from netring_bpf.filter.interpreter import Verdict  # noqa: PLC0415 - needs the C core

            self._verdict = Verdict(self.instructions, self._sets, live=self._live)
        return self._verdict.run(frame, wire_length)

    # -- combining --

    def __and__(self, other: object) -> Self:
        """Match the frames that both match."""
        return self._joined("and", other)

    def __or__(self, other: object) -> Self:
        """Match the frames that either matches."""
        return self._joined("or", other)

    def __invert__(self) -> Self:
        """Match the frames that this does not. Raises ``OptionError`` if this matches all."""
        if not self._expression.strip():
            raise OptionError("~Filter(''): no frame would match", option="expression")
        return self._like(f"not ({self._expression})", self._snaplen, self._sets)

    def _joined(self, word: str, other: object) -> Self:
        if not isinstance(other, type(self)):
            return cast("Self", NotImplemented)
        if (self._linktype, self._netmask) != (other._linktype, other._netmask):
            raise OptionError(
                "filters of different link types or netmasks cannot be combined", option="linktype"
            )
        snaplen = max(self._snaplen, other._snaplen)
        sets = (*self._sets, *other._sets)
        both = [f._expression for f in (self, other) if f._expression.strip()]
        if len(both) == 2:
            # Both in parentheses, as `and` and `or` bind alike in this language.
            return self._like(f"({both[0]}) {word} ({both[1]})", snaplen, sets)
        return self._like("".join(both) if word == "and" else "", snaplen, sets)

    def _like(self, expression: str, snaplen: int, sets: Iterable[AddressSet]) -> Self:
        made = type(self).__new__(type(self))
        made._set(expression, self._linktype, snaplen, self._netmask, sets)
        return made

    # -- as a value --

    def __eq__(self, other: object) -> bool:
        """Whether both are the same program and see frames in the same way."""
        if not isinstance(other, Filter):
            return NotImplemented
        return self._program() == other._program()

    def __hash__(self) -> int:
        """Hash the program."""
        return hash(self._program())

    def _program(self) -> tuple[object, ...]:
        return self._linktype, self._live, self.instructions, self._sets

    def __repr__(self) -> str:
        """Return the call that makes it, with ``live`` added if it is a live one."""
        live = ", live" if self._live else ""
        return f"Filter({self._expression!r}, snaplen={self._snaplen}{live})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with the program, so that reading it back needs no libpcap."""
        state = (
            self._expression,
            self._linktype,
            self._snaplen,
            self._netmask,
            self._sets,
            self._live,
            tuple(map(tuple, self.instructions)),
        )
        return _restore, (type(self), state)


def _reads_unset_scratch(program: tuple[Instruction, ...]) -> bool:
    """Return what check_load_and_stores() of the kernel (net/core/filter.c) finds.

    libpcap sets the scratch memory of `geneve` only if that matched, and may read it elsewhere.
    """
    everywhere = (1 << 16) - 1
    set_on_arrival = [everywhere] * len(program)
    is_set = 0
    for at, (code, jt, jf, k) in enumerate(program):
        is_set &= set_on_arrival[at]
        if code in _STORES:
            is_set |= 1 << k
        elif code in _SCRATCH_LOADS and not is_set >> k & 1:
            return True
        elif code & _CLASS == _JMP:
            # A jump back leads to an instruction before which no less was set.
            targets = (at + 1 + jt, at + 1 + jf) if code != _JA else (at + 1 + k,)
            for target in targets:
                if target < len(program):
                    set_on_arrival[target] &= is_set
            is_set = everywhere
    return False


def _restore(cls: type[Filter], state: tuple[Any, ...]) -> Filter:
    expression, linktype, snaplen, netmask, sets, live, instructions = state
    program = tuple(Instruction(*i) for i in instructions)
    made = cls.__new__(cls)
    made._set(expression, linktype, snaplen, netmask, sets, live, program)
    return made


def _check_snaplen(snaplen: int) -> None:
    if not 1 <= snaplen <= _MAX_SNAPLEN:
        raise OptionError(
            f"snaplen={snaplen!r}: must be from 1 to {_MAX_SNAPLEN} bytes", option="snaplen"
        )


def _netmask(text: str) -> int:
    try:
        mask = ipaddress.IPv4Address(text)
    except ValueError as error:
        raise OptionError(f"netmask={text!r}: {error}", option="netmask") from None
    return int(mask)
