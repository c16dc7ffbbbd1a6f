"""The filter of a capture file, compiled for each link type when a frame of it is met.

A file may have any link type, and several. To compile a long expression takes seconds, so a thread
of its own does it, and a stop does not wait for that thread.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from netring_bpf.errors import (
    FilterError,
    InternalError,
    NetringError,
    OptionError,
    limits_explained,
    printable,
)
from netring_bpf.filter.filter import Filter
from netring_bpf.filter.filter_set import FilterLike, FilterSet
from netring_bpf.filter.libpcap import dlt_of, link_name
from netring_bpf.threads import start_thread

if TYPE_CHECKING:
    from netring_bpf.ring.reader import Reader

__all__ = ["FileFilter", "dlt_of"]

_log = logging.getLogger("netring_bpf.capture")
# An expression is right if it is right for one of these.
_CHECKED: Final = (1, 12, 113, 276, 105, 127, 9, 50, 0, 239)
_LONG: Final = 500  # characters; to check a longer expression may take long


class FileFilter:
    """The filter of one capture file, and the thread that compiles it.

    Raises ``OptionError`` for filters with names, and ``FilterError`` for an expression that is
    right for no link type.
    """

    def __init__(self, filter: FilterLike) -> None:
        self._exact = _only_filter(filter)
        self._quick = self._exact.with_lists_as_sets()
        self._filter = self._quick or self._exact
        self._is_checked = len(self._filter.expression) <= _LONG
        if self._is_checked:
            self._check()
        self._answers: queue.SimpleQueue[Filter | NetringError | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._answered: dict[tuple[int, bool], Filter | None] = {}  # several files may ask

    def _check(self) -> None:
        """Raise the error of the first link type if all have one."""
        first = self._error(_CHECKED[0])
        if first is not None and all(self._error(dlt) for dlt in _CHECKED[1:]):
            self._exact.compile()  # its error has the words as they were given
            raise first

    def _error(self, dlt: int) -> FilterError | None:
        try:
            self._filter.for_linktype(dlt).compile()
        except FilterError as error:
            return error
        return None

    def answer(self, reader: Reader) -> bool:
        """Give ``reader`` the filter that it asks for; False if ``stop()`` came before that.

        Raises ``FilterError``, ``UnavailableError``, ``SyscallError``.
        """
        source, linktype, exact = reader.asked_filter()
        if (linktype, exact) not in self._answered:
            answer = self._made(linktype, exact)
            if self._stopped.is_set():
                return False
            self._answered[linktype, exact] = answer
        quick = not exact and self._quick is not None
        reader.filter_savefile(source, linktype, self._answered[linktype, exact], quick=quick)
        return True

    def _made(self, linktype: int, exact: bool) -> Filter | None:
        """Return the filter once it is compiled, or anything after ``stop()``."""
        work = self._compile_exactly if exact else self._compile
        with limits_explained("compile the filter of a capture file"):
            start_thread(
                threading.Thread(
                    target=self._work, args=(work, linktype), name="netring-compile", daemon=True
                )
            )
        answer = self._answers.get()
        if self._stopped.is_set():
            return None
        if isinstance(answer, NetringError):
            raise answer
        return answer

    def _work(self, work: Callable[[int], Filter | None], linktype: int) -> None:
        try:
            self._answers.put(work(linktype))
        except NetringError as error:
            self._answers.put(error)
        except Exception as error:  # noqa: BLE001 - the reader waits for an answer
            self._answers.put(InternalError("compile the filter of a capture file", error))

    def _compile(self, linktype: int) -> Filter | None:
        dlt = dlt_of(linktype)
        program = self._filter.for_linktype(dlt)
        try:
            program.compile()
        except FilterError as error:
            if self._is_wrong(dlt, error):
                self._exact.for_linktype(dlt).check()
                raise
            _log.warning(
                "%s", printable(f"frames of link type {link_name(linktype)} are left out: {error}")
            )
            return None
        return program

    def _is_wrong(self, dlt: int, error: FilterError) -> bool:
        """Whether the expression itself is wrong, and does not only make no sense for a link."""
        if self._is_checked or "rejects all packets" in str(error):
            return False
        try:
            self._filter.for_linktype(_CHECKED[0]).check()
        except FilterError:
            return True
        try:
            self._filter.for_linktype(dlt).check()
        except FilterError:
            return False
        return True  # too long

    def _compile_exactly(self, linktype: int) -> Filter:
        """Return the filter as libpcap alone compiles it, if the list is not too long for it."""
        dlt = dlt_of(linktype)
        for program in (self._exact.for_linktype(dlt), self._filter.for_linktype(dlt)):
            with contextlib.suppress(FilterError):
                program.compile()
                return program
        raise AssertionError("compiled before")

    def stop(self) -> None:
        """Have ``answer()`` return at once. From any thread."""
        self._stopped.set()
        self._answers.put(None)


def _only_filter(wanted: FilterLike) -> Filter:
    if isinstance(wanted, str):
        return Filter.deferred(wanted)
    if isinstance(wanted, Filter):
        return wanted
    if FilterSet.of(wanted).names:
        raise OptionError(
            "filter: filters with names are counted in the kernel, and a file is not read "
            "there; give one filter",
            option="filter",
        )
    return Filter("")
