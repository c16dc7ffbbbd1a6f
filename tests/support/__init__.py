"""The base of the tests and the demo: namespaces, frames, a sender, a broker."""
