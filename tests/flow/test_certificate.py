"""`contract certificate`, and what the other verbs get: files, downloads, issuers, revocation lists."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fakes.authority import DAY, PLANS, Hierarchy, hierarchy, issuer_at, lists_at
from flow.conftest import Outcome, Project
from secure_build.contract.certificates import roots, table
from secure_build.contract.certificates.table import Image
from secure_build.errors import RefusedError, SecureBuildError, ServiceError
from secure_build.report import Report
from secure_build.steps import downloads
from secure_build.steps.certificates import encryption_certificate
from secure_build.steps.downloads import Downloads
from secure_build.steps.invocation import job
from secure_build.steps.job import Options
from services.needed import need
from services.pages import Web, web

PUBLISHED = "hpvsvpcubuntu.s3.us.cloud-object-storage.appdomain.cloud"
FOLDER = f"https://{PUBLISHED}/s390x-7/ibm-hyper-protect-container-runtime-1-0-s390x-7-"
LEAF_LIST, LEAF_ISSUER = "https://ibm.example/crl-1", "https://ibm.example/crt-1"
SIGNER_LIST, SIGNER_ISSUER = "http://digicert.example/ca.crl", "http://digicert.example/ca.crt"
AUTHORITY_LIST = "http://digicert.example/root.crl"


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """The servers of IBM and DigiCert."""
    need("openssl")
    with web(tmp_path_factory.mktemp("web"), PUBLISHED, "ibm.example", "files.example") as served:
        for name, value in served.variables.items():
            monkeypatch.setenv(name, value)
            monkeypatch.delenv(name.lower(), raising=False)
        yield served


@pytest.fixture
def pki(site: Web, monkeypatch: pytest.MonkeyPatch) -> Hierarchy:
    """Certificates that name where their issuers and lists are, all served; as in life the addresses
    of IBM redirect."""
    leaf, signer, authority = (PLANS[name] for name in ("leaf", "signer", "authority"))
    made = hierarchy(
        datetime.now(UTC).replace(microsecond=0),
        leaf=replace(leaf, extensions=(lists_at(LEAF_LIST), issuer_at(LEAF_ISSUER))),
        signer=replace(
            signer, extensions=(*signer.extensions, lists_at(SIGNER_LIST), issuer_at(SIGNER_ISSUER))
        ),
        authority=replace(authority, extensions=(*authority.extensions, lists_at(AUTHORITY_LIST))),
    )
    monkeypatch.setattr(roots, "TRUSTED", (made.root.certificate,))
    known = {Image("ccrt", "1.2.3"): made.leaf.fingerprint, Image("hpvs", "1.0.7"): made.leaf.fingerprint}
    monkeypatch.setattr(table, "FINGERPRINTS", {**known, Image("ccrt", "2.0.0"): "0" * 64})
    site.redirects[LEAF_ISSUER] = "https://files.example/signer.crt"
    site.redirects[LEAF_LIST] = "http://files.example/leaf.crl"
    site.files |= {
        "https://files.example/signer.crt": made.signer.pem,
        SIGNER_ISSUER: made.authority.certificate.public_bytes(Encoding.DER),
        "http://files.example/leaf.crl": der(made.signer.revoke(1, 2, now=made.now)),
        SIGNER_LIST: der(made.authority.revoke(now=made.now)),
        AUTHORITY_LIST: made.root.revoke(now=made.now).public_bytes(Encoding.PEM),
        f"{FOLDER}encrypt.crt": made.leaf.pem,
        f"{FOLDER}intermediate.crt": made.signer.pem,
    }
    return made


def der(revoked: x509.CertificateRevocationList) -> bytes:
    return revoked.public_bytes(Encoding.DER)


def levels(outcome: Outcome) -> dict[str, str]:
    """What was found, by check and certificate."""
    return {
        f"{finding['check'].removeprefix('certificate-')} {finding['what'].strip('`')}": finding["level"]
        for finding in json.loads(outcome.out)["findings"]
    }


ALL = {
    "key the encryption certificate": "pass",
    "dates the encryption certificate": "pass",
    "trust the encryption certificate": "pass",
    "revocation Test Contract Encryption": "pass",
    "revocation International Business Machines Corporation": "pass",
    "revocation Test Code Signing CA": "pass",
    "image the encryption certificate": "pass",
}


@pytest.fixture
def file(tmp_path: Path, pki: Hierarchy) -> Path:
    path = tmp_path / "runtime.crt"
    path.write_bytes(pki.leaf.pem)
    return path


def show(project: Project, *arguments: str | Path) -> Outcome:
    return project.run("contract", "certificate", *map(str, arguments), "--output", "json")


# One file


def test_a_file_is_described_and_checked_without_a_config(
    project: Project, pki: Hierarchy, file: Path
) -> None:
    (project.folder / "secure-build.yaml").unlink()
    outcome = project.run(
        *("contract", "certificate", str(file)), *("--target", "ccrt", "--image-version", "1.2.3")
    )
    assert outcome.code == 0
    assert f"sha256      {pki.leaf.fingerprint}\n" in outcome.out
    assert "key         RSA 4096\n" in outcome.out
    assert "images      ccrt 1.2.3, hpvs 1.0.7\n" in outcome.out
    assert outcome.out.count("pass: ") == 7
    # The folder where things are kept is a work folder like any other.
    project.configure()
    assert project.run("plan").code in (0, 5)


def test_issuers_and_lists_are_fetched_where_the_certificates_say_and_once(
    project: Project, site: Web, file: Path
) -> None:
    arguments = (file, "--target", "ccrt", "--image-version", "1.2.3")
    outcome = show(project, *arguments)
    assert (outcome.code, levels(outcome)) == (0, ALL)
    assert {LEAF_ISSUER, SIGNER_ISSUER, LEAF_LIST, SIGNER_LIST, AUTHORITY_LIST} <= set(site.asked)
    site.asked.clear()
    again = show(project, *arguments)
    assert (again.code, levels(again)) == (0, ALL)
    assert show(project, *arguments, "--offline").code == 0
    assert site.asked == []


def test_a_list_is_fetched_again_when_its_time_is_over(
    project: Project, pki: Hierarchy, site: Web, file: Path
) -> None:
    url = "http://files.example/leaf.crl"
    site.files[url] = der(pki.signer.revoke(now=pki.now, ends=-DAY / 2))
    outcome = show(project, file)
    assert outcome.code == 5
    assert levels(outcome)["revocation Test Contract Encryption"] == "unknown"
    site.files[url] = der(pki.signer.revoke(pki.leaf.certificate.serial_number, now=pki.now))
    outcome = show(project, file)
    assert outcome.code == 1
    assert levels(outcome)["revocation Test Contract Encryption"] == "fail"


@pytest.mark.parametrize("broken", ["absent", "no list", "not the issuer's"])
def test_a_list_that_cannot_be_had_leaves_it_unknown(
    project: Project, pki: Hierarchy, site: Web, file: Path, broken: str
) -> None:
    url = "http://files.example/leaf.crl"
    if broken == "absent":
        del site.files[url]
    else:
        site.files[url] = b"hello" if broken == "no list" else der(pki.root.revoke(now=pki.now))
    outcome = show(project, file)
    assert outcome.code == 5
    assert levels(outcome) == {**ALL, "revocation Test Contract Encryption": "unknown"}
    # What did not help is not kept.
    site.files[url] = der(pki.signer.revoke(now=pki.now))
    assert show(project, file).code == 0


def test_a_revoked_signing_certificate_fails(project: Project, pki: Hierarchy, site: Web, file: Path) -> None:
    serial = pki.signer.certificate.serial_number
    site.files[SIGNER_LIST] = der(pki.authority.revoke(serial, now=pki.now))
    outcome = show(project, file)
    assert outcome.code == 1
    assert levels(outcome)["revocation International Business Machines Corporation"] == "fail"


def test_without_its_issuers_a_certificate_is_not_trusted(
    project: Project, pki: Hierarchy, site: Web, file: Path, tmp_path: Path
) -> None:
    outcome = show(project, file, "--offline")
    assert outcome.code == 1
    assert levels(outcome)["trust the encryption certificate"] == "fail"
    assert site.asked == []
    chain = tmp_path / "chain.pem"
    chain.write_bytes(pki.authority.pem + pki.signer.pem)
    given = show(project, file, "--offline", "--chain", chain)
    assert (given.code, levels(given)["trust the encryption certificate"]) == (5, "pass")
    # As openssl prints it.
    fingerprint = ":".join(f"{byte:02X}" for byte in bytes.fromhex(pki.leaf.fingerprint))
    pinned = show(project, file, "--offline", "--sha256", fingerprint)
    assert (pinned.code, levels(pinned)["trust the encryption certificate"]) == (0, "pass")
    insecure = show(project, file, "--offline", "--insecure-unverified-certificate")
    assert (insecure.code, levels(insecure)["trust the encryption certificate"]) == (0, "warn")
    assert show(project, file, "--sha256", "0" * 64, "--insecure-unverified-certificate").code == 1


def test_for_a_pinned_certificate_only_its_own_issuer_is_asked(
    project: Project, pki: Hierarchy, site: Web, file: Path
) -> None:
    outcome = show(project, file, "--sha256", pki.leaf.fingerprint)
    assert outcome.code == 0
    assert {url for url in site.asked if "files" not in url} == {LEAF_ISSUER, LEAF_LIST}


def test_a_certificate_of_another_image_fails(project: Project, file: Path) -> None:
    outcome = show(project, file, "--target", "ccrt", "--image-version", "2.0.0")
    assert outcome.code == 1
    assert levels(outcome) == {**ALL, "image the encryption certificate": "fail"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--target", "ccrt"), "error: `--target` goes with a FILE"),
        (("--chain", "x.pem"), "error: `--chain` goes with a FILE"),
        (("x.crt", "--image-version", "1.2.3"), "error: `--image-version` says nothing without `--target`"),
        (("x.crt", "--sha256", "abc"), "must have 64 hexadecimal digits"),
        (("absent.crt",), "error: cannot read `absent.crt`: No such file or directory"),
        (("docker-compose.yml",), "error: `docker-compose.yml` is no certificate that can be read"),
        ((), "error: `secure-build.yaml` names no encryption certificate"),
    ],
)
def test_mistakes_are_named(project: Project, arguments: tuple[str, ...], said: str) -> None:
    outcome = project.run("contract", "certificate", *arguments)
    assert outcome.code == 2
    assert said in outcome.err


@pytest.mark.parametrize("name", ["INSECURE_UNVERIFIED_CERTIFICATE", "SHA256"])
def test_what_weakens_the_checks_has_no_variable(
    project: Project, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(f"SECURE_BUILD_{name}", "1")
    outcome = project.run("contract", "certificate")
    assert outcome.code == 2
    assert "weakens a check" in outcome.err


# The config's


def test_a_published_certificate_is_downloaded_once_by_its_version(
    project: Project, site: Web, pki: Hierarchy
) -> None:
    project.configure(target="hpvs", encrypt={"certificate": {"version": "1.0.7"}})
    offline = show(project, "--offline")
    assert offline.code == 2
    assert "has not been fetched yet, and `--offline` fetches nothing" in offline.err
    assert site.asked == []
    outcome = show(project)
    assert (outcome.code, levels(outcome)) == (0, ALL)
    assert site.asked[:2] == [f"{FOLDER}encrypt.crt", f"{FOLDER}intermediate.crt"]
    site.asked.clear()
    site.files.clear()
    for flags in ((), ("--offline",)):
        assert levels(show(project, *flags)) == ALL
    assert site.asked == []


def test_a_version_that_was_not_published_is_a_mistake(project: Project, pki: Hierarchy) -> None:
    project.configure(target="hpvs", encrypt={"certificate": {"version": "1.0.8"}})
    outcome = show(project)
    assert outcome.code == 2
    assert "there is no published certificate of the image 1.0.8" in outcome.err


def test_a_server_that_cannot_be_reached_is_no_mistake(
    project: Project, pki: Hierarchy, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.configure(target="hpvs", encrypt={"certificate": {"version": "1.0.7"}})
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert show(project).code == 4


def configure(project: Project, pki: Hierarchy, **certificate: str) -> None:
    (project.folder / "deploy").mkdir(exist_ok=True)
    (project.folder / "deploy" / "runtime.crt").write_bytes(pki.leaf.pem)
    (project.folder / "deploy" / "chain.pem").write_bytes(pki.signer.pem + pki.authority.pem)
    project.configure(
        encrypt={"certificate": {"file": "deploy/runtime.crt", **certificate}, "image-version": "1.2.3"}
    )


def test_files_are_relative_to_the_config(
    project: Project, pki: Hierarchy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    configure(project, pki, chain="deploy/chain.pem")
    monkeypatch.chdir(tmp_path)
    outcome = show(project, "-c", "project/secure-build.yaml")
    assert (outcome.code, levels(outcome)) == (0, ALL)


def encrypting(project: Project, **options: bool) -> str:
    """The fingerprint of what other steps encrypt for."""
    given = Options(Path("secure-build.yaml"), project.workdir, **options)
    with job(given, Report()) as work:
        certificate, findings = encryption_certificate(work)
        assert {finding.level for finding in findings} <= {"pass", "warn", "unknown"}
        assert certificate.public_key.key_size == 4096
        return certificate.fingerprint


def test_other_steps_get_a_certificate_that_no_check_failed_for(project: Project, pki: Hierarchy) -> None:
    configure(project, pki)
    assert encrypting(project) == pki.leaf.fingerprint
    configure(project, pki, sha256=pki.leaf.fingerprint)
    assert encrypting(project, offline=True) == pki.leaf.fingerprint


def test_other_steps_get_no_certificate_that_a_check_failed_for(
    project: Project, site: Web, pki: Hierarchy
) -> None:
    site.files.clear()
    configure(project, pki)
    with pytest.raises(
        RefusedError, match=r"nothing is encrypted: .* nothing shows that it is IBM's"
    ) as refused:
        encrypting(project)
    assert pki.leaf.fingerprint in (refused.value.hint or "")
    assert encrypting(project, insecure_unverified_certificate=True) == pki.leaf.fingerprint
    configure(project, pki, sha256="0" * 64)
    with pytest.raises(RefusedError, match=r"its SHA-256 is \w+, and 0+ is wanted"):
        encrypting(project, insecure_unverified_certificate=True)


# Servers that mean no good


@pytest.mark.parametrize(
    ("url", "plain", "said"),
    [
        ("http://files.example/x", False, "is not an address that files are fetched from"),
        ("https://127.0.0.1/x", True, "is not an address that files are fetched from"),
        ("http://169.254.169.254/latest", True, "is not an address that files are fetched from"),
        ("https://localhost/x", True, "is not an address that files are fetched from"),
        ("https://user:word@files.example/x", True, "is not an address that files are fetched from"),
        ("ldap://files.example/x", True, "is not an address that files are fetched from"),
        ("file:///etc/passwd", True, "is not an address that files are fetched from"),
        ("https://[::1", True, "is not an address that files are fetched from"),
        ("https://files.example/to-http", False, "`http://files.example/x` is not an address"),
        ("https://files.example/inside", True, "`http://10.0.0.1/x` is not an address"),
        ("https://files.example/around", True, "redirects more than 5 times"),
        ("https://files.example/large", True, "more than 16777216 bytes"),
        ("https://files.example/endless", True, "took longer than 1 s"),
        ("https://files.example/absent", True, "answered 404"),
    ],
)
def test_nothing_is_fetched_from_elsewhere_without_end_or_bounds(  # noqa: PLR0917
    tmp_path: Path, site: Web, monkeypatch: pytest.MonkeyPatch, url: str, plain: bool, said: str
) -> None:
    monkeypatch.setattr(downloads, "_SECONDS", 1 if "endless" in url else 20)
    site.redirects |= {
        "https://files.example/to-http": "http://files.example/x",
        "https://files.example/inside": "http://10.0.0.1/x",
        "https://files.example/around": "/around",
    }
    site.files |= {
        "http://files.example/x": b"x",
        "https://files.example/large": bytes((16 << 20) + 1),
        "https://files.example/endless": b"x",
    }
    site.endless.add("https://files.example/endless")
    with pytest.raises(ServiceError) as raised:
        Downloads(tmp_path, offline=False).get(url, lambda content, _: content, lambda _: True, plain=plain)
    assert said in raised.value.message
    assert "word" not in raised.value.message
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_is_not_kept(tmp_path: Path, site: Web) -> None:
    def refuse(_content: bytes, _name: str) -> str:
        raise ServiceError("no")

    site.files["https://files.example/x"] = b"x"
    with pytest.raises(SecureBuildError):
        Downloads(tmp_path, offline=False).get("https://files.example/x", refuse, lambda _: True)
    assert list(tmp_path.iterdir()) == []
