"""Submodules: of a repository here and of one on a server, and the tricks of `.gitmodules`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path, PurePosixPath

import pytest

from flow.test_source import LARGEST, commit, git, listing, no_process_left, no_surroundings, write
from flow.test_source_remote import server
from secure_build.config import SecretName
from secure_build.config import Source as Settings
from secure_build.errors import SecureBuildError, UsageError
from secure_build.model import Submodule
from secure_build.source import Checkout, open_source
from services.git_servers import HttpGit, http_git

__all__ = ["no_process_left", "no_surroundings", "server"]

TOKEN = "t0ken-canary"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    made.mkdir()
    return made


def repository(folder: Path, name: str, *submodules: tuple[str, str, Path]) -> Path:
    """A repository with a file and submodules: path, written address, and where it really is."""
    made = folder / name
    made.mkdir(parents=True)
    git(made, "init", "--quiet", "--initial-branch=main")
    write(made / "file", f"{name}\n")
    for path, url, place in submodules:
        git(made, "submodule", "--quiet", "add", "--name", path, str(place), path)
        git(made, "config", "--file", ".gitmodules", f"submodule.{path}.url", url)
    commit(made)
    return made


@pytest.fixture
def nested(server: HttpGit) -> Path:
    """`web` with `lib/part`, which has `inner`: by a relative and by a whole address."""
    inner = repository(server.root, "inner.git")
    part = repository(server.root, "part.git", ("inner", f"{server.url}/inner.git", inner))
    return repository(server.root, "web.git", ("lib/part", "../part.git", part))


def take(server: HttpGit, work: Path, **more: object) -> Checkout:
    settings = Settings.model_validate({"url": f"{server.url}/web.git", "submodules": True, **more})
    return open_source(settings, work, work, allow_dirty=False)


def test_without_the_option_a_submodule_is_refused_and_the_option_named(
    nested: Path, server: HttpGit, work: Path, tmp_path: Path
) -> None:
    with take(server, work, submodules=False) as checkout:
        assert checkout.source.submodules == ()
        with pytest.raises(UsageError, match="`lib/part` is a git submodule") as caught:
            checkout.export(PurePosixPath(), tmp_path / "out")
        assert "`source: {submodules: true}`" in str(caught.value.hint)


def test_submodules_of_a_server_are_taken_at_their_commits(
    nested: Path, server: HttpGit, work: Path, tmp_path: Path
) -> None:
    part, inner = server.root / "part.git", server.root / "inner.git"
    recorded = git(part, "rev-parse", "HEAD"), git(inner, "rev-parse", "HEAD")
    for place in (part, inner):
        write(place / "file", "later\n")
        commit(place)
    with take(server, work) as checkout:
        checkout.export(PurePosixPath("lib"), tmp_path / "out")
        assert checkout.read(PurePosixPath("lib/part/inner/file"), at_most=LARGEST) == b"inner.git\n"
        assert checkout.is_directory(PurePosixPath("lib/part/inner"))
        assert checkout.source.submodules == (
            Submodule("lib/part", recorded[0], f"{server.url}/part.git"),
            Submodule("lib/part/inner", recorded[1], f"{server.url}/inner.git"),
        )
    found = listing(tmp_path / "out")
    assert sorted(found) == [
        ".", "part", "part/.gitmodules", "part/file", "part/inner", "part/inner/file",
    ]  # fmt: skip
    assert found["part/file"][2] == "part.git\n"


def test_submodules_of_a_repository_here(nested: Path, tmp_path: Path, work: Path) -> None:
    settings = Settings(submodules=True)
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(nested), str(clone))
    with pytest.raises(UsageError, match="`lib/part` is not here") as caught:
        open_source(settings, clone, work, allow_dirty=False)
    assert caught.value.hint == "run `git submodule update --init --recursive`"
    shutil.rmtree(clone)
    git(
        tmp_path,
        "clone",
        "--quiet",
        "--recurse-submodules",
        *rewritten(nested),
        str(nested),
        str(clone),
    )
    with open_source(settings, clone, work, allow_dirty=False) as checkout:
        assert checkout.read(PurePosixPath("lib/part/inner/file"), at_most=LARGEST) == b"inner.git\n"
        assert [sub.path for sub in checkout.source.submodules] == ["lib/part", "lib/part/inner"]
    write(clone / "lib" / "part" / "inner" / "file", "changed\n")
    with pytest.raises(SecureBuildError, match="`lib/part/inner/file`"):
        open_source(settings, clone, work, allow_dirty=False)
    with open_source(settings, clone, work, allow_dirty=True) as checkout:
        assert checkout.read(PurePosixPath("lib/part/inner/file"), at_most=LARGEST) == b"inner.git\n"


def rewritten(nested: Path) -> list[str]:
    """The served addresses as files, for the clone that a developer makes."""
    url = git(nested.parent / "part.git", "config", "--file", ".gitmodules", "submodule.inner.url")
    base = url.removesuffix("/inner.git")
    return ["--config", f"url.{nested.parent}.insteadOf={base}"]


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c 'touch ran'",
        "/srv/part",
        "file:///srv/part",
        "-u./ran",
        "--upload-pack=touch ran",
        "$HOME/part",
        "~/part",
        "../../../../part",
        "../$HOME",
        "ssh://-oProxyCommand=touch/part",
        "http://example.com/part",
        "git://127.0.0.1/part",
        "https://acme:hunter2@127.0.0.1/part",
        "",
    ],
)
def test_hardening_37_a_submodule_address_that_git_would_act_on(
    server: HttpGit, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    part = repository(server.root, "part.git")
    repository(server.root, "web.git", ("part", url, part))
    with pytest.raises(UsageError, match="the submodule `part` cannot be fetched") as caught:
        take(server, work)
    assert "hunter2" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "path", "message"),
    [
        ("../../evil", "part", "the impossible name"),
        ("a/../../evil", "part", "the impossible name"),
        ("..\\evil", "part", "the impossible name"),
        ("/evil", "part", "the impossible name"),
        ("-x", "part", "the impossible name"),
        ("x", ".git/hooks", "the impossible path"),
        ("x", "a/.GIT/hooks", "the impossible path"),
        ("x", "../part", "the impossible path"),
        ("x", "/part", "the impossible path"),
        ("x", "--upload-pack", "the impossible path"),
        ("x", "elsewhere", "no address for the submodule `part`"),
    ],
)
def test_hardening_37_names_and_paths_of_submodules(
    server: HttpGit, work: Path, name: str, path: str, message: str
) -> None:
    part = repository(server.root, "part.git")
    web = repository(server.root, "web.git", ("part", "../part.git", part))
    quoted = name.replace("\\", "\\\\")
    write(web / ".gitmodules", f'[submodule "{quoted}"]\n\tpath = {path}\n\turl = ../part.git\n')
    commit(web)
    with pytest.raises(UsageError, match=message):
        take(server, work)


@pytest.mark.parametrize(
    ("mode", "content", "message"),
    [
        ("", b"", "no address for the submodule"),
        ("120000", b"elsewhere", "is no regular file"),
        ("100644", b"[[[", "`git config` failed"),
        ("100644", b"x" * (2 << 20), "the limit is"),
        ("160000", b"", "is no regular file"),
    ],
    ids=["missing", "link", "broken", "large", "submodule"],
)
def test_hardening_37_a_gitmodules_that_is_no_plain_config(
    server: HttpGit, work: Path, mode: str, content: bytes, message: str
) -> None:
    part = repository(server.root, "part.git")
    web = repository(server.root, "web.git", ("part", "../part.git", part))
    entries = [line for line in git(web, "ls-tree", "HEAD").splitlines() if ".gitmodules" not in line]
    blob = git(web, "hash-object", "-w", "--stdin", content=content)
    if mode:
        oid = git(part, "rev-parse", "HEAD") if mode == "160000" else blob
        entries.append(f"{mode} {'commit' if mode == '160000' else 'blob'} {oid}\t.gitmodules")
    made = git(web, "mktree", content="\n".join([*entries, ""]).encode())
    git(web, "update-ref", "refs/heads/main", git(web, "commit-tree", "-m", "m", made))
    with pytest.raises(UsageError, match=message):
        take(server, work)


def test_hardening_37_a_gitmodules_includes_no_file(server: HttpGit, work: Path, tmp_path: Path) -> None:
    part = repository(server.root, "part.git")
    web = repository(server.root, "web.git", ("part", "../part.git", part))
    outside = write(tmp_path / "outside", '[submodule "part"]\n\turl = ../evil.git\n')
    write(web / ".gitmodules", (web / ".gitmodules").read_text() + f"[include]\n\tpath = {outside}\n")
    commit(web)
    with take(server, work) as checkout:
        assert checkout.source.submodules[0].url == f"{server.url}/part.git"


def test_hardening_37_a_submodule_at_the_place_of_git_itself(server: HttpGit, work: Path) -> None:
    part = repository(server.root, "part.git")
    web = repository(server.root, "web.git")
    oid = git(part, "rev-parse", "HEAD")
    hooks = tree(web, ("160000", "hooks", oid))
    top = tree(web, ("40000", ".git", hooks))
    git(web, "update-ref", "refs/heads/main", git(web, "commit-tree", "-m", "m", top))
    with pytest.raises(UsageError, match=r"impossible path `\.git/hooks`"):
        take(server, work)


def tree(root: Path, *entries: tuple[str, str, str]) -> str:
    content = b"".join(f"{mode} {name}\0".encode() + bytes.fromhex(oid) for mode, name, oid in entries)
    return git(root, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", content=content)


def test_a_commit_of_a_submodule_that_its_server_does_not_have(server: HttpGit, work: Path) -> None:
    part = repository(server.root, "part.git")
    web = repository(server.root, "web.git", ("part", "../part.git", part))
    git(web, "update-index", "--cacheinfo", f"160000,{'0123456789' * 4},part")
    git(web, "commit", "--quiet", "--message", "m")
    with pytest.raises(UsageError, match=r"does not have this commit|has no commit"):
        take(server, work)


def test_submodules_have_a_limit(server: HttpGit, work: Path) -> None:
    """A repository cannot name its own commit, but many can stand in one tree."""
    part = repository(server.root, "part.git")
    web = repository(server.root, "web.git")
    oid = git(part, "rev-parse", "HEAD")
    lines = "".join(f"160000 {oid}\tpart{number}\n" for number in range(201))
    git(web, "update-index", "--add", "--index-info", content=lines.encode())
    git(web, "commit", "--quiet", "--message", "m")
    with pytest.raises(UsageError, match="more than 200 submodules"):
        take(server, work)


def test_hardening_37_the_token_is_for_the_server_of_the_source_only(
    tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", TOKEN)
    monkeypatch.setenv("no_proxy", "*")
    own, other = tmp_path / "own", tmp_path / "other"
    with http_git(own, users={"acme": TOKEN}) as private, http_git(other) as public:
        near = repository(own, "near.git")
        far = repository(other, "far.git")
        places = ("near", "../near.git", near), ("far", f"{public.url}/far.git", far)
        repository(own, "web.git", *places)
        with take(private, work, username="acme", token=SecretName(secret="TOKEN")) as checkout:
            assert [sub.path for sub in checkout.source.submodules] == ["far", "near"]
        assert {login for _, login in public.requests} == {None}
        assert any(login for path, login in private.requests if path.startswith("/near"))
        # One that wants a login gets none, and says so.
        shutil.rmtree(work / "source")
        public.users = {"acme": TOKEN}
        with pytest.raises(SecureBuildError, match="wants a login"):
            take(private, work, username="acme", token=SecretName(secret="TOKEN"))
        assert {login for _, login in public.requests} == {None}
    assert os.environ["TOKEN"] == TOKEN
