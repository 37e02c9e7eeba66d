"""Child processes that are real: what goes in, what comes out, and that none of them outlives its end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from secure_build import process, secret, stopping
from secure_build.errors import MachineError, ServiceError, StoppedError
from secure_build.process import ProcessError, Program
from secure_build.secret import Secret

SHELL = Program("sh", "dash")


def shell(script: str, **options: Any) -> bytes:
    return process.run(SHELL, ["-c", script], **options)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Each test ends without a thread or a child of its own."""
    threads = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - threads:
        thread.join(10)
        assert not thread.is_alive()
    assert process._running == set()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.fixture(autouse=True)
def nothing_revealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is masked here is not masked in other tests."""
    monkeypatch.setattr(secret, "_masked", set())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For children that will not go: no grace."""
    monkeypatch.setattr(process, "_GRACE_SECONDS", 0.1)


class Pipe:
    """A named pipe that processes hold open: reading it ends when the last of them is gone."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        # Opened both ways, so that nobody waits for the other end.
        self._end = os.open(path, os.O_RDWR)
        self._reader = os.open(path, os.O_RDONLY)

    def wait_until_held(self) -> None:
        """Wait for the line that a process writes when it has begun."""
        assert os.read(self._reader, 6) == b"begun\n"

    def wait_until_gone(self) -> None:
        os.close(self._end)
        assert os.read(self._reader, 1) == b""
        os.close(self._reader)


@pytest.fixture
def pipe(tmp_path: Path) -> Pipe:
    return Pipe(tmp_path / "pipe")


def stubborn(pipe: Pipe) -> str:
    """A script that ignores SIGTERM, and so do its children, which have let go of its streams."""
    body = f"trap '' TERM; exec 3>{pipe.path}; echo begun >&3"
    free = "<&- >&- 2>&-"
    return f"({body}; exec {free}; sleep 1000; sleep 1000) & {body}; while :; do sleep 1000 {free}; done"


def test_input_goes_in_and_output_comes_out() -> None:
    assert process.run(Program("cat", "coreutils"), [], stdin=b"\x00\xffbytes\r\n") == b"\x00\xffbytes\r\n"
    assert shell("cat; echo error >&2", stdin=b"x" * 1_000_000) == b"x" * 1_000_000


def test_arguments_are_no_shell_words(tmp_path: Path) -> None:
    evil = ["$(touch evil)", "`touch evil`", "; touch evil", "a b", "*", "--", "\n"]
    printed = process.run(Program("printf", "coreutils"), ["%s\\0", *evil])
    assert printed.decode().split("\0")[:-1] == evil


def test_input_that_nobody_reads_is_no_failure() -> None:
    assert shell("exec 0<&-; echo done", stdin=b"x" * 1_000_000) == b"done\n"


def test_the_environment_is_an_allow_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "secret")
    monkeypatch.setenv("SECURE_BUILD_SECRETS", "secret")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
    lines = shell("env", environment={"OWN": "yes"}).decode().splitlines()
    assert "OWN=yes" in lines
    assert "HTTPS_PROXY=http://proxy.example" in lines
    assert not [line for line in lines if "secret" in line]


def test_a_program_sees_what_it_needs_besides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    monkeypatch.setenv("KUBECONFIG", "/home/somebody/kubeconfig")
    env = process.run(Program("env", "coreutils", variables=("KUBECONFIG", "ABSENT")), []).decode()
    assert "KUBECONFIG=/home/somebody/kubeconfig\n" in env
    assert "SSH_AUTH_SOCK" not in env
    assert "ABSENT" not in env


def test_a_missing_program_names_its_package() -> None:
    with pytest.raises(MachineError, match=r"^`no-such-program` is not on this machine$") as raised:
        process.run(Program("no-such-program", "its-package"), [])
    assert raised.value.hint == "install the package `its-package`"
    assert raised.value.exit_code == 3


def test_a_program_that_cannot_start_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF nothing")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match=r"`.*broken` cannot be started: Exec format error"):
        process.run(Program("broken", "broken"), [])


def test_a_failure_ends_with_the_last_lines() -> None:
    with pytest.raises(ProcessError) as raised:
        shell("for i in $(seq 100); do echo line $i >&2; done; echo out; exit 7")
    error = raised.value
    lines = error.message.splitlines()
    assert lines[0].endswith("ended with status 7")
    assert lines[1:] == [f"line {number}" for number in range(81, 101)]
    assert (error.status, error.ending) == (7, "ended with status 7")
    assert error.output.endswith("line 100\nout\n")
    with pytest.raises(ProcessError, match=r"ended with status 7$"):
        shell("echo line >&2; exit 7", quiet=True)


def test_lines_are_handed_over_as_they_come(pipe: Pipe) -> None:
    """The second line is written only when the first one has been seen."""
    seen = []

    def follow(line: str) -> None:
        seen.append(line)
        if line == "first":
            pipe.path.write_text("go\n")

    assert (
        shell(f"echo first; read x <{pipe.path}; echo second >&2; echo; printf third", on_line=follow) == b""
    )
    assert seen == ["first", "second", "third"]


def test_secrets_are_masked_in_all_that_comes_out() -> None:
    canary = Secret("canary-in-process").reveal()
    seen: list[str] = []
    # Also where a long line is cut.
    script = 'IFS= read -r word; printf "%4090s%s\\n" "" "$word"; echo "$word"; exit 1'
    with pytest.raises(ProcessError) as raised:
        shell(script, stdin=canary.encode() + b"\n", on_line=seen.append)
    with pytest.raises(ProcessError) as apart:
        shell('cat; echo "$0" >&2; exit 1', stdin=canary.encode())
    with pytest.raises(ProcessError) as argument:
        process.run(Program("false", "coreutils"), [canary])
    for text in (
        *seen,
        *(error.value.message for error in (raised, apart, argument)),
        *(error.value.output for error in (raised, apart, argument)),
    ):
        assert "canary" not in text
    assert seen[1] == apart.value.output.splitlines()[-1] == "***"


def test_a_line_without_end_is_cut() -> None:
    seen: list[str] = []
    shell("head -c 3000000 /dev/zero | tr '\\0' x", on_line=seen.append)
    assert [len(line) for line in seen] == [4096, 4096, 4096]


def test_output_without_end_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_LARGEST_OUTPUT", 1000)
    assert len(shell("head -c 1000 /dev/zero")) == 1000
    with pytest.raises(ProcessError, match="wrote more than 1000 bytes"):
        shell("head -c 1001 /dev/zero")


def test_a_program_that_takes_too_long_is_ended() -> None:
    with pytest.raises(ProcessError, match=r"took longer than 0.1 seconds") as raised:
        shell("sleep 1000", timeout=0.1)
    assert raised.value.status == -signal.SIGTERM


def test_too_long_is_a_failure_even_if_the_end_is_orderly() -> None:
    with pytest.raises(ProcessError, match=r"took longer than 0.3 seconds"):
        shell("trap 'exit 0' TERM; sleep 1000 & wait", timeout=0.3)


@pytest.mark.usefixtures("impatient")
def test_a_group_that_ignores_the_end_is_killed(pipe: Pipe) -> None:
    with pytest.raises(ProcessError, match=r"took longer than 0.5 seconds") as raised:
        shell(stubborn(pipe), timeout=0.5)
    assert raised.value.status == -signal.SIGKILL
    pipe.wait_until_held()
    pipe.wait_until_held()
    pipe.wait_until_gone()


@pytest.mark.usefixtures("impatient")
def test_a_child_left_behind_does_not_hold_the_output_open(pipe: Pipe) -> None:
    script = f"(trap '' TERM HUP; exec 3>{pipe.path}; exec sleep 1000) & child=$!"
    assert shell(f"{script}; until [ -e /proc/$child/fd/3 ]; do :; done; echo done") == b"done\n"
    pipe.wait_until_gone()


@pytest.mark.usefixtures("impatient")
def test_ctrl_c_ends_the_group(pipe: Pipe) -> None:
    main = threading.get_ident()

    def press() -> None:
        pipe.wait_until_held()
        pipe.wait_until_held()
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=press).start()
    with pytest.raises(KeyboardInterrupt):
        shell(stubborn(pipe))
    pipe.wait_until_gone()


@pytest.mark.usefixtures("impatient")
def test_a_failure_elsewhere_ends_the_group(pipe: Pipe) -> None:
    ended: list[BaseException] = []

    def work(number: int) -> None:
        if number == 0:
            pipe.wait_until_held()
            pipe.wait_until_held()
            raise ServiceError("the reason")
        try:
            shell(stubborn(pipe))
        except BaseException as error:
            ended.append(error)
            raise

    with pytest.raises(ServiceError, match="the reason"):
        stopping.side_by_side(work, range(2), jobs=2)
    assert [type(error) for error in ended] == [StoppedError]
    pipe.wait_until_gone()


def test_nothing_starts_while_the_run_is_ending(tmp_path: Path) -> None:
    def work(_: int) -> None:
        stopping.request()
        shell(f"touch {tmp_path}/started")

    with pytest.raises(StoppedError):
        stopping.side_by_side(work, [0], jobs=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failure", [ServiceError("the reason"), BrokenPipeError("stderr is closed")])
def test_a_listener_that_fails_ends_the_program(failure: Exception) -> None:
    """Else the program would wait for ever to write into a pipe that nobody reads."""

    def follow(_: str) -> None:
        raise failure

    with pytest.raises(type(failure), match=str(failure)):
        shell("yes", on_line=follow)


def test_many_at_once() -> None:
    def work(number: int) -> bytes:
        return shell("cat", stdin=str(number).encode() * 100_000)

    found = stopping.side_by_side(work, range(32), jobs=16)
    assert found == [str(number).encode() * 100_000 for number in range(32)]
