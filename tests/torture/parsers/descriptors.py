"""Archives, and the descriptors in them."""

from __future__ import annotations

import base64
import gzip
import io
import tarfile
from pathlib import PurePosixPath

from secure_build import strict_yaml
from secure_build.contract import (
    archive,
    compose_advice,
    interpolation,
    pinning,
    play_advice,
)
from secure_build.contract.checks import archives
from secure_build.contract.compose import ComposeFile
from secure_build.contract.confidential import pods_advice
from secure_build.contract.confidential.pods import ConfidentialFile
from secure_build.contract.confidential.policy import Policy
from secure_build.contract.play import PlayFile, check_together
from torture.parsers.table import files, parser, text

# Archives


def tar(*members: tuple[str, bytes, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as opened:
        for name, kind, content in members:
            header = tarfile.TarInfo(name)
            header.type, header.size, header.linkname = kind, len(content), "../target"
            opened.addfile(header, io.BytesIO(content))
    return buffer.getvalue()


COMPOSE = b"services: {a: {image: us.icr.io/team/a@sha256:" + b"a" * 64 + b"}}\n"
TARS = (
    tar(("docker-compose.yml", tarfile.REGTYPE, COMPOSE), ("d/é" + "x" * 150, tarfile.REGTYPE, b"x")),
    tar(
        ("docker-compose.yaml", tarfile.REGTYPE, COMPOSE),
        ("x" * 300, tarfile.REGTYPE, b""),
        form=tarfile.GNU_FORMAT,
    ),
    tar(("../a", tarfile.SYMTYPE, b""), ("b", tarfile.LNKTYPE, b""), ("c", tarfile.FIFOTYPE, b"")),
)


def unpacked(written: str) -> None:
    found = archive.unpack(written)
    for flaw in found.flaws:
        flaw.what.encode()
    for kind in ("compose", "play"):
        list(archives.problems(written, kind))
    archive.read(written)


@parser("tar", TARS, cost=3)
def _(content: bytes) -> None:
    unpacked(base64.b64encode(gzip.compress(content, 1)).decode())


@parser("gzip", [gzip.compress(TARS[0], mtime=0), gzip.compress(bytes(1 << 20), mtime=0)], cost=5)
def _(content: bytes) -> None:
    unpacked(base64.b64encode(content).decode())


@parser("archive", [base64.b64encode(gzip.compress(one, mtime=0)) for one in TARS], cost=3)
def _(content: bytes) -> None:
    unpacked(text(content))


# Descriptors


@parser("compose", files("cases/compose/*.yml", "corpus/compose/*.yml"), cost=20)
def _(content: bytes) -> None:
    found = ComposeFile.parse(content, "docker-compose.yml")
    found.local_files()
    compose_advice.findings(found, ["A"])
    found.pinned(pinning.placeholders(found.places))


@parser("pods", files("cases/play/*.yml", "corpus/play/*.yml"), cost=20)
def _(content: bytes) -> None:
    found = PlayFile.parse(content, "pod.yml", templates=b"{{" in content)
    play_advice.findings([found], [PurePosixPath("a/b")])
    check_together([found])
    found.objects(pinning.placeholders(found.places))


@parser("confidential pods", files("cases/play/*.yml", "../examples/pods/deploy/*.yaml"), cost=20)
def _(content: bytes) -> None:
    found = ConfidentialFile.parse(content, "pods.yaml")
    pods_advice.findings(found, "peerpod")
    texts = pinning.placeholders(found.places)
    containers = found.containers(texts)
    Policy.read(Policy.of(containers).text())
    found.annotated(found.pinned(texts), "aW5pdA==")


@parser("interpolation", ["${A:-b${C}}", "$$x ${X?no} {{ .Env.A }}", "${A:+b}${B-c}"])
def _(content: bytes) -> None:
    written = text(content)
    interpolation.with_defaults(written)
    interpolation.with_values(written, {"A": "x", "B": "$A"}, blank=True)
    interpolation.names(written)
    interpolation.is_valid(written)
    interpolation.required({"a": [written]})


@parser("yaml", files("cases/config/*.yaml", "cases/objects/*.yml"), cost=5)
def _(content: bytes) -> None:
    for document in strict_yaml.load_all(content, "a.yaml"):
        document.line(("images", "web", 0))
