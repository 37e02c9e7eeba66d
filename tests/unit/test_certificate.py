"""The encryption certificate: what is said of it, and who is believed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from fakes.authority import (
    DAY,
    IBM,
    PLANS,
    UNTRUSTED,
    Hierarchy,
    Plan,
    curve_key,
    hierarchy,
    issue,
    issuer_at,
    lists_at,
    name_of,
    rsa_key,
    unknown,
    usage,
)
from secure_build.contract.certificates import roots, table
from secure_build.contract.certificates.certificate import EncryptionCertificate, describe, findings
from secure_build.contract.certificates.pem import issuer_addresses, load, load_list
from secure_build.contract.certificates.revocation import addresses, revocation
from secure_build.contract.certificates.table import FINGERPRINTS, Image
from secure_build.errors import RefusedError, UsageError
from secure_build.model import Finding

CODE_SIGNING = ExtendedKeyUsageOID.CODE_SIGNING


@pytest.fixture
def usual(monkeypatch: pytest.MonkeyPatch) -> Hierarchy:
    made = hierarchy()
    monkeypatch.setattr(roots, "TRUSTED", (made.root.certificate,))
    return made


def check(made: Hierarchy, **given: Any) -> dict[str, Finding]:
    """The findings of a hierarchy's encryption certificate, by what was checked."""
    found = findings(
        EncryptionCertificate(made.leaf.certificate),
        now=given.pop("now", made.now),
        **{"chain": made.chain, **given},
    )
    return {finding.check.removeprefix("certificate-"): finding for finding in found[:3] + found[-1:]}


# Files


def test_the_first_certificate_of_a_file_is_meant_and_others_are_its_chain(usual: Hierarchy) -> None:
    content = b"a comment\n" + usual.leaf.pem + usual.signer.pem + usual.authority.pem
    certificate, chain = EncryptionCertificate.parse(content, "x.crt")
    assert certificate.certificate == usual.leaf.certificate
    assert chain == usual.chain


def test_a_certificate_may_be_der(usual: Hierarchy) -> None:
    assert load(usual.leaf.certificate.public_bytes(Encoding.DER), "x.crt") == (usual.leaf.certificate,)


def test_files_that_hold_no_certificate_are_refused_by_name(usual: Hierarchy) -> None:
    key = usual.leaf.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    cut = usual.leaf.pem.replace(b"MII", b"MIA", 1)
    for content in (b"", b"\0" * 100, b"hello", key, usual.leaf.pem[:-60], cut):
        with pytest.raises(UsageError, match=r"`x\.crt` is no certificate that can be read"):
            load(content, "x.crt")
        with pytest.raises(UsageError, match=r"`x\.crl` is no revocation list that can be read"):
            load_list(content, "x.crl")
    with pytest.raises(UsageError, match="more than 10"):
        load(usual.signer.pem * 11, "x.crt")


def test_what_identifies_a_certificate(usual: Hierarchy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "FINGERPRINTS", {Image("ccrt", "1.2.3"): usual.leaf.fingerprint})
    assert describe(EncryptionCertificate(usual.leaf.certificate)) == {
        "subject": "O=IBM,CN=Test Contract Encryption",
        "issuer": f"O={IBM},CN={IBM}",
        "serial": f"{usual.leaf.certificate.serial_number:x}",
        "not-before": "2026-05-02T00:00:00+00:00",
        "not-after": "2027-03-28T00:00:00+00:00",
        "sha256": usual.leaf.fingerprint,
        "key": "RSA 4096",
        "images": [{"target": "ccrt", "version": "1.2.3"}],
    }


# Key and dates


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        (replace(PLANS["leaf"], key=curve_key()), "its key is EC secp256r1"),
        (replace(PLANS["leaf"], bits=2048), "its key is RSA 2048"),
        (replace(PLANS["leaf"], key=rsa_key("short", 3072)), "its key is RSA 3072"),
    ],
)
def test_the_key_must_be_like_those_of_the_runtimes(plan: Plan, why: str) -> None:
    finding = check(hierarchy(leaf=plan))["key"]
    assert finding.level == "fail"
    assert finding.why.startswith(why)


def test_only_an_rsa_key_is_handed_out(usual: Hierarchy) -> None:
    other = hierarchy(leaf=replace(PLANS["leaf"], key=curve_key()))
    with pytest.raises(RefusedError):
        _ = EncryptionCertificate(other.leaf.certificate).public_key
    assert check(usual)["key"].level == "pass"
    assert EncryptionCertificate(usual.leaf.certificate).public_key == usual.leaf.key.public_key()


@pytest.mark.parametrize(
    ("after", "level", "code"),
    [
        (-30 * DAY - timedelta(seconds=1), "fail", None),
        (-30 * DAY, "pass", None),
        (270 * DAY, "pass", None),
        (270 * DAY + timedelta(seconds=1), "warn", "HPL12011W"),
        (300 * DAY, "warn", "HPL12011W"),
        (300 * DAY + timedelta(seconds=1), "fail", "HPL12013W"),
    ],
)
def test_dates(usual: Hierarchy, after: timedelta, level: str, code: str | None) -> None:
    finding = check(usual, now=usual.now + after)["dates"]
    assert (finding.level, finding.runtime_code) == (level, code)


# Whom to believe


def test_the_root_is_digicerts_as_this_machine_knows_it_too() -> None:
    (root,) = roots.TRUSTED
    published = "552f7bdcf1a7af9e6ce672017f4f12abf77240c78e761ac203d1d9d20ac89988"
    assert root.fingerprint(hashes.SHA256()).hex() == published
    assert root.subject == root.issuer
    system = Path("/usr/share/ca-certificates/mozilla/DigiCert_Trusted_Root_G4.crt")
    if system.exists():
        assert root == x509.load_pem_x509_certificate(system.read_bytes())


def test_a_way_to_the_root_is_believed_in_any_order_and_among_others(usual: Hierarchy) -> None:
    other = hierarchy()
    renewed = issue(replace(PLANS["signer"], starts=-2 * DAY, ends=-DAY), usual.authority, usual.now)
    signer, authority = usual.chain
    for chain in (
        (signer, authority),
        (authority, signer),
        (*other.chain, other.root.certificate, signer, authority, usual.root.certificate),
        (authority, authority, signer, renewed.certificate),
    ):
        finding = check(usual, chain=chain)["trust"]
        assert finding.level == "pass"
        assert finding.why.endswith(f"`{IBM}` and `Test Code Signing CA` and `Test Root`")


@pytest.mark.parametrize(("plans", "why"), UNTRUSTED.values(), ids=UNTRUSTED)
def test_a_broken_way_to_the_root_is_not_believed(
    plans: dict[str, Plan], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = hierarchy(**plans)
    monkeypatch.setattr(roots, "TRUSTED", (made.root.certificate,))
    finding = check(made)["trust"]
    assert finding.level == "fail"
    assert why in finding.why
    # That failure alone can be taken for a warning.
    assert check(made, insecure=True)["trust"].level == "warn"


def test_names_alone_prove_nothing(usual: Hierarchy) -> None:
    """Certificates of the same names with other keys: what they signed is not what was signed."""
    forged = {
        name: replace(PLANS[name], key=rsa_key(f"forged {name}", PLANS[name].bits))
        for name in ("root", "authority", "signer")
    }
    other = hierarchy(**forged)
    assert check(other)["trust"].why.endswith("`Test Code Signing CA` has no valid signature of `Test Root`")
    why = check(usual, chain=other.chain)["trust"].why
    assert why.endswith(f"it has no valid signature of `{IBM}`")
    why = check(usual, chain=(usual.chain[0], other.chain[1]))["trust"].why
    assert why.endswith(f"`{IBM}` has no valid signature of `Test Code Signing CA`")


@pytest.mark.parametrize(("kept", "missing"), [(0, IBM), (1, "Test Code Signing CA")])
def test_what_is_missing_of_the_chain_is_named(usual: Hierarchy, kept: int, missing: str) -> None:
    finding = check(usual, chain=usual.chain[:kept])["trust"]
    assert finding.level == "fail"
    assert f"`{missing}`" in finding.why
    assert finding.why.endswith("is not at hand")
    assert usual.leaf.fingerprint in (finding.hint or "")


def test_an_unknown_root_proves_nothing_even_when_it_is_in_the_chain(usual: Hierarchy) -> None:
    other = hierarchy(root=replace(PLANS["root"], common="Other Root"))
    finding = check(other, chain=(*other.chain, other.root.certificate))["trust"]
    assert finding.level == "fail"


def test_a_chain_without_an_end_is_given_up(usual: Hierarchy) -> None:
    authorities = [usual.root]
    for number in range(6):
        plan = replace(
            PLANS["authority"],
            common=f"CA {number}",
            extensions=(
                x509.BasicConstraints(ca=True, path_length=None),
                usage("key_cert_sign"),
            ),
        )
        authorities.append(issue(plan, authorities[-1], usual.now))
    signer = issue(PLANS["signer"], authorities[-1], usual.now)
    chain = [signer.certificate, *(one.certificate for one in authorities[1:])]
    assert check(usual, chain=chain)["trust"].why.endswith("its chain is too long")


def test_a_pin_takes_the_place_of_the_chain(usual: Hierarchy) -> None:
    assert check(usual, chain=(), pin=usual.leaf.fingerprint)["trust"].level == "pass"


def test_another_pin_is_refused_whatever_the_chain_and_the_flag_say(usual: Hierarchy) -> None:
    finding = check(usual, pin="0" * 64, insecure=True)["trust"]
    assert finding.level == "fail"
    assert usual.leaf.fingerprint in finding.why


# Revocation


def _revocation(made: Hierarchy, *lists: x509.CertificateRevocationList) -> tuple[str, str]:
    finding = revocation(made.leaf.certificate, made.signer.certificate, lists, made.now)
    return finding.level, finding.why


def test_a_list_of_the_issuer_decides(usual: Hierarchy) -> None:
    serial = usual.leaf.certificate.serial_number
    assert _revocation(usual, usual.signer.revoke(serial + 1, now=usual.now))[0] == "pass"
    assert _revocation(usual, usual.signer.revoke(serial + 1, serial, now=usual.now)) == (
        "fail",
        "its issuer revoked it on 2026-05-31",
    )


def test_serial_numbers_are_compared_as_numbers() -> None:
    """A number that is contained in another's digits, and one with a leading zero byte in its DER form."""
    made = hierarchy(leaf=replace(PLANS["leaf"], serial=0xABCD))
    assert _revocation(made, made.signer.revoke(0x1ABCD2, 0xABCD00, now=made.now))[0] == "pass"
    assert _revocation(made, made.signer.revoke(0xABCD, now=made.now))[0] == "fail"


def test_a_revocation_counts_in_an_outdated_list_and_beside_a_newer_one(usual: Hierarchy) -> None:
    serial = usual.leaf.certificate.serial_number
    old = usual.signer.revoke(serial, now=usual.now, starts=-9 * DAY, ends=-2 * DAY)
    assert _revocation(usual, old)[0] == "fail"
    assert _revocation(usual, usual.signer.revoke(now=usual.now), old)[0] == "fail"


def _point(**given: Any) -> tuple[x509.ExtensionType, bool]:
    usual: dict[str, Any] = {
        "full_name": None,
        "relative_name": None,
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    return x509.IssuingDistributionPoint(**{**usual, **given}), True


def _place(url: str) -> list[x509.GeneralName]:
    return [x509.UniformResourceIdentifier(url)]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"starts": -9 * DAY, "ends": -DAY}, "is outdated"),
        ({"starts": DAY}, "is outdated"),
        ({"key": rsa_key("somebody else")}, "has no valid signature of its issuer"),
        ({"algorithm": hashes.SHA224()}, "has no valid signature of its issuer"),
        ({"name": name_of("Other CA", None)}, "is not at hand"),
        ({"extensions": ((x509.DeltaCRLIndicator(1), True),)}, "does not cover it"),
        ({"extensions": ((unknown(), True),)}, "does not cover it"),
        ({"extensions": (_point(only_contains_ca_certs=True),)}, "does not cover it"),
        ({"extensions": (_point(indirect_crl=True),)}, "does not cover it"),
        (
            {"extensions": (_point(only_some_reasons=frozenset({x509.ReasonFlags.key_compromise})),)},
            "does not cover it",
        ),
        ({"extensions": (_point(full_name=_place("http://other.example/a.crl")),)}, "does not cover it"),
    ],
)
def test_what_a_list_cannot_tell_is_unknown(usual: Hierarchy, given: dict[str, Any], why: str) -> None:
    level, said = _revocation(usual, usual.signer.revoke(now=usual.now, **given))
    assert level == "unknown"
    assert said.endswith(why)


def test_a_list_for_one_place_covers_the_certificates_that_name_it() -> None:
    url = "http://crl.example/a.crl"
    made = hierarchy(leaf=replace(PLANS["leaf"], extensions=(lists_at(url),)))
    assert addresses(made.leaf.certificate) == (url,)
    covering = _point(full_name=_place(url), only_contains_user_certs=True)
    assert _revocation(made, made.signer.revoke(now=made.now, extensions=(covering,)))[0] == "pass"


def test_all_certificates_of_the_way_are_asked_for(usual: Hierarchy) -> None:
    lists = [one.revoke(now=usual.now) for one in (usual.signer, usual.authority, usual.root)]

    def levels(**given: Any) -> list[tuple[str, str]]:
        found = findings(
            EncryptionCertificate(usual.leaf.certificate), now=usual.now, **{"chain": usual.chain, **given}
        )
        return [(f.what.strip("`"), f.level) for f in found if f.check == "certificate-revocation"]

    names = ["Test Contract Encryption", IBM, "Test Code Signing CA"]
    assert levels(lists=lists) == [(name, "pass") for name in names]
    assert levels() == [(name, "unknown") for name in names]
    revoked = usual.authority.revoke(usual.signer.certificate.serial_number, now=usual.now)
    assert levels(lists=[*lists, revoked])[1] == (IBM, "fail")
    # A pin says whose the certificate is, so only its own revocation is left to ask for.
    assert levels(lists=lists, pin=usual.leaf.fingerprint) == [("Test Contract Encryption", "pass")]
    assert levels(chain=(), pin=usual.leaf.fingerprint) == []
    assert levels(chain=[usual.root.certificate], pin=usual.leaf.fingerprint) == [
        ("the encryption certificate", "unknown")
    ]
    assert levels(chain=()) == []


def test_where_issuers_are_published() -> None:
    made = hierarchy(leaf=replace(PLANS["leaf"], extensions=(issuer_at("https://ibm.example/crt"),)))
    assert issuer_addresses(made.leaf.certificate) == ("https://ibm.example/crt",)
    assert issuer_addresses(made.signer.certificate) == ()
    assert addresses(made.signer.certificate) == ()


# Whose image


@pytest.mark.parametrize(
    ("image", "level", "why"),
    [
        (("ccrt", "1.0.0"), "pass", "it is that of ccrt 1.0.0, ccrv 1.0.0"),
        (("ccrv", "1.0.0"), "pass", "it is that of ccrt 1.0.0, ccrv 1.0.0"),
        (("ccrt", "2.0.0"), "fail", "it is that of ccrt 1.0.0, ccrv 1.0.0, and ccrt 2.0.0 cannot"),
        (("ccco", "1.0.0"), "fail", "it is that of ccrt 1.0.0, ccrv 1.0.0, and ccco 1.0.0 cannot"),
        (
            ("ccrt", "3.0.0"),
            "unknown",
            "it is known as that of ccrt 1.0.0, ccrv 1.0.0, and ccrt 3.0.0 not at",
        ),
        (("ccrt", None), "pass", "it is that of ccrt 1.0.0, ccrv 1.0.0"),
        (("hpvs", None), "unknown", "it is known as that of ccrt 1.0.0, ccrv 1.0.0, and of no `hpvs`"),
        ((None, None), "pass", "it is that of ccrt 1.0.0, ccrv 1.0.0"),
    ],
)
def test_a_known_certificate_is_that_of_some_images(
    usual: Hierarchy,
    monkeypatch: pytest.MonkeyPatch,
    image: tuple[str | None, str | None],
    level: str,
    why: str,
) -> None:
    own = usual.leaf.fingerprint
    known = {Image("ccrt", "1.0.0"): own, Image("ccrv", "1.0.0"): own}
    others = {Image("ccrt", "2.0.0"): "0" * 64, Image("ccco", "1.0.0"): "1" * 64}
    monkeypatch.setattr(table, "FINGERPRINTS", known | others)
    finding = check(usual, target=image[0], image_version=image[1])["image"]
    assert finding.level == level
    assert finding.why.startswith(why)


@pytest.mark.parametrize(
    ("version", "why"),
    [
        ("26.9.1", "it is of no image known here, and ccrt 26.9.1 with another one"),
        ("99.9.9", "it is of no image known here, and ccrt 99.9.9 not at all"),
        (None, "it is of no image known here"),
    ],
)
def test_of_an_unknown_certificate_nothing_is_known(usual: Hierarchy, version: str | None, why: str) -> None:
    finding = check(usual, target="ccrt", image_version=version)["image"]
    assert (finding.level, finding.why) == ("unknown", why)


def test_the_table_has_fingerprints_of_all_targets() -> None:
    assert {image.target for image in FINGERPRINTS} == {"hpvs", "ccrt", "ccrv", "ccco"}
    for fingerprint in FINGERPRINTS.values():
        assert len(bytes.fromhex(fingerprint)) == 32
        assert fingerprint == fingerprint.lower()
