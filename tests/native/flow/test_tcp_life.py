"""One TCP connection from its packets: letters, states, bytes, gaps, and its end."""

from __future__ import annotations

import pytest

from netring_bpf import Flow, FlowEnd, FlowEnded, FlowEstablished, FlowOptions, TcpState
from tests.support.frames import icmp_echo, tcp, udp
from tests.support.replay import SECOND, START, Frame, replay

A, B = "10.0.0.1", "10.0.0.2"
FAST = 1_000_000  # ns between two packets


class Talk:
    """A conversation, packet by packet, on ports of which neither is a server's by custom."""

    def __init__(self, client: int = 40_000, server: int = 50_000) -> None:
        self.ports = client, server
        self.frames: list[Frame] = []
        self.ts = START

    def c(
        self, flags: str, seq: int = 1, ack: int = 1, data: bytes = b"", window: int = 9000
    ) -> Talk:
        """The client sends; numbers are relative to SYNs of 100 and 500."""
        client, server = self.ports
        return self._add(
            tcp(
                A,
                B,
                client,
                server,
                data,
                flags=flags,
                seq=(100 + seq) % 2**32,
                ack=(500 + ack) % 2**32 if "A" in flags else 0,
                window=window,
            )
        )

    def s(
        self, flags: str, seq: int = 1, ack: int = 1, data: bytes = b"", window: int = 9000
    ) -> Talk:
        """The server sends."""
        client, server = self.ports
        return self._add(
            tcp(
                B,
                A,
                server,
                client,
                data,
                flags=flags,
                seq=(500 + seq) % 2**32,
                ack=(100 + ack) % 2**32 if "A" in flags else 0,
                window=window,
            )
        )

    def wait(self, seconds: float) -> Talk:
        self.ts += int(seconds * SECOND)
        return self

    def open(self) -> Talk:
        return self.c("S", 0).s("SA", 0, 1).c("A", 1, 1)

    def close(self, seq: int = 1, ack: int = 1) -> Talk:
        return self.c("FA", seq, ack).s("FA", ack, seq + 1).c("A", seq + 1, ack + 1)

    def _add(self, data: bytes) -> Talk:
        self.frames.append(Frame(data, self.ts))
        self.ts += FAST
        return self

    def flows(self, **options: object) -> list[FlowEnded]:
        chosen = FlowOptions(update_interval=None, **options)  # type: ignore[arg-type]
        events, books = replay(self.frames, chosen)
        assert books.balanced
        return [event for event in events if isinstance(event, FlowEnded)]

    def flow(self, **options: object) -> Flow:
        [ended] = self.flows(**options)
        return ended.flow


def told(flow: Flow) -> tuple[str, str, int, int]:
    return flow.conn_state, flow.history, flow.orig.payload, flow.resp.payload


def talk() -> Talk:
    return Talk()


STORIES = {
    "a whole connection": (
        talk().open().c("PA", data=b"get").s("A", 1, 4).s("PA", 1, 4, b"answer").c("A", 4, 7)
        .close(4, 7), ("SF", "ShADadFf", 3, 6),
    ),
    "no answer": (talk().c("S", 0).c("S", 0), ("S0", "S", 0, 0)),
    "refused": (talk().c("S", 0).s("RA", 0, 1), ("REJ", "Sr", 0, 0)),
    "taken back": (talk().c("S", 0).c("R", 1), ("RSTOS0", "SR", 0, 0)),
    "open": (talk().open(), ("S1", "ShA", 0, 0)),
    "open, with data": (talk().open().c("PA", data=b"x" * 10), ("S1", "ShAD", 10, 0)),
    "the originator has closed": (talk().open().c("FA").s("A", 1, 2), ("S2", "ShAFa", 0, 0)),
    "the responder has closed": (talk().open().s("FA").c("A", 1, 2), ("S3", "ShAf", 0, 0)),
    "reset by the originator": (talk().open().c("R"), ("RSTO", "ShAR", 0, 0)),
    "reset by the responder": (talk().open().s("R"), ("RSTR", "ShAr", 0, 0)),
    "syn and fin": (talk().c("S", 0).c("F", 1), ("SH", "SF", 0, 0)),
    "syn+ack and fin": (Talk(40_000, 80).s("SA", 0).s("FA", 1), ("SHR", "^hf", 0, 0)),
    "syn+ack and rst": (Talk(40_000, 80).s("SA", 0).s("R", 1), ("RSTRH", "^hr", 0, 0)),
    "a lone syn+ack may be a scan": (talk().s("SA", 0), ("OTH", "H", 0, 0)),
    "a syn+ack whose syn was missed": (
        talk().s("SA", 0).c("A").c("PA", data=b"abc"), ("OTH", "^hAD", 3, 0),
    ),
    "mid-stream, from the client": (
        talk().c("PA", 9, 9, b"abc").s("A", 9, 12).s("PA", 9, 12, b"defg"), ("OTH", "Dad", 3, 4),
    ),
    "mid-stream, from a server's port": (
        Talk(40_000, 443).s("PA", 9, 9, b"abc").c("A", 9, 12), ("OTH", "^dA", 0, 3),
    ),
    "a fin that is sent again closes one side only": (
        talk().open().c("FA").c("FA").s("A", 1, 2), ("S2", "ShAFa", 0, 0),
    ),
    "a fin at another place is written again": (
        talk().open().c("FA").c("FA", 2), ("S2", "ShAFF", 1, 0),
    ),
    "fin after rst of the one that had closed": (
        talk().open().c("FA").c("R", 2).s("FA", 1, 2), ("SF", "ShAFRf", 0, 0),
    ),
    "a reset that is out of all windows": (
        talk().open().s("R", 500_000_000).c("PA", data=b"abc"), ("S1", "ShArD", 3, 0),
    ),
    "all flags at once": (talk().open().c("SFA").c("FR"), ("RSTO", "ShAQI", 0, 0)),
    "taken back as the other talks of another connection": (
        talk().c("S", 0).s("A", 700, 900).c("R", 900), ("RSTOS0", "SaR", 0, 0),
    ),
    "taken back further on": (talk().c("S", 0).c("R", 5), ("RSTOS0", "SR", 4, 0)),
    "a fin of long ago": (talk().open().c("FA", -9), ("S2", "ShAF", 0, 0)),
    "a syn+ack that is sent again, its syn missed": (
        talk().s("SA", 0).c("A").s("SA", 0).c("PA", data=b"abc"), ("OTH", "^hAhD", 3, 0),
    ),
    "fin and rst in an answer, then a fin": (
        talk().s("SA", 0).c("A").s("FRA").c("FA"), ("SF", "^hAiF", 0, 0),
    ),
    "an acknowledgement before the answer": (
        talk().c("S", 0).s("A", 1, 1).s("SA", 0).c("A"), ("S1", "SahA", 0, 0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STORIES)
def test_letters_state_and_bytes(name: str) -> None:
    conversation, expected = STORIES[name]
    assert told(conversation.flow()) == expected


def test_no_letter_is_lost_behind_many_repeated_ones() -> None:
    long = talk().open()
    for n in range(1, 60):
        long.c("FA", n).s("FA", n, 1)
    flow = long.c("R", 60).s("R", 60).flow()
    assert len(flow.history) < 40  # and not 120
    assert {"F", "f", "R", "r"} <= set(flow.history)


@pytest.mark.parametrize("count", [1, 9, 10, 99, 100, 1000])
def test_retransmissions_are_written_at_powers_of_ten(count: int) -> None:
    talked = talk().open().c("PA", data=b"abc")
    for _ in range(count):
        talked.c("PA", data=b"abc")
    flow = talked.flow()
    assert flow.orig.retransmitted == count
    assert flow.history == "ShAD" + "T" * len(str(count))
    assert flow.orig.payload == 3


def test_what_comes_out_of_order_is_not_sent_again() -> None:
    flow = talk().open().c("PA", 4, 1, b"def").c("PA", 1, 1, b"abc").s("A", 1, 7).flow()
    assert (flow.orig.out_of_order, flow.orig.retransmitted, flow.orig.gaps) == (1, 0, 0)
    assert told(flow) == ("S1", "ShADTa", 6, 0)


def test_acknowledged_bytes_that_were_never_seen_are_a_gap() -> None:
    flow = talk().open().s("PA", 11, 1, b"x" * 10).c("A", 1, 21).s("PA", 31, 1, b"y").c(
        "A", 1, 32
    ).flow()  # fmt: skip
    assert (flow.resp.missing_bytes, flow.resp.gaps) == (20, 2)
    assert told(flow) == ("S1", "ShAdg", 0, 31)


def test_several_holes_are_several_gaps() -> None:
    talked = talk().open()
    for n in range(3):
        talked.c("PA", 11 + 20 * n, 1, b"x" * 10)
    flow = talked.s("A", 1, 61).flow()
    assert (flow.orig.gaps, flow.orig.missing_bytes, flow.orig.payload) == (3, 30, 60)


def test_a_hole_that_is_filled_before_its_acknowledgement_is_none() -> None:
    flow = talk().open().c("A", 5, 1, b"efgh").c("A", 1, 1, b"abcd").s("A", 1, 9).flow()
    assert (flow.orig.gaps, flow.orig.missing_bytes) == (0, 0)


def test_one_side_alone_has_no_gaps() -> None:
    talked = talk().c("S", 0).c("A")
    for n in range(40):
        talked.c("A", 1 + 1000 * n, 1, b"x" * 500)
    assert talked.flow().orig.gaps == 0


def test_zero_windows() -> None:
    flow = talk().open().s("A", window=0).s("A", window=0).c("A", window=0).flow()
    assert (flow.orig.zero_windows, flow.resp.zero_windows) == (1, 2)
    assert flow.history == "ShAawW"


def test_the_zero_window_of_a_reset_is_none() -> None:
    assert talk().open().s("R", window=0).flow().resp.zero_windows == 0


def test_sequence_numbers_that_wrap() -> None:
    near = 2**32 - 110  # the SYN's number is just below the wrap
    flow = (
        talk().c("S", near).s("SA", 0, near + 1).c("A", near + 1)
        .c("A", near + 1, 1, b"x" * 60).c("PA", near + 61, 1, b"y" * 40)
        .s("A", 1, near + 101).flow()
    )  # fmt: skip
    assert told(flow) == ("S1", "ShADa", 100, 0)


def test_more_than_four_gigabytes_are_counted() -> None:
    talked = talk().open()
    step = 1_500_000_000
    for n in range(1, 5):
        talked.wait(1).s("A", 1 + n * step, 1, b"x").c("A", 1, 2 + n * step)
    assert talked.flow().resp.payload == 4 * step + 1


def test_a_fin_alone_tells_how_much_was_sent() -> None:
    flow = talk().open().wait(1).s("FA", 3_000_000_001, 1).flow()
    assert flow.resp.payload == 3_000_000_000


def test_the_time_to_each_side() -> None:
    flow = talk().c("S", 0).wait(0.02).s("SA", 0).wait(0.005).c("A").flow()
    assert flow.resp.rtt == 20_000_000 + FAST
    assert flow.orig.rtt == 5_000_000 + FAST


def test_a_syn_that_is_sent_twice_measures_nothing() -> None:
    flow = talk().c("S", 0).wait(1).c("S", 0).s("SA", 0).c("A").flow()
    assert flow.resp.rtt == 0
    assert flow.orig.rtt == FAST


def test_first_and_last_packet_of_each_side() -> None:
    flow = talk().open().wait(1).c("PA", data=b"x").flow()
    assert (flow.orig.first, flow.resp.first) == (START, START + FAST)
    assert flow.orig.last == START + 3 * FAST + SECOND
    assert flow.resp.last == START + FAST
    assert flow.last == flow.orig.last


def test_a_simultaneous_open_is_one_connection() -> None:
    events, _ = replay(talk().c("S", 0).s("S", 0).c("SA", 0, 1).s("SA", 0, 1).frames)
    assert len([e for e in events if isinstance(e, FlowEstablished)]) == 1
    flow = talk().c("S", 0).s("S", 0).c("SA", 0, 1).s("SA", 0, 1).flow()
    assert flow.conn_state == "S1"
    assert flow.orig.tcp_state is flow.resp.tcp_state is TcpState.ESTABLISHED


def test_a_syn_behind_its_answer_is_the_originator_s() -> None:
    flow = talk().s("SA", 0).c("S", 0).c("A").flow()
    assert str(flow.key.orig.addr) == A
    assert flow.conn_state == "S1"
    assert flow.history == "Hs^A"


def test_a_half_open_flow_ends_after_five_seconds_of_its_first_packet() -> None:
    ended = talk().c("S", 0).wait(3).c("S", 0).wait(3).c("S", 0).flows()
    assert [(e.reason, e.flow.packets) for e in ended] == [
        (FlowEnd.IDLE, 2), (FlowEnd.SHUTDOWN, 1),
    ]  # fmt: skip


def test_an_answer_in_time_keeps_it() -> None:
    [ended] = talk().c("S", 0).wait(4).s("SA", 0).wait(200).c("A").flows()
    assert ended.flow.conn_state == "S1"


def test_a_syn_after_the_close_is_a_new_flow_even_with_the_same_number() -> None:
    ended = talk().open().close().c("S", 0).flows()
    assert [(e.reason, e.flow.history) for e in ended] == [
        (FlowEnd.FIN, "ShAFf"), (FlowEnd.SHUTDOWN, "S"),
    ]  # fmt: skip


def test_a_syn_with_another_number_is_another_connection() -> None:
    ended = talk().open().c("S", 7000).flows()
    assert [(e.reason, e.flow.conn_state) for e in ended] == [
        (FlowEnd.REUSED, "S1"), (FlowEnd.SHUTDOWN, "S0"),
    ]  # fmt: skip


def test_late_packets_belong_to_the_closed_flow() -> None:
    flow = talk().open().close().wait(4.9).s("A", 2, 2).flow()
    assert flow.packets == 7
    assert [e.flow.packets for e in talk().open().close().wait(5).s("A", 2, 2).flows()] == [6, 1]


def test_a_long_flow_is_told_in_parts() -> None:
    talked = talk().open().c("PA", data=b"x" * 100)
    talked.wait(10).c("PA", 101, 1, b"y" * 50).wait(3).s("A", 1, 151).wait(8).close(151)
    ended = talked.flows(active_timeout=10.0)
    assert [e.reason for e in ended] == [FlowEnd.ACTIVE, FlowEnd.ACTIVE, FlowEnd.FIN]
    assert [e.flow.orig.payload for e in ended] == [100, 50, 0]
    assert [e.flow.history for e in ended] == ["ShAD", "Da", "FfA"]
    assert ended[-1].flow.conn_state == "SF"
    assert {str(e.flow.key) for e in ended} == {str(ended[0].flow.key)}


def test_wrong_checksums_are_counted_and_not_believed() -> None:
    bad = talk().open().c("PA", data=b"abc")
    frame = bad.frames[-1]
    bad.frames[-1] = Frame(frame.data[:54] + b"X" + frame.data[55:], frame.ts)
    flow = bad.flow(verify_checksums=True)
    assert flow.history == "ShAC"
    assert (flow.orig.packets, flow.orig.bad_checksums, flow.orig.payload) == (3, 1, 0)
    assert bad.flow().history == "ShAD"


def test_icmp_with_a_wrong_checksum_leaves_no_letter() -> None:
    for good, history in ((udp("10.0.0.1", "10.0.0.2", 1, 2), "C"),
                          (icmp_echo("10.0.0.1", "10.0.0.2", 7, 1), "")):  # fmt: skip
        bad = good[:41] + bytes([good[41] ^ 1]) + good[42:]
        events, _ = replay([bad], FlowOptions(update_interval=None, verify_checksums=True))
        flow = events[-1].flow
        assert (flow.history, flow.orig.bad_checksums, flow.orig.packets) == (history, 1, 1)
