"""Feeds hostile bytes to one parser after the other, each in a process of its own.

    python -m torture.fuzzing random|coverage BUDGET FOLDER TABLE NAME...

BUDGET is the number of inputs for a quick parser, TABLE the module with `PARSERS`. With `coverage`,
atheris keeps what reaches new code and goes on from there. FOLDER gets the result of each parser,
`NAME.json`, the input that it did not survive, and a work folder, which is all that it may write to.

A parser ends in a value, or in an error of ours. Another exception, a write elsewhere, a connection, a
program that it must not start, more memory than a bound or more time than a bound is a failure.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import mmap
import os
import resource
import struct
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torture.parsers import Parser

# More than the largest input that is let through needs.
MEMORY = 512 << 20
SEED = 1
_COUNTS = struct.Struct("<QQQ")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {
    *("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod"),
    *("shutil.rmtree", "shutil.move", "shutil.copyfile"),
}
_CONNECTIONS = {"socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo"}
_STARTS = {"subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.fork"}


class NotAllowed(BaseException):
    """What a parser must not do. No exception of Python's own tree, so that nobody catches it."""


class Watched:
    """One parser under watch, and what is counted of it, in a file that survives the process."""

    def __init__(self, parser: Parser, folder: Path) -> None:
        self._parser, self._work = parser, folder / f"{parser.name}.work"
        self._work.mkdir()
        state = folder / f"{parser.name}.state"
        state.write_bytes(bytes(_COUNTS.size + (1 << 20)))
        with state.open("r+b") as file:
            self._state = mmap.mmap(file.fileno(), 0)
        self._executions = self._refused = 0

    def confine(self) -> None:
        """From here on this process may do what a parser may."""
        os.chdir(self._work)
        tempfile.tempdir = str(self._work)
        for name in ("HOME", "TMPDIR", "DOCKER_CONFIG", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
            os.environ[name] = str(self._work)
        with self._work.with_name(f"{self._parser.name}.stderr").open("wb") as said:
            os.dup2(said.fileno(), 2)
        used = next(
            int(line.split()[1])
            for line in Path("/proc/self/status").read_text().splitlines()
            if line.startswith("VmSize")
        )
        if not self._parser.programs:
            limit = (used << 10) + MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        sys.addaudithook(self._audit)

    def one(self, content: bytes) -> None:
        """Feed one input; raises what the parser must not raise."""
        self._executions += 1
        self._put(content)
        faulthandler.dump_traceback_later(self._parser.seconds, exit=True)
        try:
            self._parser.parse(content)
        except self._parser.refusals:
            self._refused += 1
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _put(self, content: bytes) -> None:
        size = min(len(content), 1 << 20)
        self._state[: _COUNTS.size] = _COUNTS.pack(self._executions, self._refused, size)
        self._state[_COUNTS.size : _COUNTS.size + size] = content[:size]

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CONNECTIONS or (event in _STARTS and not self._parser.programs):
            raise NotAllowed(f"{event} {arguments!r:.300}")
        if event == "open" and isinstance(arguments[0], str | bytes) and arguments[2] & _WRITES:
            self._check_place(event, arguments[0])
        elif event in _CHANGES:
            # What a link leads to is read, if anything.
            for place in arguments[event in ("os.symlink", "os.link") : 2]:
                if isinstance(place, str | bytes):
                    self._check_place(event, place)

    def _check_place(self, event: str, place: str | bytes) -> None:
        path = os.path.realpath(os.fsdecode(place))
        if path != "/dev/null" and not path.startswith(f"{self._work}/"):
            raise NotAllowed(f"{event} {path}")


def random_inputs(watched: Watched, parser: Parser, budget: int) -> None:
    random = Random(f"{SEED} {parser.name}")
    from torture.mutation import mutated

    for seed in parser.seeds:
        watched.one(seed)
    for _ in range(budget):
        watched.one(mutated(random.choice(parser.seeds), random.choice(parser.seeds), random))


def covering_inputs(watched: Watched, parser: Parser, budget: int) -> None:
    import atheris

    from torture.mutation import mutated

    corpus = Path(tempfile.mkdtemp())
    for number, seed in enumerate(parser.seeds):
        (corpus / str(number)).write_bytes(seed)

    def mutate(content: bytes, largest: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < 0.5:
            return bytes(atheris.Mutate(content, largest))
        return mutated(content, random.choice(parser.seeds), random)[:largest]

    options = [
        f"-runs={budget}",
        f"-seed={SEED}",
        "-max_len=65536",
        "-timeout=1000",
        "-rss_limit_mb=0",
        "-len_control=0",
    ]
    atheris.Setup(["fuzz", str(corpus), *options, "-verbosity=0"], watched.one, custom_mutator=mutate)
    atheris.Fuzz()


def child(parser: Parser, folder: Path, feed: Callable[[Watched, Parser, int], None], budget: int) -> None:
    watched = Watched(parser, folder)
    watched.confine()

    def one(content: bytes) -> None:
        try:
            Watched.one(watched, content)
        except BaseException:  # noqa: BLE001 - every other one is what is looked for
            faulthandler.cancel_dump_traceback_later()
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)

    watched.one = one  # type: ignore[method-assign]
    feed(watched, parser, budget)


def result(parser: Parser, folder: Path, status: int) -> dict[str, Any]:
    """What a process that has ended left behind."""
    executions, refused, size = _COUNTS.unpack((folder / f"{parser.name}.state").read_bytes()[: _COUNTS.size])
    failure = None
    if status != 0:
        said = (folder / f"{parser.name}.stderr").read_text(errors="replace")
        failure = f"ended with {status}\n{said[-3000:]}"
        content = (folder / f"{parser.name}.state").read_bytes()[_COUNTS.size :][:size]
        (folder / f"{parser.name}.input").write_bytes(content)
    return {"executions": executions, "refused": refused, "failure": failure}


def main(mode: str, budget: str, place: str, table: str, *names: str) -> None:
    folder = Path(place).resolve()
    with contextlib.ExitStack() as stack:
        if mode == "coverage":
            import atheris

            stack.enter_context(atheris.instrument_imports(include=["secure_build"]))
        parsers = importlib.import_module(table).PARSERS
    feed = covering_inputs if mode == "coverage" else random_inputs
    for parser in parsers:
        if parser.name not in names:
            continue
        pid = os.fork()
        if pid == 0:
            child(parser, folder, feed, int(budget) // parser.cost)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        (folder / f"{parser.name}.json").write_text(json.dumps(result(parser, folder, status)))


if __name__ == "__main__":
    main(*sys.argv[1:])
