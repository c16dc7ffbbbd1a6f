"""The short-lived process that compiles and loads: the only file that imports BCC.

Run as a script by ``program.py``, never imported: BCC changes the working directory, prints to
descriptor 2 from C++ and leaves LLVM's memory behind, all of which ends with this process.
The request is one JSON message on the Unix socket whose descriptor is the only argument; the
answer is one JSON message, with the program's and the maps' descriptors attached when it worked.
"""

from __future__ import annotations

import array
import importlib.util
import json
import os
import socket
import sys
import tempfile
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any, Self

MAPS = ("xsks_map", "counters")
_PLACES = (
    "/usr/lib/python3/dist-packages/bcc",
    "/usr/local/lib/python3/dist-packages/bcc",
)
_PATTERNS = ("/usr/lib/python3*/site-packages/bcc", "/usr/lib64/python3*/site-packages/bcc")


class _FailedError(Exception):
    def __init__(self, kind: str, message: str, log: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.log = log


def _places() -> list[Path]:
    """Where distributions put BCC, then whatever this Python would import."""
    found = [Path(place) for place in _PLACES]
    for pattern in _PATTERNS:
        found += sorted(Path("/").glob(pattern.removeprefix("/")), reverse=True)
    spec = importlib.util.find_spec("bcc")
    if spec is not None and spec.origin is not None:
        found.append(Path(spec.origin).parent)
    return [place for place in found if (place / "__init__.py").is_file()]


def _import_from(place: Path) -> ModuleType | None:
    """BCC is pure ctypes over libbcc: one distribution's copy loads into any Python."""
    spec = importlib.util.spec_from_file_location(
        "bcc", place / "__init__.py", submodule_search_locations=[str(place)]
    )
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bcc"] = module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec.loader.exec_module(module)
    return module if hasattr(module, "BPF") else None


def _import_bcc() -> ModuleType:
    wrong: list[str] = []
    for place in _places():
        try:
            module = _import_from(place)
        except (ImportError, OSError, AttributeError) as error:
            raise _FailedError("bcc-broken", f"{place}: {error}") from error
        if module is not None:
            return module
        for name in [name for name in sys.modules if name.split(".")[0] == "bcc"]:
            del sys.modules[name]
        wrong.append(str(place))
    if wrong:
        raise _FailedError("bcc-wrong", ", ".join(wrong))
    raise _FailedError("bcc-missing", "")


class _CapturedStderr:
    """What C++ prints to descriptor 2, kept as text."""

    def __enter__(self) -> Self:
        self._file = tempfile.TemporaryFile()
        self._saved = os.dup(2)
        os.dup2(self._file.fileno(), 2)
        return self

    def __exit__(self, *_: object) -> None:
        os.dup2(self._saved, 2)
        os.close(self._saved)
        self._file.seek(0)
        self.text = self._file.read().decode(errors="replace")
        self._file.close()


def _load(request: dict[str, Any]) -> list[int]:
    # The bcc package reads these when it compiles; this process has no other use for them.
    os.environ["BCC_KERNEL_SOURCE"] = request["headers"]
    bcc = _import_bcc()
    captured = _CapturedStderr()
    stage = "compile"
    try:
        with captured:
            bpf = bcc.BPF(text=request["source"].encode(), cflags=request["cflags"])
            stage = "verify"
            function = bpf.load_func(request["function"], bcc.BPF.XDP)
    except Exception as error:  # BCC raises it bare; all of it is reported
        raise _FailedError(stage, str(error), captured.text) from error
    return [function.fd, *(bpf[name].map_fd for name in MAPS)]


def main() -> None:
    """Answer the one request, then end."""
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        request = json.loads(channel.makefile("rb").readline())
        try:
            descriptors = _load(request)
        except _FailedError as failure:
            answer = {"failed": failure.kind, "message": str(failure), "log": failure.log}
            channel.sendall(json.dumps(answer).encode())
            return
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        channel.sendmsg([json.dumps({"loaded": MAPS}).encode()], ancillary)


if __name__ == "__main__":
    main()
