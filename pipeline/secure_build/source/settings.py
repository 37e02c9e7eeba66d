"""Settings for git that no file of a repository can override: git reads them from its environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# Programs and places that a repository's own config could name.
HARMLESS = {
    "core.fsmonitor": "false",
    "core.hooksPath": "/dev/null",
    "core.sshCommand": "false",
    "core.gitProxy": "",
    "core.askPass": "",
    "credential.helper": "",
    "gc.auto": "0",
    "maintenance.auto": "false",
    # Git would not read what another user owns, since its config could run programs: not under these.
    "safe.directory": "*",
}


def checking(ssh_signers: str) -> dict[str, str]:
    """Settings that check signatures with programs of this machine, by these allowed signers only."""
    return {
        "gpg.program": "gpg",
        "gpg.openpgp.program": "gpg",
        "gpg.x509.program": "false",
        "gpg.ssh.program": "ssh-keygen",
        "gpg.ssh.allowedSignersFile": ssh_signers,
        "gpg.ssh.revocationFile": "/dev/null",
    }


def variables(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment that gives git these settings (git-config(1), GIT_CONFIG_COUNT)."""
    result = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings.items()):
        result |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return result


def without_filters(keys: Iterable[str]) -> dict[str, str]:
    """Settings that make every filter that `keys` define do nothing."""
    names = {key.removeprefix("filter.").rpartition(".")[0] for key in keys if key.startswith("filter.")}
    return {
        f"filter.{name}.{part}": value
        for name in sorted(names)
        for part, value in (("clean", ""), ("smudge", ""), ("process", ""), ("required", "false"))
    }
