"""How long a test waits for what must come."""

from __future__ import annotations

from typing import Final

# Many times what an idle machine needs: a test that passes never waits so long, and a loaded
# machine does not make it fail.
PATIENCE: Final = 120.0  # seconds
