"""``netring-bpf doctor --json`` as a process, and the remedies that it names."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.kernel.cli.command import COMMAND
from tests.support.rig import PORT

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Sequence

    from tests.support.lab import Namespace

MAIN = "from netring_bpf.cli import main; main()"


@dataclass(frozen=True)
class Report:
    """The findings of one run, and its exit status."""

    status: int
    whole: dict[str, Any]

    @property
    def works(self) -> bool:
        assert self.status == (0 if self.whole["works"] else 1)
        return bool(self.whole["works"])

    def state(self, check: str) -> str:
        return str(self._finding(check)["state"])

    def found(self, check: str) -> str:
        return str(self._finding(check)["found"])

    def remedy(self, check: str) -> str:
        remedy = self._finding(check)["remedy"]
        assert isinstance(remedy, str), self._finding(check)
        return remedy

    def not_good(self) -> set[str]:
        return {
            finding["check"] for finding in self.whole["findings"] if finding["state"] != "good"
        }

    def _finding(self, check: str) -> dict[str, Any]:
        [found] = [one for one in self.whole["findings"] if one["check"] == check]
        return found  # type: ignore[no-any-return]


def report_of(done: subprocess.CompletedProcess[str]) -> Report:
    assert done.stderr == ""
    [line] = done.stdout.splitlines()
    return Report(done.returncode, json.loads(line))


def examine(
    namespace: Namespace, *arguments: str, interface: str = PORT, before: Sequence[str] = ()
) -> Report:
    command = [*before, COMMAND, "doctor", "-i", interface, "--json", *arguments]
    return report_of(namespace.run(command, check=False))


def mend(namespace: Namespace, remedy: str) -> None:
    """Run the remedy as a shell does."""
    namespace.run(["bash", "-c", remedy])


def again(
    namespace: Namespace, remedy: str, start: Callable[[Sequence[str]], Sequence[str]] | None = None
) -> Report:
    """Run a remedy that is the doctor itself. ``start``: makes a command of its arguments."""
    words = shlex.split(remedy)
    at = words.index("doctor")
    command = words if start is None else start(words[at:])
    return report_of(namespace.run([*command, "--json"], check=False))
