"""A deployer's things: an env with secrets, keys and certificates, and what opens the tokens."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fakes.keys import certificate, private_pem, rsa_key
from flow.conftest import Outcome, Project
from secure_build.contract.encryption import token
from secure_build.contract.encryption.token import Token

SEED, API_KEY = "canary-seed-0123456789", "canary-api-key-0123456789"
SECRETS = {"SEED": SEED, "API_KEY": API_KEY}
ENV: dict[str, Any] = {
    "logging": {"log-router": {"hostname": "logs.example.com", "iam-api-key": {"secret": "API_KEY"}}},
    "volumes": {"data": {"seed": {"secret": "SEED"}}},
}
WORKLOAD = f"""\
type: workload
# kept
play:
  resources:
  - apiVersion: v1
    kind: Pod
    metadata: {{name: app}}
    spec: {{containers: [{{name: app, image: 'us.icr.io/acme/app@sha256:{"a" * 64}'}}]}}
volumes:
  data: {{seed: 'theirs-0123456789abc'}}
"""


def runtime(project: Project, name: str = "runtime") -> dict[str, Any]:
    """`encrypt:` with the certificate of an image, pinned; the file is beside the config."""
    now = datetime.now(UTC)
    made = certificate(rsa_key(name, 4096), now - timedelta(days=1), now + timedelta(days=90))
    path = project.folder / f"{name}.crt"
    if not path.exists():
        path.write_bytes(made.public_bytes(Encoding.PEM))
    named = {"file": path.name, "sha256": pinned(path)}
    return {"certificate": named, "image-version": "99.0.0"}


def pinned(path: Path) -> str:
    lines = path.read_text().splitlines()[1:-1]
    return hashlib.sha256(base64.b64decode("".join(lines))).hexdigest()


def signing_certificate(key: str, *, starts: int = -1, ends: int = 90) -> bytes:
    """A certificate (PEM) for a signing key; `starts` and `ends` are days from now."""
    now = datetime.now(UTC)
    made = certificate(rsa_key(key), now + timedelta(days=starts), now + timedelta(days=ends))
    return made.public_bytes(Encoding.PEM)


def private(name: str, passphrase: str = "") -> bytes:
    return private_pem(rsa_key(name), passphrase)


def public(name: str) -> bytes:
    return rsa_key(name).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def deployer(project: Project, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """The project as a deployer's folder: `env` and `encrypt`, no images, nothing of git."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    project.configure(**{"images": None, "workload": None, "env": ENV, **changes})


def value(path: Path, section: str = "env") -> str:
    """The section of a contract file as YAML gives it to others."""
    found = yaml.safe_load(path.read_text())[section]
    assert isinstance(found, str)
    return found


def opened(text: str, name: str = "runtime") -> str:
    """What a token holds."""
    return token.decrypt(Token.parse(text, "the token"), rsa_key(name, 4096)).decode()


def env_of(project: Project) -> Any:
    """The env section that was written, as the guest reads it."""
    return yaml.safe_load(value(project.workdir / "env.draft.yaml"))


def refused(outcome: Outcome, code: int, *words: str) -> None:
    """The outcome has this code, says these words, and shows no traceback."""
    assert outcome.code == code, outcome.err + outcome.out
    for word in words:
        assert word in outcome.err, outcome.err
    assert "Traceback" not in outcome.err
