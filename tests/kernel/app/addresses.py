"""Where the client and the servers are."""

from __future__ import annotations

CLIENT, CLIENT6, LEASED = "10.20.0.1", "fd20::1", "10.20.0.77"
SERVER, SERVER6 = "10.20.0.2", "fd20::2"
PORTS = {
    "ssh": 22, "smtp": 25, "dns": 53, "http": 80, "https": 443, "odd http": 8443, "old": 4443,
    "new": 4444, "proxy": 3128, "h2c": 993, "dtls": 4433,
}  # fmt: skip
SSH_BANNER = "SSH-2.0-Example_1.0"
