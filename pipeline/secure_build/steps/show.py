"""contract show: what is in a contract, or in an encrypted attestation record; secrets masked unless asked.

Needs no config. Opens tokens with a private key where one is given; without one they are described.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from secure_build import files, secret, strict_yaml
from secure_build.contract import archive, document, schema
from secure_build.contract.deployment import expected, needs
from secure_build.contract.deployment.expected import Expected
from secure_build.contract.deployment.forms import Form
from secure_build.contract.deployment.needs import Deployment
from secure_build.contract.document import Contract, SectionText
from secure_build.contract.encryption import token
from secure_build.contract.encryption.token import Token, looks_like_token
from secure_build.contract.schema import Models
from secure_build.errors import RefusedError, UsageError
from secure_build.reference import Digest
from secure_build.steps.forms import write_form

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

_OF_SECTION = re.compile(r"^[\"']?type[\"']?:\s*[\"']?(workload|env)\b", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ShowOptions:
    """What the command line says. `passphrase` is the name of a secret."""

    file: Path
    target: str | None = None
    key: Path | None = None
    passphrase: str | None = None
    reveal: bool = False
    form: Form | None = None
    directory: Path = Path()


@dataclass(frozen=True, slots=True)
class ShownSection:
    """A section of a contract: its text, masked unless revealed, or None when it is a token still."""

    name: str
    digest: Digest
    encrypted: bool
    text: str | None


@dataclass(frozen=True, slots=True)
class Shown:
    """A contract for people: its sections, what the attestation record will show, what deployment needs."""

    sections: tuple[ShownSection, ...]
    lines: tuple[Expected, ...]
    deployment: Deployment
    files: tuple[Path, ...] = ()


def show(options: ShowOptions) -> Shown | str:
    """The contract, or the text of an attestation record; raises UsageError for a file that is neither.

    Raises RefusedError when the key is not the one, or the token damaged.
    """
    content = files.read(options.file, at_most=document.LARGEST)
    key = _private_key(options)
    name = str(options.file)
    values: dict[str, str]
    if looks_like_token(text := content.decode(errors="replace").strip()):
        record = _opened_record(Token.parse(text, name), key, name)
        if not (found := _OF_SECTION.search(record)):
            return record
        # Somebody's section, which has secrets.
        section: Literal["workload", "env"] = "workload" if found[1] == "workload" else "env"
        parts, values = [SectionText(name, section, text, 1)], {section: text}
    else:
        parts, values = parts_of(content, name)
    opened = {part.section: _open(part, key) for part in parts}
    pods = "confidential-containers" in (data(opened.get("workload")) or ())
    model = schema.models(options.target or ("ccco" if pods else "ccrt"))
    needed = needs.of(
        data(opened.get("workload")), data(opened.get("env")), user_data=content, read=archive.read
    )
    return Shown(
        sections=tuple(_shown(part, opened[part.section], options, model) for part in parts),
        lines=tuple(expected.of_sections(values)),
        deployment=needed,
        files=write_form(options.form, content, needed, options.directory),
    )


def parts_of(content: bytes, name: str) -> tuple[list[SectionText], dict[str, str]]:
    """The sections of a contract, or the one of a file that holds no more, and all values by name."""
    try:
        contract = Contract.parse(content, name)
    except UsageError:
        keys = strict_yaml.load(content, name, largest=document.LARGEST).data
        if isinstance(keys, dict) and keys.keys() >= set(document.SECTIONS):
            raise
        for only in document.SECTIONS:
            with contextlib.suppress(UsageError):
                part = document.read_section(content, name, expected=only)
                return [part], {only: part.value}
        raise
    parts = [contract.workload, contract.env, contract.attestation_public_key]
    return [part for part in parts if part is not None], contract.values


def _private_key(options: ShowOptions) -> RSAPrivateKey | None:
    if options.key is None:
        return None
    passphrase = secret.look_up(options.passphrase) if options.passphrase else None
    from secure_build.contract.encryption import key_material

    return key_material.private_key(files.read(options.key), passphrase, f"`{options.key}`")


def _opened_record(record: Token, key: RSAPrivateKey | None, name: str) -> str:
    if key is None:
        raise UsageError(f"`{name}` is encrypted", hint="name the private key that opens it: `--key FILE`")
    return _decrypted(record, key, name)


def _open(part: SectionText, key: RSAPrivateKey | None) -> SectionText | None:
    """The plain section, None for a token that stays closed."""
    if not part.is_token:
        return part
    if key is None:
        return None
    name = f"{part.name}: {part.section}"
    return replace(part, value=_decrypted(Token.parse(part.value, name), key, name), name=name, line=1)


def _decrypted(value: Token, key: RSAPrivateKey, name: str) -> str:
    try:
        return token.decrypt(value, key).decode()
    except RefusedError as error:
        raise RefusedError(f"{name}: {error.message}", hint=error.hint) from None


def _shown(
    part: SectionText, opened: SectionText | None, options: ShowOptions, model: Models
) -> ShownSection:
    text = None if opened is None else opened.value
    if opened is not None and not options.reveal and opened.section != "attestationPublicKey":
        text = opened.masked(model.section(opened.section))
    return ShownSection(part.section, part.digest, part.is_token, text)


def data(section: SectionText | None) -> Mapping[str, Any] | None:
    """What a plain section holds; None for a token, and for what is no mapping."""
    if section is None or section.document is None or not isinstance(section.document.data, dict):
        return None
    return section.document.data
