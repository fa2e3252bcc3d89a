"""A signed Content Credential (C2PA) in a finished file: AI made it, and whose certificate vouches for that.

https://spec.c2pa.org. Needs c2pa-python (the extra `credentials`) and a certificate of the user's own. Nothing leaves
this machine, so the credential holds no time stamp of an authority.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from PIL import Image

from . import __version__
from .errors import DependencyMissing, InvalidRequest
from .files import write_atomically
from .provenance import MODEL, SOFTWARE, TRAINED

FORMATS = {
    ".mp4": "video/mp4",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
}
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", re.DOTALL)
_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----\n?", re.DOTALL)


@dataclass(frozen=True)
class Credential:
    """What signs files: certificates in PEM, the signing one first and up to its root, and that one's private key.

    algorithm: of C2PA's list, that of the key (es256, es384, es512, ps256, ed25519).
    """

    certificates: str
    key: str = field(repr=False)
    algorithm: str

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Credential:
        """From one PEM file that holds both; it is tried on a picture right away.

        Raises InvalidRequest for a file that lacks one, a key that is encrypted or of a kind that C2PA does not know,
        and a certificate that it does not accept; DependencyMissing without c2pa-python.
        """
        _import_c2pa()
        try:
            text = Path(path).read_text("ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"cannot read the certificate {path}: {error}") from error
        certificates, keys = _CERTIFICATE.findall(text), _KEY.findall(text)
        if not certificates or len(keys) != 1:
            raise InvalidRequest(
                f"{path} must hold certificates and one private key in PEM; "
                f"it holds {len(certificates)} and {len(keys)}"
            )
        key, algorithm = _read_key(keys[0], path)
        made = cls("".join(certificates), key, algorithm)
        trial = io.BytesIO()
        Image.new("RGB", (8, 8)).save(trial, "PNG")
        trial.seek(0)
        made._sign(trial, io.BytesIO(), "image/png", TRAINED)
        return made

    def sign(self, path: str | os.PathLike[str], source_type: str = TRAINED) -> None:
        """Puts the credential into a finished file, whole or not at all; its suffix, one of FORMATS, is its format."""
        with (
            write_atomically(path) as temporary,
            open(path, "rb") as source,
            open(temporary, "w+b") as signed,
        ):
            self._sign(source, signed, FORMATS[Path(path).suffix.lower()], source_type)

    def is_signed(self, path: str | os.PathLike[str]) -> bool:
        """Whether the file holds a credential, valid or not, of anybody."""
        c2pa = _import_c2pa()
        try:
            with open(path, "rb") as file, c2pa.Reader(FORMATS[Path(path).suffix.lower()], file):
                return True
        except c2pa.C2paError.ManifestNotFound:
            return False

    def sign_mp4(self, content: bytes) -> bytes:
        """`sign` for a video that is not a file yet."""
        signed = io.BytesIO()
        self._sign(io.BytesIO(content), signed, FORMATS[".mp4"], TRAINED)
        return signed.getvalue()

    def _sign(self, source: BinaryIO, signed: BinaryIO, kind: str, source_type: str) -> None:
        c2pa = _import_c2pa()
        info = c2pa.C2paSignerInfo(self.algorithm, self.certificates.encode(), self.key.encode(), None)
        try:
            with c2pa.Signer.from_info(info) as signer, c2pa.Builder(_manifest(source_type)) as builder:
                builder.sign(signer, kind, source, signed)
        except c2pa.C2paError as error:
            raise InvalidRequest(
                f"use a certificate that C2PA accepts (not a self-signed one, for signing documents or e-mail): {error}"
            ) from error


def _manifest(source_type: str) -> str:
    agent = {"name": MODEL, "version": __version__}
    created = {"action": "c2pa.created", "digitalSourceType": source_type, "softwareAgent": agent}
    name, _, version = SOFTWARE.partition(" ")
    manifest: dict[str, Any] = {
        "claim_generator_info": [{"name": name, "version": version}],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [created]}}],
    }
    return json.dumps(manifest)


def _read_key(pem: str, path: str | os.PathLike[str]) -> tuple[str, str]:
    """The key in the form that C2PA's library reads (PKCS #8), and its algorithm."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (TypeError, ValueError) as error:  # TypeError: the key has a password
        raise InvalidRequest(
            f"the private key in {path} cannot be read without a password: {error}"
        ) from error
    algorithm = None
    if isinstance(key, ec.EllipticCurvePrivateKey):
        algorithm = _CURVES.get(key.curve.name)
    elif isinstance(key, rsa.RSAPrivateKey):
        algorithm = "ps256"
    elif isinstance(key, ed25519.Ed25519PrivateKey):
        algorithm = "ed25519"
    if algorithm is None:
        raise InvalidRequest(
            f"{path} holds a key that C2PA does not support: use one of P-256, P-384, P-521, RSA or Ed25519"
        )
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(*form).decode(), algorithm


def _import_c2pa() -> ModuleType:
    try:
        import c2pa
    except ImportError as error:
        raise DependencyMissing(
            f'"{sys.executable}" -m pip install c2pa-python: signing a Content Credential needs it ({error})'
        ) from error
    return c2pa
