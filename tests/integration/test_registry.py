"""The registry client against the CNCF registry: logins, tokens, TLS, proxies, copies, fewer requests."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from secure_build import stopping
from secure_build.errors import ServiceError
from secure_build.layout import Layout
from secure_build.model import BuilderVersion, Credential, Image
from secure_build.reference import Reference, Repository
from secure_build.registry.auth import machine_credential
from secure_build.registry.client import AccessError, RemoteRegistry
from secure_build.registry.http import Transport
from secure_build.registry.referrers import fallback_tag
from secure_build.secret import Secret, mask
from secure_build.steps.mirror import copy_image
from secure_build.steps.publish import send_image
from secure_build.steps.transfer import Holders, Upload
from services import certificates, images, running
from services.counting import CountingProxy
from services.needed import need
from services.running import RunningRegistry
from services.tokens import TokenService
from services.tunnel import TunnelProxy

USERS = {"publisher": "Canary?1>", "reader": "Canary?2>"}
RIGHTS = {"publisher": {"pull", "push"}, "reader": {"pull"}}


@pytest.fixture(scope="module")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Layout, Image]]:
    """Makes an image of two platforms, or one, in a layout, to go to this name."""
    need("busybox-amd64", "busybox-s390x")

    def make(name: str, *architectures: str, variable: str = "") -> tuple[Layout, Image]:
        layout = Layout.create(tmp_path_factory.mktemp("layout"))
        images.busybox(layout, name, architectures=architectures or ("amd64", "s390x"), variable=variable)
        descriptor = layout.entries()[0][1]
        image = Image("web", Reference.parse(name), descriptor, (), BuilderVersion("tests", "1"), None)
        return layout, image

    return make


@pytest.fixture
def transport() -> Iterator[Transport]:
    with Transport(deadline_seconds=20) as transport:
        yield transport


def skopeo(*arguments: str) -> bytes:
    need("skopeo")
    return subprocess.run(
        [running.tool("skopeo"), *arguments], env=running.environment(), capture_output=True, check=True
    ).stdout


def crane(*arguments: str) -> bytes:
    need("crane")
    return subprocess.run(
        [running.tool("crane"), *arguments], env=running.environment(), capture_output=True, check=True
    ).stdout


def remote(host: str, transport: Transport, user: str | None = None) -> RemoteRegistry:
    login = Credential(host, user, Secret(USERS[user])) if user else None
    return RemoteRegistry(host, login, transport, push=True)


# Tokens


@pytest.fixture
def token_service(tmp_path: Path) -> Iterator[TokenService]:
    need("openssl")
    with TokenService(tmp_path, USERS, RIGHTS) as service:
        yield service


@pytest.fixture
def token_registry(tmp_path: Path, token_service: TokenService) -> Iterator[RunningRegistry]:
    need("docker-registry")
    with running.registry(tmp_path / "registry", tokens=token_service.trust) as started:
        yield started


def test_one_token_publishes_an_image(
    token_registry: RunningRegistry,
    token_service: TokenService,
    busybox: Callable[..., tuple[Layout, Image]],
    transport: Transport,
) -> None:
    with CountingProxy(token_registry.host) as proxy:
        layout, image = busybox(f"{proxy.host}/acme/web:1")
        send_image(layout, image, remote(proxy.host, transport, "publisher"), jobs=4)
        assert [asked.scopes for asked in token_service.asked] == [("repository:acme/web:pull,push",)]
        assert [request.status for request in proxy.requests].count(401) == 1
    # Somebody else's client reads it with a reader's login.
    raw = skopeo(
        *("inspect", "--raw", "--tls-verify=false", f"--creds=reader:{USERS['reader']}"),
        f"docker://{token_registry.host}/acme/web:1",
    )
    assert raw == layout.manifest(image.descriptor).content


def test_who_may_push_is_read_from_the_token(
    token_registry: RunningRegistry, token_service: TokenService, transport: Transport
) -> None:
    web = Repository(token_registry.host, "acme/web")
    assert remote(web.registry, transport, "publisher").push_right(web) == "granted"
    assert remote(web.registry, transport, "reader").push_right(web) == "refused"
    # Both have answered right: the registry itself agrees with what the tokens told.
    remote(web.registry, transport, "publisher")._begin(web).close()
    assert remote(web.registry, transport, "publisher")._probe(web) == "granted"
    assert remote(web.registry, transport, "reader")._probe(web) == "refused"


def test_a_token_for_two_repositories_mounts(
    token_registry: RunningRegistry,
    token_service: TokenService,
    busybox: Callable[..., tuple[Layout, Image]],
    transport: Transport,
) -> None:
    layout, image = busybox(f"{token_registry.host}/base/busybox:1")
    client = remote(token_registry.host, transport, "publisher")
    send_image(layout, image, client, jobs=4)
    token_service.asked.clear()
    copied = copy_image(client, image.pinned, client, Reference.parse(f"{token_registry.host}/acme/web:1"))
    assert (copied.image.blobs, copied.image.mounted) == (0, 4)
    assert ("repository:acme/web:pull,push", "repository:base/busybox:pull") in [
        asked.scopes for asked in token_service.asked
    ]


def test_hardening_05_a_token_that_expires_between_post_and_put_is_replaced(
    tmp_path: Path, busybox: Callable[..., tuple[Layout, Image]], transport: Transport
) -> None:
    """The registry allows a minute of difference between clocks, so the tokens are that old already."""
    need("openssl", "docker-registry")
    with (
        TokenService(tmp_path, USERS, RIGHTS, seconds=-58) as service,
        running.registry(tmp_path / "registry", tokens=service.trust) as started,
    ):
        layout, image = busybox(f"{started.host}/acme/web:1", "s390x")
        blob = layout.manifest(image.descriptor).layers[0]

        def slowly() -> Iterator[bytes]:
            if len(service.asked) == 1:
                stopping.pause(3)
            yield from layout.chunks(blob)

        client = remote(started.host, transport, "publisher")
        assert client.put_blob(image.reference.repository, blob, slowly)
        assert client.has_blob(image.reference.repository, blob)
        assert len(service.asked) >= 2


def test_the_right_to_push_with_a_basic_login_is_tried_only_when_asked_for(
    tmp_path: Path, transport: Transport
) -> None:
    need("docker-registry")
    with (
        running.registry(tmp_path / "registry", htpasswd=USERS) as started,
        CountingProxy(started.host) as proxy,
    ):
        web = Repository(proxy.host, "acme/web")
        client = remote(proxy.host, transport, "reader")
        assert client.push_right(web) == "unknown"
        assert proxy.writes == []
        assert client.push_right(web, probe=True) == "granted"
        assert [(request.method, request.status) for request in proxy.writes] == [
            ("POST", 202),
            ("DELETE", 204),
        ]
    with running.registry(tmp_path / "registry", readonly=True) as started:
        web = Repository(started.host, "acme/web")
        assert remote(started.host, transport).push_right(web, probe=True) == "refused"


# Logins of the machine


def test_hardening_34_a_login_of_podman_for_one_namespace(
    token_registry: RunningRegistry,
    busybox: Callable[..., tuple[Layout, Image]],
    transport: Transport,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What skopeo writes we read."""
    host, file = token_registry.host, tmp_path / "auth.json"
    for key, user in ((f"{host}/acme", "publisher"), (host, "reader")):
        skopeo(
            *("login", "--tls-verify=false", f"--authfile={file}", f"--username={user}"),
            *(f"--password={USERS[user]}", key),
        )
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(file))
    login = machine_credential(Repository(host, "acme/web"))
    assert login
    assert login.username == "publisher"
    layout, image = busybox(f"{host}/acme/web:1")
    send_image(layout, image, RemoteRegistry(host, login, transport, push=True), jobs=4)
    other = machine_credential(Repository(host, "other/web"))
    assert other
    assert other.username == "reader"
    with pytest.raises(AccessError):
        send_image(*busybox(f"{host}/other/web:1"), RemoteRegistry(host, other, transport, push=True), jobs=4)


# TLS and proxies


@pytest.fixture
def tls_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[RunningRegistry, Path]]:
    """A registry called `registry.test` with a certificate of an authority of its own, and that one."""
    need("openssl", "docker-registry")
    authority = certificates.authority(tmp_path)
    server = certificates.signed(tmp_path, authority, "registry.test", ("127.0.0.1",))
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    with running.registry(tmp_path / "registry", htpasswd=USERS, tls=server) as started:
        yield started, authority[0]


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the names below `.test` lead to this machine."""
    usual = socket.getaddrinfo

    def look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        return usual("127.0.0.1" if str(host).endswith(".test") else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


def named(registry: RunningRegistry) -> str:
    return f"registry.test:{registry.host.rpartition(':')[2]}"


def publish_to(host: str, busybox: Callable[..., tuple[Layout, Image]]) -> Upload:
    layout, image = busybox(f"{host}/acme/web:1")
    # Made here: it reads the environment.
    with Transport(deadline_seconds=0, connect_seconds=5) as transport:
        return send_image(layout, image, remote(host, transport, "publisher"), jobs=2)


def test_a_registry_on_this_machine_with_certificates(
    tls_registry: tuple[RunningRegistry, Path],
    busybox: Callable[..., tuple[Layout, Image]],
    tmp_path: Path,
) -> None:
    registry, authority = tls_registry
    folder = tmp_path / "config" / "containers" / "certs.d" / registry.host
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_bytes(authority.read_bytes())
    assert publish_to(registry.host, busybox).blobs == 4


@pytest.mark.usefixtures("resolved")
def test_an_unknown_authority_is_refused(
    tls_registry: tuple[RunningRegistry, Path], busybox: Callable[..., tuple[Layout, Image]]
) -> None:
    host = named(tls_registry[0])
    with pytest.raises(ServiceError, match=r"no trusted connection: .*certificate verify failed") as raised:
        publish_to(host, busybox)
    assert raised.value.hint
    assert f"/etc/docker/certs.d/{host}/ca.crt" in raised.value.hint


@pytest.mark.usefixtures("resolved")
@pytest.mark.parametrize("way", ["SSL_CERT_FILE", "SSL_CERT_DIR", "containers", "docker"])
def test_an_authority_of_ones_own(
    tls_registry: tuple[RunningRegistry, Path],
    busybox: Callable[..., tuple[Layout, Image]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    way: str,
) -> None:
    registry, authority = tls_registry
    host = named(registry)
    if way == "SSL_CERT_FILE":
        monkeypatch.setenv(way, str(authority))
    elif way == "SSL_CERT_DIR":
        folder = tmp_path / "authorities"
        folder.mkdir()
        (folder / authority.name).write_bytes(authority.read_bytes())
        subprocess.run([running.tool("openssl"), "rehash", str(folder)], check=True, capture_output=True)
        monkeypatch.setenv(way, str(folder))
    else:
        folder = tmp_path / "config" / way / "certs.d" / host
        folder.mkdir(parents=True)
        (folder / "ca.crt").write_bytes(authority.read_bytes())
    assert publish_to(host, busybox).blobs == 4
    folder = tmp_path / "skopeo"
    folder.mkdir()
    (folder / "ca.crt").write_bytes(authority.read_bytes())
    skopeo(
        *("inspect", "--raw", f"--cert-dir={folder}", f"--creds=reader:{USERS['reader']}"),
        f"docker://{registry.host}/acme/web:1",
    )


@pytest.mark.usefixtures("resolved")
def test_the_authority_of_one_registry_is_not_that_of_another(
    tls_registry: tuple[RunningRegistry, Path],
    busybox: Callable[..., tuple[Layout, Image]],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "config" / "containers" / "certs.d" / "other.test"
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_bytes(tls_registry[1].read_bytes())
    with pytest.raises(ServiceError, match="no trusted connection"):
        publish_to(named(tls_registry[0]), busybox)


def test_a_tunnel_through_a_proxy(
    tls_registry: tuple[RunningRegistry, Path],
    busybox: Callable[..., tuple[Layout, Image]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The name is known to the proxy only, and to nobody when the proxy is not to be used."""
    registry, authority = tls_registry
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    password = "proxy-Canary?3>"
    with TunnelProxy({"registry.test:443": registry.host}, login=f"ann:{password}") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://ann:proxy-Canary%3F3%3E@{proxy.host}")
        assert publish_to("registry.test", busybox).blobs == 4
        assert set(proxy.asked) == {("CONNECT registry.test:443", 200)}
        assert mask(f"<{password}>") == "<***>"
        # Refused by the proxy, and nothing of its login told.
        monkeypatch.setenv("HTTPS_PROXY", f"http://ann:wrong-Canary@{proxy.host}")
        with pytest.raises(ServiceError, match=r"through the proxy: .*407") as raised:
            publish_to("registry.test", busybox)
        assert "Canary" not in str(raised.value)
        assert proxy.host not in str(raised.value) or "@" not in str(raised.value)
        # Around it.
        proxy.asked.clear()
        monkeypatch.setenv("NO_PROXY", ".example.com,registry.test:443")
        with pytest.raises(ServiceError, match=r"cannot reach registry\.test"):
            publish_to("registry.test", busybox)
        assert proxy.asked == []


def test_this_machine_is_never_reached_through_a_proxy(
    registry: RunningRegistry,
    busybox: Callable[..., tuple[Layout, Image]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with TunnelProxy({}) as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://{proxy.host}")
        layout, image = busybox(f"{registry.host}/not-proxied{os.getpid()}/web:1")
        with Transport() as transport:
            send_image(layout, image, remote(registry.host, transport), jobs=2)
        assert proxy.asked == []


# Requests


@pytest.mark.parametrize("architectures", [("s390x",), ("amd64", "s390x")])
def test_fewer_requests_than_skopeo_and_crane(
    tmp_path: Path,
    busybox: Callable[..., tuple[Layout, Image]],
    transport: Transport,
    architectures: tuple[str, ...],
) -> None:
    """Though we alone read back what we wrote. A registry of its own, so that nobody mounts by chance.

    Measured with crane 0.20 and skopeo 1.9, the first time and again: for one platform ours 10 and 1,
    crane's 11 and 2, skopeo's 11 and 4; for two platforms ours 19 and 1, crane's 23 and 2, skopeo's
    20 and 8.
    """
    need("docker-registry", "skopeo", "crane")
    with (
        running.registry(tmp_path / "registry") as started,
        CountingProxy(started.host) as proxy,
    ):
        layout, image = busybox(f"{proxy.host}/ours/web:1", *architectures)
        where = f"oci:{layout.directory}:{image.reference}"
        client = remote(proxy.host, transport)
        ways: dict[str, Callable[[], object]] = {
            "ours": lambda: send_image(layout, image, client, jobs=4),
            "crane": lambda: crane("push", "--insecure", str(layout.directory), f"{proxy.host}/crane/web:1"),
            "skopeo": lambda: skopeo(
                *("copy", "--all", "--dest-tls-verify=false", where, f"docker://{proxy.host}/skopeo/web:1")
            ),
        }
        counts = {}
        for name, send in ways.items():
            counts[name] = tuple(len(_after(send, proxy)) for _ in range(2))
        assert counts["ours"] == ((10, 1) if len(architectures) == 1 else (19, 1))
        for peer in ("crane", "skopeo"):
            assert all(ours < theirs for ours, theirs in zip(counts["ours"], counts[peer], strict=True)), (
                counts
            )


def _after(send: Callable[[], object], proxy: CountingProxy) -> list[object]:
    proxy.taken()
    send()
    return [*proxy.taken()]


# Sparse layouts


def test_layers_that_a_builder_has_pushed_need_not_be_in_the_layout(
    registry: RunningRegistry, busybox: Callable[..., tuple[Layout, Image]], transport: Transport
) -> None:
    """Somebody else's client puts the blobs there, as a remote builder does: by digest."""
    layout, image = busybox(f"{registry.host}/sparse{os.getpid()}/web:1")
    repository = image.reference.repository
    pushed = skopeo_layout(layout, image, f"{repository}:pushed-by-somebody")
    layers = [
        layer for one in layout.manifest(image.descriptor).members for layer in layout.manifest(one).layers
    ]
    for layer in layers:
        (layout.directory / "blobs" / "sha256" / layer.digest.hexadecimal).unlink()
    client = remote(registry.host, transport)
    assert send_image(layout, image, client, jobs=4) == Upload()
    assert skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{image.reference}") == pushed
    crane("validate", "--insecure", f"--remote={image.reference}")
    elsewhere = Reference.parse(f"{registry.host}/sparse{os.getpid()}/elsewhere:1")
    with pytest.raises(ServiceError, match="is neither in the layout nor in"):
        send_image(layout, replace(image, reference=elsewhere), client, jobs=4)
    assert client.tagged(elsewhere) is None


def skopeo_layout(layout: Layout, image: Image, name: str) -> bytes:
    """Copy the image out of the layout to this name; returns its manifest as it is there."""
    where = f"oci:{layout.directory}:{image.reference}"
    skopeo("copy", "--all", "--dest-tls-verify=false", where, f"docker://{name}")
    return skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}")


# Copies


def test_a_mirrored_image_is_the_same_for_others(
    registry: RunningRegistry,
    tmp_path: Path,
    busybox: Callable[..., tuple[Layout, Image]],
    transport: Transport,
) -> None:
    """With a signature of cosign's kind and a referrer, read back by skopeo and crane."""
    need("docker-registry")
    layout, image = busybox(f"{registry.host}/upstream{os.getpid()}/busybox:1")
    source = remote(registry.host, transport)
    send_image(layout, image, source, jobs=4)
    signature, signed = busybox("example.com/signature:1", "s390x", variable="SIGNATURE=yes")
    tag = f"{fallback_tag(image.descriptor.digest)}.sig"
    here = Reference(image.reference.repository, tag)
    send_image(signature, Image("s", here, signed.descriptor, (), signed.builder, None), source, jobs=4)
    sbom = tmp_path / "sbom.json"
    sbom.write_text('{"spdxVersion": "SPDX-2.3"}')
    subject = _artifact(source, image, sbom.read_bytes())
    with running.registry(tmp_path / "mirror") as mirror:
        target = Reference.parse(f"{mirror.host}/kept/busybox:1")
        destination = remote(mirror.host, transport)
        copied = copy_image(source, image.pinned, destination, target)
        assert set(copied.evidence) == {signed.descriptor.digest, subject}
        assert crane("digest", "--insecure", str(target)).decode().strip() == str(image.descriptor.digest)
        for reference in (str(target), f"{target.repository}:{tag}"):
            skopeo(
                *("copy", "--all", "--src-tls-verify=false", f"docker://{reference}"),
                f"oci:{tmp_path}/pulled:{len(reference)}",
            )
        found = destination.referrers(target.repository, image.descriptor.digest)
        assert [one.descriptor.digest for one in found] == [subject]
        raw = skopeo(
            *("inspect", "--raw", "--tls-verify=false"),
            f"docker://{target.repository}:{fallback_tag(image.descriptor.digest)}",
        )
        assert json.loads(raw)["manifests"][0]["artifactType"] == "application/spdx+json"
        with CountingProxy(mirror.host) as proxy:
            again = remote(proxy.host, transport)
            reference = Reference.parse(f"{proxy.host}/kept/busybox:1")
            assert copy_image(source, image.pinned, again, reference).image == Upload(unchanged=True)
            assert proxy.writes == []


def _artifact(client: RemoteRegistry, image: Image, content: bytes) -> Any:
    """Put an artifact that refers to the image; returns its digest."""
    from secure_build import manifest
    from secure_build.model import Descriptor
    from secure_build.reference import Digest

    repository = image.reference.repository
    blobs = {
        Descriptor("application/vnd.oci.empty.v1+json", Digest.of(b"{}"), 2): b"{}",
        Descriptor("application/spdx+json", Digest.of(content), len(content)): content,
    }
    for blob, body in blobs.items():
        client.put_blob(repository, blob, lambda body=body: iter([body]))  # type: ignore[misc]
    empty, layer = map(images.document, blobs)
    document = {
        "schemaVersion": 2,
        "mediaType": manifest.OCI_MANIFEST,
        "artifactType": "application/spdx+json",
        "config": empty,
        "layers": [layer],
        "subject": images.document(image.descriptor),
    }
    artifact = manifest.parse(json.dumps(document).encode(), manifest.OCI_MANIFEST)
    client.put_manifest(repository, artifact)
    return artifact.descriptor.digest


def test_images_of_one_run_share_what_they_have_in_common(
    tmp_path: Path, busybox: Callable[..., tuple[Layout, Image]], transport: Transport
) -> None:
    need("docker-registry")
    with (
        running.registry(tmp_path / "registry") as started,
        CountingProxy(started.host) as proxy,
    ):
        made = [busybox(f"{proxy.host}/acme/{name}:1", "s390x", variable=f"N={name}") for name in "abcd"]
        client, holders = remote(proxy.host, transport), Holders()
        uploads = stopping.side_by_side(
            lambda pair: send_image(*pair, client, jobs=2, holders=holders), made, jobs=4
        )
        assert sum(upload.mounted for upload in uploads) == 3
        mounts = [request for request in proxy.requests if "mount=" in request.path]
        assert [request.status for request in mounts] == [201] * 3
        for _, image in made:
            crane("validate", "--insecure", f"--remote={image.reference}")
