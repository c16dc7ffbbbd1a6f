"""The command's flags stand for the presets and options of the library."""

from __future__ import annotations

import pytest

from netring_bpf import TpacketOptions, XdpOptions
from netring_bpf.cli.tuning import Preset, Tuning
from netring_bpf.errors import OptionError

PRESETS: dict[Preset, tuple[XdpOptions, TpacketOptions]] = {
    "default": (XdpOptions(), TpacketOptions()),
    "throughput": (XdpOptions.throughput(), TpacketOptions.throughput()),
    "latency": (XdpOptions.latency(), TpacketOptions.latency()),
    "small-memory": (XdpOptions.small_memory(), TpacketOptions.small_memory()),
}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_the_library_s(preset: Preset) -> None:
    tuning = Tuning(preset)
    assert (tuning.xdp(), tuning.tpacket()) == PRESETS[preset]


def test_threads_are_of_tpacket_and_of_af_xdp_only_where_rss_is_symmetric() -> None:
    tuning = Tuning(threads=2, cpus=(0, 1))
    assert tuning.tpacket() == TpacketOptions(threads=2, cpus=(0, 1))
    assert tuning.xdp() == XdpOptions(cpus=(0,))
    both = Tuning(threads=2, cpus=(0, 1), symmetric_rss=True)
    assert both.xdp() == XdpOptions(threads=2, cpus=(0, 1), symmetric_rss=True)


def test_cpus_are_one_for_each_thread() -> None:
    with pytest.raises(OptionError, match="a CPU for each thread"):
        Tuning(threads=2, cpus=(0,)).tpacket()
