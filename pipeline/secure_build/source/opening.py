"""From the config's `source` to the commit that is built."""

from __future__ import annotations

import tempfile
from pathlib import Path, PurePosixPath

from secure_build import secret
from secure_build.address import Address
from secure_build.config import Source as Settings
from secure_build.errors import UsageError
from secure_build.model import Source
from secure_build.source.checkout import Checkout
from secure_build.source.fetching import Login, Remote
from secure_build.source.repository import Repository
from secure_build.source.submodules import Finder, Tree, Wanted

_LARGEST_KNOWN_HOSTS = 1 << 20


def open_source(
    settings: Settings, directory: Path, work: Path, *, allow_dirty: bool, commit: str | None = None
) -> Checkout:
    """The commit to build: of the repository that holds `directory`, or of the one at `settings.url`.

    `directory` is the config's folder, `work` the work folder, which keeps what was fetched. Of a
    repository on a server `commit` is taken when given, and else what `ref` names now.
    """
    if settings.url is None:
        return Checkout.open(directory, allow_dirty=allow_dirty, submodules=settings.submodules)
    login = _login(settings, settings.url, directory)
    remote = Remote(settings.url, work, login)
    ref = settings.ref
    if commit is None:
        commit, ref = remote.resolve(settings.ref)
    else:
        ref = None

    def fetched(wanted: Wanted) -> tuple[Repository, Address, str]:
        address = wanted.address
        place = Remote(address, work, login).take(wanted.commit, None)
        return Repository.at(place), address, str(address)

    finder = Finder(fetched)
    try:
        repository = finder.keep(Repository.at(remote.take(commit, ref)))
        source = Source(
            url=str(settings.url),
            commit=commit,
            ref=ref,
            clean=True,
            committed_at=repository.moment(commit),
            subdir=str(PurePosixPath(settings.directory)),
        )
        if settings.submodules:
            tree = finder.tree(repository, commit, settings.url)
        else:
            tree = Tree(repository.entries(commit))
        checkout = Checkout(tree, source, finder.repositories)
        if not checkout.is_directory(PurePosixPath(source.subdir)):
            raise UsageError(
                f"commit {commit} of `{settings.url}` has no folder `{source.subdir}`",
                hint="correct `source: directory:`",
            )
        return checkout
    except BaseException:
        finder.close()
        raise


def clone(address: Address, ref: str | None, folder: Path, login: Login | None) -> str:
    """Let `folder`, which is not there yet, be a clone of a repository on a server, at what `ref` names now.

    Returns the full commit id.
    Nothing that the repository brings is run, as with all that is fetched here.
    """
    with tempfile.TemporaryDirectory(prefix="secure-build-clone-", dir=folder.parent) as work:
        remote = Remote(address, Path(work), login)
        commit, name = remote.resolve(ref)
        remote.check_out(commit, name, folder)
        return commit


def _login(settings: Settings, server: Address, directory: Path) -> Login | None:
    if settings.token is not None:
        return Login(server, settings.username, secret.look_up(settings.token.secret))
    if settings.ssh_key is None or settings.known_hosts is None:
        return None
    path = directory / settings.known_hosts
    try:
        with path.open("rb") as file:
            known = file.read(_LARGEST_KNOWN_HOSTS)
    except OSError as error:
        raise UsageError(f"cannot read `known-hosts` `{path}`: {error.strerror}") from None
    return Login(server, key=secret.look_up(settings.ssh_key.secret), known_hosts=known)
