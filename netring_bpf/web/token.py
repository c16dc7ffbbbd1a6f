"""The token that opens the page: where it comes from, and how it is compared."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from netring_bpf.errors import OptionError, TokenFileError
from netring_bpf.secret_file import exposure

__all__ = ["MAX_TOKEN", "MIN_TOKEN", "SESSION_ENDS", "TOKEN_VARIABLE", "Token", "read_token"]

TOKEN_VARIABLE: Final = "NETRING_WEB_TOKEN"  # noqa: S105 - a name
MIN_TOKEN: Final = 16  # characters; shorter ones can be guessed
MAX_TOKEN: Final = 512
SESSION_ENDS: Final = 30 * 24 * 3600  # seconds


def read_token(path: str | os.PathLike[str] | None = None) -> str | None:
    """Read the token from a file, or without one from the environment; None if there is none.

    Raises ``TokenFileError`` for a file that others can read or change.
    """
    if path is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    where = Path(path)
    try:
        with where.open("rb") as file:
            if fault := exposure(file.fileno()):
                raise TokenFileError(f"token in {where}: {fault}; chmod 600 {where}", path=where)
            text = file.read(2 * MAX_TOKEN).decode("ascii").strip()
    except OSError as error:
        raise TokenFileError(f"token in {where}: {error.strerror}", path=where) from error
    except UnicodeDecodeError:
        raise TokenFileError(
            f"token in {where}: it has other characters than ASCII", path=where
        ) from None
    if not text:
        raise TokenFileError(f"token in {where}: the file is empty", path=where)
    return text


class Token:
    """Compares what a client shows with the token. No repr shows it.

    A session's cookie is made of its end, the token, and a secret of this process. So the cookie
    does not tell the token, and ends with the process or after ``SESSION_ENDS``. ``clock``:
    returns seconds. Raises ``OptionError``.
    """

    def __init__(self, text: str, clock: Callable[[], float] = time.monotonic) -> None:
        is_good = MIN_TOKEN <= len(text) <= MAX_TOKEN and text.isascii() and text.isprintable()
        if not is_good or " " in text:
            raise OptionError(
                f"token: must have {MIN_TOKEN} to {MAX_TOKEN} characters of ASCII and no blank, "
                "as `openssl rand -hex 24` makes",
                option="token",
            )
        self._token = text.encode()
        self._secret = secrets.token_bytes(32)
        self._clock = clock

    def is_token(self, shown: str) -> bool:
        """Whether it is the token; takes as long whatever it is."""
        return hmac.compare_digest(shown.encode(errors="replace"), self._token)

    def new_session(self) -> str:
        """Return the cookie of a new session."""
        return self._session(int(self._clock()) + SESSION_ENDS)

    def is_session(self, shown: str) -> bool:
        """Whether it is the cookie of a session that has not ended."""
        end = shown.partition("-")[0]
        if not (end.isascii() and end.isdigit() and len(end) < 20):
            return False
        made = self._session(int(end))
        is_ours = hmac.compare_digest(shown.encode(errors="replace"), made.encode())
        return is_ours and self._clock() < int(end)

    def _session(self, end: int) -> str:
        signed = hmac.new(self._secret, b"%d " % end + self._token, hashlib.sha256)
        return f"{end}-{signed.hexdigest()}"
