"""What the config says of variables, volumes and the env section, as the contract has it.

Secrets are looked up and files read here; what comes out is data in which secrets are `Secret` still.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from secure_build import files, secret
from secure_build.config import Env, File, SealedSecrets, SecretFile, SecretName, Workload
from secure_build.contract.auths import contract_key
from secure_build.errors import UsageError
from secure_build.reference import registry_name
from secure_build.secret import Secret
from secure_build.steps.job import Job

_PEM = "-----BEGIN "


def workload_parts(work: Job, config: Workload) -> dict[str, Any]:
    """Variables and volumes of the workload section; raises UsageError for a secret that is missing."""
    parts = {"env": config.env, "volumes": config.volumes}
    return {key: _written(work, value) for key, value in parts.items() if value}


def env_section(work: Job, config: Env, *, signing_key: str | None) -> dict[str, Any]:
    """The whole env section; `signing_key` as the contract has it.

    Raises UsageError for a secret or file that is missing.
    """
    parts = _written(work, config)
    if "auths" in parts:
        parts["auths"] = {contract_key(registry_name(host)): login for host, login in parts["auths"].items()}
    if "cacerts" in parts:
        # A list of at most one, by IBM's schema; several certificates are several keys of that one.
        parts["cacerts"] = [parts["cacerts"]]
    if signing_key is not None:
        parts["signingKey"] = signing_key
    return {"type": "env", **parts}


def sealed_secrets(work: Job, config: SealedSecrets) -> dict[str, str | Secret]:
    """The keys of sealed secrets, as PEM text."""
    written: dict[str, str | Secret] = _written(work, config)
    return written


def read_file(work: Job, name: str, *, at_most: int = files.SMALL) -> bytes:
    """A file that the config names, relative to its folder; raises UsageError when it cannot be had."""
    return files.read(work.loaded.directory / name, at_most=at_most)


def secret_content(
    work: Job, named: SecretName | SecretFile, *, at_most: int = files.SMALL
) -> tuple[bytes, str]:
    """What a named secret or a secret file holds, and how messages call it; the masker hides it."""
    if isinstance(named, SecretName):
        return secret.look_up(named.secret).reveal().encode(), f"in the secret `{named.secret}`"
    content = read_file(work, named.file, at_most=at_most)
    Secret(content.decode(errors="replace")).reveal()
    return content, f"`{named.file}`"


def _written(work: Job, value: Any, *, pem: bool = False) -> Any:
    """The value as the contract has it. PEM becomes base64 in one line, unless `pem`."""
    if isinstance(value, SecretName):
        found = secret.look_up(value.secret)
        text = found.reveal()
        return found if pem or not text.startswith(_PEM) else Secret(_base64(text.encode()))
    if isinstance(value, File | SecretFile):
        content = read_file(work, value.file)
        if isinstance(value, File) and b"PRIVATE KEY-----" in content:
            # It would be shown to everybody who may read the masked section.
            raise UsageError(f"`{value.file}` holds a private key where a certificate or public key belongs")
        text = _text(content, value.file) if pem else _base64(content)
        return text if isinstance(value, File) else Secret(text)
    if isinstance(value, BaseModel):
        as_pem = isinstance(value, SealedSecrets)
        return {
            field.serialization_alias or name: _written(work, part, pem=as_pem)
            for name, field in type(value).model_fields.items()
            if not _is_empty(part := getattr(value, name))
        }
    if isinstance(value, Mapping):
        return {key: _written(work, part) for key, part in value.items()}
    if isinstance(value, tuple):
        return [_written(work, part) for part in value]
    return value


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, Mapping | tuple) and not value)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _text(content: bytes, name: str) -> str:
    try:
        return content.decode("ascii")
    except UnicodeDecodeError:
        raise UsageError(f"`{name}` is no PEM file") from None
