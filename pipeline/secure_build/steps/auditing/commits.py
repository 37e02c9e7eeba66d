"""What the commit of a build holds for an audit: who signed it, the config that was built, and its lock.

Both files are read from the commit, never from the working tree; the config is the one that the build
record names by its digest.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from secure_build import config, lock
from secure_build.config import Config
from secure_build.errors import MachineError, UsageError
from secure_build.lock import Lock
from secure_build.model import BuildRecord, Source
from secure_build.process import Program
from secure_build.reference import Digest
from secure_build.signers import gpg
from secure_build.source import Repository
from secure_build.strict_yaml import LARGEST

_SSH = Program("ssh-keygen", "openssh-client")
# sshd(8), AUTHORIZED_KEYS: type and key; what follows is for people.
_SSH_KEY = re.compile(r"((?:ssh|ecdsa|sk)-[a-z0-9@.-]+) ([A-Za-z0-9+/=]+)(?: .*)?")
_BAD = {
    "N": "it is not signed",
    "B": "its signature is not of this commit",
    "X": "its signature has expired",
    "Y": "the key that signed it has expired",
    "R": "the key that signed it is revoked",
}
_OTHER = "it is signed with none of `commit-keys`"


@dataclass(frozen=True, slots=True)
class BuiltFrom:
    """A commit and its repository."""

    repository: Repository
    source: Source

    def signature(self, keys: Mapping[str, bytes]) -> tuple[bool, str]:
        """Whether one of these public keys, by what messages call them, has signed it; and what is said."""
        texts = {what: key.decode(errors="replace").strip() for what, key in keys.items()}
        armored = {what: text.encode() for what, text in texts.items() if text.startswith("-----BEGIN PGP")}
        lines = [_allowed(what, line) for what, text in texts.items() if what not in armored
                 for line in text.splitlines()]  # fmt: skip
        if lines and _SSH.find() is None:
            raise MachineError(
                f"`{_SSH.name}` is not on this machine", hint=f"install the package `{_SSH.package}`"
            )
        with tempfile.TemporaryDirectory(prefix="secure-build-") as folder:
            signers = Path(folder) / "allowed"
            signers.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
            with gpg.trusting_home(armored, Path(folder)) as home:
                letter, key = self.repository.signed_by(
                    self.source.commit, gpg_home=home, ssh_signers=signers
                )
        return letter == "G", f"it is signed with the key {key}" if letter == "G" else _BAD.get(
            letter, _OTHER
        )

    def config(self, built: BuildRecord) -> tuple[PurePosixPath, Config] | None:
        """The config that was built and its path; None when the commit does not hold it."""
        folder = PurePosixPath(self.source.subdir)
        for path, entry in self.repository.entries(self.source.commit).items():
            if path.parent == folder and path.suffix in (".yaml", ".yml"):
                with contextlib.suppress(UsageError):
                    content = self.repository.content(entry, at_most=LARGEST)
                    if Digest.of(content) == built.config:
                        return path, config.parse(content, Path(path)).config
        return None

    def lock(self, path: PurePosixPath) -> Lock:
        """The lock beside the config that is at `path`; an empty one where there is none."""
        name = PurePosixPath(lock.path_of(Path(path)))
        entry = self.repository.entries(self.source.commit).get(name)
        return lock.parse(self.repository.content(entry, at_most=LARGEST), str(name)) if entry else Lock()


@contextlib.contextmanager
def built_from(directory: Path, source: Source) -> Iterator[BuiltFrom]:
    """The commit in the repository that holds `directory`."""
    repository = Repository.around(directory)
    try:
        yield BuiltFrom(repository, source)
    finally:
        repository.close()


def _allowed(what: str, line: str) -> str:
    """A line of ssh-keygen's allowed signers: who has the key may sign what git signs, as anybody."""
    found = _SSH_KEY.fullmatch(line.strip())
    if not found:
        raise UsageError(
            f"{what} is no OpenPGP public key in armor, and not one SSH public key a line",
            hint="it begins with `-----BEGIN PGP PUBLIC KEY BLOCK-----`, or with such as `ssh-ed25519`",
        )
    return f'* namespaces="git" {found[1]} {found[2]}'
