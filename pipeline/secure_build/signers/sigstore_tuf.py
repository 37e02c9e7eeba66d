"""The trust root of a public sigstore instance, brought up to date: its TUF repository.

Importing this imports `tuf`, which comes with sigstore's library, so do it late.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tuf.api.exceptions import DownloadError, DownloadHTTPError, RepositoryError
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from secure_build.errors import MachineError, ServiceError
from secure_build.registry.http import Transport


def fetch(
    url: str, root: bytes, names: Sequence[str], folder: Path, transport: Transport
) -> tuple[bytes, ...]:
    """The files of these names in the repository, trusted by `root` and what follows from it.

    `folder` keeps copies, and what says which versions were seen. Raises ServiceError when the
    repository does not answer or does not verify, and MachineError when the folder cannot be written.
    """
    targets = folder / "targets"
    try:
        targets.mkdir(parents=True, exist_ok=True)
        ways = (str(folder), url, str(targets), f"{url}/targets/", _Fetcher(transport))
        updater = Updater(*ways, bootstrap=root)
        return tuple(_content(updater, name) for name in names)
    except (DownloadError, RepositoryError) as error:
        why = error.__cause__ if isinstance(error.__cause__, ServiceError) else error
        raise ServiceError(
            f"sigstore's trust root cannot be brought up to date: {why}",
            hint=f"`{url}` must be reachable; or name a trust config in `signing: keyless: instance`",
        ) from None
    except OSError as error:
        raise MachineError(f"cannot keep sigstore's trust root in `{folder}`: {error.strerror}") from None


def _content(updater: Updater, name: str) -> bytes:
    target = updater.get_targetinfo(name)
    if target is None:
        raise RepositoryError(f"there is no `{name}`")
    return Path(updater.find_cached_target(target) or updater.download_target(target)).read_bytes()


class _Fetcher(FetcherInterface):
    """What `tuf` downloads with; it sees to the largest size itself."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _fetch(self, url: str) -> Iterator[bytes]:
        answer = self._transport.request("GET", url)
        if answer.status != 200:
            answer.close()
            raise DownloadHTTPError(f"{url} answered {answer.status}", answer.status)
        return answer.chunks()
