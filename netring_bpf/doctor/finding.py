"""The outcome of a check, and the capture that the checks are about."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from netring_bpf.capture.backend import Backend, BackendOptions
from netring_bpf.errors import NetringError, limits_explained
from netring_bpf.filter.filter_set import FilterSet
from netring_bpf.remedies import as_root, word
from netring_bpf.ring.flow_options import FlowOptions
from netring_bpf.ring.options import TpacketOptions, XdpOptions

__all__ = ["Asked", "Checks", "Finding", "State", "run_checks"]


class State(enum.Enum):
    """The verdict of a check."""

    GOOD = "good"
    WARNING = "warning"  #: capturing works, but not as well as it might
    BAD = "bad"  #: capturing does not work
    UNKNOWN = "unknown"  #: it cannot be told, or not by this user


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of the check ``check``.

    ``found``: a text for people. ``remedy``: the command for a shell that mends it; "" if there is
    none, or nothing to mend.
    """

    check: str
    state: State
    found: str
    remedy: str = ""


Checks: TypeAlias = Iterable[tuple[str, Callable[[], Finding]]]


def run_checks(checks: Checks) -> Iterator[Finding]:
    """Yield what each check finds; ``checks``: their names, and the checks.

    A check that itself fails, as for want of memory or of /proc, leaves its matter unknown.
    """
    for name, check in checks:
        try:
            with limits_explained(f"check {name}"):
                finding = check()
        except NetringError as error:
            finding = Finding(name, State.UNKNOWN, str(error))
        yield finding


@dataclass(frozen=True, slots=True)
class Asked:
    """The capture that the checks are about, with the meaning of ``Capture``.

    ``command``: the words that start the doctor, before its flags. ``netns``: where the calling
    thread is already.
    """

    interface: str | None
    backend: Backend
    steal: bool
    command: Sequence[str]
    netns: str | None = None

    @property
    def wants_xdp(self) -> bool:
        """Whether the backend may be AF_XDP."""
        return self.backend != "tpacket_v3"

    @property
    def without_xdp(self) -> State:
        """The state of a lack that only AF_XDP suffers from."""
        return State.BAD if self.backend == "af_xdp" else State.WARNING

    def options(self) -> BackendOptions:
        """Return the options of opening."""
        return BackendOptions(
            backend=self.backend,
            filter=FilterSet.of(None),
            steal=self.steal,
            xdp=XdpOptions(),
            tpacket=TpacketOptions(),
            flow=FlowOptions(),
        )

    def again(
        self,
        *,
        interface: str | None = None,
        backend: Backend | None = None,
        steal: bool | None = None,
    ) -> str:
        """Return the command that asks the same again, but for what is given."""
        words = [*self.command]
        if name := interface or self.interface:
            words += [f"-i{name}"] if name.startswith("-") else ["-i", name]
        if (chosen := backend or self.backend) != "auto":
            words += ["--backend", chosen]
        if self.steal if steal is None else steal:
            words.append("--steal")
        if self.netns is not None:
            words.append(f"--netns={self.netns}")
        return " ".join(map(word, words))

    def there(self, command: str) -> str:
        """Return the command as root runs it in the network namespace of the interface."""
        if self.netns is None:
            return as_root(command)
        inside = f"--net={self.netns if '/' in self.netns else f'/var/run/netns/{self.netns}'}"
        return as_root(f"nsenter {word(inside)} {command}")

    def again_as_root(self) -> str:
        """Return the command that asks the same again with all capabilities."""
        return as_root(self.again())
