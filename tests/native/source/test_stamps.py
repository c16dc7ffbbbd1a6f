"""Flow time of frames that the kernel stamped while the wall clock was stepped."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.sanitized import link

SAID = """\
forward
before: 30 20
across: 50 40 20
after: 10
back
before: 30 20
across: 50 40 20
after: 10
little
before: 30 20
across: 50 40 20
after: 10
own
first: 10
second: 10
raw
stamped: -3599990
slewed 500 us
settled 0 us
2 steps
"""


def test_frames_keep_their_order_and_their_distances_when_the_wall_clock_steps(
    tmp_path: Path,
) -> None:
    program = link(tmp_path / "stamps", Path(__file__).parent / "stamps.c")
    done = subprocess.run([program], capture_output=True, text=True, check=True)
    assert done.stdout == SAID
