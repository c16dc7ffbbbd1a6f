"""Builds netring_bpf._core: the C files of this folder and its rooms, with api.h as the cdef."""

from __future__ import annotations

import os
from pathlib import Path

from cffi import FFI

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parent.parent
# Only the project's own builds are strict: a user's newer compiler may warn of more.
_STRICT = ["-Wall", "-Wextra", "-Werror", "-Wno-error=cpp"] if os.environ.get("CI") else ["-Wall"]

ffibuilder = FFI()
ffibuilder.cdef((_HERE / "api.h").read_text(encoding="ascii"))
ffibuilder.set_source(
    "netring_bpf._core",
    '#include "core.h"',
    sources=[os.path.relpath(path, _ROOT) for path in sorted(_HERE.rglob("*.c"))],
    include_dirs=[os.path.relpath(_HERE, _ROOT)],
    depends=[os.path.relpath(path, _ROOT) for path in sorted(_HERE.rglob("*.h"))],
    extra_compile_args=["-std=c11", "-D_GNU_SOURCE", "-O2", "-fvisibility=hidden", *_STRICT],
    libraries=["dl"],  # dlopen, where the C library is older than glibc 2.34
    py_limited_api=True,
)

if __name__ == "__main__":
    ffibuilder.compile(tmpdir=str(_ROOT), verbose=True)
