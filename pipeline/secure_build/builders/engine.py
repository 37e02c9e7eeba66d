"""engine: a Docker engine's classic builder, for engines that have no buildx or export no layouts.

It has neither build secrets nor further contexts, keeps its cache to itself, and stamps what it
makes with the time of the build, so no digest is repeatable. Nothing is read about what it pulled.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import queue
import tarfile
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from secure_build import manifest, stopping
from secure_build.builders import Builder, Built, Recipe, Surroundings, build_failed
from secure_build.errors import MachineError, RefusedError, SecureBuildError, ServiceError, UsageError
from secure_build.layout import Layout
from secure_build.manifest import load_object
from secure_build.model import BuilderVersion, Descriptor
from secure_build.reference import DOCKER_HUB, Digest
from secure_build.registry.auth import HUB_KEY
from secure_build.secret import mask

_PROBE_SECONDS = 60
_NAP_SECONDS = 0.5
_TAIL_LINES = 20
_CHUNK = 1 << 20
_LARGEST_CONFIG = 8 << 20
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_GZIP = b"\x1f\x8b"
# What reading an archive that is none can raise.
_BROKEN = (
    *(tarfile.TarError, zlib.error, EOFError, OSError),
    # The last for a link of the archive that leads to itself.
    *(ValueError, KeyError, TypeError, AttributeError, RecursionError),
)


class Engine:
    """The classic builder of one engine."""

    def __init__(self, version: BuilderVersion, client: Any) -> None:
        self.version = version
        self._client = client

    def build(self, recipe: Recipe, staging: Layout, on_line: Callable[[str], None]) -> Built:
        _check(recipe)
        identity = self._built(recipe, on_line)
        archive = staging.directory / "image.tar"
        try:
            with _failures("save the image"), archive.open("wb") as file:
                for chunk in self._client.get_image(identity):
                    stopping.check()
                    file.write(chunk)
        finally:
            # What is left of it is nobody's, and the engine's own pruning finds it.
            with contextlib.suppress(SecureBuildError), _failures("remove the image"):
                self._client.remove_image(identity)
        return Built(import_archive(archive, staging), materials=None, reproducible=False)

    def _built(self, recipe: Recipe, on_line: Callable[[str], None]) -> str:
        """Build; returns the id of the image in the engine."""
        from docker.utils import tar

        dockerfile = ".secure-build.Dockerfile"
        with tar(
            str(recipe.context),
            exclude=_ignored(recipe),
            dockerfile=(dockerfile, _text(recipe.dockerfile, "the Dockerfile")),
        ) as context:
            events = self._client.build(
                fileobj=context,
                custom_context=True,
                dockerfile=dockerfile,
                platform=str(recipe.platform),
                buildargs=dict(recipe.arguments),
                target=recipe.target,
                nocache=True,
                pull=True,
                rm=True,
                forcerm=True,
                decode=True,
                timeout=None,
            )
            identity, tail = None, list[str]()
            for event in _meanwhile(events):
                if "errorDetail" in event or "error" in event:
                    reason = mask(str((event.get("errorDetail") or {}).get("message") or event.get("error")))
                    raise build_failed("the Docker engine", "\n".join([*tail, reason]))
                identity = (event.get("aux") or {}).get("ID", identity)
                for line in _lines(event):
                    tail = [*tail, line][-_TAIL_LINES:]
                    on_line(line)
        if not isinstance(identity, str):
            raise ServiceError("the Docker engine built an image and did not say which")
        return identity


def _check(recipe: Recipe) -> None:
    """Refuse what a classic builder would leave out without a word, or has no means for."""
    wanted = {
        "build secrets": recipe.secrets,
        "further build contexts": recipe.contexts,
        "a build cache in a registry": recipe.cache_from or recipe.cache_to,
        "locked inputs": recipe.pins,
    }
    for what, asked in wanted.items():
        if asked:
            raise UsageError(
                f"the builder `engine` cannot do {what}", hint="use the builder `buildx` or `buildah`"
            )


def _text(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{what} is not UTF-8 text") from None


def _ignored(recipe: Recipe) -> list[str]:
    """The patterns of the ignore file that counts; the Dockerfile's own goes before the context's."""
    own = recipe.dockerfile.with_name(f"{recipe.dockerfile.name}.dockerignore")
    for path in (own, recipe.context / ".dockerignore"):
        if path.exists():
            lines = (line.strip() for line in _text(path, "the ignore file").splitlines())
            return [line for line in lines if line and not line.startswith("#")]
    return []


def _meanwhile(events: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The events of a build, as they come, but ending when the run does.

    Waiting for the engine cannot be interrupted: it is left to a thread, with whose connection,
    at the end of this process, the engine's build ends.
    """
    seen: queue.Queue[dict[str, Any] | BaseException | None] = queue.Queue()

    def follow() -> None:
        try:
            for event in events:
                seen.put(event)
            seen.put(None)
        except BaseException as error:  # noqa: BLE001  # it is raised again by the thread that waits
            seen.put(error)

    threading.Thread(target=follow, daemon=True).start()
    while True:
        stopping.check()
        try:
            event = seen.get(timeout=_NAP_SECONDS)
        except queue.Empty:
            continue
        if event is None:
            return
        if isinstance(event, BaseException):
            with _failures("build the image"):
                raise event
        yield event


def _lines(event: dict[str, Any]) -> list[str]:
    """What an event says to people; progress of transfers is left out."""
    if event.get("progressDetail"):
        return []
    text = event.get("stream") or " ".join(str(event[key]) for key in ("id", "status") if key in event)
    return [mask(line) for line in str(text).splitlines() if line.strip()]


def import_archive(archive: Path, layout: Layout) -> Descriptor:
    """The one image in what an engine saved, in the layout; returns its manifest.

    Engines with either image store, old and new, write `manifest.json`, which names the image's
    files. These are described by what they hold: nothing else that the engine says of them is
    needed. The config stays as it is. Raises ServiceError for an archive that is none.
    """
    try:
        with tarfile.open(archive) as tar:
            listed = json.loads(_read(tar, "manifest.json"))
            if len(listed) != 1:
                raise ServiceError(f"the Docker engine saved {len(listed)} images where one was built")
            config_content = _read(tar, listed[0]["Config"])
            config = layout.write(config_content, _CONFIG)
            names, expected = listed[0]["Layers"], load_object(config_content)["rootfs"]["diff_ids"]
            layers = [
                _layer(tar, name, diff_id, layout) for name, diff_id in zip(names, expected, strict=True)
            ]
    except _BROKEN as error:
        raise ServiceError(f"the Docker engine saved an image that cannot be read: {error}") from None
    return layout.write(manifest.image_of(config, layers).content, manifest.OCI_MANIFEST)


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    with _opened(tar, name) as file:
        content = file.read(_LARGEST_CONFIG + 1)
    if len(content) > _LARGEST_CONFIG:
        raise ServiceError(f"the Docker engine saved a `{name}` of more than {_LARGEST_CONFIG} bytes")
    return content


def _opened(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    file = tar.extractfile(name)
    if file is None:
        raise ValueError(f"`{name}` is no file")
    return file


def _layer(tar: tarfile.TarFile, name: str, expected: str, layout: Layout) -> Descriptor:
    """A layer, compressed if it is not: not everybody who pulls takes one that is not."""
    with tempfile.TemporaryFile(dir=layout.directory) as packed:
        with _opened(tar, name) as file:
            compressed = file.read(len(_GZIP)) == _GZIP
            file.seek(0)
            if compressed:
                _copy(file, packed)
                packed.seek(0)
                with gzip.GzipFile(fileobj=packed) as content:
                    digest = _copy(content)
            else:
                with gzip.GzipFile(filename="", fileobj=packed, mode="wb", mtime=0) as target:
                    digest = _copy(file, target)
        if str(digest) != expected:
            raise RefusedError(
                f"the Docker engine saved a layer that is not the one of the image: its digest is {digest}, "
                f"the image's config names {expected}",
                hint="an engine's classic builder can mix up platforms: build for its own only, or use "
                "the builder `buildx` or `buildah`",
            )
        packed.seek(0)
        blob = Digest(f"sha256:{hashlib.file_digest(packed, 'sha256').hexdigest()}")
        descriptor = Descriptor(_LAYER, blob, packed.tell())
        packed.seek(0)
        layout.write_from(descriptor, lambda: iter(lambda: packed.read(_CHUNK), b""))
    return descriptor


def _copy(source: IO[bytes] | gzip.GzipFile, target: IO[bytes] | gzip.GzipFile | None = None) -> Digest:
    """Copy what is left of a file; returns the digest of it."""
    hasher = hashlib.sha256()
    while chunk := source.read(_CHUNK):
        stopping.check()
        hasher.update(chunk)
        if target is not None:
            target.write(chunk)
    return Digest(f"sha256:{hasher.hexdigest()}")


def open_engine(surroundings: Surroundings) -> contextlib.AbstractContextManager[Builder]:
    """The engine that `DOCKER_HOST` names, or the machine's; raises MachineError when none answers."""
    import docker

    with _failures("answer"):
        client = docker.APIClient(version="auto", timeout=_PROBE_SECONDS, **docker.utils.kwargs_from_env())
        version = str(client.version()["Version"])
        if surroundings.logins:
            # The SDK takes logins for a build from its config file only; ours are in no file.
            every = {**client._auth_configs.get_all_credentials(), **_logins(surroundings)}  # noqa: SLF001
            client._auth_configs = docker.auth.AuthConfig({"auths": every})  # noqa: SLF001

    @contextlib.contextmanager
    def opened() -> Iterator[Builder]:
        with contextlib.closing(client):
            yield Engine(BuilderVersion("engine", version), client)

    return opened()


def _logins(surroundings: Surroundings) -> dict[str, dict[str, str]]:
    """The logins as the engine's interface takes them, by the name Docker has for a registry."""
    named = {
        HUB_KEY if login.registry == DOCKER_HUB else login.registry: login for login in surroundings.logins
    }
    return {
        name: {"username": login.username, "password": login.password.reveal(), "serveraddress": name}
        for name, login in named.items()
    }


@contextlib.contextmanager
def _failures(what: str) -> Iterator[None]:
    """Turn what the SDK raises into a message: its own errors, and OSError for the connection's."""
    from docker.errors import APIError, DockerException

    try:
        yield
    except APIError as error:
        reason = mask(str(error.explanation or error))
        if what == "build the image":
            raise build_failed("the Docker engine", reason) from None
        raise ServiceError(f"the Docker engine could not {what}: {reason}") from None
    except (DockerException, OSError) as error:
        raise MachineError(
            f"the Docker engine could not {what}: {mask(str(error))[:300]}",
            hint="start it, or set `DOCKER_HOST`",
        ) from None
