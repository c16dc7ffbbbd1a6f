"""Room 1: the XDP program, how it is compiled, and how it is attached."""
