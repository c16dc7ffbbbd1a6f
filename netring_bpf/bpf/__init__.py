"""The kernel's side: eBPF programs, their maps, and the XDP link."""
