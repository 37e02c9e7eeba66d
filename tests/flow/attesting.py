"""Statements about the images of a project, made as `sign` makes them, and read with plain JSON."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flow.conftest import Project
from secure_build import record
from secure_build.model import Signature
from secure_build.report import Report
from secure_build.signers import StatementSigner
from secure_build.steps.attest import attest
from secure_build.steps.invocation import job
from secure_build.steps.job import Job, Options

PACKAGES = {
    "etc/os-release": 'ID=alpine\nVERSION_ID=3.20.0\nPRETTY_NAME="Alpine Linux v3.20"\n',
    "lib/apk/db/installed": "P:musl\nV:1.2.5-r0\nA:s390x\nL:MIT\nT:the musl c library\no:musl\n\n",
    "usr/lib/python3/site-packages/flask-3.0.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: flask\n"
    "Version: 3.0.0\n",
}


@dataclass(frozen=True)
class Statement:
    """A bundle of the layout: the artifact's subject, and the statement that is signed."""

    artifact: dict[str, Any]
    bundle: bytes
    content: dict[str, Any]


@contextlib.contextmanager
def opened(project: Project, *, workdir: Path | None = None, **options: Any) -> Iterator[Job]:
    given = Options(Path("secure-build.yaml"), workdir or project.workdir, **options)
    with job(given, Report()) as work:
        yield work


def attested(project: Project, *signers: StatementSigner, **options: Any) -> tuple[Signature, ...]:
    """The signatures of all images, kept in the record."""
    with opened(project, **options) as work:
        current = work.current_record()
        made = attest(work, current.images, signers)
        images = tuple(replace(image, signatures=made[image.name]) for image in current.images)
        record.write(work.record_path, replace(current, images=images))
    return tuple(signature for image in images for signature in image.signatures)


def blob(project: Project, digest: str) -> bytes:
    return (project.workdir / "layout" / "blobs" / digest.replace(":", "/")).read_bytes()


def statement_of(project: Project, signature: Signature) -> Statement:
    artifact = json.loads(blob(project, signature.kept))
    (layer,) = artifact["layers"]
    bundle = blob(project, layer["digest"])
    payload = json.loads(bundle)["dsseEnvelope"]["payload"]
    return Statement(artifact, bundle, json.loads(base64.b64decode(payload)))
