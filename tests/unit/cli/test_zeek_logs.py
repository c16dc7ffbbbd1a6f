"""The directory of Zeek's logs that ``netring-bpf flows --zeek-logs`` writes."""

from __future__ import annotations

import errno
import re
import stat
import struct
from pathlib import Path

import pytest

from netring_bpf._core import lib
from netring_bpf.cli.zeek_logs import ZeekLogs
from netring_bpf.errors import SyscallError
from netring_bpf.events.batch import EventBatch
from tests.support.app_records import batch_of, record

SECOND = 10**9
NOW = 1_700_000_000 * SECOND
MINUTE = 60 * SECOND


def ended() -> tuple[dict[str, object], bytes]:
    native = {"kind": lib.NR_EVENT_ENDED, "end_reason": lib.NR_END_FIN, "family": 4, "ts": NOW}
    return native, b""


def banner(ts: int = NOW) -> tuple[dict[str, object], bytes]:
    native = {"app_protocol": lib.NR_APP_SSH, "family": 4, "ts": ts}
    return native, record(("CLIENT_SOFTWARE", "SSH-2.0-a"))


def dhcp(
    flow: int, ts: int, *fields: tuple[str, int | str | bytes], asked: int | None = None
) -> tuple[dict[str, object], bytes]:
    native = {"app_protocol": lib.NR_APP_DHCP, "family": 4, "flow_id": flow, "ts": ts}
    time = () if asked is None else (("ASKED_TS", struct.pack("=Q", asked)),)
    return native, record(*time, *fields)


def written(logs: ZeekLogs, *batches: EventBatch) -> None:
    for batch in batches:
        assert list(logs.of(batch)) == []
    logs.close()
    logs.close()


def rows(path: Path) -> list[dict[str, str]]:
    lines = path.read_text().splitlines()
    names = next(line for line in lines if line.startswith("#fields")).split("\t")[1:]
    return [
        dict(zip(names, line.split("\t"), strict=True))
        for line in lines
        if not line.startswith("#")
    ]


def test_a_log_is_made_with_its_first_line_and_says_when(tmp_path: Path) -> None:
    logs = ZeekLogs(tmp_path / "logs")
    written(logs, batch_of([ended()]), batch_of([banner(), banner()]))
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["conn.log", "ssh.log"]
    lines = (tmp_path / "logs" / "ssh.log").read_text().splitlines()
    time = r"\d{4}(-\d\d){5}"
    assert re.fullmatch(f"#open\t{time}", lines[5])
    assert re.fullmatch(f"#close\t{time}", lines[-1])
    assert len(lines) == 8 + 2 + 1
    assert logs.header() == b""


def test_only_their_owner_may_read_the_logs(tmp_path: Path) -> None:
    written(ZeekLogs(tmp_path / "logs"), batch_of([ended()]))
    assert stat.S_IMODE((tmp_path / "logs").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "logs" / "conn.log").stat().st_mode) == 0o600


def test_no_log_that_is_there_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "dns.log").symlink_to("nowhere")
    with pytest.raises(SyscallError, match=r"dns\.log") as caught:
        ZeekLogs(tmp_path)
    assert caught.value.errno == errno.EEXIST
    (tmp_path / "dns.log").unlink()
    logs = ZeekLogs(tmp_path)
    (tmp_path / "ssh.log").write_text("mine")
    with pytest.raises(SyscallError, match=r"ssh\.log"):
        logs.of(batch_of([banner()]))
    assert (tmp_path / "ssh.log").read_text() == "mine"


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SyscallError, match="file"):
        ZeekLogs(tmp_path / "file")
    with pytest.raises(SyscallError, match="logs"):
        ZeekLogs(tmp_path / "none" / "logs")


def test_the_messages_of_one_lease_are_one_line(tmp_path: Path) -> None:
    mac = ("MAC", bytes.fromhex("020000000001"))
    question = (mac, ("HOST_NAME", "lamp"), ("ID", 7))
    answer = (mac, ("ASSIGNED", bytes([192, 0, 2, 7])), ("ID", 7))
    other = dhcp(3, NOW, mac, ("MESSAGE_TYPE", 8), ("ID", 8))
    batch = batch_of(
        [
            dhcp(2, NOW + SECOND, *answer, ("MESSAGE_TYPE", 2)),
            dhcp(2, NOW + 3 * SECOND, *answer, ("LEASE", 60), ("MESSAGE_TYPE", 5)),
            other,
            # A question without an answer comes with the end of its flow.
            dhcp(1, NOW + MINUTE, *question, ("MESSAGE_TYPE", 1), asked=NOW),
            dhcp(1, NOW + MINUTE, *question, ("MESSAGE_TYPE", 3), asked=NOW + 2 * SECOND),
        ]
    )
    written(ZeekLogs(tmp_path), batch)
    lease, inform = rows(tmp_path / "dhcp.log")
    assert (lease["trans_id"], inform["trans_id"], inform["msg_types"]) == ("7", "8", "INFORM")
    assert lease["msg_types"] == "DISCOVER,OFFER,REQUEST,ACK"
    assert lease["uids"].count(",") == 1
    names = ("ts", "mac", "host_name", "assigned_addr", "lease_time")
    assert [lease[name] for name in names] == [
        "1700000000.000000", "02:00:00:00:00:01", "lamp", "192.0.2.7", "60.000000",
    ]  # fmt: skip


def test_a_number_that_comes_again_later_is_another_lease(tmp_path: Path) -> None:
    logs = ZeekLogs(tmp_path)
    for later in (0, MINUTE):
        logs.of(batch_of([dhcp(1, NOW + later, ("MESSAGE_TYPE", 8), ("ID", 7))]))
    assert len(rows(tmp_path / "dhcp.log")) == 1
    logs.of(batch_of([dhcp(1, NOW + 7 * MINUTE, ("MESSAGE_TYPE", 8), ("ID", 9))]))
    assert len(rows(tmp_path / "dhcp.log")) == 2
    logs.close()
    assert [row["trans_id"] for row in rows(tmp_path / "dhcp.log")] == ["7", "7", "9"]
