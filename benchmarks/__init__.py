"""Commands that measure netring_bpf beside a floor or a peer: ``python -m benchmarks NAME``."""
