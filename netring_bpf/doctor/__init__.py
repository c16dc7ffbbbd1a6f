"""Finds what stands in the way of a capture, and the command that mends it."""
