"""Work on contracts: to encrypt and sign one, to emit a large workload, to audit a machine."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.ground import Ground, ours, shell
from bench.measure import Command
from bench.registry_work import COSIGN, locked, project_command, using
from bench.row import Contest
from integration.project import Project
from services import certificates
from services.belongings import fingerprint

# As IBM's page "About the contract" has it, for both sections, and the signature over them.
_RECIPE = """
token() {
  password=$(openssl rand 32 | base64 -w0)
  wrapped=$(base64 -d <<<"$password" | openssl pkeyutl -encrypt -inkey runtime.crt -certin | base64 -w0)
  sealed=$(base64 -d <<<"$password" | openssl enc -aes-256-cbc -pbkdf2 -pass stdin -in "$1" | base64 -w0)
  echo "contract-basic.$wrapped.$sealed"
}
archive=$(tar -cz docker-compose.yml | base64 -w0)
printf 'type: workload\\ncompose:\\n  archive: %s\\n' "$archive" > workload.plain
key=$(openssl rsa -in signing.key -pubout | base64 -w0)
printf 'type: env\\nlogging:\\n  logRouter:\\n    hostname: logs.example.com\\n' > env.plain
printf '    iamApiKey: %s\\nsigningKey: %s\\n' "$LOGS_API_KEY" "$key" >> env.plain
workload=$(token workload.plain)
env=$(token env.plain)
signature=$(printf %s "$workload$env" | openssl dgst -sha256 -sign signing.key | base64 -w0)
printf 'workload: %s\\nenv: %s\\nenvWorkloadSignature: %s\\n' "$workload" "$env" "$signature" > contract.yaml
"""
_VERSION, _BASE_IMAGE = "26.9.1", "b" * 64


def encrypt(ground: Ground) -> Contest:
    """All of `run` where nothing is built, against the recipe."""
    project, _ = using(ground, 1, 0)
    _encrypting(ground, project, {})
    yield [
        project_command(project, ours("run", "--re-encrypt"), codes=(0, 5)),
        project_command(project, shell(_RECIPE), name="openssl script"),
    ]


def emit(count: int) -> Callable[[Ground], Contest]:
    """A workload of so many images, beside the least there is."""

    def contest(ground: Ground) -> Contest:
        commands = []
        for number, name in ((count, "secure-build"), (1, "1 image")):
            project, _ = using(ground, number, 0)
            locked(ground, project)
            commands.append(project_command(project, ours("contract", "workload"), name=name))
        yield commands

    return contest


def audit(count: int) -> Callable[[Ground], Contest]:
    """Every link from a machine's record to the commit; all that it asks for is in files."""

    def contest(ground: Ground) -> Contest:
        yield [_audit(ground, count, "secure-build"), _audit(ground, 1, "1 image")]

    return contest


def _audit(ground: Ground, count: int, name: str) -> Command:
    more = {"builder": "buildah", "attestations": {"sbom": []}, **COSIGN}
    project = ground.project(f"audited{count}", ground.registry.host, count, more=more)
    for image in project.config["images"].values():
        image["sign"] = ["cosign"]
    auditor = certificates.private_key(project.directory, "auditor")
    (project.directory / "auditor.pem").write_bytes(certificates.public_key(auditor))
    _encrypting(ground, project, {"auditor-disclosure": {"key": "auditor.pem"}})
    command = [*ours("run"), "--to", f"oci:{project.directory / 'images'}", "--output", "json"]
    said = subprocess.run(
        command, cwd=project.directory, env=project.environment, check=True, capture_output=True
    ).stdout
    key, certificate = _machine(project.directory)
    lines = [_VERSION, "Machine Type/Plant/Serial: 9175/02/EXAMPLE", "", f"{_BASE_IMAGE} baseimage"]
    lines += [f"{line['sha256']} {line['name']}" for line in json.loads(said)["expected-attestation"]]
    content = "".join(f"{line}\n" for line in lines)
    (project.directory / "se-checksums.txt").write_text(content)
    (project.directory / "se-signature.bin").write_bytes(certificates.sign(content.encode(), key))
    (project.directory / "known.yaml").write_text(f'"{_VERSION}": {{baseimage: {_BASE_IMAGE}}}\n')
    folder = project.workdir
    given = {
        "signature": "se-signature.bin",
        "certificate": certificate,
        "sha256": fingerprint(certificate),
        "known": "known.yaml",
        "contract": folder / "contract.yaml",
        "encryption-certificate": "runtime.crt",
        "key": auditor,
        "record": folder / "build-record.json",
        "record-key": ground.cosign_key.with_suffix(".pub"),
        "layout": "images",
        "repository": ".",
    }
    words = [word for option, value in given.items() for word in (f"--{option}", str(value))]
    for section in ("workload", "env"):
        words += ["--disclosure", str(folder / f"{section}.disclosure.json")]
    return project_command(project, ours("audit", "se-checksums.txt", *words), name=name)


def _machine(folder: Path) -> tuple[Path, Path]:
    """The key of a machine's records, and its certificate."""
    certificate, key = certificates.self_signed(folder, "attestation", "rsa:4096", days=300)
    return key, certificate


def _encrypting(ground: Ground, project: Project, more: dict[str, Any]) -> None:
    """Let the project make a whole contract, with tokens and a signature."""
    folder = project.directory
    certificate, _ = certificates.self_signed(folder, "runtime", "rsa:4096", days=300)
    certificate.rename(folder / "runtime.crt")
    key = certificates.private_key(folder, "signing", "rsa:4096")
    ground.environment.update({"SIGNING_KEY": key.read_text(), "LOGS_API_KEY": "an-example-of-a-key"})
    if key != folder / "signing.key":
        key.rename(folder / "signing.key")
    project.config["env"] = {
        "logging": {"log-router": {"hostname": "logs.example.com", "iam-api-key": {"secret": "LOGS_API_KEY"}}}
    }
    pin = fingerprint(folder / "runtime.crt")
    project.config["encrypt"] = {
        "certificate": {"file": "runtime.crt", "sha256": pin},
        "image-version": _VERSION,
        "signing-key": {"secret": "SIGNING_KEY"},
        **more,
    }
    (folder / ".gitignore").write_text("*.key\n*.plain\ncontract.yaml\n")
    project.commit()
