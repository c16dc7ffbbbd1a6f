"""The short-lived process that compiles: the only file that imports BCC.

``compiler.py`` runs it as a script and never imports it. BCC changes the working directory, prints
to descriptor 2 from C++ and leaves LLVM's memory behind; all of that ends with this process.
The request is one JSON document on standard input, the answer one on standard output. An empty
request asks which BCC there is. Else the answer has the bytecode and the paths of the BCC files
that made it. The bytecode names each map by its index in the request's list, instead of by the
descriptor that BCC made.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import struct
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any, Self

_PLACES = (
    "/usr/lib/python3/dist-packages/bcc",
    "/usr/local/lib/python3/dist-packages/bcc",
)
_INSTRUCTION = struct.Struct("=BBhi")  # struct bpf_insn: code, registers, offset, immediate
_LD_IMM64, _PSEUDO_MAP_FD = 0x18, 1
_PATTERNS = ("/usr/lib/python3*/site-packages/bcc", "/usr/lib64/python3*/site-packages/bcc")


class _FailedError(Exception):
    def __init__(self, kind: str, message: str, log: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.log = log


def _places() -> list[Path]:
    """Return the folders of BCC: those of distributions, then that of this Python's ``bcc``."""
    found = [Path(place) for place in _PLACES]
    for pattern in _PATTERNS:
        found += sorted(Path("/").glob(pattern.removeprefix("/")), reverse=True)
    spec = importlib.util.find_spec("bcc")
    if spec is not None and spec.origin is not None:
        found.append(Path(spec.origin).parent)
    return [place for place in found if (place / "__init__.py").is_file()]


def _import_from(place: Path) -> ModuleType | None:
    """Import ``bcc`` from its folder; None if it is another package of that name."""
    # BCC is pure ctypes over libbcc, so a distribution's copy loads into any Python.
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
    """Keeps the text that C++ prints to descriptor 2."""

    def __enter__(self) -> Self:
        # In memory: the file system may be read-only.
        self._file = open(os.memfd_create("stderr"), "w+b")
        self._saved = os.dup(2)
        os.dup2(self._file.fileno(), 2)
        return self

    def __exit__(self, *_: object) -> None:
        os.dup2(self._saved, 2)
        os.close(self._saved)
        self._file.seek(0)
        self.text = self._file.read().decode(errors="replace")
        self._file.close()


def _tell() -> dict[str, Any]:
    """Load BCC with its libraries, and tell what was found."""
    bcc = _import_bcc()
    package = Path(str(bcc.__file__)).parent
    libraries = [path for path in _makers(bcc) if not path.startswith(f"{package}/")]
    version = str(getattr(bcc, "__version__", ""))
    return {"version": version, "package": str(package), "libraries": libraries}


def _compile(request: dict[str, Any]) -> dict[str, Any]:
    # The bcc package reads this variable when it compiles.
    os.environ["BCC_KERNEL_SOURCE"] = request["headers"]
    bcc = _import_bcc()
    captured = _CapturedStderr()
    try:
        with captured:
            bpf = bcc.BPF(text=request["source"].encode(), cflags=request["cflags"])
            code = bpf.dump_func(request["function"].encode())
            maps = [_map_fd(bcc, bpf, name) for name in request["maps"]]
    except Exception as error:  # BCC raises it bare; all of it is reported
        raise _FailedError("compile", str(error), captured.text) from error
    numbered = _number_maps(code, maps)
    return {"code": base64.b64encode(numbered).decode(), "made_by": _makers(bcc)}


def _map_fd(bcc: ModuleType, bpf: Any, name: str) -> int:
    # bpf[name] would read the number of CPUs from /sys, which may be absent.
    fd = int(bcc.lib.bpf_table_fd(bpf.module, name.encode()))
    if fd < 0:
        raise KeyError(name)
    return fd


def _number_maps(code: bytes, maps: list[int]) -> bytes:
    result = bytearray(code)
    for at in range(0, len(result), _INSTRUCTION.size):
        opcode, registers, offset, immediate = _INSTRUCTION.unpack_from(result, at)
        if opcode == _LD_IMM64 and registers >> 4 == _PSEUDO_MAP_FD:
            number = maps.index(immediate)
            _INSTRUCTION.pack_into(result, at, opcode, registers, offset, number)
    return bytes(result)


def _makers(bcc: ModuleType) -> list[str]:
    """Return the files that determine the bytecode: the package's own, libbcc, LLVM, Clang."""
    package = Path(str(bcc.__file__)).parent
    found = {str(package / name) for name in ("__init__.py", "version.py")}
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        path = line.split(maxsplit=5)[-1]
        if path.startswith("/") and any(part in path for part in ("libbcc", "libLLVM", "libclang")):
            found.add(path)
    return sorted(path for path in found if Path(path).is_file())


def main() -> None:
    """Answer the one request, then end."""
    # BCC prints to standard output too, which would spoil the answer.
    answer_fd = os.dup(1)
    os.dup2(2, 1)
    request = json.load(sys.stdin)
    try:
        answer = _compile(request) if request else _tell()
    except _FailedError as failure:
        answer = {"failed": failure.kind, "message": str(failure), "log": failure.log}
    with open(answer_fd, "w", encoding="ascii") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    main()
