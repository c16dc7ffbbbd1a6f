"""The token that opens the page: where it comes from, and how it is compared."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Final

from netring_bpf.errors import OptionError, TokenFileError
from netring_bpf.secret_file import exposure

__all__ = ["MAX_TOKEN", "MIN_TOKEN", "TOKEN_VARIABLE", "Token", "read_token"]

TOKEN_VARIABLE: Final = "NETRING_WEB_TOKEN"  # noqa: S105 - a name
MIN_TOKEN: Final = 16  # characters; shorter ones can be guessed
MAX_TOKEN: Final = 512


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

    A session's cookie is made of the token and of a secret of this process, so the cookie does
    not tell the token, and ends with the process. Raises ``OptionError``.
    """

    def __init__(self, text: str) -> None:
        is_good = MIN_TOKEN <= len(text) <= MAX_TOKEN and text.isascii() and text.isprintable()
        if not is_good or " " in text:
            raise OptionError(
                f"token: must have {MIN_TOKEN} to {MAX_TOKEN} characters of ASCII and no blank, "
                "as `openssl rand -hex 24` makes",
                option="token",
            )
        self._token = text.encode()
        self.session: Final = hmac.new(
            secrets.token_bytes(32), self._token, hashlib.sha256
        ).hexdigest()

    def is_token(self, shown: str) -> bool:
        """Whether it is the token; takes as long whatever it is."""
        return hmac.compare_digest(shown.encode(errors="replace"), self._token)

    def is_session(self, shown: str) -> bool:
        """Whether it is the cookie of a session."""
        return hmac.compare_digest(shown.encode(errors="replace"), self.session.encode())
