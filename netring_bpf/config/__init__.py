"""The file of ``netring-bpf run``: what it may say, read and checked, as frozen values.

The tables are made of the option classes of the library, so that defaults, ranges and words are
said once. ``tables`` has the classes of the file itself, ``schema`` reads the fields of a class,
``places`` finds the line of a key, ``read`` reads and checks a file, ``default`` writes one.
"""

from netring_bpf.config.default import default_text
from netring_bpf.config.read import parse, read
from netring_bpf.config.tables import (
    CaptureConfig,
    Configuration,
    MetricsConfig,
    MqttConfig,
    RecorderConfig,
    RestartOptions,
    RunConfig,
)

__all__ = [
    "CaptureConfig",
    "Configuration",
    "MetricsConfig",
    "MqttConfig",
    "RecorderConfig",
    "RestartOptions",
    "RunConfig",
    "default_text",
    "parse",
    "read",
]
