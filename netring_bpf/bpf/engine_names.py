"""The engines that can run a filter on one frame, by name."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

__all__ = ["ENGINES", "EngineName"]

EngineName: TypeAlias = Literal["libpcap", "python", "tpacket", "xdp"]
ENGINES: Final[tuple[EngineName, ...]] = get_args(EngineName)
