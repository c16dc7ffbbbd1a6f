"""Huge pages for a test: the machine has them for everybody, and gets them back for sure."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

TOTAL = Path("/proc/sys/vm/nr_hugepages")

# Gives back as many as it got when its standard input ends, as it does with us, however we end.
_HOLDER = f"""
had=$(cat {TOTAL}) && echo $((had + $0)) >{TOTAL} && got=$(($(cat {TOTAL}) - had)) || exit
trap '' INT TERM HUP
echo ready
cat >/dev/null
echo $(($(cat {TOTAL}) - got)) >{TOTAL}
"""


def free_pages() -> int:
    """Count the huge pages that nobody uses."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    [free] = [line.split()[1] for line in lines if line.startswith("HugePages_Free:")]
    return int(free)


@contextlib.contextmanager
def reserved(pages: int) -> Iterator[int]:
    """See to it that so many are free while the block runs; yields how many are.

    Nothing is changed where there are enough, and fewer are free where the kernel has none left.
    """
    missing = pages - free_pages()
    if missing <= 0:
        yield free_pages()
        return
    with subprocess.Popen(
        ["sh", "-c", _HOLDER, str(missing)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        yield free_pages()
