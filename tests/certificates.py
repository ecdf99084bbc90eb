"""Certificates: an authority of a test's own, and what it signs, made by the ``openssl`` command."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

KEY = ("-newkey", "rsa:2048", "-nodes", "-days", "2")


@dataclass(frozen=True)
class Signed:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates in *folder*."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder = folder
        self.own = Signed(folder / f"{name}.pem", folder / f"{name}.key")
        self._openssl("req", "-x509", *KEY, "-subj", f"/CN={name}", "-keyout", self.own.key, "-out", self.own.certificate)

    def sign(self, name: str) -> Signed:
        """Return a certificate for the host *name*."""
        signed, request = Signed(self.folder / f"{name}.pem", self.folder / f"{name}.key"), self.folder / f"{name}.csr"
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName=DNS:{name}\n")
        self._openssl("req", "-new", *KEY[:3], "-subj", f"/CN={name}", "-keyout", signed.key, "-out", request)
        signing = ("-CA", self.own.certificate, "-CAkey", self.own.key, "-CAcreateserial", "-days", "2", "-extfile", extensions)
        self._openssl("x509", "-req", "-in", request, *signing, "-out", signed.certificate)
        return signed

    def _openssl(self, *arguments: str | Path) -> None:
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
