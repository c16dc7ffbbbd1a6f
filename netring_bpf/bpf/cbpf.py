"""Translates classic BPF to restricted C, for XDP and for an eBPF socket filter.

Only integers of the compiled program reach the C text, never a user's characters. Of a set of
addresses it depends on which maps it needs, and not on what it has.

The meaning is that of the kernel's socket filter (Documentation/networking/filter.rst): a load
outside the frame rejects it, and so does a division by zero; packet words are big-endian. A live
filter sees the frame without its outermost VLAN tag, as the kernel's ``skb_vlan_untag`` leaves
it: offsets from 12 on skip the tag, ``len`` does not count it, and the tag is auxiliary data. Any
other filter sees the bytes as they are. Bytes beyond ``MAX_OFFSET`` count as outside, a bound the
verifier needs.

In XDP a load is a comparison and an access. The verifier refuses that to a process without
CAP_PERFMON if the offset is computed (``tcp port 80`` on IPv4, whose header's length varies); the
macro NETRING_LOAD_BY_HELPER makes such a load a ``bpf_xdp_load_bytes``. A socket filter loads
everything by ``bpf_skb_load_bytes``.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from netring_bpf.errors import FilterError
from netring_bpf.filter.address_set import AddressSet
from netring_bpf.filter.filter import Filter, Instruction
from netring_bpf.filter.filter_set import MAX_NAMES, FilterSet
from netring_bpf.filter.set_program import IN4, IN6, IN6_X, OFFSET, SET_AT

__all__ = ["MAX_OFFSET", "SET_MAPS", "Hook", "set_map", "to_c"]

MAX_OFFSET = 0x7FFF
SET_MAPS = ("hosts", "nets")  #: a hash map of addresses, and an LPM trie of networks


class Hook(enum.Enum):
    """The place in the kernel where a program runs; the value is its BPF_PROG_TYPE_*."""

    SOCKET = 1
    XDP = 6


# linux/bpf_common.h and linux/filter.h
_LD, _LDX, _ST, _STX, _ALU, _JMP, _RET, _MISC = range(8)
_SIZES = {0x00: 4, 0x08: 2, 0x10: 1}
_IMM, _ABS, _IND, _MEM, _LEN, _MSH = 0x00, 0x20, 0x40, 0x60, 0x80, 0xA0
_ALU_PLAIN = {0x00: "+", 0x10: "-", 0x20: "*", 0x40: "|", 0x50: "&", 0xA0: "^"}
_ALU_DIVIDE = {0x30: "/", 0x90: "%"}
_ALU_SHIFT = {0x60: "<<", 0x70: ">>"}
_NEG = 0x80
_JA = 0x00
_JUMPS = {0x10: "A == {}", 0x20: "A > {}", 0x30: "A >= {}", 0x40: "(A & {}) != 0"}
_BACKWARD = 0x8000_0000
_TAG_AT = 12  # the offset of the outermost VLAN tag, which has four bytes

# Negative offsets (linux/filter.h) address the link header, the network header, and the kernel's
# auxiliary data of a packet. The columns below are the name, then the C of XDP and of a socket.
_NEGATIVE = 0x8000_0000
_SKF_LL_OFF, _SKF_NET_OFF, _SKF_AD_OFF = 0xFFE0_0000, 0xFFF0_0000, 0xFFFF_F000
_ETHERNET = 14
_AUXILIARY = {
    0: ("SKF_AD_PROTOCOL", "netring_protocol(&v)", "bpf_ntohs(ctx->protocol)"),
    4: ("SKF_AD_PKTTYPE", "netring_pkttype(&v)", "ctx->pkt_type"),
    8: ("SKF_AD_IFINDEX", "ctx->ingress_ifindex", "ctx->ifindex"),
    12: ("SKF_AD_NLATTR", None, None),
    16: ("SKF_AD_NLATTR_NEST", None, None),
    20: ("SKF_AD_MARK", "0", "ctx->mark"),  # XDP runs before anything could mark it
    24: ("SKF_AD_QUEUE", None, "ctx->queue_mapping"),
    28: ("SKF_AD_HATYPE", "1", "1"),  # ARPHRD_ETHER
    32: ("SKF_AD_RXHASH", None, "ctx->hash"),
    36: ("SKF_AD_CPU", "bpf_get_smp_processor_id()", "bpf_get_smp_processor_id()"),
    40: ("SKF_AD_ALU_XOR_X", "A ^ X", "A ^ X"),
    44: ("SKF_AD_VLAN_TAG", "v.tci", "ctx->vlan_tci"),
    48: ("SKF_AD_VLAN_TAG_PRESENT", "v.tag / 4", "ctx->vlan_present"),
    52: ("SKF_AD_PAY_OFFSET", None, None),
    56: ("SKF_AD_RANDOM", "bpf_get_prandom_u32()", "bpf_get_prandom_u32()"),
    60: ("SKF_AD_VLAN_TPID", "v.tpid", "bpf_ntohs(ctx->vlan_proto)"),
}

_AT_BY_HELPER = """\
static __always_inline int netring_at(struct netring_view *v, u64 place, u32 size, u32 *value) {
    u8 byte;
    u16 half;
    u32 word;
    switch (size) {
    case 4:
        if (NETRING_BYTES(v->ctx, place, &word, 4)) {
            return 0;
        }
        *value = bpf_ntohl(word);
        return 1;
    case 2:
        if (NETRING_BYTES(v->ctx, place, &half, 2)) {
            return 0;
        }
        *value = bpf_ntohs(half);
        return 1;
    default:
        if (NETRING_BYTES(v->ctx, place, &byte, 1)) {
            return 0;
        }
        *value = byte;
        return 1;
    }
}
"""
_VIEW = {
    Hook.XDP: """\
#define NETRING_CTX struct xdp_md
struct netring_view {
    struct xdp_md *ctx;
    u8 *data; /* the frame */
    u8 *body; /* data, moved on by the length of the outermost VLAN tag */
    u8 *end;
    u32 tag; /* that length: 4, or 0 if there is no tag or the filter sees it in place */
    u32 tpid;
    u32 tci;
};

/* Loads 1, 2 or 4 bytes at a computed place of the frame; returns 0 if they are outside. */
#ifdef NETRING_LOAD_BY_HELPER
#define NETRING_LEN ((u32)bpf_xdp_get_buff_len(ctx) - v.tag)
#define NETRING_BYTES bpf_xdp_load_bytes
%(by_helper)s#else
#define NETRING_LEN ((u32)(v.end - v.data) - v.tag)
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
""",
    Hook.SOCKET: """\
#define NETRING_CTX struct __sk_buff
#define NETRING_LEN ctx->len
#define NETRING_BYTES bpf_skb_load_bytes
struct netring_view {
    struct __sk_buff *ctx;
    u32 tag; /* always 0: the kernel has taken the tag out */
};

/* Loads 1, 2 or 4 bytes at a place of the frame; returns 0 if they are outside. */
%(by_helper)s""",
}
_LOADS = """
/* As netring_at(), at an offset that does not count the tag. */
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
"""
_XDP_AUXILIARY = """
/* Returns skb->protocol, as eth_type_trans() would set it. */
static __always_inline u32 netring_protocol(struct netring_view *v) {
    u16 type;
    if (v->body + 16 > v->end) {
        return 0;
    }
    type = bpf_ntohs(*(u16 *)(v->body + 12));
    return type >= 0x600 ? type : *(u16 *)(v->body + 14) == 0xffff ? 1 : 4;
}

/* Returns skb->pkt_type: all unicast counts as this host's, and no frame as outgoing. */
static __always_inline u32 netring_pkttype(struct netring_view *v) {
    if (v->data + 14 > v->end || !(v->data[0] & 1)) {
        return 0;
    }
    return *(u32 *)v->data == 0xffffffff && *(u16 *)(v->data + 4) == 0xffff ? 1 : 2;
}
"""
_XDP_START = """\
    struct netring_view v = {.ctx = ctx};
    u32 A = 0, X = 0;
    v.data = (u8 *)(long)ctx->data;
    v.end = (u8 *)(long)ctx->data_end;
    v.body = v.data;
"""
_TAKE_TAG_OUT = """\
    if (v.data + 18 <= v.end) {
        u16 type = bpf_ntohs(*(u16 *)(v.data + 12));
        if (type == 0x8100 || type == 0x88a8) {
            v.tag = 4;
            v.tpid = type;
            v.tci = bpf_ntohs(*(u16 *)(v.data + 14));
            v.body = v.data + 4;
        }
    }
"""
_SOCKET_START = """\
    struct netring_view v = {.ctx = ctx};
    u32 A = 0, X = 0;
"""
# The maps of user space have the size of the set; the program does not depend on it.
_KEYS = """
struct netring_address6 {
    u32 words[4];
};
struct netring_key4 {
    u32 length;
    u32 address;
};
struct netring_key6 {
    u32 length;
    struct netring_address6 address;
};

/* Loads the 16 bytes at a computed offset that does not count the tag; returns 0 if they are
 * outside. */
"""
_LOAD16 = {
    Hook.XDP: """\
static __always_inline int netring_load16(struct netring_view *v, u64 offset,
                                          struct netring_address6 *to) {
    u64 place = offset + v->tag;
    if (offset < 12 || offset > %(max)d - 24) {
        return 0;
    }
#ifdef NETRING_LOAD_BY_HELPER
    return !bpf_xdp_load_bytes(v->ctx, place, to, 16);
#else
    u8 *at;
    asm volatile("" : "+r"(place));
    if (place > %(max)d) {
        return 0;
    }
    at = v->data + place;
    if (at + 16 > v->end) {
        return 0;
    }
    *to = *(struct netring_address6 *)at;
    return 1;
#endif
}
""",
    Hook.SOCKET: """\
static __always_inline int netring_load16(struct netring_view *v, u64 offset,
                                          struct netring_address6 *to) {
    return offset <= %(max)d - 16 && !bpf_skb_load_bytes(v->ctx, offset, to, 16);
}
""",
}
_HASH = {4: "BPF_HASH(%s, u32, u8, 1);\n", 6: "BPF_HASH(%s, struct netring_address6, u8, 1);\n"}
_TRIE = {
    4: "BPF_LPM_TRIE(%s, struct netring_key4, u8, 1);\n",
    6: "BPF_LPM_TRIE(%s, struct netring_key6, u8, 1);\n",
}
_LOOKUP = """\
static __always_inline int netring_set%(number)d_v%(version)d(struct netring_key%(version)d *key) {
%(body)s}
"""
_COUNT = """
BPF_PERCPU_ARRAY(matches, u64, %(names)d);
static __always_inline void netring_count(u32 slot) {
    u64 *count = matches.lookup(&slot);
    if (count) {
        (*count)++;
    }
}
"""


def to_c(filters: FilterSet, hook: Hook = Hook.XDP, slots: Sequence[int] = ()) -> str:
    """Return the C text of ``netring_filter``; empty for XDP if the filter matches everything.

    ``slots``: the slot of each named filter in the map ``matches``, which counts its matches.
    Raises ``FilterError`` for an instruction that has no meaning at ``hook``.
    """
    if filters.matches_all and hook is Hook.XDP:
        return ""
    text = "#define NETRING_FILTER 1\n" + _VIEW[hook] + _LOADS
    if hook is Hook.XDP:
        text += _XDP_AUXILIARY
    text %= {"max": MAX_OFFSET, "by_helper": _AT_BY_HELPER}
    if filters.sets:
        text += _KEYS + _LOAD16[hook] % {"max": MAX_OFFSET}
        text += "".join(_set(number, one) for number, one in enumerate(filters.sets))
    numbers = {one: number for number, one in enumerate(filters.sets)}
    for number, one in enumerate(filters.filters):
        sets = [numbers[each] for each in one.sets]
        text += _function(f"netring_filter_{number}", _Translation(one, hook, sets).lines())
    calls = ["    u32 any = 0;"]
    if filters.names:
        text += _COUNT % {"names": 2 * MAX_NAMES}
        for number, slot in enumerate(slots):
            calls.append(f"    if (netring_filter_{number}(ctx)) {{")
            calls.append(f"        netring_count({slot:d});")
            calls.append("        any = 1;\n    }")
    else:
        calls.append("    any = netring_filter_0(ctx);")
    return text + _function("netring_filter", [*calls, "    return any;"])


def _set(number: int, one: AddressSet) -> str:
    """Return the maps of a set, and the functions that look an address up in them."""
    text = ""
    for version in (4, 6):
        body = ""
        for kind, keys in zip(SET_MAPS, one.keys(version), strict=True):
            if keys:
                name = set_map(number, kind, version)
                text += (_HASH if kind == "hosts" else _TRIE)[version] % name
                what = "&key->address" if kind == "hosts" else "key"
                body += f"    if ({name}.lookup({what})) {{\n        return 1;\n    }}\n"
        text += _LOOKUP % {"number": number, "version": version, "body": body + "    return 0;\n"}
    return text


def set_map(number: int, kind: str, version: int) -> str:
    """Return the name of a map of a set. ``kind``: one of ``SET_MAPS``."""
    return f"set{number}_{kind}{version}"


def _function(name: str, lines: Sequence[str]) -> str:
    head = f"\nstatic __always_inline int {name}(NETRING_CTX *ctx) {{\n"
    return head + "\n".join(lines) + "\n}\n"


class _Translation:
    """Translates one program: a statement an instruction, a label a jump target."""

    def __init__(self, program: Filter, hook: Hook, sets: Sequence[int]) -> None:
        self._sets = sets
        self._expression = program.expression
        self._instructions = program.instructions
        self._hook = hook
        self._live = program.is_live

    def lines(self) -> list[str]:
        start = _XDP_START if self._hook is Hook.XDP else _SOCKET_START
        if self._hook is Hook.XDP and self._live:
            start += _TAKE_TAG_OUT
        targets = self._targets()
        memory = sorted(
            {i.k for i in self._instructions if i.code & 7 in {_ST, _STX} or _is_memory_load(i)}
        )
        if any(slot > 15 for slot in memory):
            raise self._refuse("scratch memory beyond slot 15")
        lines = [start.rstrip("\n"), *(f"    u32 M{slot} = 0;" for slot in memory)]
        codes = {i.code for i in self._instructions}
        if IN4 in codes:
            lines.append("    struct netring_key4 key4 = {.length = 32};")
        if codes & {IN6, IN6_X}:
            lines.append("    struct netring_key6 key6 = {.length = 128};")
        for at, instruction in enumerate(self._instructions):
            label = f"L{at}: " if at in targets else ""
            lines.append(f"    {label}{self._statement(at, instruction)}")
        return lines

    def _targets(self) -> set[int]:
        targets = set()
        for at, i in enumerate(self._instructions):
            if i.code & 7 == _JMP:
                if i.code & 0xF0 == _JA:
                    if i.k >= _BACKWARD:
                        raise self._refuse("it jumps backwards (a protocol chain)")
                    targets.add(at + 1 + i.k)
                else:
                    targets |= {at + 1 + i.jt, at + 1 + i.jf}
        if any(target >= len(self._instructions) for target in targets):
            raise self._refuse("a jump out of the program")
        return targets

    def _refuse(self, what: str) -> FilterError:
        return FilterError(
            f"filter {self._expression!r}: cannot run in the kernel: {what}; capture more, and "
            "ask Filter.matches() for each packet",
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
            return "A = NETRING_LEN;"
        if size is None or mode not in {_ABS, _IND}:
            raise self._refuse(f"instruction {i.code:#04x}")
        if mode == _IND:
            return f"if (!netring_load(&v, (u64)X + {i.k}u, {size}, &A)) return 0;"
        if i.k >= _NEGATIVE:
            return self._negative(i.k, size)
        return self._absolute(i.k, size)

    def _negative(self, k: int, size: int) -> str:
        if not self._live:
            return "return 0;"  # only the bytes are known
        if k >= _SKF_AD_OFF:
            name, *meanings = _AUXILIARY.get(k - _SKF_AD_OFF, (f"offset {k:#x}", None, None))
            meaning = meanings[0] if self._hook is Hook.XDP else meanings[1]
            if meaning is None:
                raise self._refuse(f"{name} is not known there")
            return f"A = {meaning};"
        if k >= _SKF_NET_OFF:
            return self._absolute(k - _SKF_NET_OFF + _ETHERNET, size)
        if k >= _SKF_LL_OFF:
            return self._absolute(k - _SKF_LL_OFF, size)
        return "return 0;"

    def _absolute(self, k: int, size: int) -> str:
        if self._hook is Hook.SOCKET:
            return f"if (!netring_load(&v, {k}u, {size}, &A)) return 0;"
        return _direct(k, size)

    def _load_x(self, i: Instruction) -> str:
        mode = i.code & 0xE0
        if mode == _IMM:
            return f"X = {i.k}u;"
        if mode == _MEM:
            return f"X = M{i.k};"
        if mode == _LEN:
            return "X = NETRING_LEN;"
        if mode != _MSH:
            raise self._refuse(f"instruction {i.code:#04x}")
        if i.k + 1 > MAX_OFFSET:
            return "return 0;"
        if self._hook is Hook.SOCKET:
            return f"if (!netring_load(&v, {i.k}u, 1, &X)) return 0; X = (X & 0xf) << 2;"
        base = "v.data" if i.k < _TAG_AT else "v.body"
        return f"if ({base} + {i.k + 1} > v.end) return 0; X = ({base}[{i.k}] & 0xf) << 2;"

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

    def _ask_set(self, at: int, i: Instruction) -> str:
        if i.code == IN4:
            load = "key4.address = bpf_htonl(A);"
            version, number = 4, i.k
        else:
            version, number, offset = 6, i.k >> SET_AT, i.k & OFFSET
            load = f"if (!netring_load16(&v, (u64)X + {offset}u, &key6.address)) return 0;"
            if i.code == IN6:
                load = self._direct16(offset)
        question = f"netring_set{self._sets[number]}_v{version}(&key{version})"
        return f"{load} if ({question}) goto L{at + 1 + i.jt}; else goto L{at + 1 + i.jf};"

    def _direct16(self, offset: int) -> str:
        if self._hook is Hook.SOCKET:
            return f"if (!netring_load16(&v, {offset}u, &key6.address)) return 0;"
        if not _TAG_AT <= offset <= MAX_OFFSET - 16:
            return "return 0;"
        return (
            f"if (v.body + {offset + 16} > v.end) return 0; "
            f"key6.address = *(struct netring_address6 *)(v.body + {offset});"
        )

    def _jump(self, at: int, i: Instruction) -> str:
        operation = i.code & 0xF0
        if i.code in {IN4, IN6, IN6_X}:
            return self._ask_set(at, i)
        if operation == _JA:
            return f"goto L{at + 1 + i.k};"
        if operation not in _JUMPS:
            raise self._refuse(f"instruction {i.code:#04x}")
        condition = _JUMPS[operation].format("X" if i.code & 0x08 else f"{i.k}u")
        return f"if ({condition}) goto L{at + 1 + i.jt}; else goto L{at + 1 + i.jf};"


def _is_memory_load(i: Instruction) -> bool:
    return i.code & 7 in {_LD, _LDX} and i.code & 0xE0 == _MEM


def _direct(k: int, size: int) -> str:
    """Return a load at a fixed offset: one check and one access, unless it spans the tag."""
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
