"""The door of Tekton: a Task sets the environment, and this runs the command and writes the results.

A Task gives everything by variables, but for the records, which are arguments: an array has no other
way. Results are files named by `RESULT_…`. They leave a pod through messages that hold 4096 bytes at
most, so all of them together stay far below that; whatever does not fit, whole, is left empty, and is
in `result.json` of the work folder in any case.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from secure_build import files, secret
from secure_build.address import Address
from secure_build.doors.outputs import outputs
from secure_build.doors.running import Ended, Entry, KeepingReport, run
from secure_build.doors.summary import summary
from secure_build.errors import UsageError
from secure_build.reference import Reference
from secure_build.report import json_text
from secure_build.source import Login, clone

# In the order of their worth: those that do not fit are the last. Names are the catalog's, and hints to
# Tekton Chains ("Type hinting", Tekton Chains: Getting started).
RESULTS = (
    *("STATUS", "RECORD", "IMAGE_DIGEST", "IMAGE_URL"),
    *("CONTRACT", "COMMIT", "CHAINS-GIT_COMMIT", "CHAINS-GIT_URL", "IMAGES"),
)
# Bytes that all results of a Task may take in a message, which has 66 more of Tekton's own. 4096 are what a
# container of a pod with three may leave; one of a pod with twelve has 1024.
BUDGET = 930
# `{"key":"","value":,"type":1},`
_AROUND = 29
_LONGEST_SHOWN = 200


class TektonEntry(Entry):
    """What a Task brings: records as arguments, folders of workspaces, perhaps a repository to clone."""

    def __init__(self, records: Sequence[str], private: Path) -> None:
        super().__init__()
        self._records = records
        self._private = private
        self.commit: str | None = None

    def bring(self) -> None:
        try:
            self.commit = _prepare(self._records, self._private, os.environ)
        except (OSError, RuntimeError) as error:
            what = str(getattr(error, "filename", None) or error)[:_LONGEST_SHOWN]
            why = getattr(error, "strerror", None) or "it leads in a circle"
            raise UsageError(f"cannot use `{what}`: {why}") from None


def main(argv: Sequence[str]) -> int:
    """Run the verb of the environment on these build records; returns its exit code."""
    with TemporaryDirectory(prefix="secure-build-door-") as private:
        entry = TektonEntry(argv, Path(private))
        ended = run(entry)
    print(ended.text, end="")
    workdir = Path(os.environ.get("SECURE_BUILD_WORKDIR") or ".secure-build")
    report = KeepingReport()
    kept = _keep(workdir, ended, report)
    for name, value in chosen(values(ended, entry.commit), report, kept).items():
        if path := os.environ.get(f"RESULT_{name.replace('-', '_')}"):
            files.write(Path(path), value.encode())
    return ended.code


def values(ended: Ended, cloned: str | None) -> dict[str, str]:
    """What each of `RESULTS` is, empty where there is nothing of it; `cloned` is a commit.

    Chains attests what the results of a TaskRun name as made by it: images are named where they were
    published, and by the verbs that do that.
    """
    named = outputs(ended)
    published = _published(ended)
    source = ended.document.get("source") or {}
    only = published[0] if len(published) == 1 else {}
    found = {
        "STATUS": named["status"],
        "RECORD": named["record"],
        "IMAGE_DIGEST": only.get("digest"),
        "IMAGE_URL": only.get("reference"),
        "CONTRACT": named["contract"],
        "COMMIT": cloned,
        "CHAINS-GIT_COMMIT": source.get("commit"),
        "CHAINS-GIT_URL": source.get("url"),
        "IMAGES": ",".join(image["pinned"] for image in published),
    }
    return {name: found[name] or "" for name in RESULTS}


def _published(ended: Ended) -> list[Mapping[str, Any]]:
    """The images of the document that this verb has brought to their registry."""
    if ended.command not in ("run", "publish"):
        return []
    images = ended.document.get("images", [])
    return [
        one for one in images if one["published"] == Reference.parse(one["reference"]).repository.registry
    ]


def chosen(values: Mapping[str, str], report: KeepingReport, kept: str) -> dict[str, str]:
    """The values that fit together, and are one printable line; each of the others is empty, and said."""
    left = BUDGET - sum(len(name) + _AROUND for name in values)
    result = {}
    for name, value in values.items():
        # As Go's encoder writes it.
        size = len(json.dumps(value)) + 5 * sum(map(value.count, "<>&"))
        fits = size <= left and value.isprintable()
        if not fits:
            report.note(f"the result {name} is left empty: it is too long, or no plain line", kept)
        result[name] = value if fits else ""
        left -= size if fits else 0
    return result


def _keep(workdir: Path, ended: Ended, report: KeepingReport) -> str:
    """Write down all that there is to tell, where there is a work folder; says where."""
    expected = outputs(ended)["expected-attestation"]
    errors = [{"message": secret.mask(one.message), "hint": one.hint} for one in ended.errors]
    failed = json_text({"status": ended.status, "errors": errors})
    named = {"result.json": ended.text or failed, "summary.md": summary(ended)}
    if expected:
        named["expected-attestation.txt"] = f"{expected}\n"
    try:
        for name, content in named.items():
            # Only the command makes a work folder: it says that this is none of the source.
            if (workdir / ".lock").exists():
                files.write(workdir / name, content.encode())
    except OSError as error:
        report.note(f"nothing could be written to `{workdir}`: {error.strerror}")
        return "it is in what was printed"
    return f"it is in `{workdir / 'result.json'}`"


def _prepare(records: Sequence[str], private: Path, environment: MutableMapping[str, str]) -> str | None:
    """Turn what Tekton's users bring into what the command reads; returns the commit that was cloned."""
    if given := [record for record in records if record]:
        if any(not record.isprintable() for record in given):
            raise UsageError("a build record is named by one line")
        environment["SECURE_BUILD_RECORD"] = "\n".join(given)
    publishes = not environment.get("SECURE_BUILD_TO") and not environment.get("SECURE_BUILD_OFFLINE")
    if environment.get("SECURE_BUILD_COMMAND") == "run" and publishes:
        # Results are small: whoever wants to know all images gets them by this one.
        environment["SECURE_BUILD_HAND_ON"] = "true"
    if folder := environment.get("DOCKER_CONFIG"):
        environment["DOCKER_CONFIG"] = str(_logins(Path(folder), private))
    if folder := environment.get("CERTIFICATES"):
        environment["SSL_CERT_FILE"] = str(_trusted(Path(folder), private))
    directory, commit = _source(environment)
    os.chdir(directory)
    return commit


def _logins(folder: Path, private: Path) -> Path:
    """A folder where Docker's client, and whoever does as it does, finds the logins of the workspace."""
    config, of_kubernetes = folder / "config.json", folder / ".dockerconfigjson"
    if config.is_file():
        return folder
    if not of_kubernetes.is_file():
        raise UsageError(
            "the workspace `dockerconfig` has neither `config.json` nor `.dockerconfigjson`",
            hint="bind a Secret of the type `kubernetes.io/dockerconfigjson`",
        )
    (private / config.name).symlink_to(of_kubernetes.absolute())
    return private


def _trusted(folder: Path, private: Path) -> Path:
    """One file with the authorities of the machine and those of a folder."""
    own = sorted(path for path in folder.iterdir() if path.suffix in (".crt", ".pem") and path.is_file())
    if not own:
        raise UsageError("the workspace `sslcertdir` has no `.crt` and no `.pem`")
    machine = ssl.get_default_verify_paths().cafile
    paths = [*([Path(machine)] if machine else []), *own]
    bundle = private / "authorities.pem"
    bundle.write_bytes(b"\n".join(files.read(path, at_most=1 << 20) for path in paths))
    return bundle


def _source(environment: Mapping[str, str]) -> tuple[Path, str | None]:
    """The folder that the command works in, and the commit when it was cloned."""
    folder, commit = Path(environment.get("SOURCE") or "."), None
    if url := environment.get("SOURCE_URL"):
        folder = Path(environment["CLONE"])
        if environment.get("SOURCE") not in (None, "", str(folder)):
            raise UsageError("`SOURCE_URL` and the workspace `source` are two sources", hint="leave one out")
        if folder.exists():
            raise UsageError(f"`{folder}` is there", hint="only the first step of a Task takes `SOURCE_URL`")
        address = Address.parse(url)
        commit = clone(address, environment.get("SOURCE_REVISION") or None, folder, _login(address))
    elif environment.get("SOURCE_REVISION"):
        raise UsageError("`SOURCE_REVISION` goes with `SOURCE_URL`")
    inside = folder / (environment.get("SOURCE_DIRECTORY") or ".")
    if not inside.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"`SOURCE_DIRECTORY` leads out of `{folder}`")
    if not inside.is_dir():
        raise UsageError(f"there is no folder `{inside}`")
    return inside, commit


def _login(address: Address) -> Login | None:
    """The login for the repository, from the secrets that have these names."""
    if address.scheme == "ssh" and secret.is_known("GIT_SSH_KEY"):
        known = secret.look_up("GIT_KNOWN_HOSTS").reveal().encode()
        return Login(address, key=secret.look_up("GIT_SSH_KEY"), known_hosts=known)
    if secret.is_known("GIT_TOKEN"):
        return Login(address, "x-access-token", secret.look_up("GIT_TOKEN"))
    return None


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
