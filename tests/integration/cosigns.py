"""Both versions of cosign as other people run them, and images to sign in a registry."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from secure_build.attestations import artifact, classic, publication, statement
from secure_build.attestations.classic import Signed
from secure_build.layout import Layout
from secure_build.model import Descriptor
from secure_build.reference import Pinned, Reference
from secure_build.registry.client import RemoteRegistry
from secure_build.registry.http import Transport
from secure_build.signers import StatementSigner
from services import images, running
from services.sigstore import LocalSigstore

COSIGNS = ("cosign2", "cosign3")
PASSPHRASE = "correct horse"
_NO_LOG = '{"mediaType":"application/vnd.dev.sigstore.signingconfig.v0.2+json"}'
_NO_ROOT = (
    '{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1",'
    '"tlogs":[],"certificateAuthorities":[],"ctlogs":[],"timestampAuthorities":[]}'
)
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Cosigns:
    """The programs, with a home of their own; `folder` holds what they are told."""

    folder: Path

    def run(self, program: str, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": running.environment()["PATH"],
            "HOME": str(self.folder),
            "COSIGN_PASSWORD": PASSPHRASE,
            # Go's TUF client waits long for a network that is not there.
            "HTTPS_PROXY": "http://127.0.0.1:9",
            **variables,
        }
        return subprocess.run(
            [running.tool(program), *map(str, arguments)],
            check=False,
            env=environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def done(self, program: str, *arguments: str | Path, **variables: str) -> str:
        """What it writes; a failure fails the test with its words."""
        ended = self.run(program, *arguments, **variables)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def make_key(self, program: str, name: str) -> tuple[Path, Path]:
        self.done(program, "generate-key-pair", "--output-key-prefix", name)
        return self.folder / f"{name}.key", self.folder / f"{name}.pub"

    def sign(
        self,
        program: str,
        key: Path,
        image: Pinned,
        *,
        bundle: bool = False,
        log: LocalSigstore | None = None,
    ) -> None:
        """Sign in the classic form or as a bundle, which only cosign 3 makes; in a log where one is given."""
        if bundle:
            config = log.files.signing_config if log else self.no_log
            root = log.files.trusted_root if log else self.no_root
            more: tuple[str | Path, ...] = ("--signing-config", config, "--trusted-root", root)
        else:
            more = ("--rekor-url", log.url) if log else ("--tlog-upload=false",)
            if program == "cosign3":
                more = (*more, "--new-bundle-format=false", "--use-signing-config=false")
        variables = {"SIGSTORE_REKOR_PUBLIC_KEY": str(log.files.rekor)} if log and not bundle else {}
        self.done(program, "sign", "--yes", "--key", key, *more, str(image), **variables)

    def verify(
        self, program: str, public: Path, image: Pinned, *, log: LocalSigstore | None = None, kind: str = ""
    ) -> bool:
        """Whether it finds the image signed, or with `kind` a statement of this type.

        With a log it demands an entry there. `kind` is the only way in which cosign 2 reads bundles.
        """
        arguments: list[str | Path] = ["verify-attestation", "--type", kind] if kind else ["verify"]
        arguments += ["--key", public, *(() if log else ("--insecure-ignore-tlog=true",))]
        if kind and program == "cosign2":
            root = log.files.trusted_root if log else self.no_root
            arguments += ["--new-bundle-format", "--trusted-root", root]
        elif log and program == "cosign3":
            arguments += ["--trusted-root", log.files.trusted_root]
        variables = {}
        if log and program == "cosign2":
            variables = {
                "SIGSTORE_REKOR_PUBLIC_KEY": str(log.files.rekor),
                "SIGSTORE_ROOT_FILE": str(log.files.fulcio),
            }
        ended = self.run(program, *arguments, str(image), **variables)
        # A refusal, and not a mistake in how it was asked.
        assert "unknown flag" not in ended.stderr
        return ended.returncode == 0

    @property
    def no_log(self) -> Path:
        return self._file("no-log.json", _NO_LOG)

    @property
    def no_root(self) -> Path:
        return self._file("no-root.json", _NO_ROOT)

    def _file(self, name: str, content: str) -> Path:
        path = self.folder / name
        path.write_text(content)
        return path


@dataclass(frozen=True, slots=True)
class Published:
    """An image for two platforms in a repository of its own, and the layout that it came from."""

    registry: RemoteRegistry
    layout: Layout
    image: Pinned
    members: tuple[Pinned, ...]
    descriptor: Descriptor

    def put_bundle(self, signer: StatementSigner, content: bytes) -> None:
        """Sign a statement and publish it."""
        self.put(signer.sign(content), json.loads(content)["predicateType"])

    def put(self, bundle: bytes, predicate_type: str) -> None:
        """Keep a bundle in the layout and publish it."""
        kept = artifact.write(self.layout, bundle, predicate_type, self.descriptor)
        publication.publish_bundles(self.layout, [kept], self.registry, self.image.repository)

    def put_classic(self, signed: Signed) -> None:
        kept = classic.write(self.layout, signed)
        publication.publish_classic(self.layout, kept, self.registry, self.image)

    def bundles(self) -> list[bytes]:
        found = publication.read_bundles(self.registry, self.image.repository, self.image.digest)
        return [one.content for one in found]

    def about(self, predicate_type: str = statement.SIGNATURE) -> bytes:
        """A statement about this image."""
        return statement.statement(predicate_type, {}, [(str(self.image.repository), self.image.digest)])


def publish(
    folder: Path, host: str, transport: Transport, *, repository: str = "", variable: str = ""
) -> Published:
    """Put an image into a registry, by skopeo; `variable` makes another image of it."""
    number = next(_numbers)
    name = repository or f"cosign{os.getpid()}/web{number}"
    layout = Layout.create(folder / f"layout{number}")
    reference = Reference.parse(f"{host}/{name}:v{number}")
    images.busybox(layout, str(reference), variable=variable)
    images.push(layout, str(reference))
    ((_, descriptor),) = layout.entries()
    members = layout.manifest(descriptor).members
    return Published(
        RemoteRegistry(host, None, transport, push=True),
        layout,
        reference.pin(descriptor.digest),
        tuple(reference.pin(member.digest) for member in members),
        descriptor,
    )
