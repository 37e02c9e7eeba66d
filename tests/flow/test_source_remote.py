"""A source on a server: git's own HTTP backend on loopback, with everything that servers differ in."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest

from flow.test_source import (
    ENVIRONMENT,
    LARGEST,
    commit,
    git,
    listing,
    no_process_left,
    no_surroundings,
    write,
)
from secure_build import secret
from secure_build.config import SecretName
from secure_build.config import Source as Settings
from secure_build.errors import MachineError, SecureBuildError, ServiceError, UsageError
from secure_build.source import Checkout, open_source
from services.git_servers import HttpGit, http_git

__all__ = ["no_process_left", "no_surroundings"]

TOKEN = "t0ken/with?odd&characters%41"
DOCKERFILE = PurePosixPath("Dockerfile")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HttpGit]:
    (tmp_path / "served").mkdir()
    with http_git(tmp_path / "served") as started:
        yield started


@pytest.fixture
def origin(server: HttpGit) -> Path:
    """A served repository with a working tree: `web`, branch `main`, two commits."""
    made = server.root / "web"
    made.mkdir()
    git(made, "init", "--quiet", "--initial-branch=main")
    write(made / "Dockerfile", "FROM first\n")
    commit(made)
    write(made / "Dockerfile", "FROM scratch\n")
    write(made / "app" / "run.sh", "#!/bin/sh\n", executable=True)
    commit(made)
    return made


@pytest.fixture
def work(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    made.mkdir()
    return made


Open = Callable[..., Checkout]


@pytest.fixture
def take(server: HttpGit, work: Path) -> Iterator[Open]:
    """Opens the source; each is closed at the end."""
    opened: list[Checkout] = []

    def act(ref: str | None = None, *, commit: str | None = None, url: str = "", **more: object) -> Checkout:
        given = {"url": url or f"{server.url}/web/.git", **({"ref": ref} if ref else {}), **more}
        settings = Settings.model_validate(given)
        opened.append(open_source(settings, work, work, allow_dirty=False, commit=commit))
        return opened[-1]

    yield act
    for checkout in opened:
        checkout.close()
    assert not list(work.glob(".login-*"))


def dockerfile(checkout: Checkout) -> bytes | None:
    return checkout.read(DOCKERFILE, at_most=LARGEST)


def test_the_commit_of_head_is_taken_and_said(
    origin: Path, take: Open, server: HttpGit, tmp_path: Path
) -> None:
    checkout = take()
    source = checkout.source
    assert source.url == f"{server.url}/web/.git"
    assert source.commit == git(origin, "rev-parse", "HEAD")
    assert (source.ref, source.clean, source.subdir) == ("refs/heads/main", True, ".")
    assert dockerfile(checkout) == b"FROM scratch\n"
    checkout.export(PurePosixPath(), tmp_path / "out")
    assert sorted(listing(tmp_path / "out")) == [".", "Dockerfile", "app", "app/run.sh"]


def test_hardening_38_branch_tag_annotated_tag_and_commit(origin: Path, take: Open) -> None:
    first, second = git(origin, "rev-parse", "HEAD^"), git(origin, "rev-parse", "HEAD")
    git(origin, "tag", "light", first)
    git(origin, "tag", "--annotate", "--message", "m", "annotated", first)
    git(origin, "tag", "--annotate", "--message", "m", "twice", "annotated")
    for ref, expected, name in (
        ("main", second, "refs/heads/main"),
        ("refs/heads/main", second, "refs/heads/main"),
        ("light", first, "refs/tags/light"),
        ("annotated", first, "refs/tags/annotated"),
        ("twice", first, "refs/tags/twice"),
        (first, first, None),
    ):
        source = take(ref).source
        assert (source.commit, source.ref) == (expected, name)
    assert dockerfile(take("light")) == b"FROM first\n"


def test_hardening_38_a_tag_that_moved_is_taken_where_it_is_now(origin: Path, take: Open) -> None:
    git(origin, "tag", "v1", "HEAD^")
    before = take("v1").source.commit
    git(origin, "tag", "--force", "v1", "HEAD")
    after = take("v1").source.commit
    assert (before, after) == (git(origin, "rev-parse", "HEAD^"), git(origin, "rev-parse", "HEAD"))
    # What the build record names is taken, not what the tag names by now.
    assert dockerfile(take("v1", commit=before)) == b"FROM first\n"


def test_hardening_38_a_tag_that_is_no_commit_is_refused(origin: Path, take: Open) -> None:
    git(origin, "tag", "tree", "HEAD^{tree}")
    with pytest.raises(UsageError):
        take("tree")


def test_hardening_39_a_name_of_branch_and_tag_is_refused(origin: Path, take: Open) -> None:
    git(origin, "branch", "v1", "HEAD^")
    git(origin, "tag", "v1")
    with pytest.raises(UsageError, match="has a branch and a tag called `v1`") as caught:
        take("v1")
    assert caught.value.hint == "write `refs/heads/v1` or `refs/tags/v1`"
    assert dockerfile(take("refs/heads/v1")) == b"FROM first\n"


def test_hardening_39_a_short_commit_or_one_in_capitals_is_refused(origin: Path, take: Open) -> None:
    full = git(origin, "rev-parse", "HEAD")
    with pytest.raises(UsageError) as caught:
        take(full[:12])
    assert caught.value.hint == "write all 40 digits of a commit"
    with pytest.raises(UsageError, match="is not in lower case") as caught:
        take("A" + full[1:].upper())
    with pytest.raises(UsageError, match="SHA-256"):
        take("a" * 64)


def test_hardening_39_forty_digits_are_a_commit_whatever_a_branch_is_called(origin: Path, take: Open) -> None:
    first, second = git(origin, "rev-parse", "HEAD^"), git(origin, "rev-parse", "HEAD")
    git(origin, "update-ref", f"refs/heads/{first}", second)
    assert dockerfile(take(first)) == b"FROM first\n"
    assert dockerfile(take(f"refs/heads/{first}")) == b"FROM scratch\n"


def test_hardening_39_a_branch_that_looks_like_a_short_commit_is_a_branch(origin: Path, take: Open) -> None:
    git(origin, "branch", "deadbeef", "HEAD^")
    assert dockerfile(take("deadbeef")) == b"FROM first\n"


def test_hardening_39_a_sha_256_repository_is_refused_with_the_reason(server: HttpGit, take: Open) -> None:
    made = server.root / "web"
    made.mkdir()
    git(made, "init", "--quiet", "--initial-branch=main", "--object-format=sha256")
    commit(made)
    with pytest.raises(UsageError, match="SHA-256"):
        take()


@pytest.mark.parametrize("name", ["-x", "--output", "--upload-pack=touch ran"])
def test_hardening_37_a_branch_named_like_an_option_is_only_a_name(
    origin: Path, take: Open, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    if " " in name:
        with pytest.raises(UsageError, match="cannot be the name of a branch"):
            take(name)
    else:
        git(origin, "update-ref", f"refs/heads/{name}", "HEAD^")
        assert dockerfile(take(name)) == b"FROM first\n"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name", ["main^{tree}", "main~1", "@{-1}", "a..b", "a:b", "+main", "*", "ma?n", "a\nb", "/a"]
)
def test_hardening_37_an_expression_is_no_ref(origin: Path, take: Open, name: str) -> None:
    with pytest.raises(UsageError):
        take(name)


def test_a_missing_ref_folder_or_repository_is_said(origin: Path, take: Open, server: HttpGit) -> None:
    with pytest.raises(UsageError, match="has no branch or tag `absent`"):
        take("absent")
    with pytest.raises(UsageError, match="has no folder `absent`"):
        take(directory="absent")
    with pytest.raises(UsageError, match="there is no such repository"):
        take(url=f"{server.url}/absent")
    with pytest.raises(UsageError, match=r"the server does not have this commit|has no commit"):
        take("0123456789" * 4)


def test_paths_start_from_the_directory(origin: Path, take: Open) -> None:
    checkout = take(directory="app")
    assert checkout.source.subdir == "app"
    assert checkout.locate("run.sh", what="x") == PurePosixPath("app/run.sh")
    assert checkout.locate("../Dockerfile", what="x") == DOCKERFILE
    with pytest.raises(UsageError, match="outside the repository"):
        checkout.locate("../../x", what="x")


# What is kept between runs.


def fetches(server: HttpGit) -> int:
    return sum(path.endswith("git-upload-pack") for path, _ in server.requests)


def test_a_commit_that_is_there_is_not_fetched_again(origin: Path, take: Open, server: HttpGit) -> None:
    known = git(origin, "rev-parse", "HEAD")
    take(known)
    server.requests.clear()
    assert dockerfile(take(known)) == b"FROM scratch\n"
    assert server.requests == []


def test_only_one_commit_is_fetched_and_a_second_beside_it(origin: Path, take: Open, work: Path) -> None:
    first, second = git(origin, "rev-parse", "HEAD^"), git(origin, "rev-parse", "HEAD")
    take(second)
    (kept,) = (work / "source").iterdir()
    assert git(kept, "rev-list", "--all") == second
    old = git(origin, "rev-parse", "HEAD^:Dockerfile")
    with pytest.raises(subprocess.CalledProcessError):
        git(kept, "cat-file", "-e", old)
    assert dockerfile(take(first)) == b"FROM first\n"
    assert dockerfile(take(second)) == b"FROM scratch\n"


def test_what_was_taken_outlives_git_gc(origin: Path, take: Open, server: HttpGit, work: Path) -> None:
    first, second = git(origin, "rev-parse", "HEAD^"), git(origin, "rev-parse", "HEAD")
    take(first)
    take(second)
    (kept,) = (work / "source").iterdir()
    git(kept, "gc", "--quiet", "--prune=now")
    server.requests.clear()
    assert (dockerfile(take(first)), dockerfile(take(second))) == (b"FROM first\n", b"FROM scratch\n")
    assert server.requests == []


@pytest.mark.parametrize("left", ["locks", "no-head", "no-objects", "no-blob", "rubbish"])
def test_a_fetch_that_was_killed_is_made_up_for(origin: Path, take: Open, work: Path, left: str) -> None:
    known = git(origin, "rev-parse", "HEAD")
    take(known)
    (kept,) = (work / "source").iterdir()
    if left == "locks":
        git(kept, "update-ref", "-d", f"refs/kept/{known}")
        for name in ("shallow.lock", "packed-refs.lock", f"refs/kept/{known}.lock", "config.lock"):
            write(kept / name)
    elif left == "no-head":
        (kept / "HEAD").unlink()
    elif left == "rubbish":
        (kept / "HEAD").write_text("rubbish")
    else:
        blob = git(kept, "rev-parse", f"{known}:Dockerfile")
        gone = [kept / "objects" / blob[:2] / blob[2:]] if left == "no-blob" else kept.glob("objects/??/*")
        for path in gone:
            path.unlink()
    assert dockerfile(take(known)) == b"FROM scratch\n"


def test_a_fetch_that_is_killed_leaves_nothing_that_counts(
    origin: Path, take: Open, work: Path, tmp_path: Path
) -> None:
    """A process of its own, killed with all its children at moments all over the fetch."""
    write(origin / "large", os.urandom(3 << 20))
    known = commit(origin)
    url = f"{take().source.url}"
    again = tmp_path / "again"
    again.mkdir()
    code = (
        "import sys; from pathlib import Path; from secure_build.config import Source; "
        "from secure_build.source import open_source; p = Path(sys.argv[1]); "
        "open_source(Source.model_validate({'url': sys.argv[2]}), p, p, allow_dirty=False)"
    )
    for seconds in (0.35, 0.45, 0.55, 0.7):
        child = subprocess.Popen(
            [os.sys.executable, "-c", code, str(again), url],
            env=ENVIRONMENT, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        time.sleep(seconds)
        child.send_signal(signal.SIGKILL)
        child.wait()
    time.sleep(0.5)
    settings = Settings.model_validate({"url": url})
    with open_source(settings, again, again, allow_dirty=False) as checkout:
        assert checkout.source.commit == known
        assert len(checkout.read(PurePosixPath("large"), at_most=4 << 20) or b"") == 3 << 20


# Servers that give only what their refs name.


def test_a_server_that_serves_no_commit_by_its_id(origin: Path, take: Open, server: HttpGit) -> None:
    server.version = 0
    first = git(origin, "rev-parse", "HEAD^")
    git(origin, "branch", "other", first)
    git(origin, "tag", "--annotate", "--message", "m", "v1", "HEAD")
    git(origin, "config", "uploadpack.allowTipSHA1InWant", "false")
    assert dockerfile(take("main")) == b"FROM scratch\n"
    assert dockerfile(take("v1")) == b"FROM scratch\n"
    write(origin / "third")
    commit(origin)
    git(origin, "branch", "-D", "other")
    # No ref names the first commit any more: all branches are fetched for it.
    assert dockerfile(take(first)) == b"FROM first\n"
    with pytest.raises(UsageError, match="has no commit"):
        take("0123456789" * 4)


# Logins.


def test_a_token_goes_to_its_server_and_stays_nowhere(
    tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", TOKEN)
    secret.take({"TOKEN"})
    root = tmp_path / "private"
    made = root / "web"
    made.mkdir(parents=True)
    git(made, "init", "--quiet", "--initial-branch=main")
    write(made / "Dockerfile", "FROM scratch\n")
    commit(made)
    with http_git(root, users={"acme": TOKEN}) as server:
        url = f"{server.url}/web/.git"
        token = SecretName(secret="TOKEN")

        def attempt(**given: object) -> Checkout:
            settings = Settings.model_validate({"url": url, **given})
            return open_source(settings, work, work, allow_dirty=False)

        with attempt(token=token, username="acme") as checkout:
            assert dockerfile(checkout) == b"FROM scratch\n"
        with pytest.raises(MachineError, match="the server wants a login"):
            attempt()
        with pytest.raises(MachineError, match="the server refuses the login") as caught:
            attempt(token=token, username="wrong")
        assert TOKEN not in f"{caught.value} {caught.value.hint}"
    for path in work.rglob("*"):
        if path.is_file():
            assert b"t0ken" not in path.read_bytes(), path
    assert not list(work.glob(".login-*"))


def test_hardening_06_a_redirect_to_another_server_does_not_get_the_token(
    origin: Path, server: HttpGit, work: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOKEN", TOKEN)
    with (
        http_git(tmp_path, users={"acme": TOKEN}) as thief,
        http_git(server.root, users={"acme": TOKEN}) as own,
    ):
        own.redirect = thief.url
        settings = Settings.model_validate(
            {"url": f"{own.url}/web/.git", "username": "acme", "token": SecretName(secret="TOKEN")}
        )
        with pytest.raises(SecureBuildError):
            open_source(settings, work, work, allow_dirty=False)
        assert thief.requests
        assert {login for _, login in thief.requests} == {None}


# Nothing of the user's settings and nothing of the repository is obeyed.


def test_hardening_37_settings_and_variables_from_outside_are_ignored(
    origin: Path, take: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    home = tmp_path / "home"
    program = write(tmp_path / "program", f"#!/bin/sh\ntouch {ran}\n", executable=True)
    write(
        home / ".gitconfig",
        f"""\
[url "https://127.0.0.1:1/"]
    insteadOf = http://127.0.0.1
[core]
    hooksPath = {tmp_path}/hooks
    fsmonitor = {program}
[credential]
    helper = !{program}
[http]
    proxy = http://127.0.0.1:1
[init]
    templateDir = {tmp_path}/template
[protocol]
    allow = never
""",
    )
    for hook in ("post-checkout", "reference-transaction", "post-index-change"):
        write(tmp_path / "hooks" / hook, program.read_bytes(), executable=True)
        write(tmp_path / "template" / "hooks" / hook, program.read_bytes(), executable=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    monkeypatch.delenv("GIT_CONFIG_GLOBAL")
    for name in ("GIT_SSH_COMMAND", "GIT_ASKPASS", "GIT_PROXY_COMMAND", "GIT_EXTERNAL_DIFF", "GIT_EXEC_PATH"):
        monkeypatch.setenv(name, str(program))
    monkeypatch.delenv("GIT_EXEC_PATH")
    assert dockerfile(take()) == b"FROM scratch\n"
    assert not ran.exists()


def test_hardening_37_the_repository_that_one_is_in_is_ignored(
    server: HttpGit, origin: Path, tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its config could send the token elsewhere, from the first command on."""
    monkeypatch.setenv("TOKEN", TOKEN)
    here = tmp_path / "here"
    here.mkdir()
    git(here, "init", "--quiet")
    program = write(tmp_path / "program", f"#!/bin/sh\ncat > {tmp_path}/ran\n", executable=True)
    git(here, "config", "credential.helper", f"!{program}")
    git(here, "config", "url.http://127.0.0.1:1/.insteadOf", "http://127.0.0.1")
    git(here, "config", "http.proxy", "http://127.0.0.1:1")
    git(here, "config", "core.hooksPath", str(tmp_path))
    monkeypatch.chdir(here)
    with http_git(server.root, users={"acme": TOKEN}) as private:
        settings = Settings.model_validate(
            {"url": f"{private.url}/web/.git", "username": "acme", "token": SecretName(secret="TOKEN")}
        )
        with open_source(settings, work, work, allow_dirty=False) as checkout:
            assert dockerfile(checkout) == b"FROM scratch\n"
    assert not (tmp_path / "ran").exists()


def test_a_server_that_fails_for_a_moment_is_asked_again(origin: Path, take: Open, server: HttpGit) -> None:
    server.failures = 2
    assert dockerfile(take()) == b"FROM scratch\n"
    server.failures = 100
    with pytest.raises(ServiceError, match="cannot be fetched"):
        take("main")


def test_hardening_37_nothing_of_the_fetched_repository_runs(
    origin: Path, take: Open, tmp_path: Path, work: Path
) -> None:
    write(
        origin / ".gitattributes", "* filter=evil diff=evil text eol=crlf ident\nDockerfile export-ignore\n"
    )
    write(origin / ".lfsconfig", "[lfs]\n\turl = http://127.0.0.1:1\n")
    write(origin / ".gitconfig", f"[core]\n\tfsmonitor = touch {tmp_path}/ran\n")
    write(origin / ".gitmodules", f"[core]\n\tfsmonitor = touch {tmp_path}/ran\n")
    commit(origin)
    git(origin, "config", "filter.evil.smudge", f"touch {tmp_path}/ran")
    checkout = take()
    checkout.export(PurePosixPath(), tmp_path / "out")
    assert (tmp_path / "out" / "Dockerfile").read_bytes() == b"FROM scratch\n"
    (kept,) = (work / "source").iterdir()
    assert not (kept / "hooks").exists()
    assert not (tmp_path / "ran").exists()
