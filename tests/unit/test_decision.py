"""What cases cannot express of the decision: names with variables, scopes of keys, logins, the verdict."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from secure_build.contract import text
from secure_build.contract.decision import questions
from secure_build.contract.decision.containers import containers
from secure_build.contract.decision.model import (
    Container,
    Decision,
    Entry,
    Kind,
    Question,
    Verdict,
    Verified,
)
from secure_build.contract.decision.names import Meaning, Variables, meaning
from secure_build.contract.document import SectionText
from secure_build.contract.enforcement import Way
from secure_build.contract.places import Grammar
from secure_build.model import Finding, Level
from secure_build.reference import Reference

A = f"sha256:{'a' * 64}"
HUB = "https://index.docker.io/v1/"


def named(
    written: str,
    workload: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    grammar: Grammar = "compose",
) -> Meaning:
    variables = Variables(workload or {}, env)
    return meaning(written, grammar, variables, short_names=grammar == "compose")


@pytest.mark.parametrize(
    ("written", "reference"),
    [
        ("nginx", "docker.io/library/nginx"),
        ("team/web", "docker.io/team/web"),
        ("index.docker.io/nginx", "docker.io/library/nginx"),
        ("localhost/web", "localhost/web"),
        ("r:5000/web:1", "r:5000/web:1"),
        ("nginx:LATEST", "docker.io/library/nginx:LATEST"),
        (f"nginx@{A}", f"docker.io/library/nginx@{A}"),
    ],
)
def test_docker_writes_out_what_a_name_leaves_out(written: str, reference: str) -> None:
    assert str(named(written).reference) == reference


@pytest.mark.parametrize("written", ["nginx", "team/web", f"web@{A}", "Team.IO/web", "US.icr.io/web"])
def test_what_podman_takes_a_name_for_may_not_be_known(written: str) -> None:
    found = named(written, grammar="plain")
    assert found.reference is None
    assert found.doubt is not None
    assert not found.is_broken
    assert found.hint is not None
    assert found.hint.startswith("write `")


# Compose specification, Interpolation: what is set, what stands in for it, and what is refused.
@pytest.mark.parametrize(
    ("written", "workload", "env", "reference"),
    [
        ("us.icr.io/$A:1", {"A": "web"}, None, "us.icr.io/web:1"),
        ("us.icr.io/${A}:1", {"A": "web"}, {"A": "other"}, "us.icr.io/web:1"),
        ("us.icr.io/${A:-web}", {}, {}, "us.icr.io/web"),
        ("us.icr.io/${A:-web}", {}, {"A": ""}, "us.icr.io/web"),
        ("us.icr.io/web${A-x}", {}, {"A": ""}, "us.icr.io/web"),
        ("us.icr.io/web${A-x}", {}, {}, "us.icr.io/webx"),
        ("us.icr.io/web${A:+x}", {}, {"A": ""}, "us.icr.io/web"),
        ("us.icr.io/web${A:+x}", {"A": "1"}, None, "us.icr.io/webx"),
        ("us.icr.io/web${A}", {}, {}, "us.icr.io/web"),
        ("us.icr.io/web$A", {}, {}, "us.icr.io/web"),
        ("us.icr.io/web${A-${B}}", {}, {}, "us.icr.io/web"),
        ("us.icr.io/${A:-${B}}", {"B": "web"}, {}, "us.icr.io/web"),
        ("us.icr.io/${A-web}$B", {}, {}, "us.icr.io/web"),
    ],
)
def test_compose_fills_in_variables(
    written: str, workload: dict[str, str], env: dict[str, str] | None, reference: str
) -> None:
    assert str(named(written, workload, env).reference) == reference


@pytest.mark.parametrize(
    ("written", "env"),
    [
        ("us.icr.io/web:$A", {}),
        ("${A}/web", {}),
        ("$A", {}),
        ("us.icr.io/web${A:?}", {}),
        ("us.icr.io/web${A?no}", {}),
        ("us.icr.io/web${A:?}", {"A": ""}),
        ("us.icr.io/web$", None),
        ("us.icr.io/web${A", None),
        ("us.icr.io/$$A", None),
    ],
)
def test_without_what_it_needs_a_name_is_none(written: str, env: dict[str, str] | None) -> None:
    found = named(written, env=env)
    assert found.is_broken
    assert found.doubt


@pytest.mark.parametrize(
    ("written", "grammar"),
    [
        (f"$R/web@{A}", "compose"),
        (f"${{R}}/team/web@{A}", "compose"),
        (f"${{R:-us.icr.io}}/web@{A}", "compose"),
        (f"${{R:?none}}/web@{A}", "compose"),
        (f"${{R}}:5000/web@{A}", "compose"),
        (f"{{{{ .Env.R }}}}/web@{A}", "template"),
        (f"{{{{- .Env.R -}}}}/web@{A}", "template"),
    ],
)
def test_the_deployer_may_choose_the_registry_of_a_digest(written: str, grammar: Grammar) -> None:
    found = named(written, grammar=grammar)
    assert (found.chooser, str(found.digest), found.is_broken) == ("R", A, False)
    # A default can be asked for, and may be replaced.
    assert (found.reference is None) == (found.doubt is None) == (":-" not in written)
    known = named(written, env={"R": "de.icr.io"}, grammar=grammar)
    assert (known.chooser, str(known.digest)) == ("R", A)
    assert known.reference is not None
    assert known.reference.repository.registry.startswith("de.icr.io")


@pytest.mark.parametrize(
    ("written", "grammar"),
    [
        (f"${{R}}@{A}", "compose"),
        (f"$R/$S@{A}", "compose"),
        (f"us.icr.io/$R@{A}", "compose"),
        ("us.icr.io/web@$R", "compose"),
        (f"${{R:+us.icr.io}}/web@{A}", "compose"),
        ("$R/web:1.0", "compose"),
        (f"$R/web:1.0@{A}", "compose"),
        ("{{ .Env.R }}/web:1.0", "template"),
    ],
)
def test_anything_else_of_the_deployer_is_decided_by_nobody_here(written: str, grammar: Grammar) -> None:
    found = named(written, grammar=grammar)
    assert found.digest is None
    assert found.reference is None
    assert found.doubt
    assert not found.is_broken


def test_a_value_is_not_read_again() -> None:
    assert named("us.icr.io/$A", {"A": "$B", "B": "web"}).is_broken
    assert named("us.icr.io/{{ .Env.A }}", {"A": "{{ .Env.B }}"}, grammar="template").reference is None


# containers-policy.json(5), the name of a scope: from the exact reference up to the registry's paths.
@pytest.mark.parametrize(
    ("kind", "image", "keys", "covering"),
    [
        ("rhs", "r.io/a/b:1.0", ["r.io/a", "r.io/a/b", "r.io/a/b:1.0"], "r.io/a/b:1.0"),
        ("rhs", "r.io/a/b:1.0", ["r.io/a/b", "r.io/a"], "r.io/a/b"),
        ("rhs", "r.io/a/b/c:1.0", ["r.io/a", "r.io/a/b"], "r.io/a/b"),
        ("rhs", "r.io/a/bb:1.0", ["r.io/a/b"], None),
        ("rhs", "r.io/a/b:1.01", ["r.io/a/b:1.0"], None),
        ("rhs", "r.io/a:1.0", ["r.io/a/b"], None),
        ("rhs", "nginx:1.0", ["docker.io/library"], "docker.io/library"),
        ("rhs", "nginx:1.0", ["docker.io/nginx"], None),
        ("rhs", "r.io/a/b", ["r.io/a/b:latest"], "r.io/a/b:latest"),
        ("dct", "r.io/a/b:1.0", ["r.io/a"], None),
        ("dct", "r.io/a/b:1.0", ["r.io/a/b"], "r.io/a/b"),
        ("cosign", f"r.io/a/b@{A}", ["r.io/a/b"], "r.io/a/b"),
        ("cosign", f"r.io/a/b@{A}", ["r.io/a", f"r.io/a/b@{A}"], None),
    ],
)
def test_the_narrowest_key_covers(kind: Kind, image: str, keys: list[str], covering: str | None) -> None:
    known = [Entry(kind, key, "a2V5", None, "the workload:1") for key in keys]
    for order in (known, known[::-1]):
        found = questions.covering(Reference.parse(image), order)
        assert (found.name if found else None) == covering


def section(name: str, **body: object) -> SectionText:
    return SectionText(f"the {name}", name, text.dump({"type": name, **body}), 1)


def asked(way: Way, image: str, workload: list[str], env: list[str] | None) -> str | None:
    """The user whose login is found: each is called as its section and key."""

    def auths(name: str, keys: list[str]) -> dict[str, dict[str, str]]:
        return {key: {"username": f"{name} {key}", "password": "a-password"} for key in keys}

    container = Container("it", "the workload:1", way, image, Reference.parse(image))
    found, _ = questions.questions(
        [container],
        section("workload", auths=auths("workload", workload)),
        section("env", auths=auths("env", env)) if env is not None else None,
    )
    question = found[container]
    assert question is not None
    return question.login.username if question.login else None


# Docker's client finds Docker Hub under one key; containers-auth.json(5) has several, `docker.io` first.
@pytest.mark.parametrize(
    ("way", "image", "workload", "env", "user"),
    [
        ("compose", "us.icr.io/t/w", ["us.icr.io"], None, "workload us.icr.io"),
        ("compose", "us.icr.io/t/w", [], ["us.icr.io"], "env us.icr.io"),
        ("compose", "us.icr.io/t/w", ["us.icr.io"], ["us.icr.io"], "workload us.icr.io"),
        ("compose", "us.icr.io/t/w", ["de.icr.io"], None, None),
        ("compose", "us.icr.io/t/w", ["US.icr.io"], None, None),
        ("compose", "us.icr.io/t/w", ["US.icr.io"], ["us.icr.io"], "env us.icr.io"),
        ("compose", "r.io:5000/w", ["r.io"], None, None),
        ("compose", "r.io:5000/w", ["r.io:5000"], None, "workload r.io:5000"),
        ("compose", "nginx", [HUB], None, f"workload {HUB}"),
        ("compose", "nginx", ["docker.io", "index.docker.io"], None, None),
        ("compose", "nginx", ["docker.io"], [HUB], f"env {HUB}"),
        ("play", "docker.io/library/nginx", [HUB], None, f"workload {HUB}"),
        ("play", "docker.io/library/nginx", ["index.docker.io"], None, "workload index.docker.io"),
        ("play", "docker.io/library/nginx", [HUB], ["docker.io"], "env docker.io"),
        ("play", "docker.io/library/nginx", [HUB, "docker.io"], None, "workload docker.io"),
        ("play", "us.icr.io/t/w", ["US.icr.io"], None, None),
        ("pods", "us.icr.io/t/w", ["us.icr.io"], None, "workload us.icr.io"),
    ],
)
def test_a_login_is_found_as_the_engine_finds_it(
    way: Way, image: str, workload: list[str], env: list[str] | None, user: str | None
) -> None:
    assert asked(way, image, workload, env) == user


def test_a_login_without_a_password_is_none_and_passwords_are_not_shown() -> None:
    container = Container("it", "the workload:1", "compose", "us.icr.io/w", Reference.parse("us.icr.io/w"))
    half = section("workload", auths={"us.icr.io": {"username": "someone"}})
    whole = section("workload", auths={"us.icr.io": {"username": "someone", "password": "canary-password"}})
    assert questions.questions([container], half, None)[0][container] == Question(
        Reference.parse("us.icr.io/w:latest"), None
    )
    found, _ = questions.questions([container], whole, None)
    assert "canary-password" not in repr(found)


def test_an_image_in_two_places_is_asked_for_once() -> None:
    workload = section(
        "workload",
        play={
            "resources": [
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": "p"},
                    "spec": {"containers": [{"name": name, "image": f"us.icr.io/t/w@{A}"} for name in "ab"]},
                }
            ]
        },
    )
    listed, unread = containers(workload, None)
    found, _ = questions.questions(listed, workload, None)
    assert (len(listed), len(set(found.values())), unread) == (2, 1, [])


@pytest.mark.parametrize("value", ["", "[]", "a: [", "\tx", "type: workload\nplay: 1\nimages: 1\nauths: 1\n"])
def test_of_what_cannot_be_read_there_are_no_containers(value: str) -> None:
    workload = SectionText("the workload", "workload", value, 1)
    assert containers(workload, None) == ([], [])
    assert questions.questions([], workload, None) == ({}, [])
    assert questions.entries(workload) == []
    assert containers(None, None) == ([], [])


CONTAINER = Container("it", "the workload:1", "compose", "w", Reference.parse("w"))


@pytest.mark.parametrize(
    ("verdicts", "levels", "verdict"),
    [
        ([], [], "accepted"),
        (["accepted"], ["pass", "warn", "deferred"], "accepted"),
        (["accepted", "unknown"], [], "unknown"),
        (["accepted"], ["unknown"], "unknown"),
        (["accepted", "refused"], ["unknown"], "refused"),
        (["unknown"], ["fail"], "refused"),
    ],
)
def test_one_that_is_refused_refuses_the_contract(
    verdicts: list[Verdict], levels: list[Level], verdict: Verdict
) -> None:
    decisions = tuple(Decision(CONTAINER, one, "so it is", "documented") for one in verdicts)
    findings = tuple(Finding("x", level, "it", "so it is", "documented") for level in levels)
    evidence = (Finding("x", "fail", "its signature", "is of nobody", "documented"),)
    assert Verified("it", "ccrt", decisions, findings, evidence).verdict == verdict
