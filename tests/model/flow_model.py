"""The flow table and the TCP state, slowly and obviously: what the C core must agree with.

Bytes of a stream are a set, lists are lists, nothing is bounded and nothing is clever.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

SECOND = 1_000_000_000
HOUR, YEAR = 3600 * SECOND, 365 * 24 * 3600 * SECOND
SERVERS = {("tcp", 80), ("udp", 53)}  # of those the tests use
FAR = 1_048_576
UNACKED = 16_384
HALF_OPEN, CLOSING, TCP, UDP, ICMP = range(5)


@dataclass(frozen=True)
class Packet:
    """A packet as it is sent: ``src`` and ``dst`` are (address, port)."""

    proto: str
    src: tuple[str, int]
    dst: tuple[str, int]
    ts: int
    size: int
    ip_bytes: int
    payload: int
    flags: str = ""
    seq: int = 0
    ack: int = 0
    window: int = 1
    reply: bool = False


@dataclass(frozen=True)
class Moment:
    """A packet's time stamp, and the table's time and its lead when the packet comes."""

    ts: int
    now: int
    lead: int


def moments(stamps: list[int]) -> list[Moment]:
    """Follow the time stamps: one that the next two do not bear out moves no time."""
    told: list[Moment] = []
    now, lead, past = stamps[0] if stamps else 0, 0, None
    for k, stamp in enumerate(stamps):
        ts, later = stamp, stamps[k + 1 : k + 3]
        if k == 0:
            if len(later) == 2 and all(ts - other > HOUR for other in later):
                ts = now = later[0]
            told.append(Moment(ts, now, lead))
            continue
        ahead = ts + lead - now
        if past is not None and abs(ahead) > SECOND and abs(ts + past - now) <= abs(ahead) // 16:
            lead, past = past, lead
            ahead = ts + lead - now
        if abs(ahead) > SECOND:
            others = [other + lead - now for other in later]
            half = abs(ahead) // 2 * (1 if ahead > 0 else -1)
            borne_out = all(o >= half if ahead > 0 else o <= half for o in others)
            alone = not others and not 0 < ahead <= YEAR
            if not borne_out or alone:
                told.append(Moment(ts - ahead if abs(ahead) > HOUR else ts, now, lead))
                continue
            if ahead < 0:
                lead, past = lead - ahead, lead
        now = max(now, ts + lead)
        told.append(Moment(ts, now, lead))
    return told


@dataclass(frozen=True)
class Limits:
    """Timeouts in nanoseconds, by class; the cap."""

    idle: tuple[int, int, int, int, int]
    active: int | None
    max_flows: int


@dataclass
class Elsewhere:
    """A place of a stream far from where it is known to be."""

    first: int
    next: int
    in_time: bool
    found_at: tuple[int, int]
    found: int
    at: int = 0
    sent: int = 0
    sent_at: int = 0
    acked: int = 0
    acked_at: int = 0
    is_sent: bool = False
    is_acked: bool = False
    foreign: bool = False
    fin: bool = False
    bytes: int = 0
    run: int = 0
    ack: int = 0
    held: list[int] = field(default_factory=lambda: [0, 0])

    def is_near(self, number: int, most: int) -> bool:
        return distance(number, self.next) <= most and distance(self.first, number) <= FAR


def distance(a: int, b: int) -> int:
    """Return how far a sequence number is ahead of another."""
    ahead = (a - b) % 2**32
    return ahead - 2**32 if ahead >= 2**31 else ahead


@dataclass
class Side:
    """The packets and bytes that one side has sent."""

    packets: int = 0
    bytes: int = 0
    ip_bytes: int = 0
    payload: int = 0
    first: int = 0
    last: int = 0
    rtt: int = 0
    missing: int = 0
    retransmitted: int = 0
    out_of_order: int = 0
    gaps: int = 0
    zero_windows: int = 0
    flags: set[str] = field(default_factory=set)
    state: str = "inactive"
    previous: str = "inactive"
    start: int = 0
    end: int = 0  # one past the highest number sent
    acked: int = 0
    delivered: int = 1
    fin: int | None = None
    got: set[int] = field(default_factory=set)  # beyond `delivered`
    syn_seen: bool = False
    syn_ts: int | None = None
    syns: int = 0
    closed: bool = False
    given_up: bool = False
    first_seen: bool = False
    elsewhere: Elsewhere | None = None
    before: int = 0  # payload of the places that the stream has left
    implausible: int = 0
    left: int | None = None
    noted: set[str] = field(default_factory=set)
    latest: dict[str, int] = field(default_factory=dict)

    def begin(self, start: int) -> None:
        self.start = start % 2**32
        self.end = self.acked = 0
        self.delivered = 1
        self.got = set()
        self.given_up = False

    def place(self, number: int, near: int) -> int:
        distance = (number - (self.start + near)) % 2**32
        return near + (distance - 2**32 if distance >= 2**31 else distance)

    def set(self, state: str) -> None:
        if state != self.state:
            self.previous, self.state = self.state, state

    def size(self, peer: Side) -> int:
        if (
            (self.previous, self.state, peer.state) == ("syn_sent", "reset", "inactive")
            and self.acked > 1
        ):  # fmt: skip
            return self.before
        size = max(self.end, self.acked)
        size -= size > 0
        size -= size > 0 and self.fin is not None
        return max(size, 0) + self.before

    def is_far(self, at: int) -> bool:
        return at > max(self.end, self.acked) + FAR or at < -FAR


@dataclass
class Flow:
    """One flow; ``ends`` are the originator's and the responder's."""

    proto: str
    ends: list[tuple[str, int]]
    start: int
    sides: list[Side]
    kind: int = 0
    home: int = 0
    touched: int = 0
    history: str = ""
    partial: bool = False
    established: bool = False
    lead: int = 0
    returned: bool = False

    @property
    def packets(self) -> int:
        return sum(side.packets for side in self.sides)

    def flip(self) -> None:
        self.ends.reverse()
        self.sides.reverse()
        orig, resp = self.sides  # what was noted stays with the place, as in Zeek
        orig.noted, resp.noted = resp.noted, orig.noted
        self.partial = False
        self.history += "^"

    def write(self, side: int, letter: str) -> None:
        self.history += letter if side == 0 else letter.lower()

    def note(self, side: int, kind: str, letter: str) -> bool:
        if kind in self.sides[side].noted:
            return False
        self.sides[side].noted.add(kind)
        self.write(side, letter)
        return True

    def count(self, side: int, letter: str, count: int) -> None:
        if str(count).rstrip("0") == "1":
            self.write(side, letter)


def tcp_is_half_open(flow: Flow) -> bool:
    return (
        flow.sides[0].state in {"syn_sent", "syn_ack_sent"}
        and flow.sides[1].state == "inactive"
        and not flow.sides[0].noted & {"data", "ack"}
    )


def tcp_was_reset(flow: Flow) -> bool:
    return any(side.state == "reset" for side in flow.sides)


def tcp_is_over(flow: Flow) -> bool:
    orig, resp = flow.sides
    return (
        tcp_was_reset(flow)
        or (orig.closed and resp.closed)
        or (orig.closed and resp.state == "inactive")
        or (resp.closed and orig.state == "inactive")
    )


def tcp_is_reuse(flow: Flow, number: int, p: Packet) -> bool:
    orig, resp = flow.sides
    ack = "A" in p.flags
    if "S" not in p.flags or (ack and orig.state != "inactive"):
        return False
    if orig.closed or resp.closed:
        return True
    if p.seq == (resp if ack else orig).start:
        return False
    if not ack and number == 1 and resp.state == "inactive":
        behind = orig.state == "syn_ack_sent" and p.seq == resp.start
        return not (orig.state == "syn_sent" or behind)
    return not (not ack and number == 1 and resp.syn_seen and p.seq == resp.start)


def tcp_weigh(flow: Flow, number: int, p: Packet, at: int, now: int) -> tuple[int, bool, bool]:
    """Tell whether a packet's numbers are elsewhere: where it is, and about the two of them."""
    syn, fin, rst, ack = (letter in p.flags for letter in "SFRA")
    me, peer = flow.sides[number], flow.sides[1 - number]
    possible = FAR + min(now - flow.touched, 2**40) * 12

    def tells(side: Side, to: int) -> bool:
        return fin and not syn and side.end == 1 and (to - side.start - 1) % 2**32 <= possible

    sends = (
        not rst
        and not (syn and (p.seq == me.start or me.state == "reset"))
        and me.is_far(at)
        and not tells(me, p.seq + p.payload + syn + fin)
    )
    acks = (
        ack and not rst and p.ack != 0 and peer.state != "inactive"
        and peer.is_far(peer.place(p.ack, peer.acked)) and not tells(peer, p.ack)
    )  # fmt: skip
    is_elsewhere, acks_elsewhere = sends, acks
    if sends and not flow.returned and follow_segment(flow, number, p, acks, possible, now):
        is_elsewhere = False
        at = me.place(p.seq, me.end)
    if acks and not flow.returned and follow_ack(flow, number, p, sends, possible, now):
        acks_elsewhere = False
    if is_elsewhere or acks_elsewhere:
        me.implausible += 1
        if is_elsewhere and me.elsewhere is not None:
            me.elsewhere.held[0] += 1
        elif not is_elsewhere and peer.elsewhere is not None:
            peer.elsewhere.held[1] += 1
    return (0 if syn and (sends or acks) else at), is_elsewhere, acks_elsewhere


def find_place(
    flow: Flow, number: int, spoken: int, known: bool, possible: int, now: int
) -> Elsewhere:
    side = flow.sides[number]
    if side.elsewhere is None or not known:
        ahead = side.place(spoken, side.end) - max(side.end, side.acked)
        found_at = side.packets, flow.sides[1 - number].packets
        side.elsewhere = Elsewhere(spoken, spoken, 0 < ahead <= possible, found_at, now)
    elif side.elsewhere.at + 1 != flow.packets:
        side.elsewhere.is_sent = side.elsewhere.is_acked = False
    side.elsewhere.at = flow.packets
    return side.elsewhere


def follow_segment(
    flow: Flow, number: int, p: Packet, foreign: bool, possible: int, now: int
) -> bool:
    me, peer = flow.sides[number], flow.sides[1 - number]
    known = me.elsewhere is not None and (
        me.elsewhere.is_near(p.seq, FAR)
        or (me.elsewhere.acked > 0 and me.elsewhere.is_near(p.seq, possible))
    )
    e = find_place(flow, number, p.seq, known, possible, now)
    e.foreign |= foreign
    e.sent = e.sent + 1 if e.sent and e.sent_at + 1 == me.packets else 1
    e.sent_at = me.packets
    alone = e.found_at[1] == peer.packets and (
        peer.state == "inactive" or now - e.found >= SECOND
    )  # fmt: skip
    if e.is_acked or (e.sent >= 3 and alone):
        go_there(flow, number, e.is_acked)
        return True
    e.is_sent = True
    fin = "F" in p.flags
    end = (p.seq + p.payload + ("S" in p.flags) + fin) % 2**32
    apart = distance(p.seq, e.next) > 0
    if distance(e.first, p.seq) > 0:
        e.first = p.seq
    if distance(end, e.next) > 0:
        data = min(distance(end, p.seq if apart else e.next) - fin, p.payload)
        e.bytes += data
        e.run = data if apart else e.run + data
        e.next, e.fin = end, fin
    return False


def follow_ack(flow: Flow, number: int, p: Packet, foreign: bool, possible: int, now: int) -> bool:
    me, peer = flow.sides[number], flow.sides[1 - number]
    known = peer.elsewhere is not None and (
        peer.elsewhere.is_near(p.ack, possible)
        or (peer.place(p.ack, peer.end) > peer.end and distance(peer.elsewhere.next, p.ack) >= 0)
    )
    e = find_place(flow, 1 - number, p.ack, known, possible, now)
    e.foreign |= foreign
    e.ack = p.ack
    e.acked = e.acked + 1 if e.acked and e.acked_at + 1 == me.packets else 1
    e.acked_at = me.packets
    alone = e.found_at[0] == peer.packets and (
        peer.state == "inactive" or now - e.found >= SECOND
    )  # fmt: skip
    if e.is_sent or (e.acked >= 3 and alone):
        go_there(flow, 1 - number, e.is_sent)
        return True
    e.is_acked = True
    if distance(p.ack, e.next) > 0:
        e.next, e.run = p.ack, 0
    return False


def go_there(flow: Flow, number: int, borne_out: bool) -> None:
    side, peer = flow.sides[number], flow.sides[1 - number]
    e = side.elsewhere
    assert e is not None
    left = (side.start + side.end) % 2**32
    if side.left is not None and abs(distance(e.first, side.left)) <= FAR:
        flow.returned = True
    side.implausible -= e.held[0]
    peer.implausible -= e.held[1]
    if borne_out and not e.foreign and e.in_time and side.acked > 0:
        side.acked = side.place(e.ack, side.end)
        side.end = side.place(e.next, side.end)
        if e.run:
            receive(side, side.end - e.fin - e.run, side.end - e.fin)
    else:
        side.before = side.size(peer)
        side.begin(e.next - e.bytes - e.fin - 1)
        side.end = side.delivered = 1 + e.bytes + e.fin
        side.acked = side.end if e.acked else 0
        side.fin = None
    if e.fin:
        side.fin = side.end
        side.set("closed")
        side.closed = True
    side.left, side.elsewhere = left, None


def tcp_packet(flow: Flow, number: int, p: Packet, now: int) -> int:
    """Follow one packet; returns the side of its sender, which may have been exchanged."""
    was_orig = number == 0
    syn, fin, rst, ack = (letter in p.flags for letter in "SFRA")
    me, peer = flow.sides[number], flow.sides[1 - number]
    occupies = (0 if rst else p.payload) + syn + fin

    if not me.first_seen:
        if number == 0:
            flow.partial = not syn or ack
        elif not flow.partial:
            flow.partial = not syn

    # where its numbers begin
    if me.state == "inactive":
        me.begin(p.seq if syn else p.seq - 1)
        me.end = occupies if syn else 1
    elif syn and (
        (
            me.state in {"syn_sent", "syn_ack_sent", "established", "partial"}
            and p.seq != me.start
            and not me.is_far(me.place(p.seq, me.end))
        )
        or (me.state == "reset" and me.previous == "inactive")
    ):
        me.begin(p.seq)
        me.end = occupies
    at = me.place(p.seq, me.end)
    at, is_elsewhere, acks_elsewhere = tcp_weigh(flow, number, p, at, now)

    # letters
    if syn + fin + rst > 1:
        twice = fin and rst
        flow.note(number, "end twice" if twice else "many flags", "I" if twice else "Q")
    elif syn or fin or rst:
        kind = "syn" if syn else "fin" if fin else "rst"
        letter = ("H" if ack else "S") if syn else kind[0].upper()
        where = (at + (p.payload if fin else 0)) % 2**32
        if not flow.note(number, kind, letter) and where != me.latest.get(kind, 0):
            flow.write(number, letter)
        me.latest[kind] = where
    elif p.payload or ack:
        if flow.history == "H":
            flow.flip()
            flow.history = "^h"
            number = 1 - number
            flow.sides[0].first_seen = True
        flow.note(number, "data" if p.payload else "ack", "D" if p.payload else "A")
    if p.window == 0 and not rst and peer.state != "closed" and me.state != "reset":
        me.zero_windows += 1
        flow.count(number, "W", me.zero_windows)

    if syn and not is_elsewhere:
        me.syns += 1
        me.syn_ts = p.ts if me.syns == 1 else None
        me.syn_seen = True
    if fin and not is_elsewhere:
        me.fin = at + occupies

    # what the peer has had acknowledged
    acked = 0
    if acks_elsewhere:
        pass
    elif ack and peer.state == "inactive":
        peer.begin(p.ack - 1)
        acked = 1
    elif ack:
        acked = max(peer.place(p.ack, peer.acked), 0)
        broken = p.ack == 0 and acked - peer.acked > FAR
        if not rst and acked > peer.acked and not broken:
            if peer.acked == 0 and peer.syn_ts is not None:
                me.rtt = max(p.ts - peer.syn_ts, 0)
            peer.acked = acked

    # how far it has sent
    late = False
    ahead = me.place(p.seq + occupies, me.end) - me.end
    if is_elsewhere or ((syn or rst) and abs(ahead) > FAR):
        pass
    elif fin and me.end == 1 and not -FAR <= ahead <= 0:
        me.end += ahead % 2**32
    elif me.state == "reset":
        pass
    elif ahead > 0:
        me.end += ahead
    else:
        late = p.payload > 0
    if late:
        flow.count(number, "T", me.retransmitted + me.out_of_order + 1)

    if is_elsewhere:
        closes, number = tcp_state(
            flow, number, replace(p, flags=p.flags.replace("F", "")), was_orig, at
        )
    else:
        closes, number = tcp_state(flow, number, p, was_orig, at)

    # what was received
    clean = all(
        s.state == "established" or (s.state == "closed" and s.previous == "established")
        for s in flow.sides
    )
    if acked > 2 or (acked > 0 and not flow.partial):
        until = acked
        if peer.fin is not None and until >= peer.fin:
            until = peer.fin - 1
        if until > peer.delivered:
            if not peer.given_up:
                gaps, missing = holes(peer, until)
                for _ in range(gaps if clean else 0):
                    peer.gaps += 1
                    flow.count(1 - number, "G", peer.gaps)
                peer.missing += missing if clean else 0
            peer.delivered = until
            catch_up(peer)

    if is_elsewhere:
        pass
    elif p.payload and not rst and at >= 0:
        begin = at + 1 if syn else at
        new = receive(me, begin, begin + p.payload)
        if late:
            me.out_of_order += new
            me.retransmitted += not new
    elif late:
        me.retransmitted += 1

    me.first_seen = True
    if closes:
        me.closed = True
    orig, resp = flow.sides
    if orig.syn_seen and resp.syn_seen and orig.acked >= 1 and resp.acked >= 1:
        flow.established = True
    return number


def holes(side: Side, until: int) -> tuple[int, int]:
    """Count the unseen runs of bytes from ``delivered`` up to ``until``, and their bytes."""
    seen = sorted(b for b in side.got if side.delivered <= b < until)
    edges = [side.delivered - 1, *seen, until]
    runs = [b - a - 1 for a, b in itertools.pairwise(edges) if b - a > 1]
    return len(runs), sum(runs)


def catch_up(side: Side) -> None:
    side.got = {b for b in side.got if b >= side.delivered}
    while side.delivered in side.got:
        side.got.remove(side.delivered)
        side.delivered += 1


def receive(side: Side, begin: int, end: int) -> bool:
    """Note the bytes; whether any is new."""
    if end <= side.delivered:
        return False
    if begin <= side.delivered:
        side.delivered = end
        catch_up(side)
        return True
    if side.given_up:
        return True
    new = not set(range(begin, end)) <= side.got
    side.got |= set(range(begin, end))
    if side.acked <= 1 and max(side.got) + 1 - side.delivered > UNACKED:
        side.given_up = True
        side.got = set()
    return new


def tcp_state(flow: Flow, number: int, p: Packet, was_orig: bool, at: int) -> tuple[bool, int]:
    """The sender's next state: whether it has closed, and its side now."""
    syn, fin, rst, ack = (letter in p.flags for letter in "SFRA")
    me, peer = flow.sides[number], flow.sides[1 - number]
    closes = False
    forged = rst and abs(at - me.end) > FAR and abs(at - me.acked) > FAR
    judged = {"established", "partial"} | ({"closed"} if peer.state != "closed" else set())
    me.implausible += forged and me.state in judged
    if me.state == "inactive":
        if syn and was_orig:
            me.set("syn_ack_sent" if ack else "syn_sent")
        elif syn:
            if not ack and peer.state == "syn_ack_sent":
                flow.flip()
                number = 1 - number
                peer.set("established")
                flow.sides[0].first_seen = True
            if peer.state == "syn_sent":
                peer.set("established")
            me.set("established")
        if fin:
            me.set("closed")
        if rst:
            me.set("reset")
        closes = fin or rst
        if me.state == "inactive":
            if not was_orig and not p.payload and flow.sides[0].state == "syn_sent":
                pass
            elif ack and peer.state == "established":
                me.set("established")
                flow.partial = False
                me.first_seen = True
            else:
                me.set("partial")
    elif me.state in {"syn_sent", "syn_ack_sent"}:
        if fin:
            me.set("closed")
        if rst:
            me.set("reset")
        closes = rst or fin
    elif forged:
        pass
    elif me.state in {"established", "partial"}:
        if syn and not ack and (me.state, peer.state) == ("partial", "inactive"):
            me.set("syn_sent")
        if fin and not rst:
            me.set("closed")
            if (peer.state, peer.previous) == ("reset", "closed"):
                peer.set("closed")
        if rst:
            me.set("reset")
        closes = fin or rst
    elif me.state == "closed" and rst and peer.state != "closed":
        me.set("reset")
        closes = True
    return closes, number


class Table:
    """The table; ``ended`` is what it has told, in order."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.now = self.lead = 0
        self.lists: list[list[Flow]] = [[] for _ in limits.idle]
        self.ended: list[tuple[str, Flow]] = []

    def packet(self, p: Packet, moment: Moment) -> None:
        p = replace(p, ts=moment.ts)
        self.now = moment.now
        self.lead = moment.lead
        self.sweep()
        flow = self.find(p)
        if flow is not None and p.proto == "tcp" and tcp_is_reuse(flow, self.side(flow, p), p):
            self.end(flow, self.reason(flow) if flow.kind == CLOSING else "reused")
            flow = None
        active = self.limits.active
        at = min(self.now, p.ts + self.lead)
        if flow is None:
            flow = self.start(p)
        elif (
            active is not None
            and flow.kind != CLOSING
            and at - min(at, flow.start + flow.lead) >= active
        ):
            flow = self.renew(flow, p)
        number = self.side(flow, p)
        side = flow.sides[number]
        side.packets += 1
        side.bytes += p.size
        side.ip_bytes += p.ip_bytes
        side.payload += p.payload
        side.flags |= set(p.flags)
        side.first = side.first or p.ts
        side.last = max(side.last, p.ts)
        if p.proto == "udp":
            flow.note(number, "data", "D")
        if p.proto == "tcp":
            tcp_packet(flow, number, p, self.now)
        self.touch(flow)

    def find(self, p: Packet) -> Flow | None:
        for flow in (flow for kind in self.lists for flow in kind):
            if flow.proto == p.proto and sorted(flow.ends) == sorted([p.src, p.dst]):
                return flow
        return None

    def side(self, flow: Flow, p: Packet) -> int:
        return 0 if p.src == flow.ends[0] else 1

    def start(self, p: Packet) -> Flow:
        if sum(map(len, self.lists)) == self.limits.max_flows:
            self.evict()
        kind = {"tcp": TCP, "udp": UDP, "icmp": ICMP}[p.proto]
        flow = Flow(
            p.proto, [p.src, p.dst], p.ts, [Side(), Side()], kind, kind, self.now, lead=self.lead
        )
        if p.reply:
            flow.ends.reverse()
        opens = p.proto == "tcp" and "S" in p.flags and "A" not in p.flags
        server = [(p.proto, port) in SERVERS for _, port in (p.src, p.dst)]
        if server == [True, False] and not opens:
            flow.flip()
        self.lists[kind].append(flow)
        return flow

    def renew(self, old: Flow, p: Packet) -> Flow:
        self.end(old, "active")
        flow = self.start(p)
        self.lists[flow.kind].remove(flow)
        flow.ends, flow.kind, flow.home = list(old.ends), old.kind, old.home
        flow.partial, flow.established = old.partial, old.established
        flow.returned = old.returned
        flow.history = ""
        flow.sides = []
        for was in old.sides:
            shift = max(was.end - 1, 0)
            flow.sides.append(
                Side(
                    rtt=was.rtt, state=was.state, previous=was.previous,
                    start=(was.start + shift) % 2**32, end=was.end - shift,
                    acked=was.acked - shift, delivered=was.delivered - shift,
                    fin=None if was.fin is None else was.fin - shift,
                    got={b - shift for b in was.got}, syn_seen=was.syn_seen, syn_ts=was.syn_ts,
                    syns=was.syns, closed=was.closed, given_up=was.given_up,
                    first_seen=was.first_seen, latest=dict(was.latest),
                )
            )  # fmt: skip
        self.lists[flow.kind].append(flow)
        return flow

    def touch(self, flow: Flow) -> None:
        one_way = flow.proto == "tcp" and any(side.state == "inactive" for side in flow.sides)
        if flow.kind == CLOSING and (not one_way or tcp_was_reset(flow)):
            return
        kind = flow.home
        if flow.kind == CLOSING or (flow.proto == "tcp" and tcp_is_over(flow)):
            kind = CLOSING
        elif flow.kind != CLOSING and flow.proto == "tcp" and tcp_is_half_open(flow):
            if flow.kind == HALF_OPEN:
                return
            kind = HALF_OPEN
        self.lists[flow.kind].remove(flow)
        flow.kind = kind
        flow.touched = self.now
        self.lists[kind].append(flow)

    def sweep(self) -> None:
        for kind, idle in enumerate(self.limits.idle):
            while self.lists[kind] and self.now - self.lists[kind][0].touched >= idle:
                flow = self.lists[kind][0]
                self.end(flow, self.reason(flow))

    def reason(self, flow: Flow) -> str:
        if flow.kind != CLOSING:
            return "idle"
        return "rst" if tcp_was_reset(flow) else "fin"

    def evict(self) -> None:
        heads = [kind[0] for kind in self.lists[CLOSING:] if kind]
        oldest = (self.lists[HALF_OPEN] or [min(heads, key=lambda f: f.touched, default=None)])[0]
        assert oldest is not None
        self.end(oldest, self.reason(oldest) if oldest.kind == CLOSING else "evicted")

    def end(self, flow: Flow, reason: str) -> None:
        self.lists[flow.kind].remove(flow)
        self.ended.append((reason, flow))

    def flush(self) -> None:
        for kind in self.lists:
            while kind:
                flow = kind[0]
                self.end(flow, self.reason(flow) if flow.kind == CLOSING else "shutdown")
