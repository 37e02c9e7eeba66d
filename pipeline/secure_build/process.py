"""Child processes: the only place that starts one.

A program is found first (its absence names the package to install), gets a list of arguments and
never a shell, sees only the environment variables listed here, and dies with its whole process
group on a time-out, on Ctrl-C and when other work has failed. Secrets go in by standard input or
by a private file, never by argument.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
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
_LONGEST_LINE = 4096
_LARGEST_OUTPUT = 64 << 20
_GRACE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Program:
    """A program of the machine and the Debian package that brings it."""

    name: str
    package: str

    def find(self) -> Path | None:
        found = shutil.which(self.name)
        return Path(found) if found else None


class ProcessError(SecureBuildError):
    """A program ended with an error; `output` holds the last lines of what it wrote."""

    exit_code = 1

    def __init__(self, message: str, *, status: int, output: str) -> None:
        super().__init__(message)
        self.status = status
        self.output = output


_running: set[subprocess.Popen[bytes]] = set()
_lock = threading.Lock()


def run(
    program: Program,
    arguments: Sequence[str],
    *,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
    timeout: float | None = None,
    on_line: Callable[[str], None] | None = None,
    quiet: bool = False,
) -> bytes:
    """Standard output of the program.

    With `on_line`, standard output and error are one stream, and each of its lines is handed over
    as it comes, masked. Raises MachineError when the program is not there, and ProcessError when it
    fails or takes more than `timeout` seconds; the error's message ends with the last lines of
    what the program wrote, unless `quiet`.
    """
    path = program.find()
    if path is None:
        raise MachineError(
            f"`{program.name}` is not on this machine", hint=f"install the package `{program.package}`"
        )
    child = _start([str(path), *arguments], environment or {}, merged=on_line is not None)
    output: list[bytes] = []
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    workers = [threading.Thread(target=_feed, args=(child, stdin), daemon=True)]
    if on_line is None:
        workers.append(threading.Thread(target=_collect, args=(child, output), daemon=True))
        workers.append(threading.Thread(target=_follow, args=(child.stderr, tail, None), daemon=True))
    else:
        workers.append(threading.Thread(target=_follow, args=(child.stdout, tail, on_line), daemon=True))
    timed_out = False
    try:
        for worker in workers:
            worker.start()
        status = child.wait(timeout)
    except subprocess.TimeoutExpired:
        timed_out = True
        status = _kill(child)
    except BaseException:
        _kill(child)
        raise
    finally:
        with _lock:
            _running.discard(child)
        for worker in workers:
            worker.join(_GRACE_SECONDS)
    if status == 0:
        return b"".join(output)
    stopping.check()
    command = mask(shlex.join([program.name, *arguments]))
    ending = f"took longer than {timeout:.0f} seconds" if timed_out else f"ended with status {status}"
    last_lines = "\n".join(["", *tail]) if tail and not quiet else ""
    raise ProcessError(
        f"`{command}` {ending}{last_lines}",
        status=status,
        output="\n".join([*tail, b"".join(output).decode(errors="replace")]),
    )


def _start(argv: list[str], extra: Mapping[str, str], *, merged: bool) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if name in _PASSED_ON} | dict(extra)
    with _lock:
        # Under the lock, so that no child starts after the others have been killed.
        stopping.check()
        child = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merged else subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        _running.add(child)
    return child


def _feed(child: subprocess.Popen[bytes], content: bytes) -> None:
    assert child.stdin is not None
    try:
        child.stdin.write(content)
        child.stdin.close()
    except BrokenPipeError:
        pass  # The program did not want it; its exit status says whether that was right.


def _collect(child: subprocess.Popen[bytes], output: list[bytes]) -> None:
    assert child.stdout is not None
    size = 0
    while chunk := child.stdout.read1(1 << 16):  # type: ignore[attr-defined]
        size += len(chunk)
        if size <= _LARGEST_OUTPUT:
            output.append(chunk)
    child.stdout.close()


def _follow(stream: IO[bytes], tail: deque[str], on_line: Callable[[str], None] | None) -> None:
    while line := stream.readline(_LONGEST_LINE):
        text = mask(line.decode(errors="replace").rstrip())
        tail.append(text)
        if on_line is not None and text:
            on_line(text)
    stream.close()


def _kill(child: subprocess.Popen[bytes]) -> int:
    _signal(child, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(_GRACE_SECONDS)
    # The leader may be gone while others of its group live on.
    _signal(child, signal.SIGKILL)
    return child.wait()


def _signal(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def _kill_all() -> None:
    with _lock:
        children = list(_running)
    for child in children:
        threading.Thread(target=_kill, args=(child,), daemon=True).start()


stopping.on_stop(_kill_all)
