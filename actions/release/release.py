"""The files of a release: built twice, listed, signed, verified.

    python actions/release/release.py check TAG
    python actions/release/release.py build FOLDER
    python actions/release/release.py sign FOLDER
    python actions/release/release.py verify FOLDER

`build` takes the commit that is checked out, and what `make setup` brings. `sign` and `verify` take the
installed tool and go by the identity in secure-build.yaml beside this file. docs/releasing.md has the whole.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from secure_build import ci, config
from secure_build.attestations import statement
from secure_build.attestations.provenance import PREDICATE
from secure_build.config import File, KeylessSigning
from secure_build.errors import RefusedError, SecureBuildError, UsageError
from secure_build.reference import Digest
from secure_build.report import Report
from secure_build.signers.keyless import KeylessSigner
from secure_build.steps.job import Options, opened
from secure_build.steps.keys import keys

ROOT = Path(__file__).resolve().parents[2]
CONFIG = Path(__file__).with_name("secure-build.yaml")
SUMS, PROVENANCE = "SHA256SUMS", "provenance.sigstore.json"
# Of the image; `secure-build verify` looks at them.
RECORDS = {"build-record.json", "build-record.keyless.json"}
BUILD_TYPE = "urn:x-secure-build:release:v1"


def check(tag: str) -> None:
    """Raise UsageError unless all that names a version names that of the tag."""
    version = _version()
    loaded = config.load(CONFIG)
    reference = loaded.config.built["step"].image
    signer = _keyless(loaded.config.signing.keyless).identity or ""
    for what, found, wanted in (
        ("the tag", tag, f"v{version}"),
        (f"the image in {CONFIG.name}", reference.tag, version),
        (f"the identity in {CONFIG.name}", signer.partition("@")[2], f"refs/tags/v{version}"),
    ):
        if found != wanted:
            raise UsageError(
                f"{what} is `{found}`, and this is version {version}", hint=f"it must be `{wanted}`"
            )
    if not re.search(rf"^## {re.escape(version)} ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE):
        raise UsageError(
            f"CHANGELOG.md has no section of version {version}", hint=f"begin it with `## {version} - DATE`"
        )


def build(folder: Path) -> None:
    """Put wheel, source archive and SBOM of the commit into a new folder, with a list of their hashes."""
    import sbom

    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise UsageError(f"`{folder}` is there already", hint="remove it, or name another folder") from None
    scratch = Path(tempfile.mkdtemp(prefix="secure-build-release-"))
    first = _made(scratch / "first", sys.executable, umask=0o022, zone="UTC")
    locks = scratch / "first" / "source" / "requirements"
    # In an environment that has nothing but what builds, so that nothing else can have had a part in it.
    venv.EnvBuilder(with_pip=True).create(scratch / "bare")
    python = str(scratch / "bare" / "bin" / "python")
    hashed = ("--require-hashes", "--only-binary=:all:", "--no-deps", f"--requirement={locks / 'build.txt'}")
    _run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *hashed)
    again = _made(scratch / "again" / "elsewhere", python, umask=0o077, zone="Asia/Tokyo")
    for one, other in zip(first, again, strict=True):
        if one.read_bytes() != other.read_bytes():
            raise RefusedError(
                f"`{one.name}` is not the same when it is built again: it depends on more than the commit",
                hint=f"compare `{one}` with `{other}`",
            )
    files = [Path(shutil.copy(path, folder)) for path in first]
    time = datetime.fromtimestamp(int(_output("git", "show", "--no-patch", "--format=%ct")), UTC)
    listed = folder / f"secure_build-{_version()}.cdx.json"
    listed.write_text(sbom.document(_version(), files, locks / "main.txt", time))
    (folder / SUMS).write_text(
        "".join(f"{_sha256(path)}  {path.name}\n" for path in sorted((*files, listed)))
    )
    shutil.rmtree(scratch)


def sign(folder: Path) -> None:
    """Sign every file, and say where those that are listed come from."""
    files = _listed(folder)
    with _signer() as (sigstore, signing, signer):
        subjects = [(path.name, Digest.of(path.read_bytes())) for path in files]
        said = statement.statement(PREDICATE, _provenance(signing), subjects)
        # First, since this signs as nobody else than the config names, and sigstore's command as anybody.
        (folder / PROVENANCE).write_bytes(signer.sign(said))
        _run(*sigstore, "sign", "--overwrite", *map(str, (*files, folder / SUMS)))


def verify(folder: Path) -> None:
    """Raise RefusedError unless every file is signed, and comes from the commit that is checked out."""
    files = _listed(folder)
    commit = _output("git", "rev-parse", "HEAD")
    with _signer() as (sigstore, signing, signer):
        who = ("--cert-identity", str(signing.identity), "--cert-oidc-issuer", str(signing.issuer))
        _run(*sigstore, "verify", "identity", *who, *map(str, (*files, folder / SUMS)))
        payload = signer.verify((folder / PROVENANCE).read_bytes())
    for path in files:
        said = statement.predicate(payload, predicate_type=PREDICATE, subject=Digest.of(path.read_bytes()))
        (source,) = said["buildDefinition"]["resolvedDependencies"]
        if source["digest"] != {"gitCommit": commit}:
            raise RefusedError(
                f"`{path.name}` comes from another commit than {commit}, which is checked out",
                hint="check out the tag of the release",
            )
    print(f"{folder}: {len(files)} files of commit {commit}, signed by {signing.identity}")


def _made(folder: Path, python: str, *, umask: int, zone: str) -> list[Path]:
    """A wheel and a source archive of the commit, made in this folder under these circumstances."""
    source = folder / "source"
    source.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    unpack = ["tar", "--extract", "--touch", "--no-same-permissions"]
    subprocess.run(unpack, cwd=source, input=archive, check=True, umask=umask)
    variables = {"PATH": os.environ["PATH"], "HOME": str(folder), "TZ": zone, "LC_ALL": "C"}
    for kind in ("sdist", "wheel"):
        subprocess.run(
            [python, "-m", "hatchling", "build", "--target", kind, "--directory", str(folder)],
            cwd=source, env=variables, check=True, umask=umask, stdout=sys.stderr,
        )  # fmt: skip
    return sorted((*folder.glob("*.whl"), *folder.glob("*.tar.gz")))


def _provenance(signing: KeylessSigning) -> dict[str, Any]:
    """Workflow, repository and tag are those that the certificate names: nobody else can sign this."""
    workflow = str(signing.identity)
    repository, ref = workflow.partition("/.github/")[0], workflow.partition("@")[2]
    commit, invocation = _output("git", "rev-parse", "HEAD"), ci.host().invocation
    source = {"uri": f"git+{repository}@{commit}", "digest": {"gitCommit": commit}, "name": "source"}
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"source": {"repository": repository, "ref": ref}},
            "resolvedDependencies": [source],
        },
        "runDetails": {
            "builder": {"id": workflow},
            **({"metadata": {"invocationId": invocation}} if invocation else {}),
        },
    }


@contextmanager
def _signer() -> Iterator[tuple[tuple[str, ...], KeylessSigning, KeylessSigner]]:
    """Sigstore's own command and our signer, both for what the config says, and that."""
    with tempfile.TemporaryDirectory() as folder, opened(Options(CONFIG, Path(folder)), Report()) as work:
        signing = _keyless(work.loaded.config.signing.keyless)
        instance: tuple[str, ...] = ("--staging",) if signing.instance == "staging" else ()
        if isinstance(signing.instance, File):
            instance = ("--trust-config", str(CONFIG.parent / signing.instance.file))
        yield (sys.executable, "-m", "sigstore", *instance), signing, keys(work).keyless


def _keyless(signing: KeylessSigning | None) -> KeylessSigning:
    if signing is None or signing.identity is None:
        raise UsageError(
            f"`{CONFIG}` does not say who signs", hint="`signing: keyless:` with `identity` and `issuer`"
        )
    return signing


def _listed(folder: Path) -> list[Path]:
    """The files of the list; raises RefusedError unless they have these hashes and nothing else is there."""
    try:
        lines = [line.partition("  ") for line in (folder / SUMS).read_text().splitlines()]
    except FileNotFoundError:
        raise UsageError(f"there is no {SUMS} in `{folder}`", hint="name the folder of a release") from None
    hashes = {name: wanted for wanted, _, name in lines}
    signed = {f"{name}{ending}" for name in (*hashes, SUMS) for ending in ("", ".sigstore.json")}
    for path in folder.iterdir():
        if path.name not in signed | {PROVENANCE} | RECORDS:
            raise RefusedError(
                f"`{path}` is no part of the release", hint=f"{SUMS} does not list it: remove it"
            )
    for name, wanted in hashes.items():
        path = folder / name
        if not path.is_file() or _sha256(path) != wanted:
            raise RefusedError(f"`{path}` is not what {SUMS} lists", hint="build or download it again")
    return [folder / name for name in hashes]


def _version() -> str:
    return _output(sys.executable, "-m", "hatchling", "version")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)


def _output(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description="The files of a release, see docs/releasing.md.")
    parser.add_argument("verb", choices=["check", "build", "sign", "verify"])
    parser.add_argument("what", metavar="TAG|FOLDER")
    given = parser.parse_args()
    try:
        if given.verb == "check":
            check(given.what)
        else:
            {"build": build, "sign": sign, "verify": verify}[given.verb](Path(given.what))
    except SecureBuildError as error:
        Report().error(error)
        return error.exit_code
    except subprocess.CalledProcessError as error:
        what = " ".join(error.cmd[:4])
        Report().error(RefusedError(f"`{what} …` ended with {error.returncode}", hint="it says why, above"))
        return RefusedError.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
