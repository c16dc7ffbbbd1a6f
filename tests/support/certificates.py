"""Certificates of an authority of our own, made by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path

__all__ = ["Certificates"]

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


class Certificates:
    """The files of an authority, a server at 127.0.0.1, another server, and a client.

    ``elsewhere`` has the key of ``server``. ``encrypted_key`` is that of the client, with a
    password.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.authority, self._authority_key = folder / "ca.pem", folder / "ca.key"
        self._openssl(
            "req", "-x509", *_NEW_KEY, "-nodes", "-days", "2", "-subj", "/CN=ours",
            "-keyout", self._authority_key, "-out", self.authority,
        )  # fmt: skip
        self.server_key = self._key("server")
        self.server = self._signed("server", self.server_key, "subjectAltName=IP:127.0.0.1")
        self.elsewhere = self._signed("elsewhere", self.server_key, "subjectAltName=IP:192.0.2.1")
        self.client_key = self._key("client")
        self.client = self._signed("client", self.client_key, "extendedKeyUsage=clientAuth")
        self.encrypted_key = folder / "encrypted.key"
        self._openssl(
            "ec", "-aes256", "-passout", "pass:secret", "-in", self.client_key,
            "-out", self.encrypted_key,
        )  # fmt: skip

    def _key(self, name: str) -> Path:
        path = self._folder / f"{name}.key"
        self._openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)
        return path

    def _signed(self, name: str, key: Path, extension: str) -> Path:
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        certificate = self._folder / f"{name}.pem"
        extensions.write_text(f"{extension}\n")
        self._openssl("req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", request)
        self._openssl(
            "x509", "-req", "-in", request, "-CA", self.authority, "-CAkey", self._authority_key,
            "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", certificate,
        )  # fmt: skip
        return certificate

    def _openssl(self, *arguments: str | Path) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)
