"""The examples as they stand, on this machine: with our registry, base image and certificate."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import yaml

from services.belongings import Belongings, fingerprint
from services.running import RunningRegistry

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
_PIN = re.compile(r"(?m)^( +sha256: )[0-9a-f]{64}$")
_NAMED_SECRET = re.compile(r"\bsecret: ([A-Z_]+)")


def copy(example: str, folder: Path, registry: RunningRegistry, base: str, owned: Belongings) -> None:
    """Copy an example, with the files that it names beside what is in it."""
    shutil.copytree(EXAMPLES / example, folder)
    for path in [*folder.rglob("*.yaml"), *folder.rglob("*.yml")]:
        # The images of each have repositories of their own.
        named = path.read_text().replace("registry.example.com/demo/", f"{registry.host}/{example}/")
        path.write_text(named.replace("registry.example.com", registry.host))
    for path in folder.rglob("Dockerfile"):
        path.write_text(re.sub(r"(?m)^ARG BASE=.*$", f"ARG BASE={base}", path.read_text()))
    if not (folder / "secure-build.yaml").exists():
        return
    config = (folder / "secure-build.yaml").read_text()
    if "encrypt:" in config:
        encrypt_for(folder, owned.runtime[0])
    for name in owned.files:
        if name in config:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(owned.files[name])


def encrypt_for(folder: Path, certificate: Path) -> None:
    """Put the runtime's certificate there, and its fingerprint into the config."""
    shutil.copy(certificate, folder / "runtime.crt")
    config = folder / "secure-build.yaml"
    pinned, count = _PIN.subn(rf"\g<1>{fingerprint(certificate)}", config.read_text())
    assert count == 1
    config.write_text(pinned)


def secrets(folder: Path, known: Mapping[str, str]) -> dict[str, str]:
    """The secrets that the config names, and no other."""
    path = folder / "secure-build.yaml"
    config = path.read_text() if path.exists() else ""
    found = {name: known[name] for name in _NAMED_SECRET.findall(config)}
    if "passphrase:" in config:
        found["SIGNING_KEY"] = known["LOCKED_SIGNING_KEY"]
    return found


def contract(path: Path) -> dict[str, str]:
    """The values of a contract or of a part of one, as a YAML reader gives them."""
    values: dict[str, str] = yaml.safe_load(path.read_text())
    assert all(isinstance(value, str) for value in values.values())
    return values
