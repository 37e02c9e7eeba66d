"""What registries answer, the names in it, and where to go."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from secure_build import address, manifest
from secure_build.attestations import artifact
from secure_build.contract import (
    auths,
)
from secure_build.errors import SecureBuildError
from secure_build.layout import Layout
from secure_build.model import (
    BuilderName,
    Credential,
    Platform,
)
from secure_build.reference import Digest, Pinned, Reference, Repository, registry_name
from secure_build.registry import http, network, referrers, tokens
from secure_build.secret import Secret
from torture.parsers.table import IMAGE, NAME, dumped, parser, text

# Names


@parser(
    "reference", ["us.icr.io/acme/web:1.0", "nginx", f"{IMAGE}", "localhost:5000/a/b_c.d:x-1", "[::1]:5000/a"]
)
def _(content: bytes) -> None:
    written = text(content)
    found = Reference.parse(written)
    assert Reference.parse(str(found)) == found
    str(found.tagged()).encode()
    Pinned.parse(str(found.pin(IMAGE.digest)))


@parser(
    "names",
    ["sha256:" + "a" * 64, "linux/s390x", "linux/arm/v7", "buildx:one", "us.icr.io", "127.0.0.1:5000"],
)
def _(content: bytes) -> None:
    written = text(content)
    refused = 0
    for parse in (
        Digest.parse,
        Repository.parse,
        Pinned.parse,
        Platform.parse,
        BuilderName.parse,
        registry_name,
    ):
        try:
            assert str(parse(written)).encode()
        except SecureBuildError:
            refused += 1
    auths.is_key(written)
    if refused:
        Digest.parse(written)


@parser(
    "address",
    ["https://git.example/a/b.git", "ssh://git@git.example:22/a", "git@git.example:a/b", "../c", "/x"],
)
def _(content: bytes) -> None:
    own = address.Address.parse("https://git.example/a/b.git")
    found = own.resolve(text(content)) if content.startswith(b".") else address.Address.parse(text(content))
    assert found.same_server(own) in (True, False)
    assert found.origin
    assert address.Address.parse(str(found)) == found


@parser(
    "proxy", ["http://user:pass%20word@proxy.example:3128", "proxy.example", "http://[::1]:1", "socks5://x"]
)
def _(content: bytes) -> None:
    found = network.Proxies.of({"HTTPS_PROXY": text(content), "NO_PROXY": text(content)})
    found.for_address("https://registry.example/v2/")


# What registries answer


@parser(
    "challenge",
    [
        'Bearer realm="https://a.example/token",service="r.example",scope="repository:a/b:pull,push aws"',
        'Basic realm="x"',
        'Bearer realm="http://127.0.0.1:5000/token", error="invalid_token", Basic realm="y"',
        'BEARER realm="https://a:b@[::1]:99999/x?y=\\"z\\""',
    ],
)
def _(content: bytes) -> None:
    found = tokens.parse_challenge(content.decode("latin-1"))
    assert isinstance(found.scopes, tuple)
    if found.scheme == "bearer":
        tokens.check_realm(found.realm, "https://registry.example")
        tokens.check_realm(found.realm, "http://127.0.0.1:5000")


def jwt(claims: Any) -> str:
    return ".".join(base64.urlsafe_b64encode(dumped(part)).decode().rstrip("=") for part in ({}, claims, {}))


ACCESS = {"access": [{"type": "repository", "name": "a/b", "actions": ["pull", "push"]}]}


@parser(
    "token",
    [
        dumped({"token": jwt(ACCESS), "expires_in": 300, "issued_at": "2026-01-01T00:00:00Z"}),
        dumped({"access_token": "opaque", "scope": "repository:a/b:pull,push repository:c:d:*"}),
    ],
)
def _(content: bytes) -> None:
    found = tokens.parse_token(content, "registry.example")
    for actions in (found.granted or {}).values():
        tokens.covers(actions, "pull")
    found.value.reveal()


@parser("claims of a token", [dumped(ACCESS), dumped({"exp": 10, "iat": 5})])
def _(content: bytes) -> None:
    written = "e30." + base64.urlsafe_b64encode(content).decode().rstrip("=") + ".e30"
    tokens.parse_token(dumped({"token": written}), "registry.example")
    auths.check_runtime(Credential("registry.example", "user", Secret(written)), None, allow_push=False)


ENTRY = {"mediaType": manifest.OCI_MANIFEST, "digest": str(IMAGE.digest), "size": 7}
OCI = {
    "schemaVersion": 2,
    "mediaType": manifest.OCI_MANIFEST,
    "artifactType": "application/x",
    "config": ENTRY,
    "layers": [ENTRY | {"annotations": {"a": "b"}}, ENTRY],
    "subject": ENTRY,
    "annotations": {"org.example": "text"},
}
INDEX = {
    "schemaVersion": 2,
    "mediaType": manifest.OCI_INDEX,
    "manifests": [
        ENTRY
        | {"platform": {"os": "linux", "architecture": "s390x", "variant": "v1"}, "annotations": {"a": "b"}},
        ENTRY | {"artifactType": "application/x"},
    ],
    "annotations": {},
}


@parser("manifest", [dumped(OCI), dumped(OCI | {"mediaType": manifest.DOCKER_MANIFEST})])
def _(content: bytes) -> None:
    kind = manifest.DOCKER_MANIFEST if b"docker" in content else manifest.OCI_MANIFEST
    found = manifest.parse(content, kind)
    str(found.descriptor.digest)
    referrers.subject_of(found)
    referrers.index_of([referrers.referrer_of(found)])
    artifact.bundle_of(found)
    for one in found.blobs:
        one.media_type.encode()


@parser("index", [dumped(INDEX), dumped(INDEX | {"mediaType": manifest.DOCKER_INDEX})])
def _(content: bytes) -> None:
    found = manifest.parse(content, manifest.DOCKER_INDEX if b"docker" in content else manifest.OCI_INDEX)
    for one in found.members:
        one.media_type.encode()
        str(one.platform).encode()


@parser("referrers", [dumped(INDEX), dumped({"manifests": None})])
def _(content: bytes) -> None:
    found = referrers.parse(content)
    assert referrers.parse(referrers.index_of(found)) == found
    for one in found:
        one.descriptor.media_type.encode()


@parser("link", ['</v2/a/referrers/x?n=1>; rel="next"', "<https://x/y>;a=b; rel=next, <z>; rel=prev"])
def _(content: bytes) -> None:
    referrers.next_page(content.decode("latin-1"))


@parser(
    "image config",
    [
        dumped({"os": "linux", "architecture": "s390x", "config": {"Entrypoint": ["/a"], "Cmd": ["b"]}}),
        dumped({"os": "linux", "architecture": "arm", "variant": "v7", "config": None}),
    ],
)
def _(content: bytes) -> None:
    str(manifest.platform_of_config(content)).encode()
    for parts in manifest.command_of_config(content):
        for part in parts:
            part.encode()


@parser("errors of a registry", [dumped({"errors": [{"code": "DENIED", "message": "no", "detail": {}}]})])
def _(content: bytes) -> None:
    said, _codes = http._registry_errors(content.decode(errors="replace"))
    said.encode()


@parser("retry-after", ["3", "Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 9999 07:28:00 -9999"])
def _(content: bytes) -> None:
    http._retry_after(content.decode("latin-1"))


@parser("layout", [dumped(INDEX), dumped({"manifests": []})], cost=20)
def _(content: bytes) -> None:
    layout = Layout.create(Path("layout").absolute())
    (layout.directory / "index.json").write_bytes(content)
    layout.entries()
    layout.find(NAME)
    layout.tagged(NAME)
    layout.name(NAME, manifest.parse(dumped(INDEX), manifest.OCI_INDEX).descriptor)
    assert layout.entries()
