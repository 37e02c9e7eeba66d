"""An audit from a machine's record back to the commit, and four more with one byte changed in each.

Makes all keys, commits and builds this example as `secure-build run` does, and plays the machine: its
record has the lines that were expected, and openssl signs it. What the auditor gets is in `.demo-audit`, one
folder for each audit, with its page beside it. With `--pictures DIR` Chromium takes a PNG of each page.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "examples"), str(ROOT / "tests")]

import demo  # noqa: E402

from services import certificates, running  # noqa: E402
from services.belongings import fingerprint  # noqa: E402
from services.browser import browser  # noqa: E402

FOLDER = ROOT / ".demo-audit"
VERSION, BASE_IMAGE = "26.9.1", "b" * 64
HANDED_OVER = (
    *("contract.yaml", "workload.disclosure.json", "env.disclosure.json"),
    *("build-record.json", "build-record.cosign.json"),
)


@dataclass(frozen=True)
class Play:
    """All who take part: the project, the machine's keys, and the registry's folder."""

    project: Path
    keys: Path
    registry: Path

    def secure_build(self, *arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = [str(demo.secure_build()), *arguments]
        return subprocess.run(
            command, cwd=folder or self.project, check=False, capture_output=True, text=True
        )

    def must(self, *arguments: str) -> str:
        outcome = self.secure_build(*arguments)
        if outcome.returncode:
            sys.exit(outcome.stderr)
        return outcome.stdout

    def run(self) -> Sequence[Mapping[str, str]]:
        """Build, sign and make the contract; the lines that its machine will show."""
        said = json.loads(self.must("run", "--to", f"oci:{FOLDER / 'images'}", "--output", "json"))
        lines: list[dict[str, str]] = said["expected-attestation"]
        return lines

    def commit(self, message: str) -> None:
        """Commit all, signed by the developer's SSH key."""
        signing = ("gpg.format=ssh", f"user.signingkey={self.keys / 'developer'}")
        identity = ("user.name=developer", "user.email=developer@example.com")
        settings = [word for one in (*identity, *signing) for word in ("-c", one)]
        for command in (["add", "."], [*settings, "commit", "--quiet", "-S", "-m", message]):
            subprocess.run(["git", *command], cwd=self.project, check=True)

    def hand_over(self, name: str) -> Path:
        """A folder with all that an auditor gets of what was made last."""
        folder = FOLDER / name
        folder.mkdir()
        for one in HANDED_OVER:
            shutil.copy(self.project / ".secure-build" / one, folder)
        for one in ("attestation.pem", "runtime.pem", "cosign.pub", "developer.pub", "auditor.key"):
            shutil.copy(self.keys / one, folder)
        shutil.copy(ROOT / "examples" / "audit" / "policy.yaml", folder)
        shutil.copytree(FOLDER / "images", folder / "images")
        (folder / "known.yaml").write_text(f'"{VERSION}": {{baseimage: {BASE_IMAGE}}}\n')
        subprocess.run(["git", "clone", "--quiet", self.project, folder / "clone"], check=True)
        return folder

    def record(self, folder: Path, expected: Sequence[Mapping[str, str]]) -> None:
        """What a machine shows whose contract gives these lines, signed as machines do."""
        lines = [VERSION, "Machine Type/Plant/Serial: 9175/02/EXAMPLE", "", f"{BASE_IMAGE} baseimage"]
        lines += [f"{line['sha256']} {line['name']}" for line in expected]
        content = "".join(f"{line}\n" for line in lines)
        (folder / "se-checksums.txt").write_text(content)
        signature = certificates.sign(content.encode(), self.keys / "attestation.key")
        (folder / "se-signature.bin").write_bytes(signature)

    def audit(self, folder: Path) -> None:
        """The page of an audit of what is in the folder, beside it."""
        given = {
            "signature": "se-signature.bin",
            "certificate": "attestation.pem",
            "sha256": fingerprint(folder / "attestation.pem"),
            "known": "known.yaml",
            "contract": "contract.yaml",
            "encryption-certificate": "runtime.pem",
            "key": "auditor.key",
            "record": "build-record.json",
            "record-key": "cosign.pub",
            "layout": "images",
            "repository": "clone",
            "config": "policy.yaml",
        }
        words = [word for name, value in given.items() for word in (f"--{name}", value)]
        for section in ("workload", "env"):
            words += ["--disclosure", f"{section}.disclosure.json"]
        outcome = self.secure_build("audit", "se-checksums.txt", *words, "--format", "html", folder=folder)
        if not outcome.stdout:
            sys.exit(outcome.stderr)
        page = folder.with_suffix(".html")
        page.write_text(outcome.stdout)
        verdict = outcome.stdout.partition('role="status">')[2].partition("<")[0]
        print(f"{folder.name:<12}{verdict:<66}{page.relative_to(ROOT)}")


def in_compose(play: Play, folder: Path) -> None:
    """Another port; and the contract that is made of it is said to be that of the machine."""
    flip(play.project / "docker-compose.yml", b'["8')
    play.commit("another port")
    play.run()
    for one in HANDED_OVER:
        shutil.copy(play.project / ".secure-build" / one, folder)
    subprocess.run(["git", "pull", "--quiet"], cwd=folder / "clone", check=True)


def in_layer(_: Play, folder: Path) -> None:
    image = built(folder)
    manifest = json.loads(blob(folder, member(folder, image["descriptor"]["digest"])).read_text())
    flip(blob(folder, manifest["layers"][-1]["digest"]))


def in_provenance(_: Play, folder: Path) -> None:
    """The bundle of the statement, in the bytes that are signed."""
    kept = next(one["kept"] for one in built(folder)["signatures"] if "provenance" in one["predicate"])
    bundle = json.loads(blob(folder, kept).read_text())["layers"][0]["digest"]
    flip(blob(folder, bundle), b'"payload":"')


def in_record(_: Play, folder: Path) -> None:
    """The machine's serial number."""
    flip(folder / "se-checksums.txt", b"9175")


def built(folder: Path) -> Any:
    """The image of the build record."""
    return json.loads((folder / "build-record.json").read_text())["images"][0]


def blob(folder: Path, digest: str) -> Path:
    return folder / "images" / "blobs" / digest.replace(":", "/")


def member(folder: Path, digest: str) -> str:
    """The manifest of an image, which may be in an index."""
    listed = json.loads(blob(folder, digest).read_text()).get("manifests")
    return listed[0]["digest"] if listed else digest


def flip(path: Path, after: bytes = b"") -> None:
    """Change one bit: of the byte that follows, or of the last one."""
    content = bytearray(path.read_bytes())
    content[content.index(after) + len(after) if after else -1] ^= 1
    path.write_bytes(content)


# Where one byte is changed, by the name of the audit.
CHANGES: dict[str, Callable[[Play, Path], None]] = {
    "record": in_record,
    "layer": in_layer,
    "provenance": in_provenance,
    # Last, since it builds anew.
    "compose": in_compose,
}


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    demo.prepare("registry", "skopeo", "qemu", "busybox", "openssl")
    os.environ.update(running.environment())
    demo.ensure_builder()
    with running.registry(FOLDER / "registry") as registry:
        play = make(registry.host)
        demo.say("building, and handing over")
        play.must("lock")
        play.commit("lock what builds take")
        expected = play.run()
        folders = [play.hand_over(name) for name in ("whole", *CHANGES)]
        for folder in folders:
            play.record(folder, expected)
        play.audit(folders[0])
        for folder in folders[1:]:
            CHANGES[folder.name](play, folder)
            play.audit(folder)
    if sys.argv[1:2] == ["--pictures"]:
        take_pictures(Path(sys.argv[2]))


def make(host: str) -> Play:
    """The project with keys that were made just now, and its first commit."""
    keys, project = FOLDER / "keys", FOLDER / "project"
    keys.mkdir()
    base = demo.make_base(host, FOLDER / "base")
    runtime = certificates.self_signed(keys, "runtime", "rsa:4096", days=300)
    certificates.self_signed(keys, "attestation", "rsa:4096", days=300)
    auditor = certificates.private_key(keys, "auditor")
    cosign = certificates.private_key(keys, "cosign", "ec:prime256v1")
    (keys / "cosign.pub").write_bytes(certificates.public_key(cosign))
    developer = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "developer", "-f", keys / "developer"]
    subprocess.run(developer, check=True)
    os.environ["COSIGN_KEY"] = cosign.read_text()
    os.environ["SIGNING_KEY"] = certificates.private_key(keys, "signing").read_text()
    os.environ["LOGS_API_KEY"] = "an-example-of-a-key"
    shutil.copytree(
        ROOT / "examples" / "audit", project, ignore=shutil.ignore_patterns("*.py", "*.md", "*.png")
    )
    (project / "auditor.pem").write_bytes(certificates.public_key(auditor))
    shutil.copy(runtime[0], project / "runtime.crt")
    config = (project / "secure-build.yaml").read_text()
    config = config.replace(demo.PLACEHOLDER, host).replace("0" * 64, fingerprint(runtime[0]))
    config = config.replace("context: app,", f"context: app, args: {{BASE: '{base}'}},")
    (project / "secure-build.yaml").write_text(config)
    compose = project / "docker-compose.yml"
    compose.write_text(compose.read_text().replace(demo.PLACEHOLDER, host))
    subprocess.run(["git", "init", "--quiet", project], check=True)
    play = Play(project, keys, FOLDER / "registry")
    play.commit("the example")
    return play


def take_pictures(folder: Path) -> None:
    """Each page down to the end of the chain."""
    demo.prepare("chromium")
    folder.mkdir(parents=True, exist_ok=True)
    with browser() as chromium:
        for name in ("whole", *CHANGES):
            page = chromium.open((FOLDER / f"{name}.html").as_uri(), width=800)
            (folder / f"{name}.png").write_bytes(page.screenshot(down_to="nav"))


if __name__ == "__main__":
    main()
