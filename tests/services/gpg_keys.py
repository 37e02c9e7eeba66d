"""OpenPGP keys, made and used by `gpg`, which is not ours."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from services import running

_PARAMETERS = """\
Key-Type: eddsa
Key-Curve: ed25519
Key-Usage: {usage}
{subkey}Name-Real: {name}
Name-Email: {name}@example.com
Expire-Date: {expires}
{protection}
"""


@dataclass(frozen=True, slots=True)
class GpgHome:
    """A home of gpg's; its folder needs a short name."""

    folder: Path

    def run(self, *arguments: str, stdin: bytes = b"", check: bool = True) -> bytes:
        options = ("--homedir", str(self.folder), "--batch", "--no-tty", "--quiet")
        return subprocess.run(
            [running.tool("gpg"), *options, *arguments],
            input=stdin,
            capture_output=True,
            check=check,
            timeout=60,
        ).stdout

    def make(
        self, name: str, *, usage: str = "sign", expires: str = "0", passphrase: str = "", subkey: str = ""
    ) -> str:
        """A new key; its fingerprint. `subkey` are lines about one."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        protection = f"Passphrase: {passphrase}" if passphrase else "%no-protection"
        text = _PARAMETERS.format(
            name=name, usage=usage, expires=expires, protection=protection, subkey=subkey
        )
        self.run("--pinentry-mode", "loopback", "--gen-key", stdin=text.encode())
        return self.fingerprint(name)

    def fingerprint(self, name: str) -> str:
        """Of the primary key."""
        listed = self.run("--with-colons", "--list-keys", name).decode().splitlines()
        return next(line.split(":")[9] for line in listed if line.startswith("fpr:"))

    def private(self, key: str, *, passphrase: str = "") -> str:
        """The private key, armored, as it is exported."""
        loopback = ("--pinentry-mode", "loopback", "--passphrase", passphrase)
        return self.run(*loopback, "--armor", "--export-secret-keys", key).decode()

    def public(self, key: str) -> bytes:
        return self.run("--armor", "--export", key)

    def stop(self) -> None:
        subprocess.run([running.tool("gpgconf"), "--homedir", str(self.folder), "--kill", "all"], check=True)
