"""The trust root of a public sigstore instance, by a TUF repository on the loopback."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp

from secure_build.errors import MachineError, ServiceError
from secure_build.registry.http import Transport
from secure_build.signers import sigstore_tuf
from services.serving import Serving
from services.sigstore import LocalSigstore


class Repository:
    """A TUF repository with one key, around the trust files of an instance."""

    def __init__(self, folder: Path, sigstore: LocalSigstore) -> None:
        self.folder, self._sigstore = folder, sigstore
        self._signer = CryptoSigner.generate_ecdsa()
        self.publish(1)
        self.root = (folder / "1.root.json").read_bytes()

    def publish(self, version: int, *, days: int = 30) -> None:
        """Make a version of it, good for so many days."""
        expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
        root, targets = Root(expires=expires), Targets(version, expires=expires)
        for role in ("root", "timestamp", "snapshot", "targets"):
            root.add_key(self._signer.public_key, role)
        files = self._sigstore.files
        (self.folder / "targets").mkdir(parents=True, exist_ok=True)
        for name, path in (("trusted_root.json", files.trusted_root), (SERVICES, files.signing_config)):
            target = TargetFile.from_file(name, str(path), ["sha256"])
            targets.targets[name] = target
            shutil.copy(path, self.folder / "targets" / f"{target.hashes['sha256']}.{name}")
        snapshot, timestamp = Snapshot(version, expires=expires), Timestamp(version, expires=expires)
        snapshot.meta["targets.json"].version = timestamp.snapshot_meta.version = version
        for signed, name in (
            (root, "1.root"),
            (targets, f"{version}.targets"),
            (snapshot, f"{version}.snapshot"),
            (timestamp, "timestamp"),
        ):
            metadata = Metadata(signed)
            metadata.sign(self._signer)
            metadata.to_file(str(self.folder / f"{name}.json"))


@pytest.fixture
def repository(sigstore: LocalSigstore, tmp_path: Path) -> Iterator[tuple[Repository, str]]:
    """A repository, and where it is served."""
    made = Repository(tmp_path / "tuf", sigstore)
    handler = partial(Quiet, directory=str(made.folder))
    with Serving(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as serving:
        yield made, f"http://{serving.host}"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


SERVICES = "signing_config.v0.2.json"
NAMES = ("trusted_root.json", SERVICES)


def test_the_trust_root_of_a_public_instance_is_brought_up_to_date(
    repository: tuple[Repository, str], sigstore: LocalSigstore, tmp_path: Path, transport: Transport
) -> None:
    made, url = repository
    expected = (sigstore.files.trusted_root.read_bytes(), sigstore.files.signing_config.read_bytes())
    kept = tmp_path / "kept"
    assert sigstore_tuf.fetch(url, made.root, NAMES, kept, transport) == expected
    for target in (made.folder / "targets").iterdir():
        target.unlink()
    assert sigstore_tuf.fetch(url, made.root, NAMES, kept, transport) == expected


def test_a_repository_that_lies_is_refused(
    repository: tuple[Repository, str], sigstore: LocalSigstore, tmp_path: Path, transport: Transport
) -> None:
    made, url = repository
    stranger = Repository(tmp_path / "stranger", sigstore)
    refused = "sigstore's trust root cannot be brought up to date"

    def fetch(root: bytes, kept: str) -> None:
        sigstore_tuf.fetch(url, root, NAMES, tmp_path / kept, transport)

    with pytest.raises(ServiceError, match=refused):
        fetch(stranger.root, "strange")
    made.publish(2)
    fetch(made.root, "kept")
    made.publish(1)
    with pytest.raises(ServiceError, match=refused):
        fetch(made.root, "kept")
    made.publish(3, days=-1)
    with pytest.raises(ServiceError, match=refused):
        fetch(made.root, "new")
    made.publish(4)
    for target in (made.folder / "targets").iterdir():
        target.write_bytes(target.read_bytes() + b" ")
    with pytest.raises(ServiceError, match=refused):
        fetch(made.root, "newer")


def test_a_repository_that_is_not_there_is_a_service_error(
    repository: tuple[Repository, str], tmp_path: Path, hasty: Transport
) -> None:
    made, _ = repository
    with pytest.raises(
        ServiceError, match=r"cannot be brought up to date: cannot reach 127\.0\.0\.1:9"
    ) as raised:
        sigstore_tuf.fetch("http://127.0.0.1:9", made.root, NAMES, tmp_path / "kept", hasty)
    assert "name a trust config" in (raised.value.hint or "")


def test_a_folder_that_cannot_be_written_is_the_machines_fault(
    repository: tuple[Repository, str], tmp_path: Path, transport: Transport
) -> None:
    made, url = repository
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="cannot keep sigstore's trust root in"):
        sigstore_tuf.fetch(url, made.root, NAMES, tmp_path / "file" / "kept", transport)
