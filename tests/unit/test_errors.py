"""Errors: what they quote, and the limits that they name."""

from __future__ import annotations

import errno

import pytest

from netring_bpf.errors import (
    BccMissingError,
    InternalError,
    NetringError,
    PackageMissingError,
    ResourceLimitError,
    SinkError,
    SyscallError,
    did_you_mean,
    limits_explained,
    printable,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("eth0", "eth0"),
        ("bücher 魚", "bücher 魚"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\tc\x00", r"a\x0ab\x09c\x00"),
        ("\x7f\x9b", r"\x7f\x9b"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\udcff", r"\xff"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_nothing_that_a_terminal_obeys_is_left(text: str, shown: str) -> None:
    assert printable(text) == shown
    for error in (
        NetringError(text),
        SyscallError(text, errno.EIO),
        PackageMissingError(text, package="p"),
        InternalError(text, ValueError(text)),
    ):
        assert shown in str(error)
        assert str(error).isprintable()


@pytest.mark.parametrize(
    ("raised", "resource", "text"),
    [
        (MemoryError(), "memory", "open it: out of memory; "),
        (OSError(errno.ENOMEM, "Cannot"), "memory", "open it: Cannot; "),
        (OSError(errno.EMFILE, "Too many"), "descriptors", "open it: Too many; "),
        (OSError(errno.ENFILE, "Too many"), "descriptors", "open it: Too many; "),
        (SyscallError("bind", errno.ENOMEM), "memory", "open it: bind: Cannot allocate memory; "),
        (RuntimeError("can't start new thread"), "threads", "open it: no thread can be started; "),
        (
            ImportError("libx.so: failed to map segment from shared object"),
            "memory",
            "open it: libx.so: failed to map segment from shared object; ",
        ),
    ],
)
def test_a_limit_is_named_with_its_remedy(raised: Exception, resource: str, text: str) -> None:
    with pytest.raises(ResourceLimitError) as caught, limits_explained("open it"):
        raise raised
    assert caught.value.resource == resource
    assert str(caught.value).startswith(text)
    assert "ulimit" in str(caught.value)
    assert caught.value.__cause__ is raised


def test_another_error_of_the_operating_system_gets_its_place_in_the_tree() -> None:
    with pytest.raises(SyscallError) as caught, limits_explained("open it"):
        raise FileNotFoundError(errno.ENOENT, "No such file")
    assert (caught.value.call, caught.value.errno) == ("open it", errno.ENOENT)


@pytest.mark.parametrize(
    "raised",
    [
        SinkError("x"),
        BccMissingError("x"),
        SyscallError("bind", errno.EBUSY),
        PackageMissingError("x", package="p"),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        RuntimeError("another"),
        ImportError("another"),
        KeyboardInterrupt(),
    ],
)
def test_errors_that_have_a_place_or_are_no_limit_stay_as_they_are(raised: BaseException) -> None:
    with pytest.raises(type(raised)) as caught, limits_explained("open it"):
        raise raised
    assert caught.value is raised


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("eth", "; did you mean eth0?"),
        ("eht0", "; did you mean eth0?"),
        ("up", "; did you mean uplink-to-the-roof?"),  # its beginning
        ("u", ""),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_a_wrong_name_leads_to_the_one_that_is_most_like_it(wrong: str, meant: str) -> None:
    assert did_you_mean(wrong, ["lo", "eth0", "wlan0", "uplink-to-the-roof"]) == meant
    assert did_you_mean(wrong, []) == ""
