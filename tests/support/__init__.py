"""What the tests (and the demo) stand on: namespaces, frames, a sender, a broker."""
