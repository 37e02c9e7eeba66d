"""What a registry or a log answers may be anything: it is refused in our own words, and never crashes."""

from __future__ import annotations

import base64
import contextlib
import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.cosign import key, rekor
from secure_build import manifest
from secure_build.attestations import classic, statement
from secure_build.attestations.classic import Signed
from secure_build.errors import SecureBuildError
from secure_build.layout import Layout
from secure_build.reference import Digest, Pinned, Repository
from secure_build.secret import Secret
from secure_build.signers import cosign_key, log_entry
from secure_build.signers.classic import ClassicSigner
from secure_build.signers.cosign import CosignSigner
from secure_build.signers.log_entry import LogEntry

IMAGE = Pinned(Repository("registry.example", "acme/web"), Digest.of(b"an image"))
LOG = rekor()
SIGNER, CLASSIC = CosignSigner(key("own"), LOG), ClassicSigner(key("own"), LOG)
BUNDLE = json.loads(SIGNER.sign(statement.statement(statement.SIGNATURE, {}, [("a", IMAGE.digest)])))
SIGNED = CLASSIC.sign(IMAGE)
PASSPHRASE = Secret("correct horse")
KEY = cosign_key.dump(key("own").private, PASSPHRASE)
ANSWER = LOG.log.add_v1(log_entry.hashed(b"x", key("own").sign(b"x"), key("own").public), datetime.now(UTC))

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


def damaged(document: Any) -> st.SearchStrategy[Any]:
    """The document with one of its values, however deep, replaced or gone."""
    places: list[tuple[Any, ...]] = []

    def walk(value: Any, path: tuple[Any, ...]) -> None:
        places.append(path)
        items = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        for name, inner in items:
            walk(inner, (*path, name))

    def put(path: tuple[Any, ...], value: Any, gone: bool) -> Any:
        if not path:
            return value
        altered = inner = copy.deepcopy(document)
        for name in path[:-1]:
            inner = inner[name]
        if gone:
            del inner[path[-1]]
        else:
            inner[path[-1]] = value
        return altered

    walk(document, ())
    return st.builds(put, st.sampled_from(places), anything, st.booleans())


def survives(work: Callable[[], object], *allowed: type[Exception]) -> None:
    with contextlib.suppress(SecureBuildError, *allowed):
        work()


@given(document=damaged(BUNDLE))
def test_hardening_58_bundles(document: Any) -> None:
    survives(lambda: SIGNER.verify(json.dumps(document).encode()))


@given(document=damaged(json.loads(SIGNED.log or "")))
def test_hardening_58_log_entries_beside_classic_signatures(document: Any) -> None:
    signed = Signed(SIGNED.payload, SIGNED.signature, json.dumps(document, ensure_ascii=False))
    survives(lambda: CLASSIC.verifier.verify(signed, IMAGE))


@given(document=damaged(json.loads(SIGNED.payload)))
def test_hardening_58_documents_of_classic_signatures(document: Any) -> None:
    survives(lambda: classic.check_payload(json.dumps(document).encode(), IMAGE))


@given(document=damaged(next(iter(dict(ANSWER.content).values()))))  # type: ignore[call-overload]
def test_hardening_58_answers_of_a_log(document: Any) -> None:
    survives(lambda: LogEntry.from_answer(document).check(LOG.key, included=True), ValueError)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return Layout.create(tmp_path_factory.mktemp("fuzz") / "layout")


@given(data=st.data())
def test_hardening_58_manifests_of_classic_signatures(layout: Layout, data: st.DataObject) -> None:
    own = classic.write(layout, SIGNED)
    document = data.draw(damaged(json.loads(own.content)))

    def work() -> None:
        found = manifest.parse(json.dumps(document).encode(), manifest.OCI_MANIFEST)
        for signed in classic.signatures(found, lambda _: SIGNED.payload):
            CLASSIC.verifier.accepts(signed, IMAGE)
        classic.merge(found, own)

    survives(work)


@settings(max_examples=30)
@given(document=damaged(json.loads(base64.b64decode(b"".join(KEY.splitlines()[1:-1])))))
def test_hardening_58_key_files(document: Any) -> None:
    text = base64.b64encode(json.dumps(document).encode())
    file = b"\n".join((KEY.splitlines()[0], text, KEY.splitlines()[-1]))
    survives(lambda: cosign_key.load(file, PASSPHRASE, "the key"))
