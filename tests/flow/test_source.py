"""What is built is the commit: real repositories of git, in all the states that people have them in."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from secure_build.errors import RefusedError, UsageError
from secure_build.source import Checkout

HOME = PurePosixPath()
LARGEST = 1 << 20
WHEN = "2024-02-29T23:59:58+05:30"
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_AUTHOR_DATE": WHEN,
    "GIT_COMMITTER_NAME": "C",
    "GIT_COMMITTER_EMAIL": "c@example.org",
    "GIT_COMMITTER_DATE": WHEN,
}


def git(directory: Path, *arguments: str, content: bytes | None = None) -> str:
    done = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *arguments],
        cwd=directory, env=ENVIRONMENT, input=content, capture_output=True, check=True,
    )  # fmt: skip
    return done.stdout.decode().strip()


def write(path: Path, content: bytes | str = "x\n", *, executable: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(0o755 if executable else 0o644)
    return path


def commit(root: Path, message: str = "change") -> str:
    git(root, "add", "--all", "--force")
    git(root, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(root, "rev-parse", "HEAD")


@pytest.fixture(autouse=True)
def no_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the command line has it: no GIT_* variable reaches git, and nobody's own settings."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    before = children()
    yield
    assert children() == before


def children() -> set[str]:
    """The processes that this one has started and not yet waited for."""
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        # A thread of a test's server may end at this moment.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found |= set((task / "children").read_text().split())
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with one commit on branch `main`."""
    made = tmp_path / "repository"
    made.mkdir()
    git(made, "init", "--quiet", "--initial-branch=main")
    write(made / "Dockerfile", "FROM scratch\n")
    write(made / "app" / "run.sh", "#!/bin/sh\n", executable=True)
    write(made / "deploy" / "secure-build.yaml", "version: 1\n")
    write(made / ".gitignore", "ignored\n")
    commit(made)
    return made


def opened(root: Path, *, allow_dirty: bool = False) -> Checkout:
    return Checkout.open(root, allow_dirty=allow_dirty)


def read(root: Path, path: str, *, allow_dirty: bool = False) -> bytes | None:
    with opened(root, allow_dirty=allow_dirty) as checkout:
        return checkout.read(PurePosixPath(path), at_most=LARGEST)


def exported(root: Path, destination: Path, directory: str = ".") -> dict[str, tuple[str, int, str]]:
    """The exported files: kind and mode, time, content."""
    with opened(root, allow_dirty=True) as checkout:
        checkout.export(PurePosixPath(directory), destination)
    return listing(destination)


def listing(folder: Path) -> dict[str, tuple[str, int, str]]:
    found = {}
    for path in sorted([folder, *folder.rglob("*")]):
        status = path.lstat()
        if path.is_symlink():
            content = str(path.readlink())
        else:
            content = path.read_bytes().decode("latin-1") if path.is_file() else ""
        found[path.relative_to(folder).as_posix()] = (
            stat.filemode(status.st_mode),
            int(status.st_mtime),
            content,
        )
    return found


def refusal(root: Path, error: type[Exception] = UsageError) -> str:
    with pytest.raises(error) as caught:
        opened(root)
    return str(caught.value)


# What a checkout says of itself.


def test_a_checkout_names_commit_branch_time_and_place(root: Path) -> None:
    with opened(root / "deploy") as checkout:
        source = checkout.source
    assert source.commit == git(root, "rev-parse", "HEAD")
    assert (source.ref, source.clean, source.subdir, source.url) == ("refs/heads/main", True, "deploy", None)
    assert source.committed_at.isoformat() == WHEN


def test_a_detached_head_has_no_branch(root: Path) -> None:
    git(root, "checkout", "--quiet", "--detach")
    with opened(root) as checkout:
        assert checkout.source.ref is None


def test_hardening_38_an_annotated_tag_leads_to_its_commit(root: Path) -> None:
    git(root, "tag", "--annotate", "--message", "m", "v1")
    git(root, "checkout", "--quiet", "v1")
    with opened(root) as checkout:
        assert checkout.source.commit == git(root, "rev-parse", "v1^{commit}")


def test_hardening_39_a_branch_named_like_a_commit_or_an_option_is_no_trouble(root: Path) -> None:
    first = git(root, "rev-parse", "HEAD")
    git(root, "update-ref", f"refs/heads/{first}", first)
    write(root / "second")
    second = commit(root)
    git(root, "update-ref", "refs/heads/--output", second)
    git(root, "symbolic-ref", "HEAD", "refs/heads/--output")
    with opened(root) as checkout:
        assert (checkout.source.commit, checkout.source.ref) == (second, "refs/heads/--output")


def test_hardening_38_a_linked_working_tree_and_a_shallow_clone_are_repositories(
    root: Path, tmp_path: Path
) -> None:
    write(root / "second")
    expected = commit(root)
    git(root, "worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"))
    git(tmp_path, "clone", "--quiet", "--depth=1", root.as_uri(), "shallow")
    for place in ("linked", "shallow"):
        with opened(tmp_path / place / "app") as checkout:
            assert checkout.source.commit == expected
            assert checkout.read(PurePosixPath("second"), at_most=9) == b"x\n"


def test_a_path_with_variables_and_links_is_taken_as_it_is(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X", "/nowhere")
    moved = root.rename(tmp_path / "$X ~")
    (tmp_path / "link").symlink_to(moved / "deploy")
    for directory in (moved / "deploy", tmp_path / "link"):
        with opened(directory) as checkout:
            assert checkout.source.subdir == "deploy"


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("https://example.org/acme/web.git", "https://example.org/acme/web.git"),
        ("https://user:hunter2@example.org:8443/acme/@web", "https://example.org:8443/acme/@web"),
        ("https://hunter2@example.org/acme/web?token=hunter2#x", "https://example.org/acme/web"),
        ("https://user:hunter2@more@example.org/acme", "https://example.org/acme"),
        ("https://user:hunter2@example.org", "https://example.org"),
        ("ssh://git:hunter2@example.org:22/acme/web", "ssh://example.org:22/acme/web"),
        ("git@example.org:acme/web.git", "git@example.org:acme/web.git"),
        ("../web", "../web"),
        ("https://[bad/hunter", "https://[bad/hunter"),
    ],
)
def test_the_address_of_the_origin_has_no_credentials(root: Path, address: str, url: str) -> None:
    git(root, "config", "remote.other.url", "https://other.example")
    git(root, "config", "remote.origin.url", address)
    with opened(root) as checkout:
        assert checkout.source.url == url


# Where there is nothing to build.


def test_without_a_repository_or_a_commit_the_message_says_what_to_do(tmp_path: Path) -> None:
    assert "is not in a git repository" in refusal(tmp_path)
    assert "is not in a git repository" in refusal(tmp_path / "absent")
    git(tmp_path, "init", "--quiet")
    assert "has no commit yet" in refusal(tmp_path)
    write(tmp_path / "file")
    assert "has no commit yet" in refusal(tmp_path)


def test_a_bare_repository_is_refused(root: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--bare", str(root), "bare")
    assert "is in a bare git repository" in refusal(tmp_path / "bare")


def test_hardening_39_a_sha_256_repository_is_refused_with_the_reason(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--object-format=sha256")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "m")
    assert "has objectformat `sha256`, which GitPython cannot read" in refusal(tmp_path)


def test_a_directory_outside_the_working_tree_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    git(root, "config", "core.worktree", str(tmp_path / "elsewhere"))
    with pytest.raises(UsageError, match=r"outside the working tree|not a git repository"):
        Checkout.open(root / ".git", allow_dirty=True)


@pytest.mark.parametrize("damage", [b"", b"garbage"])
def test_a_damaged_repository_is_no_bug(root: Path, damage: bytes) -> None:
    blob = git(root, "rev-parse", "HEAD:Dockerfile")
    path = root / ".git" / "objects" / blob[:2] / blob[2:]
    path.chmod(0o644)
    path.write_bytes(damage)
    with pytest.raises(UsageError, match="git cannot read `Dockerfile` of the commit"):
        read(root, "Dockerfile", allow_dirty=True)
    for path in (root / ".git" / "objects").glob("*/*"):
        path.unlink()
    with pytest.raises(UsageError):
        opened(root, allow_dirty=True)


@pytest.mark.parametrize("name", ["GIT_DIR", "GIT_CEILING_DIRECTORIES", "GIT_PREFIX", "GIT_NAMESPACE"])
def test_hardening_37_variables_do_not_lead_to_another_repository(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The command line deletes all of them; these are harmless even when it is not the caller."""
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    commit(other)
    monkeypatch.setenv(name, str(other / ".git"))
    try:
        with opened(root, allow_dirty=True) as checkout:
            assert checkout.source.commit == git(root, "rev-parse", "HEAD")
            assert checkout.read(PurePosixPath("Dockerfile"), at_most=LARGEST) == b"FROM scratch\n"
    except UsageError:
        # Refused is as good: nothing of the other repository was taken.
        pass


# Dirty or not.


def change_nothing(root: Path) -> None:
    assert root


def change_file(root: Path) -> None:
    write(root / "Dockerfile", "FROM other\n")


def stage_file(root: Path) -> None:
    change_file(root)
    git(root, "add", "--all")


def stage_and_take_back(root: Path) -> None:
    stage_file(root)
    write(root / "Dockerfile", "FROM scratch\n")


def add_file(root: Path) -> None:
    write(root / "new" / "file")


def delete_file(root: Path) -> None:
    (root / "Dockerfile").unlink()


def rename_file(root: Path) -> None:
    git(root, "mv", "Dockerfile", "Containerfile")


def change_mode(root: Path) -> None:
    (root / "Dockerfile").chmod(0o755)


def become_link(root: Path) -> None:
    (root / "Dockerfile").unlink()
    (root / "Dockerfile").symlink_to("app/run.sh")


def intend_to_add(root: Path) -> None:
    write(root / "new")
    git(root, "add", "--intent-to-add", "new")


@pytest.mark.parametrize(
    "change",
    [
        change_file, stage_file, stage_and_take_back, add_file, delete_file, rename_file, change_mode,
        become_link, intend_to_add,
    ],
)  # fmt: skip
def test_hardening_38_what_differs_from_the_commit_is_refused_or_said(root: Path, change: object) -> None:
    assert callable(change)
    change(root)
    message = refusal(root, RefusedError)
    assert message.startswith("the working tree differs from the commit: `")
    with opened(root, allow_dirty=True) as checkout:
        assert not checkout.source.clean
        assert checkout.read(PurePosixPath("Dockerfile"), at_most=LARGEST) == b"FROM scratch\n"


def test_hardening_38_the_message_names_some_of_many_files(root: Path) -> None:
    for number in range(8):
        write(root / f"file{number}")
    assert refusal(root, RefusedError).endswith("`file0`, `file1`, `file2`, `file3`, `file4` and 3 more")


def test_hardening_38_a_setting_cannot_hide_untracked_files(root: Path) -> None:
    git(root, "config", "status.showUntrackedFiles", "no")
    add_file(root)
    assert "`new/`" in refusal(root, RefusedError)


def test_hardening_38_ignored_files_and_touched_files_are_no_difference(root: Path) -> None:
    write(root / "ignored", "secret")
    os.utime(root / "Dockerfile")
    with opened(root) as checkout:
        assert checkout.source.clean
        assert checkout.files(PurePosixPath("ignored")) == []


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_hardening_38_what_git_was_told_not_to_look_at_hides_nothing(
    root: Path, tmp_path: Path, flag: str
) -> None:
    git(root, "update-index", flag, "Dockerfile")
    index = (root / ".git" / "index").read_bytes()
    assert read(root, "Dockerfile") == b"FROM scratch\n"
    change_file(root)
    assert git(root, "status", "--porcelain") == ""
    assert "`Dockerfile`" in refusal(root, RefusedError)
    assert (root / ".git" / "index").read_bytes() == index
    assert read(root, "Dockerfile", allow_dirty=True) == b"FROM scratch\n"
    assert exported(root, tmp_path / "out")["Dockerfile"][2] == "FROM scratch\n"


def test_hardening_38_a_submodule_at_another_commit_is_a_difference(root: Path, tmp_path: Path) -> None:
    add_submodule(root, tmp_path)
    git(root, "config", "submodule.part.ignore", "all")
    with opened(root) as checkout:
        assert checkout.source.clean
    commit(root / "part", "another")
    assert "`part`" in refusal(root, RefusedError)


def test_hardening_38_a_change_inside_a_submodule_is_a_difference(root: Path, tmp_path: Path) -> None:
    add_submodule(root, tmp_path)
    write(root / "part" / "file", "changed\n")
    assert "`part/file`" in refusal(root, RefusedError)
    git(root / "part", "checkout", "--", "file")
    git(root / "part", "update-index", "--assume-unchanged", "file")
    write(root / "part" / "file", "changed\n")
    assert "`part/file`" in refusal(root, RefusedError)


def test_hardening_38_a_sparse_checkout_hides_nothing_by_what_is_not_there(root: Path) -> None:
    git(root, "sparse-checkout", "set", "deploy")
    assert not (root / "app").exists()
    assert read(root, "app/run.sh") == b"#!/bin/sh\n"
    write(root / "app" / "run.sh", "changed\n")
    assert "`app/run.sh`" in refusal(root, RefusedError)


def test_hardening_38_an_ignored_file_that_the_build_uses_is_not_there(root: Path, tmp_path: Path) -> None:
    write(root / "app" / "ignored", "used\n")
    (root / ".git" / "info" / "exclude").write_text("app/secret\n")
    write(root / "app" / "secret", "used\n")
    assert set(exported(root, tmp_path / "out", "app")) == {".", "run.sh"}
    assert read(root, "app/ignored") is None


def test_hardening_38_a_mode_that_git_is_told_to_ignore_is_that_of_the_commit(
    root: Path, tmp_path: Path
) -> None:
    git(root, "config", "core.fileMode", "false")
    change_mode(root)
    assert exported(root, tmp_path / "out")["Dockerfile"][0] == "-rw-r--r--"


def test_hardening_38_grafts_and_alternates_change_no_content(root: Path, tmp_path: Path) -> None:
    first = git(root, "rev-parse", "HEAD")
    write(root / "Dockerfile", "FROM second\n")
    second = commit(root)
    write(root / ".git" / "info" / "grafts", f"{second}\n{first} {second}\n")
    with opened(root) as checkout:
        assert checkout.source.commit == second
        assert checkout.read(PurePosixPath("Dockerfile"), at_most=LARGEST) == b"FROM second\n"
    git(tmp_path, "clone", "--quiet", "--shared", str(root), "shared")
    assert (tmp_path / "shared" / ".git" / "objects" / "info" / "alternates").exists()
    assert read(tmp_path / "shared", "Dockerfile") == b"FROM second\n"


def add_submodule(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    write(other / "file")
    commit(other)
    git(root, "submodule", "--quiet", "add", str(other), "part")
    commit(root)


def test_hardening_37_programs_that_the_repository_names_are_not_run(root: Path, tmp_path: Path) -> None:
    program = write(tmp_path / "program", f"#!/bin/sh\ntouch {tmp_path}/ran\n", executable=True)
    git(root, "config", "core.fsmonitor", str(program))
    for hook in ("post-index-change", "fsmonitor-watchman", "post-checkout", "reference-transaction"):
        write(root / ".git" / "hooks" / hook, program.read_bytes(), executable=True)
    os.utime(root / "Dockerfile")
    exported(root, tmp_path / "out")
    assert not (tmp_path / "ran").exists()


def test_hardening_37_filters_are_not_run_to_see_what_changed(root: Path, tmp_path: Path) -> None:
    """Git would clean every file whose time differs, with a program that the repository names."""
    add_submodule(root, tmp_path)
    program = write(tmp_path / "program", f"#!/bin/sh\ntouch {tmp_path}/ran\ncat\n", executable=True)
    for place, config in ((root, root), (root / "part", root / "part")):
        write(place / ".gitattributes", "* filter=a=b.c\n")
        commit(place)
        for part in ("clean", "smudge", "process"):
            git(config, "config", f"filter.a=b.c.{part}", str(program))
        git(config, "config", "filter.a=b.c.required", "true")
        git(config, "config", "core.fsmonitor", str(program))
    for path in (root / "Dockerfile", root / "part" / "file"):
        os.utime(path, (1, 1))
    opened(root, allow_dirty=True).close()
    assert not (tmp_path / "ran").exists()


def test_hardening_37_nothing_is_fetched_for_what_is_missing(root: Path, tmp_path: Path) -> None:
    """A partial clone names a server, and git would ask it, with `ext::` even by running a program."""
    blob = git(root, "rev-parse", "HEAD:Dockerfile")
    (root / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    for key, value in (
        ("core.repositoryFormatVersion", "1"),
        ("extensions.partialClone", "origin"),
        ("remote.origin.promisor", "true"),
        ("remote.origin.url", f"ext::sh -c touch% {tmp_path}/ran"),
        ("protocol.ext.allow", "always"),
        ("protocol.allow", "always"),
    ):
        git(root, "config", key, value)
    with pytest.raises(UsageError):
        read(root, "Dockerfile", allow_dirty=True)
    assert not (tmp_path / "ran").exists()


# The content of the commit.

ATTRIBUTES = """\
* text=auto eol=crlf
hidden export-ignore
stamped export-subst ident
*.bin filter=lfs diff=lfs merge=lfs -text
filtered filter=shout
wide working-tree-encoding=UTF-16
"""


def test_hardening_37_the_export_is_the_raw_bytes_whatever_the_attributes_say(
    root: Path, tmp_path: Path
) -> None:
    contents = {
        "unix": b"a\nb\n",
        "hidden": b"h\n",
        "stamped": b"$Format:%H$ $Id$\n",
        "model.bin": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "filtered": b"quiet\n",
        "bytes": bytes(range(256)),
        "empty": b"",
    }
    for name, content in contents.items():
        write(root / name, content)
    commit(root)
    write(root / ".gitattributes", ATTRIBUTES)
    commit(root)
    git(root, "config", "core.autocrlf", "true")
    git(root, "config", "filter.shout.smudge", f"touch {tmp_path}/ran; tr a-z A-Z")
    git(root, "config", "filter.lfs.smudge", f"touch {tmp_path}/ran; cat")
    found = exported(root, tmp_path / "out")
    for name, content in contents.items():
        assert found[name][2].encode("latin-1") == content
        assert read(root, name, allow_dirty=True) == content
    assert not (tmp_path / "ran").exists()


def test_hardening_38_crlf_of_the_working_tree_is_not_built(root: Path, tmp_path: Path) -> None:
    git(
        tmp_path,
        "-c",
        "core.autocrlf=true",
        "clone",
        "--quiet",
        "--config=core.autocrlf=true",
        str(root),
        "crlf",
    )
    assert (tmp_path / "crlf" / "Dockerfile").read_bytes() == b"FROM scratch\r\n"
    assert read(tmp_path / "crlf", "Dockerfile") == b"FROM scratch\n"


def test_hardening_38_replaced_objects_are_ignored(root: Path) -> None:
    blob = git(root, "rev-parse", "HEAD:Dockerfile")
    first = git(root, "rev-parse", "HEAD")
    other = git(root, "hash-object", "-w", "--stdin", content=b"FROM evil\n")
    git(root, "replace", blob, other)
    assert git(root, "show", "HEAD:Dockerfile") == "FROM evil"
    assert read(root, "Dockerfile") == b"FROM scratch\n"
    write(root / "Dockerfile", "FROM evil\n")
    evil = commit(root)
    git(root, "replace", first, evil)
    git(root, "checkout", "--quiet", "--force", "--detach", first)
    with opened(root, allow_dirty=True) as checkout:
        assert checkout.source.commit == first
        assert checkout.read(PurePosixPath("Dockerfile"), at_most=LARGEST) == b"FROM scratch\n"


def test_the_export_has_fixed_modes_and_the_time_of_the_commit(root: Path, tmp_path: Path) -> None:
    (root / "app" / "link").symlink_to("run.sh")
    commit(root)
    previous = os.umask(0o077)
    try:
        found = exported(root, tmp_path / "out")
    finally:
        os.umask(previous)
    moment = 1709231398
    assert found == {
        ".": ("drwxr-xr-x", moment, ""),
        ".gitignore": ("-rw-r--r--", moment, "ignored\n"),
        "Dockerfile": ("-rw-r--r--", moment, "FROM scratch\n"),
        "app": ("drwxr-xr-x", moment, ""),
        "app/link": ("lrwxrwxrwx", moment, "run.sh"),
        "app/run.sh": ("-rwxr-xr-x", moment, "#!/bin/sh\n"),
        "deploy": ("drwxr-xr-x", moment, ""),
        "deploy/secure-build.yaml": ("-rw-r--r--", moment, "version: 1\n"),
    }


def test_two_clones_under_different_settings_give_equal_exports(root: Path, tmp_path: Path) -> None:
    for name in ("näme", "with space", "new\nline", "-option", "a" * 200):
        write(root / "app" / name)
    (root / "app" / "dangling").symlink_to("../../nowhere")
    commit(root)
    results = []
    for umask, settings in (
        (0o022, []),
        (0o077, ["--config=core.autocrlf=true", "--config=core.fileMode=false"]),
    ):
        previous = os.umask(umask)
        try:
            git(tmp_path, "clone", "--quiet", *settings, str(root), f"clone{umask}")
            results.append(exported(tmp_path / f"clone{umask}", tmp_path / f"out{umask}", "app"))
        finally:
            os.umask(previous)
    assert results[0] == results[1]
    assert len(results[0]) == 8


def test_hardening_37_a_name_that_is_no_utf_8_is_exported_as_it_is(root: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"latin-\xe9")
    write(root / "app" / name)
    commit(root)
    assert name in exported(root, tmp_path / "out", "app")


def test_a_submodule_in_the_context_is_refused_and_the_option_named(root: Path, tmp_path: Path) -> None:
    add_submodule(root, tmp_path)
    with opened(root) as checkout:
        with pytest.raises(UsageError, match="`part` is a git submodule"):
            checkout.export(HOME, tmp_path / "out")
        checkout.export(PurePosixPath("app"), tmp_path / "app")
        assert checkout.read(PurePosixPath("part"), at_most=9) is None
        assert checkout.read(PurePosixPath("part/file"), at_most=9) is None


def tree(root: Path, *entries: tuple[str, str, str, str]) -> str:
    """A tree object with any entries, also those that git itself would refuse."""
    content = b"".join(f"{mode} {name}\0".encode() + bytes.fromhex(oid) for mode, _, oid, name in entries)
    return git(root, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", content=content)


@pytest.mark.parametrize("name", ["..", ".", "../evil", "/etc/evil", ""])
def test_hardening_37_a_commit_with_an_impossible_path_is_refused(
    root: Path, tmp_path: Path, name: str
) -> None:
    blob = git(root, "rev-parse", "HEAD:Dockerfile")
    top = tree(root, ("100644", "blob", blob, name))
    git(root, "update-ref", "refs/heads/main", git(root, "commit-tree", "-m", "m", top))
    with pytest.raises(UsageError):
        exported(root, tmp_path / "out" / "deeper")


def test_hardening_40_a_file_is_never_written_through_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    target = git(root, "hash-object", "-w", "--stdin", content=str(tmp_path / "outside").encode())
    blob = git(root, "rev-parse", "HEAD:Dockerfile")
    below = tree(root, ("100644", "blob", blob, "file"))
    top = tree(root, ("120000", "blob", target, "a"), ("40000", "tree", below, "a"))
    git(root, "update-ref", "refs/heads/main", git(root, "commit-tree", "-m", "m", top))
    with pytest.raises(UsageError, match="`a` is a file and a folder"):
        exported(root, tmp_path / "out")
    assert list((tmp_path / "outside").iterdir()) == []


# Finding files.


def test_links_inside_the_repository_are_followed(root: Path) -> None:
    (root / "link").symlink_to("deploy/../app/./run.sh")
    (root / "folder").symlink_to("app")
    (root / "app" / "back").symlink_to("../folder/run.sh")
    commit(root)
    for path in ("link", "folder/run.sh", "app/back", "folder/back"):
        assert read(root, path) == b"#!/bin/sh\n"
    for path in ("folder", "app", "absent", "Dockerfile/x", "folder/absent"):
        assert read(root, path) is None


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "app/../../outside", ".."])
@pytest.mark.parametrize("path", ["Dockerfile", "linked/Dockerfile"])
def test_hardening_37_a_link_that_leaves_the_repository_is_refused(
    root: Path, tmp_path: Path, target: str, path: str
) -> None:
    write(tmp_path / "outside", "FROM evil\n")
    link = root / path.partition("/")[0]
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    commit(root)
    with pytest.raises(UsageError, match=r"is a symbolic link to .* outside the repository"):
        read(root, path)


def test_links_in_a_circle_are_refused(root: Path) -> None:
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")
    commit(root)
    with pytest.raises(UsageError, match="too many symbolic links"):
        read(root, "one")


@pytest.mark.parametrize("target", [b"", b"a\0b", b"x" * 5000])
def test_a_link_that_no_file_system_holds_is_refused(root: Path, tmp_path: Path, target: bytes) -> None:
    blob = git(root, "hash-object", "-w", "--stdin", content=target)
    git(root, "update-index", "--add", "--cacheinfo", f"120000,{blob},Dockerfile")
    git(root, "commit", "--quiet", "--message", "m")
    with pytest.raises(UsageError, match="Dockerfile"):
        read(root, "Dockerfile", allow_dirty=True)
    with pytest.raises(UsageError, match="Dockerfile"):
        exported(root, tmp_path / "out")


def test_a_file_that_is_too_large_is_refused(root: Path) -> None:
    with opened(root) as checkout:
        assert checkout.read(PurePosixPath("Dockerfile"), at_most=13) == b"FROM scratch\n"
        with pytest.raises(UsageError, match="`Dockerfile` has 13 bytes; the limit is 12"):
            checkout.read(PurePosixPath("Dockerfile"), at_most=12)


@pytest.mark.parametrize(
    ("relative", "path"),
    [
        (".", "deploy"),
        ("x", "deploy/x"),
        ("..", "."),
        ("../app", "app"),
        ("./a/../b", "deploy/b"),
        ("", "deploy"),
    ],
)
def test_paths_are_relative_to_the_folder_of_the_config(root: Path, relative: str, path: str) -> None:
    with opened(root / "deploy") as checkout:
        assert checkout.locate(relative, what="the context") == PurePosixPath(path)


@pytest.mark.parametrize(
    ("relative", "why"),
    [
        ("../..", "lies outside the repository"),
        ("../../repository/app", "lies outside the repository"),
        ("/etc", "is an absolute path"),
    ],
)
def test_hardening_37_a_context_outside_the_repository_is_refused(
    root: Path, relative: str, why: str
) -> None:
    with (
        opened(root / "deploy") as checkout,
        pytest.raises(UsageError, match=f"the context `{relative}` {why}"),
    ):
        checkout.locate(relative, what="the context")


def test_files_are_listed_at_or_below_a_path(root: Path) -> None:
    with opened(root) as checkout:
        assert [str(entry.path) for entry in checkout.files(HOME)] == [
            ".gitignore", "Dockerfile", "app/run.sh", "deploy/secure-build.yaml"
        ]  # fmt: skip
        assert [(str(entry.path), entry.executable) for entry in checkout.files(PurePosixPath("app"))] == [
            ("app/run.sh", True)
        ]
        assert [str(entry.path) for entry in checkout.files(PurePosixPath("Dockerfile"))] == ["Dockerfile"]
        assert checkout.files(PurePosixPath("ap")) == []
        assert [checkout.is_directory(PurePosixPath(path)) for path in (".", "app", "Dockerfile", "ap")] == [
            True, True, False, False
        ]  # fmt: skip


# Processes of git.


def test_no_process_of_git_outlives_the_checkout(root: Path, tmp_path: Path) -> None:
    with opened(root) as checkout:
        checkout.export(HOME, tmp_path / "out")
        assert children()
    assert not children()
    change_file(root)
    refusal(root, RefusedError)
    assert not children()


def test_one_checkout_serves_many_threads(root: Path, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    contents = {
        f"f{number}": hashlib.sha256(b"%d" % number).hexdigest() * (number + 1) for number in range(40)
    }
    for name, content in contents.items():
        write(root / "many" / name, content)
    commit(root)
    with opened(root) as checkout, ThreadPoolExecutor(8) as pool:
        list(
            pool.map(lambda number: checkout.export(PurePosixPath("many"), tmp_path / f"{number}"), range(8))
        )
    for number in range(8):
        assert {path.name: path.read_text() for path in (tmp_path / f"{number}").iterdir()} == contents
