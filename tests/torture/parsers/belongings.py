"""Files of this program, of the user and of a project."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path, PurePosixPath

from fakes.tree import MemoryTree
from secure_build import address, config, lock, manifest, record
from secure_build.builders import logins
from secure_build.model import (
    BuilderVersion,
    BuildRecord,
    Descriptor,
    Enforced,
    Finding,
    Image,
    Invocation,
    Material,
    Platform,
    Section,
    Signature,
    Source,
    UsedImage,
)
from secure_build.reference import Repository
from secure_build.registry import auth
from secure_build.secret import basic_authorization
from secure_build.source import settings
from secure_build.source.repository import Repository as GitRepository
from secure_build.source.submodules import Finder, local
from secure_build.starter import Folder, Wishes, convert, survey
from torture.parsers.table import IMAGE, NAME, NOW, dumped, files, parser, text

# Files of ours, and of the user


BUILT = Image(
    name="web",
    reference=NAME,
    descriptor=Descriptor(manifest.OCI_INDEX, IMAGE.digest, 7),
    platforms=(Platform("linux", "s390x"),),
    builder=BuilderVersion("buildah", "1.28.2"),
    materials=(Material("image", "docker.io/library/nginx:1", str(IMAGE.digest)),),
    signatures=(Signature("rhs", IMAGE, "F" * 40, "signatures/one", name=NAME),),
    enforced=Enforced("rhs", "AAAA"),
    invocation=Invocation("https://ci.example", "1", NOW, NOW),
)
WHOLE = BuildRecord(
    tool="secure-build 1.0",
    config=IMAGE.digest,
    source=Source("https://git.example/a.git", "c" * 40, "refs/heads/main", True, NOW, "."),
    images=(BUILT,),
    used=(UsedImage(NAME, IMAGE.digest, (Platform("linux", "s390x"),)),),
    sections={"env": Section(IMAGE.digest, "a" * 64, token=IMAGE.digest)},
    attested={"contract:env": IMAGE.digest},
    findings=(Finding("login", "warn", "what", "why"),),
)


@parser("build record", [record.dump(WHOLE)], cost=5)
def _(content: bytes) -> None:
    path = Path("build-record.json")
    path.write_bytes(content)
    record.dump(record.read(path))


LOCK = "version: 1\nimage:\n  docker.io/library/nginx:1:\n    linux/s390x: sha256:" + "a" * 64 + "\n"


@parser("lock", [LOCK + "git:\n  https://a/b#c:\n    linux/s390x: sha1:" + "b" * 40 + "\n", LOCK])
def _(content: bytes) -> None:
    found = lock.parse(content, "secure-build.lock")
    assert lock.parse(lock.dump(found), "secure-build.lock") == found


@parser("config", files("cases/config/*.yaml", "../examples/*/secure-build.yaml"), cost=20)
def _(content: bytes) -> None:
    found = config.parse(content, Path("secure-build.yaml"))
    found.where("images", "web")


@parser("secure build server file", files("cases/sbs/*.json"), cost=5)
def _(content: bytes) -> None:
    convert(content, "vs.json")


@parser("project", [*files("cases/compose/*.yml"), b"ARG A\nFROM ${A:-nginx} AS b\nFROM b\n"], cost=20)
def _(content: bytes) -> None:
    name = "Dockerfile" if b"FROM " in content else "docker-compose.yml"
    tree = MemoryTree({name: content, "pod.yaml": content, "app/Dockerfile": content})
    survey(Folder(tree, PurePosixPath()), Wishes(target="ccrt", name="app"))


LOGINS = {
    "auths": {
        "registry.example": {"auth": base64.b64encode(b"user:password").decode()},
        "https://registry.example/v1/": {"username": "user", "password": "a-password"},
        "registry.example/acme": {"identitytoken": "a-token"},
    },
    "credHelpers": {"other.example": "pass"},
    "credsStore": "",
    "proxies": {"default": {}},
}


@parser("docker config", [dumped(LOGINS), dumped({"auths": {"registry.example": LOGINS["auths"]}})])  # type: ignore[index]
def _(content: bytes) -> None:
    Path("config.json").write_bytes(
        content.replace(b'"credsStore"', b'"x"').replace(b'"credHelpers"', b'"y"')
    )
    for path in ("acme/web", "other"):
        found = auth.machine_credential(Repository("registry.example", path))
        if found is not None:
            basic_authorization(found.username, found.password.reveal())
            with logins.docker_config([found], Path.cwd()):
                pass


@parser("filters", ["filter.lfs.smudge", "filter..clean", "a.b"])
def _(content: bytes) -> None:
    settings.variables(settings.without_filters(text(content).split("\n")))


def git(*arguments: str) -> str:
    identity = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    }
    return subprocess.run(
        ["git", "-C", "repository", *arguments],
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "GIT_CONFIG_GLOBAL": "/dev/null", **identity},
    ).stdout.strip()


def repository(files_: dict[str, bytes]) -> str:
    """A repository in the work folder, with one commit of these files and a submodule at `a`."""
    Path("repository").mkdir(exist_ok=True)
    if not Path("repository/.git").exists():
        git("init", "--quiet")
    for name, content in files_.items():
        (Path("repository") / name).write_bytes(content)
        git("add", name)
    git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},a")
    git("commit", "--quiet", "--allow-empty", "-m", "x")
    return git("rev-parse", "HEAD")


GIT_CONFIG = """\
[core]
\trepositoryformatversion = 0
\tbare = false
[remote "origin"]
\turl = https://user:pass@git.example/a.git
[filter "lfs"]
\tsmudge = git-lfs smudge -- %f
[extensions]
\tobjectformat = sha1
[include]
\tpath = nothing
"""
PLAIN_GIT_CONFIG = "[core]\n\trepositoryformatversion = 0\n\tbare = false\n"
MODULES = '[submodule "a"]\n\tpath = a\n\turl = ../b.git\n\tbranch = .\n'


@parser("git config", [GIT_CONFIG], cost=400, programs=True)
def _(content: bytes) -> None:
    path = Path("repository/.git/config")
    if path.exists():
        path.write_text(PLAIN_GIT_CONFIG)
    repository({"README": b"x"})
    path.write_bytes(content)
    try:
        found = GitRepository.around(Path("repository"))
        found.origin()
        found.head()
        found.close()
    finally:
        path.write_text(PLAIN_GIT_CONFIG)


@parser("gitmodules", [MODULES], cost=400, programs=True)
def _(content: bytes) -> None:
    commit = repository({".gitmodules": content})
    opened = GitRepository.at(Path("repository").absolute())
    finder = Finder(local)
    try:
        finder.tree(opened, commit, address.Address.parse("https://git.example/a.git"))
    finally:
        finder.close()
        opened.close()
