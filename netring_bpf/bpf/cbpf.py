"""Classic BPF → restricted C for XDP.

Only integers of the compiled program reach the C text, never a user's characters.

The meaning is that of the kernel's socket filter (Documentation/networking/filter.rst): a load
outside the frame rejects it, so does a division by zero; packet words are big-endian. The frame
is seen without its outermost VLAN tag, as a socket filter sees it (the kernel's
``skb_vlan_untag`` has run by then): offsets from 12 on skip the tag, and ``len`` does not
count it. Bytes beyond ``MAX_OFFSET`` count as outside, a bound the verifier needs.

A load at a fixed offset is a comparison and an access. One at a computed offset (``tcp port 80``
on IPv4: the header's length varies) is as well, but the verifier refuses that to a process
without CAP_PERFMON: with the macro NETRING_LOAD_BY_HELPER, ``bpf_xdp_load_bytes`` does it.
"""

from __future__ import annotations

from netring_bpf.errors import FilterError
from netring_bpf.filter import Filter, Instruction

__all__ = ["MAX_OFFSET", "to_c"]

MAX_OFFSET = 0x7FFF

# linux/bpf_common.h and linux/filter.h
_LD, _LDX, _ST, _STX, _ALU, _JMP, _RET, _MISC = range(8)
_SIZES = {0x00: 4, 0x08: 2, 0x10: 1}
_IMM, _ABS, _IND, _MEM, _LEN, _MSH = 0x00, 0x20, 0x40, 0x60, 0x80, 0xA0
_SKF_AREA = 0x8000_0000  # negative offsets: the kernel's own data about a packet
_ALU_PLAIN = {0x00: "+", 0x10: "-", 0x20: "*", 0x40: "|", 0x50: "&", 0xA0: "^"}
_ALU_DIVIDE = {0x30: "/", 0x90: "%"}
_ALU_SHIFT = {0x60: "<<", 0x70: ">>"}
_NEG = 0x80
_JA = 0x00
_JUMPS = {0x10: "A == {}", 0x20: "A > {}", 0x30: "A >= {}", 0x40: "(A & {}) != 0"}
_TAG_AT = 12  # the outermost tag, where there is one, is the four bytes from here on

_PRELUDE = """\
#define NETRING_FILTER 1
struct netring_view {
    struct xdp_md *ctx;
    u8 *data; /* the frame */
    u8 *body; /* the same, moved on by the length of the outermost VLAN tag */
    u8 *end;
    u32 tag; /* that length: 4, or 0 where there is none */
};

/* 1, 2 or 4 bytes at a computed place of the frame; 0 where they are outside of it. */
#ifdef NETRING_LOAD_BY_HELPER
static __always_inline int netring_at(struct netring_view *v, u64 place, u32 size, u32 *value) {
    u8 byte;
    u16 half;
    u32 word;
    switch (size) {
    case 4:
        if (bpf_xdp_load_bytes(v->ctx, place, &word, 4)) {
            return 0;
        }
        *value = bpf_ntohl(word);
        return 1;
    case 2:
        if (bpf_xdp_load_bytes(v->ctx, place, &half, 2)) {
            return 0;
        }
        *value = bpf_ntohs(half);
        return 1;
    default:
        if (bpf_xdp_load_bytes(v->ctx, place, &byte, 1)) {
            return 0;
        }
        *value = byte;
        return 1;
    }
}
#else
static __always_inline int netring_at(struct netring_view *v, u64 place, u32 size, u32 *value) {
    u8 *at;
    asm volatile("" : "+r"(place));
    if (place > %(max)d) {
        return 0;
    }
    at = v->data + place;
    if (at + size > v->end) {
        return 0;
    }
    *value = size == 4 ? bpf_ntohl(*(u32 *)at) : size == 2 ? bpf_ntohs(*(u16 *)at) : *at;
    return 1;
}
#endif

/* The same, at an offset that does not count the tag. */
static __always_inline int netring_load(struct netring_view *v, u64 offset, u32 size,
                                        u32 *value) {
    u32 part, i;
    if (offset > %(max)d - 8) {
        return 0;
    }
    if (offset >= 12) {
        return netring_at(v, offset + v->tag, size, value);
    }
    if (offset + size <= 12) {
        return netring_at(v, offset, size, value);
    }
    *value = 0;
    #pragma unroll
    for (i = 0; i < size; i++) {
        if (!netring_at(v, offset + i + (offset + i < 12 ? 0 : v->tag), 1, &part)) {
            return 0;
        }
        *value = *value << 8 | part;
    }
    return 1;
}

static __always_inline int netring_filter(struct xdp_md *ctx) {
    struct netring_view v = {.ctx = ctx, .tag = 0};
    u32 A = 0, X = 0;
    v.data = (u8 *)(long)ctx->data;
    v.end = (u8 *)(long)ctx->data_end;
    v.body = v.data;
    if (v.data + 18 <= v.end) {
        u16 type = bpf_ntohs(*(u16 *)(v.data + 12));
        if (type == 0x8100 || type == 0x88a8) {
            v.tag = 4;
            v.body = v.data + 4;
        }
    }
"""


def to_c(program: Filter) -> str:
    """Return the C text of ``netring_filter``; empty for a filter that matches everything.

    Raises ``FilterError`` for an instruction that has no meaning in XDP.
    """
    if program.matches_all:
        return ""
    lines = _Translation(program).lines()
    return _PRELUDE % {"max": MAX_OFFSET} + "\n".join(lines) + "\n}\n"


class _Translation:
    """One program on its way to C: a label for each jump target, a statement per instruction."""

    def __init__(self, program: Filter) -> None:
        self._expression = program.expression
        self._instructions = program.instructions

    def lines(self) -> list[str]:
        targets = self._targets()
        memory = sorted(
            {i.k for i in self._instructions if i.code & 7 in {_ST, _STX} or _is_memory_load(i)}
        )
        if any(slot > 15 for slot in memory):
            raise self._refuse("scratch memory beyond slot 15")
        lines = [f"    u32 M{slot} = 0;" for slot in memory]
        for at, instruction in enumerate(self._instructions):
            label = f"L{at}: " if at in targets else ""
            lines.append(f"    {label}{self._statement(at, instruction)}")
        return lines

    def _targets(self) -> set[int]:
        targets = set()
        for at, i in enumerate(self._instructions):
            if i.code & 7 == _JMP:
                if i.code & 0xF0 == _JA:
                    if i.k >= _SKF_AREA:
                        raise self._refuse("it jumps backwards (a protocol chain)")
                    targets.add(at + 1 + i.k)
                else:
                    targets |= {at + 1 + i.jt, at + 1 + i.jf}
        if any(target >= len(self._instructions) for target in targets):
            raise self._refuse("a jump out of the program")
        return targets

    def _refuse(self, what: str) -> FilterError:
        return FilterError(
            f"filter {self._expression!r}: cannot run in XDP: {what}; choose "
            "backend='tpacket_v3', where the kernel runs it as it is",
            expression=self._expression,
        )

    def _statement(self, at: int, i: Instruction) -> str:
        kind = i.code & 7
        if kind == _LD:
            return self._load_a(i)
        if kind == _LDX:
            return self._load_x(i)
        if kind in {_ST, _STX}:
            return f"M{i.k} = {'A' if kind == _ST else 'X'};"
        if kind == _ALU:
            return self._alu(i)
        if kind == _JMP:
            return self._jump(at, i)
        if kind == _RET:
            return "return A != 0;" if i.code & 0x18 == 0x10 else f"return {int(i.k != 0)};"
        return "A = X;" if i.code & 0x80 else "X = A;"

    def _load_a(self, i: Instruction) -> str:
        mode, size = i.code & 0xE0, _SIZES.get(i.code & 0x18)
        if mode == _IMM:
            return f"A = {i.k}u;"
        if mode == _MEM:
            return f"A = M{i.k};"
        if mode == _LEN:
            return "A = (u32)bpf_xdp_get_buff_len(ctx) - v.tag;"
        if size is None or mode not in {_ABS, _IND}:
            raise self._refuse(f"instruction {i.code:#04x}")
        if i.k >= _SKF_AREA:
            raise self._refuse("it asks for the kernel's own data about a packet")
        if mode == _IND:
            return f"if (!netring_load(&v, (u64)X + {i.k}u, {size}, &A)) return 0;"
        return _absolute(i.k, size)

    def _load_x(self, i: Instruction) -> str:
        match i.code & 0xE0:
            case 0x00:
                return f"X = {i.k}u;"
            case 0x60:
                return f"X = M{i.k};"
            case 0x80:
                return "X = (u32)bpf_xdp_get_buff_len(ctx) - v.tag;"
            case 0xA0 if i.k < _SKF_AREA:
                if i.k + 1 > MAX_OFFSET:
                    return "return 0;"
                base = "v.data" if i.k < _TAG_AT else "v.body"
                return f"if ({base} + {i.k + 1} > v.end) return 0; X = ({base}[{i.k}] & 0xf) << 2;"
            case _:
                raise self._refuse(f"instruction {i.code:#04x}")

    def _alu(self, i: Instruction) -> str:
        operation, operand = i.code & 0xF0, "X" if i.code & 0x08 else f"{i.k}u"
        if operation in _ALU_PLAIN:
            return f"A = A {_ALU_PLAIN[operation]} {operand};"
        if operation in _ALU_DIVIDE:
            sign = _ALU_DIVIDE[operation]
            return f"if ({operand} == 0) return 0; A = A {sign} {operand};"
        if operation in _ALU_SHIFT:
            return f"A = {operand} < 32 ? A {_ALU_SHIFT[operation]} ({operand} & 31) : 0;"
        if operation == _NEG:
            return "A = -A;"
        raise self._refuse(f"instruction {i.code:#04x}")

    def _jump(self, at: int, i: Instruction) -> str:
        operation = i.code & 0xF0
        if operation == _JA:
            return f"goto L{at + 1 + i.k};"
        if operation not in _JUMPS:
            raise self._refuse(f"instruction {i.code:#04x}")
        condition = _JUMPS[operation].format("X" if i.code & 0x08 else f"{i.k}u")
        return f"if ({condition}) goto L{at + 1 + i.jt}; else goto L{at + 1 + i.jf};"


def _is_memory_load(i: Instruction) -> bool:
    return i.code & 7 in {_LD, _LDX} and i.code & 0xE0 == _MEM


def _absolute(k: int, size: int) -> str:
    """A load at a fixed offset: one check, one access, but where it spans the tag's place."""
    if k + size > MAX_OFFSET:
        return "return 0;"
    if k < _TAG_AT < k + size:
        value = " | ".join(
            f"(u32)v.{'data' if k + i < _TAG_AT else 'body'}[{k + i}] << {8 * (size - 1 - i)}"
            for i in range(size)
        )
        return f"if (v.body + {k + size} > v.end) return 0; A = {value};"
    base = "v.data" if k < _TAG_AT else "v.body"
    access = {
        4: f"bpf_ntohl(*(u32 *)({base} + {k}))",
        2: f"bpf_ntohs(*(u16 *)({base} + {k}))",
        1: f"{base}[{k}]",
    }[size]
    return f"if ({base} + {k + size} > v.end) return 0; A = {access};"
