"""The main job on examples/minimal with real parts on this machine; `make demo` runs it.

Starts a registry on the loopback, makes a base image from Debian's busybox (or takes the one named
by BASE), commits a copy of the example, runs `secure-build run` on it, and then looks at what came
out with tools that are not ours: skopeo names the digest, qemu runs the s390x image.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from secure_build.builders import Surroundings, open_builder  # noqa: E402
from secure_build.errors import MachineError  # noqa: E402
from secure_build.layout import Layout  # noqa: E402
from services import images, running  # noqa: E402

FOLDER = ROOT / ".demo"
PLACEHOLDER = "registry.example.com"


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    prepare("registry", "skopeo", "qemu", "busybox")
    os.environ.update(running.environment())
    ensure_builder()
    with running.registry(FOLDER / "registry") as registry:
        base = os.environ.get("BASE") or make_base(registry.host, FOLDER / "base")
        project = make_project(registry.host, base)
        say(f"running `secure-build run` in {project}")
        outcome = subprocess.run([secure_build(), "run"], cwd=project, check=False, stdout=subprocess.DEVNULL)
        if outcome.returncode:
            sys.exit(outcome.returncode)
        contract = project / ".secure-build" / "workload.yaml"
        pinned = image_in(contract)
        reported = skopeo_digest(f"{registry.host}/demo/web:1.0.0")
        if not pinned.endswith(f"@{reported}"):
            sys.exit(f"the contract names {pinned}, and skopeo says {reported}")
        page = page_of(pinned)
    print(
        f"\nthe contract's workload section   {contract}\n"
        f"the image that it names           {pinned}\n"
        f"digest that skopeo reports        {reported}\n"
        f"machine that served a page        {page}\n"
        f"what was done, for auditors       {contract.with_name('build-record.json')}"
    )


def say(text: str) -> None:
    print(f"demo: {text}", file=sys.stderr, flush=True)


def prepare(*parts: str) -> None:
    outcome = subprocess.run([running.PREPARE, *parts], check=False)
    if outcome.returncode:
        sys.exit(outcome.returncode)


def ensure_builder() -> None:
    """Use the builder that works here; bring Debian's buildah where none does."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            open_builder(None, Surroundings(Path(folder), ()))
        except MachineError:
            prepare("buildah")


def make_base(host: str, folder: Path) -> str:
    say("making a base image from Debian's busybox-static")
    layout = Layout.create(folder)
    name = f"{host}/base/busybox:1"
    digest = images.busybox(layout, name)
    images.push(layout, name)
    return f"{host}/base/busybox@{digest}"


def make_project(host: str, base: str) -> Path:
    """A git repository with the example, its registry on the loopback and its base as it is here."""
    project = FOLDER / "minimal"
    shutil.copytree(ROOT / "examples" / "minimal", project, ignore=shutil.ignore_patterns(".secure-build"))
    for path in (project / "secure-build.yaml", project / "docker-compose.yml"):
        path.write_text(path.read_text().replace(PLACEHOLDER, host))
    config = project / "secure-build.yaml"
    config.write_text(
        config.read_text().replace(
            "      context: app\n", f"      context: app\n      args: {{BASE: {base}}}\n"
        )
    )
    identity = ["-c", "user.name=demo", "-c", "user.email=demo@example.com"]
    for command in (
        ["init", "--quiet"],
        ["add", "."],
        [*identity, "commit", "--quiet", "-m", "the minimal example"],
    ):
        subprocess.run(["git", *command], cwd=project, check=True)
    return project


def secure_build() -> Path:
    return Path(sys.executable).with_name("secure-build")


def image_in(contract: Path) -> str:
    """The image in the compose file in the archive in the contract."""
    section = yaml.safe_load(yaml.safe_load(contract.read_text())["workload"])
    packed = io.BytesIO(base64.b64decode(section["compose"]["archive"]))
    with tarfile.open(fileobj=packed, mode="r:gz") as archive:
        member = archive.extractfile("docker-compose.yml")
        assert member is not None
        compose = yaml.safe_load(member.read())
    return str(compose["services"]["web"]["image"])


def skopeo_digest(reference: str) -> str:
    command = [
        running.tool("skopeo"),
        "inspect",
        "--tls-verify=false",
        "--override-arch=s390x",
        f"docker://{reference}",
    ]
    output = subprocess.run(command, check=True, capture_output=True, env=running.environment()).stdout
    return str(json.loads(output)["Digest"])


def page_of(pinned: str) -> str:
    """Pull the published image with skopeo, run its program under qemu, and fetch a page from it."""
    image = FOLDER / "pulled"
    command = [
        "copy",
        "--quiet",
        "--src-tls-verify=false",
        "--override-arch=s390x",
        f"docker://{pinned}",
        f"dir:{image}",
    ]
    subprocess.run([running.tool("skopeo"), *command], check=True, env=running.environment())
    manifest = json.loads((image / "manifest.json").read_text())
    root = FOLDER / "rootfs"
    root.mkdir()
    for layer in manifest["layers"]:
        subprocess.run(
            ["tar", "-xzf", image / layer["digest"].removeprefix("sha256:"), "-C", root], check=True
        )
    with serving(root) as address:
        return fetch(f"{address}/machine.txt").strip()


@contextlib.contextmanager
def serving(root: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    say("running the s390x image's web server under qemu")
    command = [
        "qemu-s390x-static",
        root / "bin" / "busybox",
        "httpd",
        "-f",
        "-p",
        f"127.0.0.1:{port}",
        "-h",
        root / "srv" / "www",
    ]
    server = subprocess.Popen(command)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def fetch(address: str) -> str:
    for _ in range(100):
        with (
            contextlib.suppress(urllib.error.URLError),
            urllib.request.urlopen(address, timeout=10) as answer,
        ):
            return str(answer.read().decode())
        time.sleep(0.1)
    sys.exit(f"no answer from {address}")


if __name__ == "__main__":
    main()
