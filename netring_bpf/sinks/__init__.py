"""Sinks take events out of the process: one file each."""
