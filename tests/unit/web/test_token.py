"""The token: where it is read from, and what it is compared with."""

from __future__ import annotations

from pathlib import Path

import pytest

from netring_bpf.errors import TokenFileError
from netring_bpf.web import TOKEN_VARIABLE, read_token
from netring_bpf.web.token import Token
from tests.support.web import TOKEN


def written(path: Path, text: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(text)
    path.chmod(mode)
    return path


def test_the_token_is_of_the_file_or_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert read_token() is None
    monkeypatch.setenv(TOKEN_VARIABLE, "")
    assert read_token() is None
    monkeypatch.setenv(TOKEN_VARIABLE, "of the environment")
    assert read_token() == "of the environment"
    assert read_token(written(tmp_path / "token", f"{TOKEN}\n".encode())) == TOKEN


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o602, 0o660, 0o644])
def test_a_file_that_others_can_read_or_change_is_refused(mode: int, tmp_path: Path) -> None:
    path = written(tmp_path / "token", TOKEN.encode(), mode)
    with pytest.raises(TokenFileError, match="chmod 600") as caught:
        read_token(path)
    assert caught.value.path == path
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"  \n", b"\xff\xfe", "päßwörter-sind-es".encode()])
def test_a_file_without_a_token_is_refused(text: bytes, tmp_path: Path) -> None:
    with pytest.raises(TokenFileError):
        read_token(written(tmp_path / "token", text))
    with pytest.raises(TokenFileError):
        read_token(tmp_path / "none")


def test_a_session_is_of_its_process_and_tells_no_token() -> None:
    one, other = Token(TOKEN), Token(TOKEN)
    assert one.is_token(TOKEN)
    assert not one.is_token(TOKEN[:-1])
    assert not one.is_token(TOKEN + "x")
    assert not one.is_token("\udc80ü")
    assert one.is_session(one.session)
    assert not one.is_session(other.session)
    assert not one.is_session(TOKEN)
    assert not one.is_token(one.session)
    assert TOKEN not in repr(vars(one)["session"]) + repr(one)
