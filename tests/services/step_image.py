"""The image of the Tekton steps, built from this checkout for tests.

The Debian base is made on the spot, and wheels come from a folder by way of a web server, since a
container may lack the certificates that this machine reaches its package index with.
"""

from __future__ import annotations

import functools
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from packaging.requirements import Requirement

from services import debian, running
from services.running import Engine, RunningRegistry
from services.serving import Serving

ROOT = Path(__file__).parents[2]
CONTAINERFILE = ROOT / "actions" / "tekton" / "image" / "Containerfile"
_REQUIREMENTS = ROOT / "requirements" / "main.txt"
_MACHINES = {"amd64": "x86_64", "s390x": "s390x"}
# The Python of the base, and the C library that wheels may ask of it.
_PYTHON, _GLIBC = "3.13", range(17, 42)


def built(engine: Engine, registry: RunningRegistry, *, architecture: str = "amd64") -> str:
    """Build it with buildx and push it; the engine keeps it too. Returns its reference, by tag."""
    reference = f"{registry.host}/secure-build/step:{architecture}"
    with build_arguments(registry, architecture) as arguments:
        _run(
            [
                *(
                    running.tool("docker-buildx"),
                    "build",
                    "--progress=plain",
                    "--network=host",
                    "--provenance=false",
                ),
                *(f"--platform=linux/{architecture}", *arguments, f"--file={CONTAINERFILE}"),
                *(f"--tag={reference}", "--push", str(ROOT)),
            ],
            engine.environment,
        )
    return reference


@contextmanager
def build_arguments(registry: RunningRegistry, architecture: str = "amd64") -> Iterator[list[str]]:
    """What a builder is told of the base and of where the wheels are, as long as they are there."""
    base = debian.image(registry, f"base/debian:{architecture}", architecture=architecture)
    handler = functools.partial(_Quiet, directory=wheels(architecture))
    with Serving(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as server:
        yield [
            f"--build-arg=BASE={base}",
            "--build-arg=PIP_NO_INDEX=1",
            f"--build-arg=PIP_FIND_LINKS=http://{server.host}/",
        ]


def layers(registry: RunningRegistry, reference: str) -> list[dict[str, int]]:
    """The layers of an image in the registry, from its manifest."""
    raw = _run(
        [running.tool("skopeo"), "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"],
        running.environment(),
    )
    found: list[dict[str, int]] = json.loads(raw)["layers"]
    return found


def wheels(architecture: str) -> Path:
    """A folder with the wheels that the lock names for the image, kept across runs."""
    lock = _REQUIREMENTS.read_text()
    key = hashlib.sha256(lock.encode()).hexdigest()[:12]
    kept = running.cache_folder() / "wheels" / f"{architecture}-{key}"
    if kept.exists():
        return kept
    kept.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        # pip asks the markers of this machine and not of the one that it downloads for.
        wanted = Path(folder) / "wanted.txt"
        wanted.write_text("".join(_wanted(lock, _MACHINES[architecture])))
        made = Path(folder) / "wheels"
        _run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
                *("--require-hashes", "--only-binary=:all:", "--no-deps", f"--requirement={wanted}"),
                *(f"--python-version={_PYTHON}", f"--dest={made}"),
                *(f"--platform=manylinux_2_{minor}_{_MACHINES[architecture]}" for minor in _GLIBC),
                *(f"--platform=manylinux{name}_{_MACHINES[architecture]}" for name in ("1", "2010", "2014")),
            ],
            running.environment(),
        )
        made.rename(kept)
    return kept


def _wanted(lock: str, machine: str) -> Iterator[str]:
    """The requirements of a lock that are for this machine, without their markers."""
    for entry in lock.replace("\\\n", " ").splitlines():
        requirement, *hashes = entry.split(" --hash=")
        parsed = Requirement(requirement.strip())
        if parsed.marker is None or parsed.marker.evaluate({"platform_machine": machine}):
            yield f"{parsed.name}{parsed.specifier} " + " ".join(f"--hash={one}" for one in hashes) + "\n"


def _run(argv: Sequence[str], variables: dict[str, str]) -> str:
    ended = subprocess.run(argv, check=False, env=variables, capture_output=True, text=True)
    if ended.returncode:
        raise running.ServiceFailed("\n".join([f"`{argv[0]}` failed:", *ended.stderr.splitlines()[-30:]]))
    return ended.stdout


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass
