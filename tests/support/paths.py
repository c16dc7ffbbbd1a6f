"""The paths of the checkout, and of the captures that others made."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
ORACLES: Final = ROOT.parent / "shared" / "oracles"
