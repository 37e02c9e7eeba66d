"""From contracts that are accepted, every break of a single rule flips what it should, and nothing else."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import pytest
from test_verify_cases import decided

A, B = (f"sha256:{digit * 64}" for digit in "ab")
TAG = "1.0-0123456789ab"
SEED = "abcdefghijklmno"
LOGGING = {"logRouter": {"hostname": "logs.example.com", "iamApiKey": "an-api-key", "port": 443}}
ENV = {"logging": LOGGING, "volumes": {"data": {"seed": SEED}}, "env": {"REGISTRY": "us.icr.io/team"}}
LOGIN = {"us.icr.io": {"username": "iamapikey", "password": "a-password"}}
VOLUMES = {"data": {"seed": SEED, "mount": "/data"}}
DCT = {"us.icr.io/team/api": {"notary": "https://notary.example.com", "publicKey": "a2V5"}}
RHS = {"us.icr.io/team/api": {"publicKey": "a2V5"}}
SIGNED = {f"us.icr.io/team/api:{TAG}": {"signed": "good"}}


def pod(*images: str, init: str | None = None) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "containers": [{"name": name, "image": image} for name, image in zip("ab", images, strict=False)]
    }
    if init:
        spec["initContainers"] = [{"name": "i", "image": init}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}


COMPOSE: dict[str, Any] = {
    "target": "ccrt",
    "compose": f"""\
services:
  a: {{image: us.icr.io/team/web@{A}}}
  b: {{image: "us.icr.io/team/api:{TAG}"}}
""",
    "workload": {"auths": LOGIN, "images": {"dct": DCT}, "volumes": VOLUMES, "env": {"PORT": "8080"}},
    "env": ENV,
    "answers": SIGNED,
}
PLAY: dict[str, Any] = {
    "target": "ccrt",
    "workload": {
        "auths": LOGIN,
        "images": {"rhs": RHS},
        "volumes": VOLUMES,
        "play": {
            "resources": [
                pod(f"us.icr.io/team/web@{A}", f"us.icr.io/team/api:{TAG}", init=f"us.icr.io/team/i@{A}")
            ]
        },
    },
    "env": ENV,
    "answers": SIGNED,
}
POD = "{kind: Pod, apiVersion: v1, metadata: {name: p}, spec: {containers: [{name: a, image: 'IMAGE'}]}}"
CCCO: dict[str, Any] = {
    "target": "ccco",
    "workload": {
        "auths": LOGIN,
        "confidential-containers": {"config": {"cosign": {"us.icr.io/team/web": {"publicKey": "a2V5"}}}},
    },
    "policy": POD.replace("IMAGE", f"us.icr.io/team/web@{A}").replace("'}]", "', command: [run]}]"),
    "pods": [POD.replace("IMAGE", f"us.icr.io/team/web@{A}").replace("'}]", "', command: [run]}]")],
    "answers": {f"us.icr.io/team/web@{A}": {"signed": "good"}},
}
CCRV = {**PLAY, "target": "ccrv"}
BASES = {"compose": COMPOSE, "play": PLAY, "ccrv": CCRV, "ccco": CCCO}

SCHEMA = "+fail schema HPL05001E"
UNUSED = "+warn unused-key -"
A_SERVICE, B_SERVICE = "service `a`", "service `b`"
A_POD, B_POD, I_POD = "container `a` of pod `p`", "container `b` of pod `p`", "init container `i` of pod `p`"
A_CLUSTER = "container `a` of Pod `p`"
_NONE = object()


def flips(what: str, verdict: str, basis: str = "documented", code: str = "-") -> list[str]:
    return [f"-accepted documented - {what}", f"+{verdict} {basis} {code} {what}"]


def compose(old: str, new: str) -> tuple[str, ...]:
    return ("compose", old, new)


def resource(*path: Any) -> tuple[Any, ...]:
    return ("workload", "play", "resources", 0, *path)


CONTAINER = ("spec", "containers")
# Base, path (or for texts: key, old, new), new value, and what changes in the lines.
MUTATIONS: list[tuple[str, str, Any, Any, list[str]]] = [
    # What names the image
    (
        "compose",
        "tag for a digest",
        compose(f"@{A}", ":1.0"),
        _NONE,
        flips(A_SERVICE, "refused", code="HPL06010E"),
    ),
    ("compose", "no tag", compose(f"@{A}", ""), _NONE, flips(A_SERVICE, "refused", code="HPL06010E")),
    (
        "compose",
        "short digest",
        compose(A, A[:-1]),
        _NONE,
        flips(A_SERVICE, "refused", "inferred", "HPL06010E"),
    ),
    (
        "compose",
        "tag and digest",
        compose(f"@{A}", f":1.0@{A}"),
        _NONE,
        flips(A_SERVICE, "unknown", "inferred"),
    ),
    (
        "compose",
        "tag of the deployer",
        compose(f"web@{A}", "web:$TAG"),
        _NONE,
        flips(A_SERVICE, "refused", "inferred", "HPL06010E"),
    ),
    (
        "compose",
        "registry of the deployer",
        compose(f"us.icr.io/team/web@{A}", f'"$REGISTRY/web@{A}"'),
        _NONE,
        ["+warn image -"],
    ),
    (
        "compose",
        "registry of the deployer, tag and digest",
        compose(f"us.icr.io/team/web@{A}", f'"$REGISTRY/web:1.0@{A}"'),
        _NONE,
        flips(A_SERVICE, "unknown", "inferred"),
    ),
    (
        "compose",
        "no image",
        compose(f"image: us.icr.io/team/web@{A}", "build: ."),
        _NONE,
        [*flips(A_SERVICE, "refused", "inferred", "HPL06010E"), "+fail compose HPL06010E"],
    ),
    (
        "compose",
        "build beside it",
        compose(f"image: us.icr.io/team/web@{A}", f"build: ., image: us.icr.io/team/web@{A}"),
        _NONE,
        ["+fail compose -"],
    ),
    (
        "compose",
        "other platform",
        compose(f"web@{A}", f"web@{A}, platform: linux/amd64"),
        _NONE,
        ["+fail workload -"],
    ),
    (
        "compose",
        "never pulled",
        compose(f"web@{A}", f"web@{A}, pull_policy: never"),
        _NONE,
        ["+fail workload -"],
    ),
    (
        "compose",
        "include",
        compose("services:", "include: [o.yml]\nservices:"),
        _NONE,
        ["+unknown workload -"],
    ),
    (
        "play",
        "tag for a digest",
        resource(*CONTAINER, 0, "image"),
        "us.icr.io/team/web:1.0",
        flips(A_POD, "refused", code="HPL15005E"),
    ),
    (
        "play",
        "tag and digest",
        resource(*CONTAINER, 0, "image"),
        f"us.icr.io/team/web:1.0@{A}",
        flips(A_POD, "unknown", "inferred"),
    ),
    ("play", "short name", resource(*CONTAINER, 0, "image"), f"web@{A}", flips(A_POD, "unknown", "inferred")),
    (
        "play",
        "no image",
        resource(*CONTAINER, 0, "image"),
        None,
        flips(A_POD, "refused", "inferred", "HPL15005E"),
    ),
    (
        "play",
        "init container by tag",
        resource("spec", "initContainers", 0, "image"),
        "us.icr.io/team/i:1.0",
        flips(I_POD, "refused", code="HPL15005E"),
    ),
    ("play", "never pulled", resource(*CONTAINER, 0, "imagePullPolicy"), "Never", ["+fail workload -"]),
    (
        "play",
        "container without a name",
        resource("spec", "initContainers", 0, "name"),
        _NONE,
        [
            f"-accepted documented - {I_POD}",
            "+accepted documented - init container `None` of pod `p`",
            SCHEMA,
        ],
    ),
    # Keys
    (
        "compose",
        "key for another repository",
        ("workload", "images"),
        {"dct": {"us.icr.io/team/apy": DCT["us.icr.io/team/api"]}},
        [*flips(B_SERVICE, "refused", code="HPL06010E"), UNUSED],
    ),
    (
        "compose",
        "key of the other kind",
        ("workload", "images"),
        {"rhs": RHS},
        [*flips(B_SERVICE, "refused", code="HPL06010E"), UNUSED],
    ),
    ("compose", "no key", ("workload", "images"), _NONE, flips(B_SERVICE, "refused", code="HPL06010E")),
    (
        "compose",
        "misspelt section",
        ("workload",),
        {**{k: v for k, v in COMPOSE["workload"].items() if k != "images"}, "image": {"dct": DCT}},
        [*flips(B_SERVICE, "refused", code="HPL06010E"), "+fail unknown-key -"],
    ),
    (
        "compose",
        "key without notary",
        ("workload", "images", "dct", "us.icr.io/team/api", "notary"),
        _NONE,
        [*flips(B_SERVICE, "refused", code="HPL06010E"), SCHEMA],
    ),
    (
        "compose",
        "one more key",
        ("workload", "images", "dct", "us.icr.io/team/other"),
        DCT["us.icr.io/team/api"],
        [UNUSED],
    ),
    (
        "compose",
        "key beside a digest",
        ("workload", "images", "dct", "us.icr.io/team/web"),
        DCT["us.icr.io/team/api"],
        [UNUSED],
    ),
    (
        "play",
        "key for another repository",
        ("workload", "images"),
        {"rhs": {"us.icr.io/team/apy": {"publicKey": "a2V5"}}},
        [*flips(B_POD, "refused", code="HPL15005E"), UNUSED],
    ),
    (
        "play",
        "key of the other kind",
        ("workload", "images"),
        {"dct": DCT},
        [*flips(B_POD, "refused", code="HPL15005E"), UNUSED],
    ),
    (
        "play",
        "key with a tag of two",
        ("workload", "images", "rhs", "us.icr.io/team/api:v1"),
        {"publicKey": "a2V5"},
        [SCHEMA],
    ),
    (
        "play",
        "key with notary",
        ("workload", "images", "rhs", "us.icr.io/team/api", "notary"),
        "https://n.example.com",
        [SCHEMA],
    ),
    (
        "ccco",
        "key for another repository",
        ("workload", "confidential-containers", "config", "cosign"),
        {"us.icr.io/team/other": {"publicKey": "a2V5"}},
        [UNUSED],
    ),
    # Signatures and registries
    (
        "compose",
        "unsigned",
        ("answers",),
        {f"us.icr.io/team/api:{TAG}": {"signed": "bad"}},
        flips(B_SERVICE, "refused", code="HPL06004E"),
    ),
    ("compose", "nobody could ask", ("answers",), {}, flips(B_SERVICE, "unknown")),
    (
        "compose",
        "trust data names another",
        ("answers", f"us.icr.io/team/api:{TAG}", "trusted"),
        B,
        ["+warn tag -"],
    ),
    (
        "compose",
        "not there",
        ("answers", f"us.icr.io/team/web@{A}"),
        {"pull": "bad"},
        flips(A_SERVICE, "refused", "inferred", "HPL08004E"),
    ),
    (
        "compose",
        "no answer",
        ("answers", f"us.icr.io/team/web@{A}"),
        {"pull": "unknown"},
        flips(A_SERVICE, "unknown"),
    ),
    (
        "compose",
        "not published",
        ("answers", f"us.icr.io/team/web@{A}"),
        {"pull": "deferred"},
        ["+deferred delivery -"],
    ),
    (
        "play",
        "unsigned",
        ("answers",),
        {f"us.icr.io/team/api:{TAG}": {"signed": "bad"}},
        flips(B_POD, "refused", code="HPL15005E"),
    ),
    (
        "play",
        "key unusable",
        ("answers",),
        {f"us.icr.io/team/api:{TAG}": {"signed": "bad", "key": True}},
        flips(B_POD, "refused", code="HPL16002E"),
    ),
    (
        "play",
        "not there",
        ("answers", f"us.icr.io/team/web@{A}"),
        {"pull": "bad"},
        flips(A_POD, "refused", "inferred", "HPL15005E"),
    ),
    (
        "ccco",
        "unsigned",
        ("answers",),
        {f"us.icr.io/team/web@{A}": {"signed": "bad"}},
        flips(A_CLUSTER, "refused", "inferred"),
    ),
    (
        "ccco",
        "not in the policy",
        ("policy",),
        POD.replace("IMAGE", f"us.icr.io/team/web@{B}"),
        flips(A_CLUSTER, "refused"),
    ),
    (
        "ccco",
        "tag for a digest",
        ("pods",),
        [CCCO["pods"][0].replace(f"@{A}", ":1.0")],
        flips(A_CLUSTER, "refused", "inferred"),
    ),
    (
        "ccco",
        "policy of others",
        ("workload", "confidential-containers", "regoValidator"),
        {"policy": "cGFja2FnZSBhZ2VudF9wb2xpY3kK"},
        flips(A_CLUSTER, "unknown", "inferred"),
    ),
    (
        "ccco",
        "no pods",
        ("pods",),
        [],
        [f"-accepted documented - {A_CLUSTER}"],
    ),
    # Logins
    ("compose", "login with a path", ("workload", "auths"), {"us.icr.io/team": LOGIN["us.icr.io"]}, [SCHEMA]),
    (
        "compose",
        "login nobody needs",
        ("workload", "auths", "quay.io"),
        LOGIN["us.icr.io"],
        ["+warn unused-login -"],
    ),
    ("compose", "login in both", ("env", "auths"), LOGIN, ["+warn auths -"]),
    ("play", "login with email", ("workload", "auths", "us.icr.io", "email"), "a@example.com", [SCHEMA]),
    # The rest of the contract
    ("compose", "number in env", ("workload", "env", "PORT"), 8080, [SCHEMA]),
    ("compose", "short seed", ("workload", "volumes", "data", "seed"), SEED[:-1], [SCHEMA]),
    ("compose", "mount with a slash", ("workload", "volumes", "data", "mount"), "/data/", [SCHEMA]),
    ("compose", "volume of one half", ("env", "volumes"), _NONE, ["+fail volumes HPL07015E"]),
    ("compose", "no logging", ("env", "logging"), _NONE, [SCHEMA]),
    (
        "compose",
        "signature without a key",
        ("contract",),
        {"envWorkloadSignature": "QUFB"},
        ["+fail signature HPL12004E", "+warn signature HPL12001E"],
    ),
    (
        "play",
        "kind",
        resource("kind"),
        "Deployment",
        [f"-accepted documented - {name}" for name in (I_POD, A_POD, B_POD)] + [SCHEMA],
    ),
    (
        "compose",
        "signed tag of a variable",
        compose(f"api:{TAG}", "api:${TAG:-" + TAG + "}"),
        _NONE,
        flips(B_SERVICE, "unknown"),
    ),
    (
        "compose",
        "host in upper case",
        compose(f"us.icr.io/team/web@{A}", f"US.icr.io/team/web@{A}"),
        _NONE,
        flips(A_SERVICE, "unknown", "inferred"),
    ),
    (
        "compose",
        "login in upper case",
        ("workload", "auths"),
        {"US.icr.io": LOGIN["us.icr.io"]},
        ["+warn auths -"],
    ),
    (
        "ccrv",
        "tag for a digest",
        resource(*CONTAINER, 0, "image"),
        "us.icr.io/team/web:1.0",
        flips(A_POD, "refused", code="HPL15005E"),
    ),
    (
        "ccrv",
        "init container by tag",
        resource("spec", "initContainers", 0, "image"),
        "us.icr.io/team/i:1.0",
        flips(I_POD, "refused", code="HPL15005E"),
    ),
    ("ccrv", "no key", ("workload", "images"), _NONE, flips(B_POD, "refused", code="HPL15005E")),
    (
        "ccrv",
        "unsigned",
        ("answers",),
        {f"us.icr.io/team/api:{TAG}": {"signed": "bad"}},
        flips(B_POD, "refused", code="HPL15005E"),
    ),
    (
        "ccrv",
        "not there",
        ("answers", f"us.icr.io/team/web@{A}"),
        {"pull": "bad"},
        flips(A_POD, "refused", "inferred", "HPL15005E"),
    ),
    (
        "ccco",
        "other arguments",
        ("pods",),
        [CCCO["pods"][0].replace("[run]", "[other]")],
        flips(A_CLUSTER, "refused"),
    ),
    (
        "ccco",
        "login nobody needs",
        ("workload", "auths", "ghcr.io"),
        LOGIN["us.icr.io"],
        ["+warn unused-login -"],
    ),
    ("ccrv", "compose for ccrv", ("workload", "compose"), {}, ["+fail unknown-key -"]),
]


def changed(base: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    result = copy.deepcopy(base)
    if path[0] == "compose":
        assert result["compose"].count(path[1]) == 1, "the break is in one place"
        result["compose"] = result["compose"].replace(path[1], path[2])
        return result
    inner = result
    for part in path[:-1]:
        inner = inner[part]
    if value is _NONE:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return result


@pytest.mark.parametrize("name", BASES)
def test_the_bases_are_accepted(name: str) -> None:
    lines, words = decided(BASES[name])
    assert lines, words
    assert all(line.startswith("accepted ") for line in lines), words


@pytest.mark.parametrize(
    ("base", "path", "value", "difference"),
    [pytest.param(base, *rest, id=f"{base}-{name}") for base, name, *rest in MUTATIONS],
)
def test_a_break_flips_what_it_should_and_nothing_else(
    base: str, path: tuple[Any, ...], value: Any, difference: list[str]
) -> None:
    before, _ = decided(BASES[base])
    after, words = decided(changed(BASES[base], path, value))
    found = [f"-{line}" for line in (Counter(before) - Counter(after)).elements()]
    found += [f"+{line}" for line in (Counter(after) - Counter(before)).elements()]
    assert sorted(found) == sorted(difference), words
