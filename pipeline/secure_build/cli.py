"""The command line: verbs, flags, their environment twins, output and exit codes. No work is done here.

Only the standard library is imported before a verb is known, so that `--help`, `--version` and
`schema` answer at once.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from secure_build import __version__
from secure_build.errors import MachineError, SecureBuildError, UsageError
from secure_build.flags import Several, apply_environment, positive, without_twin

if TYPE_CHECKING:
    from secure_build.report import Report
    from secure_build.steps import Job

_INTERRUPTED, _TERMINATED, _BUG = 130, 143, 70

EPILOG = """\
Every flag has an environment variable, SECURE_BUILD_ and its name in capitals (SECURE_BUILD_JOBS=2),
except those that weaken a check. Secrets are looked up by the names in the config, as environment
variables, then as files in the folder SECURE_BUILD_SECRETS.

exit codes: 0 done, 1 refused, 2 usage or config, 3 a tool or permission is missing, 4 a service
failed, 5 something could not be checked, 70 a bug in this program
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    from secure_build.report import NORMAL, QUIET, VERBOSE, Report

    signal.signal(signal.SIGTERM, _terminate)
    report = Report()
    verbose = False
    try:
        arguments = _parse(sys.argv[1:] if argv is None else argv, os.environ)
        verbose = arguments.verbose
        report = Report(VERBOSE if arguments.verbose else QUIET if arguments.quiet else NORMAL)
        code: int = arguments.verb(arguments, report)
        sys.stdout.flush()
        return code
    except SecureBuildError as error:
        report.error(error)
        return error.exit_code
    except _Terminated:
        report.error(SecureBuildError("terminated"))
        return _TERMINATED
    except KeyboardInterrupt:
        report.error(SecureBuildError("interrupted"))
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        place = f" `{error.filename}`" if error.filename else ""
        report.error(MachineError(f"cannot use{place}: {error.strerror or error}"))
        return MachineError.exit_code
    except Exception as error:  # noqa: BLE001 - the last place that can explain
        trace = traceback.format_exc() if verbose else ""
        what = f"this is a bug in secure-build: {type(error).__name__}: {error}"
        report.error(
            SecureBuildError(f"{what}\n{trace}".rstrip(), hint=None if trace else "`-v` shows where")
        )
        return _BUG


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a run in the same orderly way as Ctrl-C."""


def _terminate(_number: int, _frame: object) -> NoReturn:
    raise _Terminated


# Verbs


def _build(arguments: argparse.Namespace, report: Report) -> int:
    from secure_build.steps import build, check

    act = check if arguments.check else build
    return _with_job(arguments, report, lambda job: _show_record(arguments, act(job), job))


def _lock(arguments: argparse.Namespace, report: Report) -> int:
    from secure_build.steps import lock

    def act(job: Job) -> int:
        locked = lock(job, update=arguments.update)
        if arguments.output == "json":
            _print_json(
                {
                    "path": str(locked.path),
                    "changes": [
                        {
                            "kind": change.input.kind,
                            "name": change.input.name,
                            "platform": str(change.input.platform),
                            "before": change.before,
                            "after": change.after,
                        }
                        for change in locked.changes
                    ],
                }
            )
        else:
            for change in locked.changes:
                print(change)
        return 0

    return _with_job(arguments, report, act)


def _publish(arguments: argparse.Namespace, report: Report) -> int:
    from secure_build.steps import hand_on, publish, summary

    def act(job: Job) -> int:
        if not job.options.by_digest:
            return _show_record(arguments, publish(job), job)
        result, pinned = hand_on(job)
        if arguments.output == "json":
            _print_json({**summary(result), "record": str(pinned)})
        else:
            print(pinned)
        return _exit_code(result)

    return _with_job(arguments, report, act)


def _run(arguments: argparse.Namespace, report: Report) -> int:
    from secure_build.steps import run

    def act(job: Job) -> int:
        result, contract = run(job)
        if contract is None:
            return _show_record(arguments, result, job)
        return _show_contract(arguments, result, contract, job)

    return _with_job(arguments, report, act)


def _contract_workload(arguments: argparse.Namespace, report: Report) -> int:
    from secure_build.steps import contract_workload

    def act(job: Job) -> int:
        result, contract = contract_workload(job, draft=True)
        return _show_contract(arguments, result, contract, job)

    return _with_job(arguments, report, act)


def _contract_images(arguments: argparse.Namespace, report: Report) -> int:
    from secure_build.steps import contract_images

    def act(job: Job) -> int:
        result, fragment = contract_images(job)
        if arguments.output == "json":
            _print_json(
                {
                    "path": str(fragment.file.path),
                    "images": {},
                    "auths": fragment.auths,
                    "references": {name: str(pinned) for name, pinned in fragment.references.items()},
                }
            )
        else:
            _print_masked(fragment.file)
        return _exit_code(result)

    return _with_job(arguments, report, act)


def _schema(_arguments: argparse.Namespace, _report: Report) -> int:
    path = Path(__file__).parent / "data" / "secure-build.schema.json"
    sys.stdout.write(path.read_text(encoding="utf-8"))
    return 0


def _with_job(arguments: argparse.Namespace, report: Report, act: Callable[[Job], int]) -> int:
    from secure_build.steps import Options, job

    given = {name: value for name, value in vars(arguments).items() if name in Options.__dataclass_fields__}
    for name in ("images", "records"):
        given[name] = tuple(given.get(name) or ())
    from secure_build.model import BuilderName, Platform

    for name, parse in (("platform", Platform.parse), ("builder", BuilderName.parse)):
        if given.get(name):
            given[name] = parse(given[name])
    with job(Options(**given), report) as opened:
        return act(opened)


# Output


def _show_record(arguments: argparse.Namespace, result: Any, job: Job) -> int:
    from secure_build.steps import summary

    if arguments.output == "json":
        _print_json({**summary(result), "record": str(job.record_path)})
    else:
        for image in result.images:
            print(image.pinned)
    return _exit_code(result)


def _show_contract(arguments: argparse.Namespace, result: Any, contract: Any, job: Job) -> int:
    from secure_build.steps import summary

    if arguments.output == "json":
        written = {"path": str(contract.path), "masked": contract.masked, "unchanged": contract.unchanged}
        _print_json({**summary(result), "record": str(job.record_path), "workload": written})
    else:
        _print_masked(contract)
    return _exit_code(result)


def _print_masked(contract: Any) -> None:
    print(f"# Complete, with its secrets, in {contract.path} (readable by its owner only)")
    print(contract.masked, end="")


def _print_json(data: dict[str, Any]) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False))


def _exit_code(result: Any) -> int:
    levels = {finding.level for finding in result.findings}
    return 1 if "fail" in levels else 5 if "unknown" in levels else 0


# Arguments


def _parse(argv: Sequence[str], environment: Mapping[str, str]) -> argparse.Namespace:
    parser = _parser()
    apply_environment(parser, environment)
    arguments = parser.parse_args(argv)
    if arguments.verb is None:
        parser.print_help(sys.stderr)
        raise SystemExit(UsageError.exit_code)
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="secure-build",
        description="From a Dockerfile in git to a contract "
        "that IBM's confidential container runtimes accept.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"secure-build {__version__}")
    parser.set_defaults(verb=None, verbose=False, quiet=False)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")

    run = _verb(verbs, "run", _run, "build, publish and write the contract")
    build = _verb(verbs, "build", _build, "build the images of the commit into the layout")
    publish = _verb(verbs, "publish", _publish, "publish the layout's images, tags last")
    lock = _verb(verbs, "lock", _lock, "write the digests of bases and third-party images beside the config")
    for verb in (run, build, lock):
        verb.add_argument(
            "--builder",
            metavar="NAME",
            help="buildx, buildx:NAME for one of `docker buildx ls`, buildah or engine; "
            "default: the first that works here",
        )
    for verb in (run, build):
        verb.add_argument("--platform", metavar="P", help="build this platform only, for example linux/s390x")
        verb.add_argument(
            "--locked", action="store_true", help="refuse every base and image that the lock does not have"
        )
        without_twin(
            verb.add_argument(
                "--allow-dirty",
                action="store_true",
                help="build the commit although the working tree differs",
            )
        )
    for verb in (run, publish):
        verb.add_argument(
            "--to", metavar="oci:DIR", help="publish to an image layout instead of the registries"
        )
    build.add_argument(
        "--check",
        action="store_true",
        help="build again from scratch and compare with the record; changes nothing",
    )
    publish.add_argument(
        "--by-digest",
        action="store_true",
        help="set no tag; put the record beside the images and print where, for `--record`",
    )
    lock.add_argument("--update", action="store_true", help="resolve everything anew")
    for verb in (run, build, publish):
        verb.add_argument("images", nargs="*", metavar="IMAGE", help="images of the config to work on")

    contract = verbs.add_parser(
        "contract", help="write parts of the contract", description="Parts of the contract."
    )
    parts = contract.add_subparsers(title="parts", metavar="PART", required=True)
    _verb(parts, "workload", _contract_workload, "the plain workload section, in a file for its owner only")
    images = _verb(
        parts, "images", _contract_images, "the `images` and `auths` to put into a contract of your own"
    )
    images.add_argument(
        "--into", metavar="FILE", type=Path, help="merge them into this plain workload section"
    )
    for verb in (run, publish, *parts.choices.values()):
        verb.add_argument(
            "--record",
            metavar="FILE",
            dest="records",
            action=Several,
            help="build record of another work folder, or registry/repository@sha256:… of one that was "
            "handed on; several (in the variable one a line) are joined; default: that of the work folder",
        )

    schema = verbs.add_parser("schema", help="print the JSON schema of secure-build.yaml, for editors")
    schema.set_defaults(verb=_schema)
    return parser


def _verb(
    verbs: Any, name: str, act: Callable[[argparse.Namespace, Report], int], text: str
) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.set_defaults(verb=act)
    common = verb.add_argument_group("common options")
    common.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        type=Path,
        default=Path("secure-build.yaml"),
        help="default: secure-build.yaml",
    )
    common.add_argument(
        "--workdir",
        metavar="DIR",
        type=Path,
        default=Path(".secure-build"),
        help="kept between runs; default: .secure-build in the current folder",
    )
    common.add_argument(
        "--output", choices=("text", "json"), default="text", help="form of the result on standard output"
    )
    common.add_argument(
        "--jobs",
        metavar="N",
        type=positive,
        default=4,
        help="how many things to do side by side; default: 4",
    )
    common.add_argument("-v", "--verbose", action="store_true", help="show what the builders say")
    common.add_argument("-q", "--quiet", action="store_true", help="show errors and findings only")
    return verb


if __name__ == "__main__":
    raise SystemExit(main())
