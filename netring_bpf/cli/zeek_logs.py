"""Writes the logs of Zeek into a directory: conn.log, and one for each application protocol."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from netring_bpf.errors import SyscallError
from netring_bpf.events.batch import EventBatch
from netring_bpf.events.event import Event
from netring_bpf.formats.batch_text import TextEncoder
from netring_bpf.formats.zeek import LOGS, header

__all__ = ["ZeekLogs"]

_SECOND: Final = 10**9
# A question without an answer comes with the end of its flow, long after it was sent.
_HELD: Final = 300 * _SECOND
_MOST_HELD: Final = 4096


class ZeekLogs:
    """Makes no lines for standard output, but the files of a directory.

    A file is made with its first line, for its owner alone; no file that is there is overwritten.
    The constructor makes the directory if there is none. Raises ``SyscallError``.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._opened: dict[str, int] = {}
        self._encoders = {
            log: TextEncoder("zeek" if log == "conn" else f"zeek-{log}") for log in LOGS
        }
        self._dhcp = _DhcpLines()
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise _refused(directory, error) from error
        for log in LOGS:
            if os.path.lexists(path := self._path(log)):
                raise SyscallError(f"write {path}", errno.EEXIST)

    def header(self) -> bytes:
        """Return nothing: each file has its own header."""
        return b""

    def of(self, events: Sequence[Event]) -> Iterable[bytes | memoryview]:
        """Write the lines of these events, and return none."""
        if isinstance(events, EventBatch):
            for log, encoder in self._encoders.items():
                if log == "dhcp":
                    self._write(log, self._dhcp.add(encoder.encode(events), events.last_ts))
                    continue
                for piece in encoder.pieces(events):
                    self._write(log, piece)
        return ()

    def close(self) -> None:
        """Write what is left, and the last line of each file. Idempotent."""
        self._write("dhcp", self._dhcp.rest())
        for log in list(self._opened):
            self._write(log, f"#close\t{_now()}\n".encode())
            os.close(self._opened.pop(log))

    # -- files --

    def _path(self, log: str) -> Path:
        return self._directory / f"{log}.log"

    def _write(self, log: str, lines: bytes | memoryview) -> None:
        if not lines:
            return
        try:
            if log not in self._opened:
                self._opened[log] = _new_file(self._path(log))
                _write_all(self._opened[log], header(log, opened=_now()))
            _write_all(self._opened[log], lines)
        except OSError as error:
            raise _refused(self._path(log), error) from error


class _Conversation:
    """Lines of dhcp.log whose messages have one transaction id, in the order of their times."""

    _TOGETHER: Final = 30 * _SECOND  # DHCP::max_txid_watch_time of Zeek

    def __init__(self, line: list[bytes], now: int) -> None:
        self.began = now
        self._lines = [line]

    def has_room_for(self, line: list[bytes]) -> bool:
        """Whether the line is near enough in time to belong here."""
        return abs(_nanoseconds(line[_TS]) - _nanoseconds(self._lines[0][_TS])) <= self._TOGETHER

    def add(self, line: list[bytes]) -> None:
        """Take another line in."""
        self._lines.append(line)

    def line(self) -> bytes:
        """Return one line of all of them: the earliest value of each column that has one."""
        lines = sorted(self._lines, key=lambda line: _nanoseconds(line[_TS]))
        columns = zip(*lines, strict=True)
        whole = [next((value for value in column if value != b"-"), b"-") for column in columns]
        whole[_UIDS] = b",".join(dict.fromkeys(line[_UIDS] for line in lines))
        whole[_MESSAGES] = b",".join(line[_MESSAGES] for line in lines)
        ends = (_nanoseconds(line[_TS]) + _nanoseconds(line[_DURATION]) for line in lines)
        duration = max(ends) - _nanoseconds(lines[0][_TS])
        whole[_DURATION] = b"%d.%06d" % (duration // _SECOND, duration % _SECOND // 1000)
        return b"\t".join(whole) + b"\n"


_TS, _UIDS, _MESSAGES, _DURATION = map(
    list(LOGS["dhcp"]).index, ("ts", "uids", "msg_types", "duration")
)


class _DhcpLines:
    """Puts the lines of one conversation together, as Zeek does.

    Its messages go to several addresses, and so they are several flows.
    """

    def __init__(self) -> None:
        self._held: dict[bytes, _Conversation] = {}  # by transaction id, the oldest first

    def add(self, lines: bytes, now: int) -> bytes:
        """Take lines in, and return those that are whole. ``now``: the time of the flows."""
        done = []
        for line in lines.splitlines():
            columns = line.split(b"\t")
            ident = columns[-1]
            held = self._held.get(ident)
            if held is not None and held.has_room_for(columns):
                held.add(columns)
                continue
            if held is not None:
                done.append(self._held.pop(ident).line())
            self._held[ident] = _Conversation(columns, now)
        while self._held:
            ident, oldest = next(iter(self._held.items()))
            if now - oldest.began < _HELD and len(self._held) <= _MOST_HELD:
                break
            done.append(self._held.pop(ident).line())
        return b"".join(done)

    def rest(self) -> bytes:
        """Return all lines that are left."""
        done = b"".join(held.line() for held in self._held.values())
        self._held.clear()
        return done


def _nanoseconds(seconds: bytes) -> int:
    whole, _, micros = seconds.partition(b".")
    return int(whole) * _SECOND + int(micros) * 1000


def _now() -> str:
    return time.strftime("%Y-%m-%d-%H-%M-%S")


def _new_file(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(path, flags, 0o600)


def _write_all(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _refused(path: Path, error: OSError) -> SyscallError:
    return SyscallError(f"write {path}", error.errno or 0)
