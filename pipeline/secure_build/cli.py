"""The command line: runs the verb that was asked for, and turns its end into an exit code.

Only the standard library is imported before a verb is known, so that `--help`, `--version` and
`schema` answer at once.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import os
import resource
import signal
import sys

from secure_build.arguments import parse
from secure_build.errors import MachineError, SecureBuildError, UsageError

# What `typing` costs to import, `--help` would feel.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from secure_build.report import Report
    from secure_build.steps.job import Job

_INTERRUPTED, _TERMINATED, _BUG = 130, 143, 70


class Door:
    """How the command is used: here by a person; CI systems have doors of their own, see `doors/`."""

    def open_report(self, level: int) -> Report:
        """What the user sees, at a level of `report.py`."""
        from secure_build.report import Report

        return Report(level)

    def prepare(self) -> None:
        """Called before the command line and the environment are read."""

    def check(self, arguments: argparse.Namespace) -> None:
        """Called before the verb; raises what the machine lacks for it."""


def main(argv: Sequence[str] | None = None, door: Door | None = None) -> int:
    """Run one verb; returns the exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    _collect_little()
    _keep_no_core()
    door = door or Door()
    arguments = argparse.Namespace(verbose=False, quiet=False)
    opened: list[Report] = []

    def report() -> Report:
        """Opened once the command line is read, or for what is wrong with it; help needs none."""
        if not opened:
            opened.append(door.open_report(arguments.verbose - arguments.quiet))
        return opened[0]

    try:
        door.prepare()
        arguments = parse(sys.argv[1:] if argv is None else argv, os.environ)
        door.check(arguments)
        code = VERBS[arguments.verb](arguments, report())
        sys.stdout.flush()
        return code
    except SecureBuildError as error:
        report().error(error)
        return error.exit_code
    except _Terminated:
        report().error(SecureBuildError("terminated"))
        return _TERMINATED
    except KeyboardInterrupt:
        report().error(SecureBuildError("interrupted"))
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody left to tell.
        if sys.__stdout__ is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())
        return 1
    except OSError as error:
        place = f" `{error.filename}`" if error.filename else ""
        report().error(MachineError(f"cannot use{place}: {error.strerror or error}"))
        return MachineError.exit_code
    except Exception as error:  # noqa: BLE001 - the last place that can explain
        import traceback

        trace = traceback.format_exc() if arguments.verbose else ""
        what = f"this is a bug in secure-build: {type(error).__name__}: {error}"
        report().error(
            SecureBuildError(f"{what}\n{trace}".rstrip(), hint=None if trace else "`-v` shows where")
        )
        return _BUG


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a run in the same orderly way as Ctrl-C."""


def _keep_no_core() -> None:
    """A core of this process, or of one that it starts, would hold secrets."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    # 1 is less than any core, and unlike 0 it also holds where cores go to a program (Linux, fs/coredump.c).
    limit = 0 if hard == 0 else 1
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))


def _collect_little() -> None:
    """A run is short and makes few cycles: to look for them often, and once more at its end, costs more."""
    gc.set_threshold(100_000)
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)


def _terminate(_number: int, _frame: object) -> NoReturn:
    raise _Terminated


def _init(arguments: argparse.Namespace, report: Report) -> int:
    from secure_build import output
    from secure_build.steps.init import InitOptions, init

    given = {
        name: value for name, value in vars(arguments).items() if name in InitOptions.__dataclass_fields__
    }
    started = init(InitOptions(**given, sbs=getattr(arguments, "from")), report)
    if arguments.output == "json":
        output.print_data(started.data, arguments.output)
    else:
        print(started.path)
    return 0


def _plan(arguments: argparse.Namespace, report: Report) -> int:
    from secure_build import output
    from secure_build.steps.plan import plan

    return _with_job(arguments, report, lambda job: output.show_plan(plan(job), arguments.output))


def _build(arguments: argparse.Namespace, report: Report) -> int:
    from secure_build import output
    from secure_build.steps.build import build
    from secure_build.steps.check import check

    act = check if arguments.check else build
    return _with_job(arguments, report, lambda job: output.show_record(act(job), job, arguments.output))


def _lock(arguments: argparse.Namespace, report: Report) -> int:
    from secure_build import output
    from secure_build.steps.lock import lock

    return _with_job(
        arguments,
        report,
        lambda job: output.show_lock(lock(job, update=arguments.update), arguments.output),
    )


def _sign(arguments: argparse.Namespace, report: Report) -> int:
    from secure_build import output
    from secure_build.steps.sign import sign_layout

    return _with_job(
        arguments, report, lambda job: output.show_record(sign_layout(job), job, arguments.output)
    )


def _publish(arguments: argparse.Namespace, report: Report) -> int:
    from secure_build import output
    from secure_build.steps.capsule import publish_capsule
    from secure_build.steps.handover import hand_on
    from secure_build.steps.keys import keys
    from secure_build.steps.publish import publish

    def act(job: Job) -> int:
        if job.options.with_evidence:
            return output.show_record(publish_capsule(job), job, arguments.output)
        if job.options.by_digest:
            return output.show_handed_on(*hand_on(job, keys(job).at_hand), arguments.output)
        return output.show_record(publish(job), job, arguments.output)

    return _with_job(arguments, report, act)


def _run(arguments: argparse.Namespace, report: Report) -> int:
    from secure_build import contract_output
    from secure_build.steps.run import run

    return _with_job(arguments, report, lambda job: contract_output.show_run(run(job), job, arguments.output))


def _contract_section(arguments: argparse.Namespace, report: Report) -> int:
    from secure_build import contract_output
    from secure_build.steps.contract import contract_workload
    from secure_build.steps.env import contract_env

    def act(job: Job) -> int:
        made = contract_env(job, draft=True) if arguments.verb == "env" else contract_workload(job)
        return contract_output.show_section(*made, job, arguments.output)

    return _with_job(arguments, report, act)


def _contract_assemble(arguments: argparse.Namespace, report: Report) -> int:
    from secure_build import contract_output
    from secure_build.steps.assemble import contract_assemble

    def act(job: Job) -> int:
        return contract_output.show_assembled(*contract_assemble(job, draft=True), job, arguments.output)

    return _with_job(arguments, report, act)


def _contract_re_encrypt(arguments: argparse.Namespace, report: Report) -> int:
    from secure_build import contract_output
    from secure_build.steps.re_encrypt import contract_re_encrypt

    def act(job: Job) -> int:
        return contract_output.show_re_encrypted(*contract_re_encrypt(job), arguments.output)

    return _with_job(arguments, report, act)


def _contract_show(arguments: argparse.Namespace, _report: Report) -> int:
    from secure_build import contract_output
    from secure_build.steps.show import ShowOptions, show

    given = {
        name: value for name, value in vars(arguments).items() if name in ShowOptions.__dataclass_fields__
    }
    return contract_output.show_contract(show(ShowOptions(**given)), arguments.output)


def _contract_images(arguments: argparse.Namespace, report: Report) -> int:
    from secure_build import output
    from secure_build.steps.contract import contract_images

    return _with_job(
        arguments, report, lambda job: output.show_fragment(*contract_images(job), arguments.output)
    )


def _contract_certificate(arguments: argparse.Namespace, report: Report) -> int:
    from secure_build import output
    from secure_build.steps.certificates import Asked, configured_certificate, single_certificate

    known = {name: getattr(arguments, name) for name in ("target", "image_version", "chain", "sha256")}
    if arguments.file is None:
        if given := [name for name, value in known.items() if value is not None]:
            flag = "--" + given[0].replace("_", "-")
            raise UsageError(
                f"`{flag}` goes with a FILE", hint="of the config's certificate, the config says all this"
            )
        return _with_job(
            arguments,
            report,
            lambda job: output.show_certificate(configured_certificate(job), arguments.output),
        )
    if arguments.image_version and not arguments.target:
        raise UsageError("`--image-version` says nothing without `--target`")
    asked = Asked(file=arguments.file, insecure=arguments.insecure_unverified_certificate, **known)
    checked = single_certificate(asked, arguments.workdir, report, offline=arguments.offline)
    return output.show_certificate(checked, arguments.output)


def _verify(arguments: argparse.Namespace, report: Report) -> int:
    from pathlib import Path

    from secure_build import verify_output
    from secure_build.steps.verify import VerifyOptions, verify

    reports = [Path(name) for name in arguments.reports or ()]
    for path in reports:
        # A mistake in a name is found before anybody is asked.
        verify_output.form_of(path)
        if arguments.contract is not None and path.resolve() == arguments.contract.resolve():
            raise UsageError(
                f"`--report {path}` would be written over the contract", hint="name another file"
            )
    given = {
        name: value for name, value in vars(arguments).items() if name in VerifyOptions.__dataclass_fields__
    }
    found = verify(VerifyOptions(**given | {"records": tuple(arguments.records or ())}), report)
    if arguments.strict:
        found = verify_output.strict(found)
    return verify_output.show_verified(found, arguments.output, reports)


def _audit(arguments: argparse.Namespace, report: Report) -> int:
    from pathlib import Path

    from secure_build import audit_output
    from secure_build.steps.audit import AuditOptions, audit

    given = {
        name: value for name, value in vars(arguments).items() if name in AuditOptions.__dataclass_fields__
    }
    for name in ("crls", "disclosures"):
        given[name] = tuple(Path(one) for one in given[name] or ())
    return audit_output.show_audited(audit(AuditOptions(**given), report), arguments.output)


def _schema(arguments: argparse.Namespace, _report: Report) -> int:
    from pathlib import Path

    if arguments.contract and arguments.verify:
        raise UsageError("`--contract` and `--verify` are two schemas", hint="ask for one")
    of_contract = f"contract-{arguments.contract}" if arguments.contract else "secure-build"
    name = "verify" if arguments.verify else of_contract
    path = Path(__file__).parent / "data" / f"{name}.schema.json"
    sys.stdout.write(path.read_text(encoding="utf-8"))
    return 0


def _with_job(arguments: argparse.Namespace, report: Report, act: Callable[[Job], int]) -> int:
    from secure_build.model import BuilderName, Platform
    from secure_build.steps.invocation import job
    from secure_build.steps.job import Options

    given = {name: value for name, value in vars(arguments).items() if name in Options.__dataclass_fields__}
    for name in ("images", "records"):
        given[name] = tuple(given.get(name) or ())
    for name, parse_value in (("platform", Platform.parse), ("builder", BuilderName.parse)):
        if given.get(name):
            given[name] = parse_value(given[name])
    with job(Options(**given), report) as opened:
        return act(opened)


# Which function is which verb, by the names that `arguments.py` gives.
VERBS: dict[str, Callable[[argparse.Namespace, Report], int]] = {
    "init": _init,
    "plan": _plan,
    "run": _run,
    "build": _build,
    "sign": _sign,
    "publish": _publish,
    "verify": _verify,
    "audit": _audit,
    "lock": _lock,
    "images": _contract_images,
    "workload": _contract_section,
    "env": _contract_section,
    "assemble": _contract_assemble,
    "re-encrypt": _contract_re_encrypt,
    "show": _contract_show,
    "certificate": _contract_certificate,
    "schema": _schema,
}


if __name__ == "__main__":
    raise SystemExit(main())
