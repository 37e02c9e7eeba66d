"""Logins for a builder: a private Docker config folder that adds ours to the machine's own."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from secure_build import files
from secure_build.errors import UsageError
from secure_build.manifest import load_object
from secure_build.model import Credential
from secure_build.reference import DOCKER_HUB
from secure_build.registry.auth import HUB_KEY, docker_config_directory
from secure_build.secret import basic_authorization


@contextlib.contextmanager
def docker_config(logins: Sequence[Credential]) -> Iterator[Path | None]:
    """A Docker config folder with these logins, gone afterwards; None when there are none.

    What the machine's own config says besides (other logins, contexts, plugins, builder instances)
    stays in force.
    """
    if not logins:
        yield None
        return
    own = docker_config_directory()
    with tempfile.TemporaryDirectory(prefix="secure-build-") as folder:
        for name in ("contexts", "cli-plugins", "buildx"):
            if (own / name).exists():
                (Path(folder) / name).symlink_to((own / name).resolve())
        document = _own_document(own / "config.json")
        auths, helpers = dict(document.get("auths") or {}), dict(document.get("credHelpers") or {})
        for login in logins:
            key = HUB_KEY if login.registry == DOCKER_HUB else login.registry
            auths[key] = {"auth": basic_authorization(login.username, login.password.reveal())}
            helpers.pop(key, None)
        # A credential store would be asked instead of `auths`.
        document.pop("credsStore", None)
        document |= {"auths": auths, "credHelpers": helpers}
        files.write(Path(folder) / "config.json", json.dumps(document).encode(), mode=files.PRIVATE)
        yield Path(folder)


def _own_document(path: Path) -> dict[str, Any]:
    try:
        return load_object(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(f"the Docker config `{path}` cannot be read: {error}") from None
