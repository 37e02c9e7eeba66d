"""What is signed under Red Hat simple signing, and the tree of signatures."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from secure_build.errors import ServiceError, UsageError
from secure_build.reference import Digest, Pinned, Reference
from secure_build.signers import lookaside, rhs
from secure_build.signers.lookaside import Tree

NAME = Reference.parse("us.icr.io/acme/web:1.4.0")
IMAGE = NAME.pin(Digest.of(b"an image"))
ARMORED = b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----\n"


def test_what_is_signed() -> None:
    document = json.loads(rhs.payload(IMAGE, NAME))
    assert document["critical"] == {
        "type": "atomic container signature",
        "image": {"docker-manifest-digest": str(IMAGE.digest)},
        "identity": {"docker-reference": "us.icr.io/acme/web:1.4.0"},
    }
    assert document["optional"]["creator"].startswith("secure-build ")
    assert rhs.payload(IMAGE, NAME) == rhs.payload(IMAGE, NAME)


def test_names_of_docker_hub_are_written_out() -> None:
    name = Reference.parse("nginx:1.27")
    identity = json.loads(rhs.payload(name.pin(IMAGE.digest), name))["critical"]["identity"]
    assert identity == {"docker-reference": "docker.io/library/nginx:1.27"}


@pytest.mark.parametrize(
    "name", ["us.icr.io/acme/web", "us.icr.io/acme/other:1.4.0", f"us.icr.io/acme/web@{IMAGE.digest}"]
)
def test_only_a_tag_of_the_repository_is_signed(name: str) -> None:
    with pytest.raises(UsageError, match=r"is no tag of `us\.icr\.io/acme/web`"):
        rhs.payload(IMAGE, Reference.parse(name))


def test_the_key_in_the_contract() -> None:
    assert base64.b64decode(rhs.public_key_text(ARMORED)) == ARMORED


@pytest.mark.parametrize("key", [b"", b"junk" + ARMORED, ARMORED * 2, ARMORED.replace(b"PUBLIC", b"PRIVATE")])
def test_what_is_no_public_key_does_not_get_into_a_contract(key: bytes) -> None:
    with pytest.raises(UsageError, match="not one armored OpenPGP public key"):
        rhs.public_key_text(key)


def test_the_tree_of_signatures(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    assert tree.read(IMAGE) == []
    assert [lookaside.put(tree, IMAGE, one) for one in (b"\x90a", b"\xa3b", b"\x90a")] == [True, True, False]
    folder = tmp_path / f"acme/web@sha256={IMAGE.digest.hexadecimal}"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "signature-1": b"\x90a",
        "signature-2": b"\xa3b",
    }
    assert tree.read(Pinned(IMAGE.repository, Digest.of(b"another"))) == []


@pytest.mark.parametrize("content", [b"", b"text", b"\xcb\x0bb"])
def test_nothing_is_put_beside_what_is_no_signature(tmp_path: Path, content: bytes) -> None:
    tree = Tree(tmp_path)
    tree.add(IMAGE, content)
    with pytest.raises(ServiceError, match=r"something beside .* that is no signature"):
        lookaside.put(tree, IMAGE, b"\x90")
    assert tree.read(IMAGE) == [content]


def test_threads_that_put_signatures_of_one_image(tmp_path: Path) -> None:
    signatures = [b"\x90%d" % number for number in range(50)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: lookaside.put(Tree(tmp_path), IMAGE, one), signatures))
    assert sorted(Tree(tmp_path).read(IMAGE)) == sorted(signatures)
