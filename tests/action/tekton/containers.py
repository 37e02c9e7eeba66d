"""One container, run to its end by a container engine, from the command line that Tekton would give it."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from action.tekton import security
from action.tekton.objects import Invalid, Plain
from action.tekton.security import Platform
from action.tekton.volumes import Mount
from services import running
from services.running import Engine

SECONDS = 240


@dataclass(frozen=True)
class Containers:
    """An engine, and the platform that it is to stand for."""

    engine: Engine
    platform: Platform = security.KUBERNETES

    def config(self, image: str) -> dict[str, Any]:
        inspected = self._docker("image", "inspect", "--format={{json .Config}}", image)
        if inspected.returncode:
            raise Invalid(f"image {image}: {inspected.stderr.strip()}")
        return json.loads(inspected.stdout) or {}

    def run(
        self,
        image: str,
        argv: Sequence[str],
        *,
        context: Plain,
        environment: Mapping[str, str],
        mounts: Sequence[Mount],
        scratch: Path,
    ) -> subprocess.CompletedProcess[str]:
        """Network is this machine's, where the services of the tests are."""
        name = f"tekton-{uuid.uuid4()}"
        uid, gid = security.user(context, self.platform, self.config(image).get("User") or "")
        options = [
            *("--name", name, "--pull=never", "--network=host", f"--user={uid}:{gid}"),
            *security.flags(context, self.platform),
            *(mount.flag for mount in sorted(mounts, key=lambda one: one.target)),
            *self._account(image, uid, scratch),
            # On the command line, since a name such as DOCKER_HOST is for the container only.
            *(f"--env={key}={value}" for key, value in environment.items()),
            f"--entrypoint={argv[0]}",
        ]
        try:
            return self._docker("run", *options, image, *argv[1:])
        finally:
            self._docker("rm", "--force", "--volumes", name)

    def _account(self, image: str, uid: str, scratch: Path) -> list[str]:
        """CRI-O gives every user a line in `/etc/passwd`; others do not."""
        if not self.platform.adds_account or not uid.isdigit():
            return []
        accounts = self._file(image, "etc/passwd")
        if not any(line.split(":")[2:3] == [uid] for line in accounts.splitlines()):
            accounts += f"{uid}:x:{uid}:0:{uid} user:/:/sbin/nologin\n"
        path = scratch / "passwd"
        path.write_text(accounts)
        path.chmod(0o644)
        return [Mount(path, "/etc/passwd").flag]

    def _file(self, image: str, path: str) -> str:
        with self._created(image) as container:
            copied = subprocess.run(
                [running.tool("docker"), "cp", f"{container}:/{path}", "-"],
                env=self.engine.environment,
                capture_output=True,
                check=True,
            )
        with tarfile.open(fileobj=io.BytesIO(copied.stdout)) as archive:
            file = archive.extractfile(Path(path).name)
            assert file is not None
            return file.read().decode()

    @contextmanager
    def _created(self, image: str) -> Iterator[str]:
        container = self._docker("create", "--pull=never", "--entrypoint=/none", image).stdout.strip()
        try:
            yield container
        finally:
            self._docker("rm", "--force", container)

    def _docker(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [running.tool("docker"), *arguments],
            env=self.engine.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
