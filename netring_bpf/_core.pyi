# The extension module that cffi builds: its functions are declared in ring/api.h.
from typing import Any

ffi: Any
lib: Any
