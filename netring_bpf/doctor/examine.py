"""Runs all checks, one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from netring_bpf.doctor.finding import Asked, Finding, State, run_checks
from netring_bpf.doctor.machine import machine_checks
from netring_bpf.doctor.port import check_backend, find_port, port_checks
from netring_bpf.doctor.trial import try_backends

__all__ = ["examine", "works"]


def examine(asked: Asked) -> Iterator[Finding]:
    """Yield what each check finds, as soon as it is known.

    Needs no rights, but tells more with them. Blocks for up to some seconds in all, while programs
    are compiled and frames are sent.
    """
    port = find_port(asked) if asked.interface is not None else None
    known = None if port is None or isinstance(port, Finding) else port
    checks = [*machine_checks(asked, known.interface if known else None)]
    if isinstance(port, Finding):
        checks.append((port.check, lambda: port))
    elif port is not None:
        checks += port_checks(asked, port)
    found: list[Finding] = []
    for finding in run_checks(checks):
        found.append(finding)
        yield finding
    if known is not None:
        hindered = not works(found)
        backend = ("backend", lambda: check_backend(asked, known, hindered=hindered))
        yield from run_checks([backend])
    yield from try_backends(asked)


def works(findings: Iterable[Finding]) -> bool:
    """Whether capturing works, as far as the checks could tell."""
    return all(finding.state is not State.BAD for finding in findings)
