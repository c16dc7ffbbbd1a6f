"""The user name and the password of an MQTT sink."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from netring_bpf.errors import SinkError
from netring_bpf.secret_file import exposure

__all__ = ["PASSWORD_VARIABLE", "USERNAME_VARIABLE", "Credentials"]

USERNAME_VARIABLE: Final = "NETRING_MQTT_USERNAME"
PASSWORD_VARIABLE: Final = "NETRING_MQTT_PASSWORD"  # noqa: S105 - a name


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """A user name and a password; no repr shows them."""

    username: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return f"Credentials({'set' if self.username is not None else 'none'})"

    @classmethod
    def read(cls, path: str | os.PathLike[str] | None) -> Credentials:
        """Read them from the file, or from the environment if there is no file.

        Raises ``SinkError`` for a file that others can read or change. An access control list
        may let single users read it, as systemd does for the credentials of a service.
        """
        if path is None:
            return cls(os.environ.get(USERNAME_VARIABLE), os.environ.get(PASSWORD_VARIABLE))
        try:
            with Path(path).open(encoding="utf-8") as file:
                if fault := exposure(file.fileno()):
                    raise SinkError(f"MQTT credentials in {path}: {fault}; chmod 600 {path}")
                lines = file.read().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SinkError(f"MQTT credentials in {path}: {error}") from None
        if not 1 <= len(lines) <= 2 or not lines[0]:
            raise SinkError(
                f"MQTT credentials in {path}: must be the user name on the first line and the "
                "password on the second"
            )
        return cls(lines[0], lines[1] if len(lines) == 2 else None)
