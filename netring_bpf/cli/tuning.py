"""``--preset``, ``--threads``, ``--cpus`` and ``--symmetric-rss``: the options they stand for."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, TypeAlias

from netring_bpf.ring.options import TpacketOptions, XdpOptions

__all__ = ["Preset", "Tuning"]

Preset: TypeAlias = Literal["default", "throughput", "latency", "small-memory"]
_XDP: dict[Preset, XdpOptions] = {
    "default": XdpOptions(),
    "throughput": XdpOptions.throughput(),
    "latency": XdpOptions.latency(),
    "small-memory": XdpOptions.small_memory(),
}
_TPACKET: dict[Preset, TpacketOptions] = {
    "default": TpacketOptions(),
    "throughput": TpacketOptions.throughput(),
    "latency": TpacketOptions.latency(),
    "small-memory": TpacketOptions.small_memory(),
}


@dataclass(frozen=True, slots=True)
class Tuning:
    """The flags. AF_XDP runs several threads only where RSS was said to be symmetric."""

    preset: Preset = "default"
    threads: int = 1
    cpus: tuple[int, ...] | None = None
    symmetric_rss: bool = False

    def xdp(self) -> XdpOptions:
        """Raises ``OptionError``."""
        threads = self.threads if self.symmetric_rss else 1
        cpus = self.cpus[:threads] if self.cpus is not None else None
        return dataclasses.replace(
            _XDP[self.preset], threads=threads, cpus=cpus, symmetric_rss=self.symmetric_rss
        )

    def tpacket(self) -> TpacketOptions:
        """Raises ``OptionError``."""
        return dataclasses.replace(_TPACKET[self.preset], threads=self.threads, cpus=self.cpus)
