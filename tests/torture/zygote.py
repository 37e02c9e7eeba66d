"""Starts the command many times at the price of a fork: everything is imported once.

    python -m torture.zygote

Each line it reads is one run (`Run`, as JSON); it answers with the process, and with the exit code once that
has ended. Pauses before something is tried again are cut short: how long they are is another test's business.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_LONGEST_PAUSE = 0.01


@dataclass(frozen=True, slots=True)
class Run:
    """One run; at the n-th change of a file, `strikes_at`, it is killed or finds the disk full."""

    folder: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    output: str
    strikes_at: int = 0
    strike: str = ""

    def line(self) -> str:
        return json.dumps(asdict(self)) + "\n"


_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"}


def _watch(run: Run) -> None:
    """Count what changes files of the project, and strike."""
    seen = 0
    own = os.getpid()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event == "open":
            path, _, flags = arguments
            is_change = isinstance(flags, int) and bool(flags & _WRITES)
        else:
            path, is_change = (arguments or (None,))[0], event in _CHANGES
        if not is_change or not isinstance(path, str | Path) or os.getpid() != own:
            return
        if not os.path.abspath(path).startswith(run.folder):  # noqa: PTH100 - pathlib would call this again
            return
        seen += 1
        if run.strike == "count":
            counted.write(".")
            counted.flush()
        elif seen == run.strikes_at and run.strike == "kill":
            os.kill(own, signal.SIGKILL)
        elif seen >= run.strikes_at and run.strike == "full":
            raise OSError(28, "No space left on device", str(path))

    counted = open(f"{run.output}.changes", "w", encoding="ascii")  # noqa: SIM115, PTH123 - as long as the process
    sys.addaudithook(hook)


def _child(run: Run) -> int:
    from secure_build.cli import main

    os.setsid()
    os.chdir(run.folder)
    os.environ.clear()
    os.environ.update(run.environment)
    output = os.open(run.output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    if run.strike:
        _watch(run)
    return main(list(run.arguments))


def _import_all() -> None:
    """What verbs import and prepare when they need it."""
    import git  # noqa: F401
    import pydantic

    import secure_build

    for module in pkgutil.walk_packages(secure_build.__path__, "secure_build."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    models: list[type[pydantic.BaseModel]] = pydantic.BaseModel.__subclasses__()
    for model in models:
        model.model_rebuild()
        models += model.__subclasses__()


def serve() -> None:
    from secure_build import stopping

    _import_all()
    pause = stopping.pause
    stopping.pause = lambda seconds: pause(min(seconds, _LONGEST_PAUSE))
    for line in sys.stdin:
        given = json.loads(line)
        run = Run(**{**given, "arguments": tuple(given["arguments"])})
        process = os.fork()
        if process == 0:
            code = 99
            try:
                code = _child(run)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        print(process, flush=True)
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
