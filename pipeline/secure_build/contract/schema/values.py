"""The kinds of text that stand in a contract: what each must look like, in words and as a pattern.

Grammar: IBM's published contract schema, which the guest applies itself; its expressions are Go's,
where `$` is the end of the text. Where we ask for more, the kind of the mistake is one of `STRICTER`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from secure_build.contract import keys
from secure_build.contract.auths import is_key
from secure_build.contract.keys import Kind
from secure_build.contract.schema import encodings
from secure_build.contract.schema.base import SECRET, refused
from secure_build.errors import UsageError
from secure_build.reference import Reference

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ONE_LINE = r"[A-Za-z0-9+/=]+"


def _schema(**keywords: Any) -> Any:
    """What the JSON schema says of a value that a function of ours checks."""
    return Field(json_schema_extra=keywords)


def _form(pattern: str) -> Any:
    return _schema(pattern=f"^(?:{pattern})$")


def _must(check: Callable[[str], object], message: str, rule: str = "form") -> AfterValidator:
    """Refuse a value that `check` has nothing for."""

    def checked(value: str) -> str:
        if not check(value):
            raise refused(rule, message)
        return value

    return AfterValidator(checked)


def _like(pattern: str, message: str, rule: str = "form") -> AfterValidator:
    return _must(re.compile(pattern, re.ASCII | re.DOTALL).fullmatch, message, rule)


def _at_least(length: int) -> AfterValidator:
    return _must(lambda value: len(value) >= length, f"must have at least {length} characters")


def _is_port(value: int) -> int:
    if value < 1:
        raise refused("form", "must be above 0")
    if value > 65535:
        raise refused("port-range", "must be at most 65535")
    return value


def _is_web_address(value: str) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in ("https", "http") and bool(parts.hostname) and not re.search(r"\s", value)
    except ValueError:
        return False


_SOMETHING = _must(bool, "must not be empty", "not-empty")
_DECODES = _must(lambda value: encodings.flat(value) is not None, "this base64 does not decode", "decodes")
_KEY_BLOB = _must(
    lambda value: set(value) == {"*"} or encodings.flat(value) is not None,
    "this base64 does not decode",
    "decodes",
)


def _image_key(kind: Kind, message: str) -> AfterValidator:
    def checked(key: str) -> str:
        if not keys.is_key(kind, key):
            raise refused("form", _why_no_key(kind, key) or message)
        return key

    return AfterValidator(checked)


def _why_no_key(kind: Kind, key: str) -> str | None:
    try:
        return keys.expressible(kind, Reference.parse(key))
    except UsageError:
        return None


def _material(label: str, what: str, *, several: bool = False) -> AfterValidator:
    """PEM whose labels match, or base64 of it."""

    def fine(value: str) -> bool:
        if value.startswith(encodings.PEM_START):
            bodies = encodings.pem(value, label)
            return bodies is not None and (several or len(bodies) == 1)
        return encodings.grouped(value) is not None

    return _must(fine, f"must be {what}: PEM text with its line breaks, or base64 of it")


_VARIABLE = "[A-Za-z_][A-Za-z0-9_]*"
_VOLUME = "[a-z_][a-z0-9_-]*"
_SIMPLE = "[A-Za-z0-9_-]+"
_SEED = r'[A-Za-z0-9!@#$%^&*(),.?":{}|<>_-]{15,}'
_MOUNT = "(?:/[^/]+)+"
_CRN = r"crn:v[0-9]+:(?:bluemix|staging):(?:public|dedicated|local):(?:[^:]+:){4}key:[^\n]+"
_ADDRESS = r"(?:[A-Za-z0-9-]+\.)*[A-Za-z0-9-]+:[0-9]{1,5}"
_HOST = rf"{_LABEL}(?:\.{_LABEL})*\.?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*"
_IMAGE = rf"{_LABEL}(?:\.{_LABEL})*(?::[0-9]+)?(?:/[a-z0-9._-]+)+(?:[:@][A-Za-z0-9_.:-]+)?|{_SIMPLE}"

VariableName = Annotated[
    str,
    _like(_VARIABLE, "the name of a variable has letters, digits and `_`, no digit first"),
    _form(_VARIABLE),
]
VolumeName = Annotated[
    str,
    _like(_VOLUME, "the name of a volume has small letters, digits, `_` and `-`, a letter or `_` first"),
    _form(_VOLUME),
]
SimpleName = Annotated[str, _like(_SIMPLE, "this name has letters, digits, `_` and `-` only"), _form(_SIMPLE)]
RegistryKey = Annotated[
    str,
    _must(
        is_key,
        "must be a registry's host, perhaps with a port, without scheme and path; each part of its name "
        "begins with a letter; Docker Hub is `https://index.docker.io/v1/`",
    ),
]
DctKey = Annotated[
    str,
    _image_key(
        "dct",
        "must be `host/namespace/name` without port and tag, with 3 to 30 characters of namespace and "
        "no dot in the name",
    ),
]
RhsKey = Annotated[
    str,
    _image_key(
        "rhs",
        "must be `host/path`, perhaps with a tag of at least 3 characters and a digest: a host with a dot "
        "and without port, a path without dots",
    ),
]
ImageName = Annotated[str, _like(_IMAGE, "must be the name of an image as the pod has it", "cosign-entry")]
Words = Annotated[
    Any, _must(lambda value: isinstance(value, str), "must be text", "not-text"), _schema(type="string")
]
NotEmpty = Annotated[str, _SOMETHING, _schema(minLength=1)]
HostName = Annotated[
    str, _like(_HOST, "must be a host name or an address, without scheme, port and path", "host-name")
]
Port = Annotated[int, AfterValidator(_is_port), _schema(minimum=1, maximum=65535)]
Base64 = Annotated[str, _SOMETHING, _DECODES, _schema(minLength=1)]
Archive = Annotated[
    str,
    _like("[A-Za-z0-9+/-]*={0,3}", "must be base64 on one line, without a line break at its end"),
    _at_least(4),
    _DECODES,
    _form("[A-Za-z0-9+/]{4,}={0,2}"),
]
Material = Annotated[str, _like(_ONE_LINE, "must be base64 on one line"), _DECODES, _form(_ONE_LINE)]
KeyBlob = Annotated[
    str,
    SECRET,
    _like(rf"{_ONE_LINE}|\*+", "must be base64 on one line, or a row of `*`"),
    _KEY_BLOB,
    _form(rf"{_ONE_LINE}|\*+"),
]
NotaryAddress = Annotated[
    str,
    _must(_is_web_address, "must be an address such as `https://notary.example.com`", "notary-address"),
]
Seed = Annotated[
    str,
    SECRET,
    _like(
        _SEED,
        'a seed has at least 15 characters: letters, digits and ! @ # $ % ^ & * ( ) , . ? " : { } | < > _ - '
        "(hexadecimal digits are fine, base64 is not)",
    ),
    _form(_SEED),
]
Mount = Annotated[
    str,
    _like(_MOUNT, "must be an absolute path without `/` at its end, such as `/mnt/data`"),
    _form(_MOUNT),
]
UltravisorSecret = Annotated[
    str, _like("index-[1-8]", "must be one of `index-1` to `index-8`"), _form("index-[1-8]")
]
CloudKey = Annotated[str, SECRET, _at_least(10), _schema(minLength=10)]
VolumeId = Annotated[str, _at_least(3), _schema(minLength=3)]
KeyName = Annotated[
    str, _like(_CRN, "must be the name of a root key: `crn:v1:bluemix:public:…:key:…`"), _form(_CRN)
]
Grep11Address = Annotated[str, _like(_ADDRESS, "must be `host:port`"), _form(_ADDRESS)]
Chain = Annotated[str, _SOMETHING, _material("CERTIFICATE", "a certificate or a chain of them", several=True)]
Certificate = Annotated[str, _SOMETHING, _material("CERTIFICATE", "one certificate")]
PrivateKey = Annotated[str, SECRET, _SOMETHING, _material("(?:[A-Z]+ )?PRIVATE KEY", "a private key")]
SigningKey = Annotated[
    str, _SOMETHING, _material("PUBLIC KEY|CERTIFICATE", "a public key (`PUBLIC KEY`) or a certificate")
]
PublicKey = Annotated[
    str,
    _must(
        lambda value: len(encodings.pem(value, "PUBLIC KEY") or ()) == 1,
        "must be a public key (`PUBLIC KEY`) as PEM text with its line breaks",
    ),
]
Signature = Annotated[
    str, _SOMETHING, _must(lambda value: encodings.grouped(value) is not None, "must be base64")
]
