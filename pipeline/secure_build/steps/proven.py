"""What is in a contract's tokens, where the build record and the config show it.

No key of ours opens a token that is made for the runtime. What the config makes is what is in it when the
record has the token, and its keyed digests, which nobody makes without the key, are those of this token
and our text.
"""

from __future__ import annotations

from collections.abc import Mapping

from secure_build.contract import document
from secure_build.contract.document import SectionText
from secure_build.model import BuildRecord, Finding
from secure_build.steps.assemble import certificate_findings
from secure_build.steps.emission import keyed_digest, plain_path, read_key, token_keyed
from secure_build.steps.job import Job
from secure_build.steps.made import Made, made


def opened(
    work: Job, current: BuildRecord, sections: Mapping[str, SectionText]
) -> tuple[dict[str, SectionText], list[Finding]]:
    """The sections in plain text, those of tokens only where they are proven; and what stays closed."""
    tokens = [
        section for section in sections.values() if section.is_token and section.section in document.SECTIONS
    ]
    plain = {name: section for name, section in sections.items() if not section.is_token}
    if not tokens:
        return plain, []
    findings: list[Finding] = []
    here = made(work, current) if current.images or work.loaded.config.workload is None else None
    for section in tokens:
        text, reason, hint = _behind(work, current, section, here)
        if text is not None:
            plain[section.section] = text
            continue
        findings.append(closed(section, reason, hint))
    certificate = None
    if work.loaded.config.encrypt.certificate is not None:
        from secure_build.steps.certificates import configured_certificate

        checked = configured_certificate(work)
        certificate = checked.certificate
        findings += checked.findings
    known = [
        finding
        for finding in certificate_findings(current, tokens, certificate)
        if finding.level != "deferred"
    ]
    return plain, findings + known


def closed(section: SectionText, why: str, hint: str) -> Finding:
    """A token of which nobody can say what is in it."""
    what, where = f"what is encrypted in `{section.section}`", f"{section.name}:{section.line}"
    return Finding("token", "unknown", what, why, hint=hint, where=where)


def _behind(
    work: Job, current: BuildRecord, section: SectionText, here: Made | None
) -> tuple[SectionText | None, str, str]:
    """The text in a token where the keyed digest proves it; else why it does not, and what would help."""
    name = section.section
    of_token = [
        one
        for one in (current.sections.get(name), current.earlier.get(name))
        if one is not None and one.token == section.digest
    ]
    if not of_token:
        return None, "the build record does not know this token", "name the record of it: `--record FILE`"
    key = read_key(plain_path(work.options.workdir, name, draft=False))
    if key is None:
        why = "the key of its keyed digest is not here"
        return None, why, f"take `{name}.key` from the work folder that made it into `{work.options.workdir}`"
    text = here.texts.get(name) if here is not None else None
    if text is None:
        return None, f"the config makes no `{name}`", "name the config that made it: `--config FILE`"
    content = text.value.encode()
    if keyed_digest(key, content) != of_token[0].plaintext_keyed:
        return (
            None,
            "the config and its secrets make another text than was encrypted",
            "give the secrets, and check out the commit, that it was made with",
        )
    if token_keyed(key, section.digest, content) != of_token[0].token_keyed:
        why = "nothing shows that this token is of the recorded text: the record may have been changed"
        return None, why, "encrypt it again: `--re-encrypt`"
    return text, "", ""
