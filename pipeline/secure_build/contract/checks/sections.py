"""Checks of one section: its form, every mistake against the models, and what is in its archive.

Of a token only the form can be seen. Which image may run is not decided here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from secure_build.contract import schema
from secure_build.contract.advice import mapping
from secure_build.contract.auths import HUB_KEY, is_key, registry_of
from secure_build.contract.checks import archives
from secure_build.contract.document import SectionText
from secure_build.contract.encryption.token import DEFAULT_PREFIX, Token
from secure_build.contract.places import place_of
from secure_build.contract.reading import guest_data
from secure_build.contract.schema import encodings
from secure_build.contract.schema.stricter import RULES, rule_of
from secure_build.errors import UsageError
from secure_build.mistakes import Mistake, mistakes
from secure_build.model import Basis, Finding, Level
from secure_build.reference import DOCKER_HUB
from secure_build.strict_yaml import Document

# The smallest block that a guest logs with.
LOGGING = """\
add to `env`:
logging:
  syslog:
    hostname: 192.0.2.10
    port: 6514
    server: <base64 of the server's certificate chain>
    cert: <base64 of the guest's certificate>
    key: <base64 of its key, PKCS#8>"""


def section_findings(section: SectionText, target: str) -> list[Finding]:
    """Everything that one section shows; `pass` where nothing is wrong with a plain one."""
    where = f"{section.name}:{section.line}"
    if section.is_token:
        return list(token_findings(section.section, section.value, target, where))
    try:
        document = section.document
    except UsageError as error:
        what = f"`{section.section}` is not YAML that every reader takes the same way"
        return [finding("yaml", what, error.message, code="HPL05000E", hint=error.hint, basis="inferred")]
    assert document is not None
    data = guest_data(document)
    found = [*_schema_findings(document, data, section.section, target)]
    if section.section == "workload":
        found += _archive_findings(document, data)
        found += login_findings(document, data, is_compose="compose" in mapping(data))
    if not found:
        return [
            finding("schema", f"`{section.section}`", f"has nothing that `{target}` refuses", level="pass")
        ]
    return found


def token_findings(name: str, value: str, target: str, where: str) -> Iterator[Finding]:
    """The form of a token and its prefix; what is in it stays unknown."""
    what, expected = f"`{name}`", DEFAULT_PREFIX[target]
    try:
        token = Token.parse(value.strip(), what)
    except UsageError as error:
        why = error.message.removeprefix(f"{what} ")
        yield finding("token", what, why, code="HPL11001E", hint=error.hint, where=where)
        return
    if value != value.strip():
        why = "there is white space around the token, and whether the runtime takes it off is not known"
        yield finding("token", what, why, level="warn", basis="inferred", where=where)
    if token.prefix != expected:
        why = (
            f"begins with `{token.prefix}`; images for `{target}` expect `{expected}`, and whether they take "
            "another one is not known"
        )
        yield finding("token", what, why, level="warn", basis="inferred", where=where)
    else:
        yield finding("token", what, "is encrypted; its form is right", level="pass", where=where)


def _schema_findings(document: Document, data: Any, section: str, target: str) -> Iterator[Finding]:
    model = schema.models(target).section(section)
    try:
        model.model_validate(data)
    except ValidationError as error:
        for mistake in mistakes(document, model, error, tags=schema.TAGS):
            yield _mistake(document, mistake, section, target)


def _mistake(document: Document, mistake: Mistake, section: str, target: str) -> Finding:
    rule = rule_of(mistake)
    code = RULES[rule].runtime_code if rule else "HPL05001E"
    if rule == "decodes" and mistake.path[-1:] == ("archive",):
        code = "HPL06006E" if mistake.path[0] == "compose" else "HPL15002E"
    return Finding(
        check=rule or "schema",
        level="fail",
        what=".".join(str(part) for part in (section, *mistake.path)),
        why=_misplaced(mistake, section, target) or mistake.message,
        basis=RULES[rule].basis if rule else "schema",
        hint=LOGGING if mistake.path == ("logging",) and mistake.kind == "missing" else None,
        where=f"{document.name}:{mistake.line}",
        runtime_code=code,
    )


def _misplaced(mistake: Mistake, section: str, target: str) -> str | None:
    """What to say of a key that is one of the other section."""
    other = "env" if section == "workload" else "workload"
    known = {field.alias for field in schema.models(target).section(other).model_fields.values()}
    if mistake.kind == "extra_forbidden" and len(mistake.path) == 1 and mistake.path[0] in known:
        return f"unknown key here; it belongs into `{other}`"
    return None


def login_findings(document: Document, data: Any, *, is_compose: bool) -> Iterator[Finding]:
    """Logins of a section that no image finds, by how their registry is written."""
    for key in mapping(mapping(data).get("auths")):
        if not is_key(key):
            continue
        if key != key.lower():
            yield finding(
                "auths",
                f"the login for `{key}`",
                "no image finds it: it is looked for letter by letter, and hosts are in lower case",
                level="warn",
                basis="inferred",
                hint=f"write `{key.lower()}`",
                where=place_of(document, ("auths", key)),
            )
        elif is_compose and key != HUB_KEY and registry_of(key) == DOCKER_HUB:
            yield finding(
                "auths",
                f"the login for `{key}`",
                "Docker does not find it: for Docker Hub it looks under the whole address",
                level="warn",
                basis="inferred",
                code="HPL08004E",
                hint=f"write `{HUB_KEY}`",
                where=place_of(document, ("auths", key)),
            )


def _archive_findings(document: Document, data: Any) -> Iterator[Finding]:
    for kind in ("compose", "play"):
        text = mapping(mapping(data).get(kind)).get("archive")
        # What is no base64 has been said already.
        if isinstance(text, str) and len(text) >= 4 and encodings.flat(text) is not None:
            for problem in archives.problems(text, kind):
                yield finding(
                    problem.check,
                    f"workload.{kind}.archive",
                    problem.why,
                    level=problem.level,
                    basis=problem.basis,
                    code=problem.code,
                    hint=problem.hint,
                    where=place_of(document, (kind, "archive")),
                )


def finding(
    check: str,
    what: str,
    why: str,
    *,
    level: Level = "fail",
    basis: Basis = "documented",
    code: str | None = None,
    hint: str | None = None,
    where: str | None = None,
) -> Finding:
    """A finding; `code` is what the runtime would print."""
    return Finding(check, level, what, why, basis, hint, where, code)
