"""Child processes: the only place that starts one.

A program is found first (its absence names the package to install), gets a list of arguments and
never a shell, sees only the environment variables listed here, and dies with its whole process
group on a time-out, on Ctrl-C and when other work has failed. Secrets go in by standard input or
by a private file, never by argument.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from secure_build import stopping
from secure_build.errors import MachineError, SecureBuildError
from secure_build.secret import mask

# What builders and engines read about the machine; everything else stays here, secrets above all.
_PASSED_ON = frozenset(
    """
    PATH HOME USER LOGNAME LANG LC_ALL LC_CTYPE TMPDIR XDG_RUNTIME_DIR XDG_CONFIG_HOME XDG_DATA_HOME
    DOCKER_HOST DOCKER_CONTEXT DOCKER_CONFIG DOCKER_CERT_PATH DOCKER_TLS_VERIFY
    BUILDX_BUILDER BUILDX_CONFIG BUILDAH_ISOLATION STORAGE_DRIVER STORAGE_OPTS
    CONTAINERS_CONF CONTAINERS_REGISTRIES_CONF CONTAINERS_STORAGE_CONF
    HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy
    SSL_CERT_FILE SSL_CERT_DIR
    """.split()
)
_TAIL_LINES = 20
_LONGEST_LINE = 1 << 20
_LONGEST_SHOWN = 4096
_CHUNK = 1 << 16
_LARGEST_OUTPUT = 64 << 20
_GRACE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Program:
    """A program of the machine and the Debian package that brings it.

    `variables` are those that it needs besides what all programs see.
    """

    name: str
    package: str
    variables: tuple[str, ...] = ()

    def find(self) -> Path | None:
        found = shutil.which(self.name)
        return Path(found) if found else None


class ProcessError(SecureBuildError):
    """A program failed: `ending` says how, `output` holds the last lines of what it wrote, masked."""

    exit_code = 3

    def __init__(self, message: str, *, status: int, output: str, ending: str) -> None:
        super().__init__(message)
        self.status = status
        self.output = output
        self.ending = ending


def run(
    program: Program,
    arguments: Sequence[str],
    *,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    timeout: float | None = None,
    on_line: Callable[[str], None] | None = None,
    quiet: bool = False,
) -> bytes:
    """Standard output of the program, which runs in `folder`, by default the current one.

    With `on_line`, standard output and error are one stream, and each of its lines is handed over
    as it comes, masked, in another thread; what it raises ends the program and is raised here.
    Raises MachineError when the program is not there or cannot start, and ProcessError when it
    fails, takes more than `timeout` seconds or writes more than can be kept; the error's message
    ends with the last lines of what the program wrote, unless `quiet`.
    """
    path = program.find()
    if path is None:
        raise MachineError(
            f"`{program.name}` is not on this machine", hint=f"install the package `{program.package}`"
        )
    command = [str(path), *arguments]
    own = {name: os.environ[name] for name in program.variables if name in os.environ}
    extra = {**own, **(environment or {})}
    opening = functools.partial(_open, command, extra, folder, merged=on_line is not None)
    starting: Future[_Child] = Future()
    try:
        # In another thread, since Ctrl-C comes to the main one: nothing starts by halves.
        threading.Thread(target=_start, args=(starting, opening, stdin, on_line)).start()
        child = starting.result()
        status, ending = child.finish(timeout)
    except BaseException:
        if not starting.cancel() and starting.exception() is None:
            starting.result().give_up()
        raise
    if child.failure:
        raise child.failure
    stopping.check()
    if child.size > _LARGEST_OUTPUT:
        ending = f"wrote more than {_LARGEST_OUTPUT} bytes"
    if ending is None:
        return b"".join(child.output)
    last_lines = "\n".join(["", *child.tail]) if child.tail and not quiet else ""
    raise ProcessError(
        f"`{mask(shlex.join([program.name, *arguments]))}` {ending}{last_lines}",
        status=status,
        output="\n".join([*child.tail, mask(b"".join(child.output).decode(errors="replace"))]),
        ending=ending,
    )


class _Child:
    """A process that runs, and a thread for each of its streams."""

    def __init__(
        self, process: subprocess.Popen[bytes], stdin: bytes, on_line: Callable[[str], None] | None
    ) -> None:
        self.output: list[bytes] = []
        self.size = 0
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self.failure: BaseException | None = None
        self._process = process
        self._on_line = on_line
        assert process.stdin is not None
        assert isinstance(process.stdout, io.BufferedReader)
        self._threads = [threading.Thread(target=self._feed, args=(process.stdin, stdin), daemon=True)]
        if process.stderr is None:
            self._threads.append(threading.Thread(target=self._follow, args=(process.stdout,), daemon=True))
        else:
            self._threads += [
                threading.Thread(target=self._collect, args=(process.stdout,), daemon=True),
                threading.Thread(target=self._follow, args=(process.stderr,), daemon=True),
            ]
        for thread in self._threads:
            thread.start()

    def finish(self, timeout: float | None) -> tuple[int, str | None]:
        """Let it run to its end; returns the status and, of an end that is a failure, what it was."""
        try:
            # Without a time-out a Ctrl-C that comes just before the call would not end it.
            status = self._process.wait(math.inf if timeout is None else timeout)
            ending = f"ended with status {status}" if status else None
        except subprocess.TimeoutExpired:
            status = self.kill()
            ending = f"took longer than {timeout:g} seconds"
        self._close()
        return status, ending

    def give_up(self) -> None:
        self.kill()
        self._close()

    def kill(self) -> int:
        """End the whole group, in order if it can; returns the status."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_SECONDS)
        # The leader may be gone while others of its group live on.
        self._signal(signal.SIGKILL)
        return self._process.wait()

    def kill_meanwhile(self) -> None:
        threading.Thread(target=self.kill, daemon=True).start()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _close(self) -> None:
        """Wait for the ends of the streams, but not for somebody whom the process left behind."""
        with _lock:
            _running.discard(self)
        if not self._ended():
            self._signal(signal.SIGKILL)
            self._ended()

    def _ended(self) -> bool:
        deadline = time.monotonic() + _GRACE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    @staticmethod
    def _feed(stream: IO[bytes], content: bytes) -> None:
        # The program may not want it; its exit status says whether that was right.
        with contextlib.suppress(BrokenPipeError):
            try:
                stream.write(content)
            finally:
                stream.close()

    def _collect(self, stream: io.BufferedReader) -> None:
        with stream:
            while chunk := stream.read1(_CHUNK):
                self.size += len(chunk)
                if self.size <= _LARGEST_OUTPUT:
                    self.output.append(chunk)

    def _follow(self, stream: IO[bytes]) -> None:
        with stream:
            while line := stream.readline(_LONGEST_LINE):
                # Masked before it is cut: half a secret is no longer recognised.
                text = mask(line.decode(errors="replace").rstrip())[:_LONGEST_SHOWN]
                self.tail.append(text)
                if self._on_line is not None and text and self.failure is None:
                    self._hand_over(text, self._on_line)

    def _hand_over(self, text: str, on_line: Callable[[str], None]) -> None:
        try:
            on_line(text)
        except BaseException as error:  # noqa: BLE001  # it is raised again by the thread that waits
            self.failure = error
            self.kill_meanwhile()


def passed_on(name: str) -> str | None:
    """The value of a variable that child processes see; None for all others."""
    return os.environ.get(name) if name in _PASSED_ON else None


def forget_variables(prefix: str) -> None:
    """Take variables out of the environment of this process and of all that libraries start."""
    for name in [name for name in os.environ if name.startswith(prefix)]:
        del os.environ[name]


_running: set[_Child] = set()
_lock = threading.Lock()


def _start(
    starting: Future[_Child],
    opening: Callable[[], subprocess.Popen[bytes]],
    stdin: bytes,
    on_line: Callable[[str], None] | None,
) -> None:
    if not starting.set_running_or_notify_cancel():
        return
    try:
        with _lock:
            # Under the lock, so that no child starts after the others have been killed.
            stopping.check()
            child = _Child(opening(), stdin, on_line)
            _running.add(child)
        starting.set_result(child)
    except BaseException as error:  # noqa: BLE001  # it is raised again where the result is asked for
        starting.set_exception(error)


def _open(
    command: Sequence[str], extra: Mapping[str, str], folder: Path | None, *, merged: bool
) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if name in _PASSED_ON}
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merged else subprocess.PIPE,
            env=environment | dict(extra),
            cwd=folder,
            start_new_session=True,
        )
    except OSError as error:
        raise MachineError(f"`{command[0]}` cannot be started: {error.strerror}") from None


def _kill_all() -> None:
    with _lock:
        children = list(_running)
    for child in children:
        child.kill_meanwhile()


stopping.on_stop(_kill_all)
