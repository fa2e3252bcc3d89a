"""Content Credentials, read back by C2PA's own reader; the certificates are made here by `cryptography`."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from echovideo_model.credentials import FORMATS, Credential
from echovideo_model.errors import InvalidRequest
from echovideo_model.picture import save_picture
from echovideo_model.provenance import DRAWN, TRAINED
from echovideo_model.video import read_mp4, write_mp4

c2pa = pytest.importorskip("c2pa", reason='needs c2pa-python: pip install ".[credentials]"')
x509 = pytest.importorskip("cryptography.x509")
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: E402
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID  # noqa: E402

KEYS = {
    "es256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "es384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ps256": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}


def issue(key: Any, name: str, issuer: tuple[Any, Any] | None = None) -> Any:
    """A certificate for `key`: of an authority of its own, or issued by another's (key, certificate)."""
    now = datetime.datetime.now(datetime.timezone.utc)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tests"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    by_key, by = issuer or (key, None)
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
    )
    usage |= {
        "digital_signature": issuer is not None,
        "key_cert_sign": issuer is None,
        "crl_sign": issuer is None,
    }
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage, encipher_only=False, decipher_only=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(by_key.public_key()), critical=False
        )
    )
    if issuer:
        made = made.add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False
        )
    return made.sign(by_key, None if isinstance(by_key, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def pem(*parts: Any, password: bytes | None = None) -> str:
    """Certificates and keys, each in PEM."""
    secret = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret
    return "".join(
        (
            part.private_bytes(*form)
            if hasattr(part, "private_bytes")
            else part.public_bytes(serialization.Encoding.PEM)
        ).decode()
        for part in parts
    )


def write_signer(path: Path, algorithm: str = "es256") -> Path:
    """A PEM file of a signer, whose certificate an authority of the tests issued."""
    root = KEYS["es256"]()
    authority = issue(root, "authority")
    key = KEYS[algorithm]()
    path.write_text(pem(issue(key, "signer", (root, authority)), authority, key), encoding="ascii")
    return path


def read_credential(path: Path) -> tuple[str, dict[str, Any]]:
    """C2PA's verdict on a file, and its active manifest."""
    with path.open("rb") as file, c2pa.Reader(FORMATS[path.suffix], file) as reader:
        store = json.loads(reader.json())
        return reader.get_validation_state(), store["manifests"][store["active_manifest"]]


def action(manifest: dict[str, Any]) -> dict[str, Any]:
    (actions,) = (
        one["data"]["actions"] for one in manifest["assertions"] if one["label"].startswith("c2pa.actions")
    )
    (only,) = actions
    return only


def test_a_signed_video_says_who_signed_that_ai_made_it_and_plays_as_before(tmp_path: Path) -> None:
    credential = Credential.read(write_signer(tmp_path / "signer.pem"))
    frames = torch.rand(5, 32, 48, 3)
    for name in ("plain.mp4", "signed.mp4"):
        write_mp4(tmp_path / name, frames, metadata={"prompt": "a"})
    credential.sign(tmp_path / "signed.mp4")
    verdict, manifest = read_credential(tmp_path / "signed.mp4")
    assert verdict == "Valid"  # "Trusted" is for authorities on C2PA's list
    assert manifest["signature_info"]["common_name"] == "signer"
    assert action(manifest)["action"] == "c2pa.created"
    assert action(manifest)["digitalSourceType"] == TRAINED
    assert action(manifest)["softwareAgent"]["name"] == "EchoVideo"
    (before, *facts), (after, *same) = read_mp4(tmp_path / "plain.mp4"), read_mp4(tmp_path / "signed.mp4")
    np.testing.assert_array_equal(before, after)
    assert facts == same
    assert TRAINED.encode() in (tmp_path / "signed.mp4").read_bytes()  # the label is still there, too


def test_a_change_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    write_mp4(path, torch.rand(5, 32, 48, 3))
    Credential.read(write_signer(tmp_path / "signer.pem")).sign(path)
    content = bytearray(path.read_bytes())
    content[content.index(b"mdat") + 40] ^= 1
    path.write_bytes(content)
    assert read_credential(path)[0] == "Invalid"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_pictures_are_signed_and_say_what_drew_them(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    save_picture(Image.new("RGB", (32, 32), "teal"), path, DRAWN)
    Credential.read(write_signer(tmp_path / "signer.pem")).sign(path, DRAWN)
    verdict, manifest = read_credential(path)
    assert verdict == "Valid"
    assert action(manifest)["digitalSourceType"] == DRAWN
    with Image.open(path) as picture:
        assert picture.convert("RGB").getpixel((3, 3)) == pytest.approx((0, 128, 128), abs=4)


@pytest.mark.parametrize("algorithm", KEYS)
def test_every_kind_of_key_signs_with_its_own_algorithm(tmp_path: Path, algorithm: str) -> None:
    assert Credential.read(write_signer(tmp_path / "signer.pem", algorithm)).algorithm == algorithm


def test_the_key_is_not_shown() -> None:
    assert "secret" not in repr(Credential("", "secret", "es256"))


def test_what_cannot_sign_is_refused_before_the_work(tmp_path: Path) -> None:
    key, root = KEYS["es256"](), KEYS["es256"]()
    authority = issue(root, "authority")
    own = issue(key, "signer", (root, authority))
    unknown = ec.generate_private_key(ec.SECP256K1())
    cases = {
        "must hold certificates and one private key.*it holds 2 and 0": pem(own, authority),
        "must hold certificates and one private key.*it holds 0 and 1": pem(key),
        "cannot be read without a password": pem(own, authority, key, password=b"closed"),
        "a key that C2PA does not support": pem(own, authority, unknown),
        "use a certificate that C2PA accepts.*self-signed": pem(authority, root),
    }
    for sentence, text in cases.items():
        (tmp_path / "bad.pem").write_text(text, encoding="ascii")
        with pytest.raises(InvalidRequest, match=sentence):
            Credential.read(tmp_path / "bad.pem")
    with pytest.raises(InvalidRequest, match="cannot read the certificate"):
        Credential.read(tmp_path / "nowhere.pem")
