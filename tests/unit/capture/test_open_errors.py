"""Errors on opening a ring name the kernel that is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import errno, sys
from netring_bpf.capture.open_errors import explain_queue
from netring_bpf.capture.ring_sizes import RingSizes
from netring_bpf.errors import SyscallError
from netring_bpf.interface import Interface
refused = SyscallError("open an AF_XDP socket", errno.EINVAL)
error = explain_queue(refused, Interface.find("lo"), int(sys.argv[1]), RingSizes(64, 2048, 128))
print(type(error).__name__, error, sep="|")
"""
OLD = ("setarch", "--uname-2.6")


@pytest.mark.parametrize(
    ("command", "queue", "told"),
    [
        ((), 0, "OptionError|"),
        (OLD, 7, "OptionError|open an AF_XDP socket on queue 7 of lo: there is no such queue"),
        (OLD, 0, "KernelFeatureError|open an AF_XDP socket on queue 0 of lo: Invalid argument; "
         "AF_XDP needs Linux 5.11 or newer, and this is Linux 2.6."),
    ],
)  # fmt: skip
def test_an_old_kernel_is_told_from_a_queue_that_is_not_there(
    command: tuple[str, ...], queue: int, told: str
) -> None:
    done = subprocess.run(
        [*command, sys.executable, "-c", CODE, str(queue)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(told)
