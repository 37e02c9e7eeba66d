"""The command line's verbs and flags. Says which verb; does no work."""

from __future__ import annotations

import argparse
import os
import re
import sys

from secure_build import __version__
from secure_build.errors import UsageError
from secure_build.twins import Several, apply_environment, with_command, with_twin, without_twin

# What `typing` costs to import, `--help` would feel.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any, NoReturn

# Why a flag has none. A variable that is called after a token gets the token, sooner or later.
_WEAKENS, _NAMES_A_SECRET = (
    "weakens a check",
    "takes the name of a secret, where a variable would get its value",
)
_IS_OF_A_FILE = "is for the one file that is named with it"
_NAMES_A_KEY = "names the file of a key, where a variable would get the key itself"

TARGETS = ("hpvs", "ccrt", "ccrv", "ccco")
INIT_FLAGS = (
    ("--registry", "HOST/NAMESPACE", "where images go that have no name yet"),
    ("--push", "USER=SECRET_NAME", "login to publish with, by the name of the secret"),
    ("--runtime", "USER=SECRET_NAME", "pull-only login for the guest, by the name of the secret"),
    ("--compose", "FILE", "the compose file to take, where there are several"),
    ("--play", "PATH", "the pods to take, a file or a folder, where there are several"),
    ("--source", "URL", "look at this git repository, and write a config that builds it"),
    ("--ref", "REF", "branch, tag or commit of --source"),
    ("--token", "SECRET_NAME", "token for --source, by the name of the secret"),
)

EPILOG = """\
Every flag has an environment variable, SECURE_BUILD_ and its name in capitals (SECURE_BUILD_JOBS=2),
except those that weaken a check, name a secret or a key, or tell of a single FILE; so have the verb
(SECURE_BUILD_COMMAND), IMAGE (SECURE_BUILD_IMAGES) and CONTRACT (SECURE_BUILD_CONTRACT). Secrets are
looked up by the names in the config, as environment variables, then as files in the folder
SECURE_BUILD_SECRETS.

exit codes: 0 done, 1 refused, 2 usage or config, 3 a tool or permission is missing, 4 a service
failed, 5 something could not be checked, 70 a bug in this program
"""


def parse(argv: Sequence[str], environment: Mapping[str, str]) -> argparse.Namespace:
    own = parser()
    argv = with_command(own, environment, argv)
    apply_environment(own, environment, argv)
    arguments = own.parse_args(argv)
    if arguments.verb is None:
        own.print_help(sys.stderr)
        raise SystemExit(UsageError.exit_code)
    return arguments


# argparse looks for a translation of its own words, in the file system, for each of the verbs.
setattr(argparse, "_", str)  # noqa: B010 - it is not declared


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """As wide as the terminal, which is asked directly: argparse loads packers of archives to ask it."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_width() - 2)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong as everything else here does; verbs are of this class too."""

    def __init__(self, **given: Any) -> None:
        super().__init__(formatter_class=_Formatter, **given)

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"`{self.prog} --help` shows what there is")


def parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="secure-build",
        description="From a Dockerfile in git to a contract "
        "that IBM's confidential container runtimes accept.",
        epilog=EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"secure-build {__version__}")
    parser.set_defaults(verb=None, verbose=False, quiet=False)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")

    _init_arguments(_new_verb(verbs, "init", "write a starter secure-build.yaml from what is here"))
    plan = _verb(verbs, "plan", "show what `run` would do, what it is worth, and what is missing")
    run = _verb(verbs, "run", "build, sign, publish and write the contract")
    build = _verb(verbs, "build", "build the images of the commit into the layout")
    sign = _verb(verbs, "sign", "sign what the layout holds, and attest where it comes from")
    publish = _verb(verbs, "publish", "publish the layout's images and signatures, tags last")
    verify = _verb(verbs, "verify", "what the runtime would decide about every container of a contract")
    lock = _verb(verbs, "lock", "write the digests of bases and third-party images beside the config")
    for verb in (plan, run, build, lock):
        verb.add_argument(
            "--builder",
            metavar="NAME",
            help="buildx, buildx:NAME for one of `docker buildx ls`, buildah or engine; "
            "default: the first that works here",
        )
    for verb in (plan, run, build):
        verb.add_argument("--platform", metavar="P", help="build this platform only, for example linux/s390x")
        verb.add_argument(
            "--locked", action="store_true", help="refuse every base and image that the lock does not have"
        )
        without_twin(
            verb.add_argument(
                "--allow-dirty",
                action="store_true",
                help="build the commit although the working tree differs",
            ),
            _WEAKENS,
        )
    plan.add_argument(
        "--probe-push",
        action="store_true",
        help="where a registry does not tell, open an upload and cancel it, to see whether it is allowed",
    )
    for verb in (plan, run, publish):
        verb.add_argument(
            "--to", metavar="oci:DIR", help="publish to an image layout instead of the registries"
        )
    publish.add_argument(
        "--with-evidence",
        action="store_true",
        help="put signatures, public keys, tokens, the build record and a script that checks it all into "
        "the layout of --to, see docs/capsule.md",
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
    run.add_argument(
        "--hand-on",
        action="store_true",
        help="put the record beside the images too, and tell where, for `--record`",
    )
    lock.add_argument("--update", action="store_true", help="resolve everything anew")
    for verb in (plan, run, build, sign, publish):
        with_twin(
            verb.add_argument("images", nargs="*", metavar="IMAGE", help="images of the config to work on")
        )

    _verify_arguments(verify)
    _audit_arguments(_plain_verb(verbs, "audit", "check the attestation record of a machine, link by link"))
    parts = _contract_parts(verbs)
    for verb in (run, sign, publish, verify, parts["workload"], parts["images"]):
        verb.add_argument(
            "--record",
            metavar="FILE",
            dest="records",
            action=Several,
            help="build record of another work folder, or registry/repository@sha256:… of one that was "
            "handed on; several (in the variable one a line) are joined; default: that of the work folder",
        )
    for verb in (
        plan,
        run,
        build,
        sign,
        publish,
        *(parts[name] for name in ("images", "workload", "env", "assemble")),
    ):
        _forms(verb, "markdown")
    for verb in (run, *(parts[name] for name in ("workload", "env", "assemble", "re-encrypt"))):
        _encryption_arguments(verb)
    for verb in (run, *(parts[name] for name in ("workload", "env", "assemble"))):
        verb.add_argument(
            "--re-encrypt",
            action="store_true",
            help="make new tokens of what has not changed; the attested hashes change with them",
        )

    schema = verbs.add_parser(
        "schema", help="print the JSON schema of secure-build.yaml or of a contract, for editors"
    )
    schema.add_argument(
        "--contract", metavar="TARGET", choices=TARGETS, help="of a plain contract for this runtime instead"
    )
    schema.add_argument("--verify", action="store_true", help="of what `verify --output json` prints instead")
    schema.set_defaults(verb="schema")
    return parser


def _verify_arguments(verify: argparse.ArgumentParser) -> None:
    with_twin(
        verify.add_argument(
            "contract",
            nargs="?",
            metavar="CONTRACT",
            type=as_path,
            help="a contract or one section of it; default: what the config and the build record make",
        )
    )
    verify.add_argument(
        "--target", choices=TARGETS, help="the runtime; default: that of the config, where there is one"
    )
    verify.add_argument(
        "--image-version", metavar="V", help="version of the installed image; default: that of the config"
    )
    verify.add_argument(
        "--pods",
        metavar="PATH",
        type=as_path,
        help="the pods of ccco that go with CONTRACT, a file or a folder",
    )
    verify.add_argument("--strict", action="store_true", help="take warnings for failures")
    verify.add_argument(
        "--offline", action="store_true", help="ask nobody: decide by what is here, and defer the rest"
    )
    verify.add_argument(
        "--report",
        metavar="FILE",
        dest="reports",
        action=Several,
        help="write the result to a file too; its ending says how: .txt, .json, .md, .sarif or .xml (JUnit); "
        "may stand several times (in the variable one a line)",
    )
    _forms(verify, "markdown", "sarif", "junit")


def _audit_arguments(audit: argparse.ArgumentParser) -> None:
    audit.add_argument(
        "attested", metavar="RECORD", type=as_path, help="se-checksums.txt of the machine, or .enc of it"
    )
    for flag, text in (
        ("--signature", "se-signature.bin of the machine"),
        ("--certificate", "the attestation certificate of the image"),
        ("--chain", "certificates between that one and the root, PEM"),
        ("--known", "published hashes of images, YAML: VERSION: {NAME: SHA-256}"),
        ("--contract", "the contract as it was delivered"),
        ("--expect", "lines that the record must have, as they were printed with the contract"),
        ("--encryption-certificate", "the certificate that the contract was encrypted for"),
        ("--record", "the build record of the contract"),
        ("--record-key", "public cosign key that signs build records and images, PEM"),
        ("--gpg-key", "public OpenPGP key that signs images (rhs)"),
        ("--trust-config", "trust config of another sigstore than the public one, for --identity"),
        ("--config", "a config whose `audit: require:` is your policy"),
    ):
        audit.add_argument(flag, metavar="FILE", type=as_path, help=text)
    for flag, text in (
        ("--repository", "a clone of the git repository that was built"),
        ("--layout", "image layout with the images; default: that of the work folder, then the registries"),
    ):
        audit.add_argument(flag, metavar="DIR", type=as_path, help=text)
    audit.add_argument("--identity", metavar="NAME", help="who signs build records and images without a key")
    audit.add_argument("--issuer", metavar="URL", help="who confirms that identity")
    for flag, name, text in (
        ("--crl", "crls", "revocation list, beside those that are fetched; may stand several times"),
        ("--disclosure", "disclosures", "what opens a token for an auditor; may stand several times"),
    ):
        audit.add_argument(flag, metavar="FILE", dest=name, action=Several, help=text)
    without_twin(
        audit.add_argument("--sha256", metavar="HEX", type=_sha256, help="fingerprint of --certificate"),
        _WEAKENS,
    )
    _key_arguments(audit, "RSA private key of the auditor, PEM")
    _forms(audit, "markdown", "html")
    audit.add_argument(
        "--format", dest="output", choices=("text", "json", "markdown", "html"), help="the same as --output"
    )
    audit.add_argument(
        "--workdir", metavar="DIR", type=as_path, default=".secure-build", help="keeps what is fetched"
    )
    audit.add_argument("--offline", action="store_true", help="fetch nothing; use what was fetched before")


def _key_arguments(verb: argparse.ArgumentParser, text: str) -> None:
    without_twin(verb.add_argument("--key", metavar="FILE", type=as_path, help=text), _NAMES_A_KEY)
    without_twin(
        verb.add_argument(
            "--passphrase", metavar="SECRET_NAME", help="passphrase of the key, by the name of the secret"
        ),
        _NAMES_A_SECRET,
    )


def _forms(verb: argparse.ArgumentParser, *further: str) -> None:
    """Let the result of a verb be printed in these forms too."""
    for action in verb._actions:  # noqa: SLF001 - argparse has no other way to change a shared flag
        if action.dest == "output":
            action.choices = ("text", "json", *further)


def _contract_parts(verbs: Any) -> dict[str, argparse.ArgumentParser]:
    """The verbs under `contract`, by name."""
    contract = verbs.add_parser(
        "contract",
        help="write parts of the contract, or all of it",
        description="The contract and its parts.",
    )
    parts = contract.add_subparsers(title="parts", metavar="PART", required=True)
    images = _verb(parts, "images", "the `images` and `auths` to put into a contract of your own")
    images.add_argument(
        "--into", metavar="FILE", type=as_path, help="merge them into this plain workload section instead"
    )
    _verb(parts, "workload", "the workload section: plain, for its owner only, and encrypted")
    _verb(parts, "env", "the env section of the config: plain, for its owner only, and encrypted")
    assemble = _verb(parts, "assemble", "join the sections, sign them, and write the contract")
    for name in ("workload", "env"):
        assemble.add_argument(
            f"--{name}",
            metavar="FILE",
            type=as_path,
            help=f"file with the {name} section, encrypted or plain; default: the one of the work folder",
        )
    assemble.add_argument(
        "--pods",
        metavar="PATH",
        type=as_path,
        help="the pinned pods of ccco, a file or a folder; default: those of the work folder",
    )
    _form_argument(assemble)
    again = _verb(parts, "re-encrypt", "encrypt the same bytes for another image of the runtime")
    again.add_argument("--section", choices=("workload", "env"), required=True, help="which of the two")
    without_twin(
        again.add_argument(
            "--record",
            metavar="FILE",
            dest="old_record",
            type=as_path,
            help="build record that says what was encrypted; default: that of the work folder",
        ),
        _IS_OF_A_FILE,
    )
    again.add_argument(
        "plain", nargs="?", metavar="FILE", type=as_path, help="the plain section; default: beside the record"
    )
    _certificate_arguments(
        _verb(parts, "certificate", "show and check the certificate that contracts are encrypted for")
    )
    _show_arguments(
        _plain_verb(parts, "show", "what is in a contract, or in an encrypted attestation record")
    )
    return dict(parts.choices)


def _show_arguments(show: argparse.ArgumentParser) -> None:
    show.add_argument("file", metavar="FILE", type=as_path, help="contract, section or attestation record")
    _key_arguments(show, "RSA private key that opens it, PEM")
    without_twin(
        show.add_argument("--reveal", action="store_true", help="show secrets as they are"),
        "reveals secrets",
    )
    without_twin(
        show.add_argument(
            "--target",
            choices=TARGETS,
            help="the runtime, by whose rules secrets are known; default: what the workload looks like",
        ),
        _IS_OF_A_FILE,
    )
    _form_argument(show)
    show.add_argument(
        "--directory", metavar="DIR", type=as_path, default=".", help="where --format writes; default: here"
    )


def _form_argument(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--format",
        dest="form",
        choices=("user-data", "terraform", "cidata"),
        help="also write the files that a deployment takes",
    )


def _encryption_arguments(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--offline",
        action="store_true",
        help="use no network: certificates from the cache; what cannot be checked is said",
    )
    without_twin(
        verb.add_argument(
            "--insecure-unverified-certificate",
            action="store_true",
            help="encrypt although nothing shows that the certificate is IBM's",
        ),
        _WEAKENS,
    )


def _init_arguments(verb: argparse.ArgumentParser) -> None:
    folder = "folder of the git repository; default: the current one"
    verb.add_argument("directory", nargs="?", metavar="DIR", type=as_path, default=".", help=folder)
    for flag, metavar, text in INIT_FLAGS:
        action = verb.add_argument(flag, metavar=metavar, help=text)
        if metavar.endswith("SECRET_NAME"):
            without_twin(action, _NAMES_A_SECRET)
    verb.add_argument("--target", choices=("hpvs", "ccrt", "ccrv"), help="the runtime; default: ccrt")
    text = "carry over this sbs-config.json of IBM's Secure Build Server instead"
    verb.add_argument("--from", metavar="FILE", type=as_path, help=text)


def _certificate_arguments(verb: argparse.ArgumentParser) -> None:
    text = "a certificate (PEM) to look at without a config; default: that of the config"
    verb.add_argument("file", nargs="?", metavar="FILE", type=as_path, help=text)
    of_file = verb.add_argument_group("about FILE (for its own certificate, the config says all this)")
    known = (
        of_file.add_argument("--target", choices=TARGETS, help="the runtime it is for"),
        of_file.add_argument("--image-version", metavar="V", help="version of the installed image"),
        of_file.add_argument(
            "--chain", metavar="PEM", type=as_path, help="certificates between it and the root"
        ),
    )
    weakening = (
        of_file.add_argument("--sha256", metavar="HEX", type=_sha256, help="fingerprint that it must have"),
        verb.add_argument(
            "--insecure-unverified-certificate",
            action="store_true",
            help="only warn when nothing shows that the certificate is IBM's",
        ),
    )
    for action in known:
        without_twin(action, _IS_OF_A_FILE)
    for action in weakening:
        without_twin(action, _WEAKENS)
    verb.add_argument("--offline", action="store_true", help="fetch nothing; use what was fetched before")


def _verb(verbs: Any, name: str, text: str) -> argparse.ArgumentParser:
    """A verb that works on a config in a work folder."""
    verb = _new_verb(verbs, name, text)
    common = verb.add_argument_group("work options")
    common.add_argument(
        "--workdir",
        metavar="DIR",
        type=as_path,
        default=".secure-build",
        help="folder for what is kept between runs; default: .secure-build in the current folder",
    )
    common.add_argument(
        "--jobs",
        metavar="N",
        type=_positive,
        default=4,
        help="how many things to do side by side, and eight times as many requests, 32 at most; "
        "1 is one after the other; default: 4",
    )
    return verb


def _new_verb(verbs: Any, name: str, text: str) -> argparse.ArgumentParser:
    """A verb that reads a config."""
    verb = _plain_verb(verbs, name, text)
    verb.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        type=as_path,
        default="secure-build.yaml",
        help="config of the project; default: secure-build.yaml",
    )
    return verb


def _plain_verb(verbs: Any, name: str, text: str) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
    )
    verb.set_defaults(verb=name)
    common = verb.add_argument_group("common options")
    common.add_argument(
        "--output", choices=("text", "json"), default="text", help="form of the result on standard output"
    )
    common.add_argument("-v", "--verbose", action="store_true", help="show what the builders say")
    common.add_argument("-q", "--quiet", action="store_true", help="show errors and findings only")
    return verb


def as_path(text: str) -> Path:
    from pathlib import Path

    return Path(text)


def _width() -> int:
    """Columns of the terminal, 80 where there is none."""
    columns = os.environ.get("COLUMNS", "")
    try:
        return int(columns) if columns.isdecimal() else os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError("must be a number from 1 to 64")
    return int(text)


def _sha256(text: str) -> str:
    """A fingerprint, also as openssl writes it: in capitals, with colons."""
    plain = text.replace(":", "").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", plain):
        raise argparse.ArgumentTypeError("must have 64 hexadecimal digits")
    return plain
