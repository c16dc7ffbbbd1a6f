"""What netring_bpf costs, by commands anyone can run: ``python -m benchmarks NAME``."""
