"""``python -m netring_bpf``: the command ``netring-bpf``."""

from __future__ import annotations

from netring_bpf.cli import main

if __name__ == "__main__":
    main()
