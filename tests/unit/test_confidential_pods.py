"""Descriptors for OpenShift: pinned pods, what their containers run, and the annotation with init data."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import pins
from secure_build.contract.confidential import pods_advice
from secure_build.contract.confidential.pods import ANNOTATION, ConfidentialFile
from secure_build.errors import RefusedError, UsageError
from secure_build.reference import Digest, Reference
from unit import test_play

INITDATA = "H4sIAAAAAAAC/ytJLS4BAAx+f9gEAAAA=="


def parse(content: str) -> ConfidentialFile:
    return ConfidentialFile.parse(content.encode(), "app.yaml")


def pin(content: str) -> str:
    file = parse(content)
    return file.pinned(pins.texts(file.places)).decode()


def annotate(content: str, initdata: str = INITDATA) -> str:
    return parse(content).annotated(content.encode(), initdata).decode()


def pinned_name(image: str) -> str:
    reference = Reference.parse(image)
    return str(reference.pin(Digest.of(str(reference).encode())))


def refusal(content: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        parse(content)
    return caught.value


CONTAINER = """\
runtimeClassName: kata-cc
initContainers: [{name: init, image: acme/init:1, command: [init]}]
containers:
- name: web  # the one
  image: "acme/web:1"
"""


def indent(text: str, depth: int) -> str:
    return "".join(" " * depth + line for line in text.splitlines(keepends=True))


def of_kind(kind: str) -> str:
    """A descriptor of this kind with the same pod in it."""
    head = f"kind: {kind}\nmetadata: {{name: app}}\nspec:\n"
    if kind == "Pod":
        return head + indent(CONTAINER, 2)
    if kind == "CronJob":
        template = (
            "  jobTemplate:\n    spec:\n      template:\n        metadata:\n          labels: {app: web}\n"
        )
        return f"{head}  schedule: '@daily'\n{template}        spec:\n{indent(CONTAINER, 10)}"
    template = "  template:\n    metadata:\n      labels: {app: web}\n    spec:\n"
    return head + template + indent(CONTAINER, 6)


KINDS = """
Pod Deployment StatefulSet DaemonSet ReplicaSet ReplicationController DeploymentConfig Job CronJob
""".split()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_that_makes_pods_is_pinned_byte_for_byte(kind: str) -> None:
    content = of_kind(kind)
    wanted = content.replace('"acme/web:1"', f'"{pinned_name("acme/web:1")}"')
    wanted = wanted.replace("acme/init:1", pinned_name("acme/init:1"))
    assert pin(content) == wanted
    assert pin(wanted) == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_that_makes_pods_gets_init_data(kind: str) -> None:
    content = of_kind(kind)
    path = {"Pod": [], "CronJob": ["spec", "jobTemplate", "spec", "template"]}.get(kind, ["spec", "template"])
    expected = pod = yaml.safe_load(content)
    for part in path:
        pod = pod[part]
    pod["metadata"]["annotations"] = {ANNOTATION: INITDATA}
    annotated = annotate(content)
    assert yaml.safe_load(annotated) == expected
    # Another contract takes the place of the first.
    assert yaml.safe_load(annotate(annotate(content, "b3RoZXI="))) == expected
    assert annotate(annotated) == annotated
    # Outside one line nothing changed.
    before, after = content.splitlines(), annotated.splitlines()
    assert len(set(after) - set(before)) == 1
    assert len(set(before) - set(after)) <= 1


@pytest.mark.parametrize(
    "metadata",
    [
        "metadata:\n  name: a\n",
        "metadata: {name: a}\n",
        "metadata: {name: a,}\n",
        "metadata: {name: a, annotations: {}}\n",
        "metadata:\n  name: a\n  annotations:\n",
        "metadata:\n  name: a\n  annotations: ~\n",
        "metadata:\n  annotations: {}\n  name: a\n",
        "metadata:\n  annotations: {x: 'y'}  # keep\n  name: a\n",
        "metadata:\n  annotations: {\n    x: 'y',  # keep\n    z: \"\",\n  }\n  name: a\n",
        "metadata:\n  annotations:\n    x: |\n      y\n\n  # keep\n  name: a\n",
        "metadata:\n  annotations:\n    'x': why\n",
        "metadata: {}\n",
        "metadata:\n",
        "",
        f"metadata:\n  annotations:\n    {ANNOTATION}: old  # keep\n    x: why\n",
        f"metadata:\n  annotations: {{\"{ANNOTATION}\": 'old', x: why}}\n",
        f"metadata:\n  annotations:\n    {ANNOTATION}: >-\n      old\n      one\n    x: why\n",
        f"metadata:\n  annotations:\n    {ANNOTATION}:\n",
        "metadata:\r\n  name: a\r\n",
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_the_annotation_stands_in_metadata_of_any_style(metadata: str, first: bool) -> None:
    newline = "\r\n" if "\r\n" in metadata else "\n"
    rest = "kind: Pod\nspec:\n  containers:\n  - {name: a, image: b}\n".replace("\n", newline)
    content = metadata + rest if first else rest + metadata
    annotated = annotate(content)
    expected = yaml.safe_load(content)
    metadata_data = expected.get("metadata") or {}
    annotations = (metadata_data.get("annotations") or {}) | {ANNOTATION: INITDATA}
    assert yaml.safe_load(annotated) == expected | {"metadata": metadata_data | {"annotations": annotations}}
    assert annotated.count("# keep") == content.count("# keep")


POD = "kind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: b, image: c}]}\n"


def without_volumes(item: dict[str, Any]) -> dict[str, Any]:
    return item | {"spec": {key: value for key, value in item["spec"].items() if key != "volumes"}}


@settings(max_examples=100, deadline=None)
@given(st.lists(test_play.pod.map(without_volumes), min_size=1, max_size=3), st.integers(0, 2**32))
def test_pods_in_every_style_get_it_and_nothing_else(data: list[Any], seed: int) -> None:
    content = test_play.written(data, seed)
    test_play.assume_written(content, data)
    try:
        annotated = annotate(content)
    except UsageError:
        assert "&" in content
        return
    for item in data:
        item["metadata"] = copy.deepcopy(item["metadata"])
        item["metadata"].setdefault("annotations", {})[ANNOTATION] = INITDATA
    assert list(yaml.safe_load_all(annotated)) == data
    assert annotate(annotated) == annotated


def test_every_pod_of_a_file_gets_it_and_nothing_else_changes() -> None:
    other = "# kept\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 80}]}\n"
    content = f"---\n{POD}---\n{other}---\n---\n{of_kind('Deployment')}"
    annotated = annotate(content)
    assert annotated.count(ANNOTATION) == 2
    assert other in annotated


def test_metadata_that_pods_share_by_anchor_is_annotated_once() -> None:
    one = (
        "kind: Deployment\nmetadata: {name: d}\nspec:\n  template:\n    metadata: &m\n      labels: {a: b}\n"
    )
    content = one + "    spec: {containers: [{name: b, image: c}]}\n"
    assert annotate(content).count(ANNOTATION) == 1
    shared = content.replace("{name: d}", "&m {name: d, labels: {a: b}}").replace(
        "&m\n      labels: {a: b}", "*m"
    )
    with pytest.raises(UsageError, match="cannot take the annotation"):
        annotate(shared)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            POD.replace("image: c", "image: [c]"),
            "app.yaml:3: the image of container `b` of Pod `a` must be text",
        ),
        (POD.replace(", image: c", ""), "app.yaml:3: container `b` of Pod `a` names no image"),
        (POD.replace("image: c", "image: $X"), "app.yaml:3: the image of container `b`"),
        (
            POD.replace("image: c", "image: c, command: sh"),
            "`command` of container `b` of Pod `a` must be a list",
        ),
        (POD.replace("image: c", "image: c, args: [a, 80]"), "each part of `args` of container `b`"),
        (POD.replace("image: c", "image: c, args: [yes]"), "each part of `args` of container `b`"),
        (
            POD.replace("image: c", "image: c, env: [{name: A, value: 1}]"),
            "`value` in `env` of container `b`",
        ),
        (POD.replace("spec: {", "spec: {ephemeralContainers: [], "), "has `ephemeralContainers`"),
        (
            POD.replace("spec: {", "spec: {volumes: [{name: v, image: {reference: x}}], "),
            "the host would pull",
        ),
        (POD.replace("spec: {", "spec: {x: 1} #"), "Pod `a` needs `spec: containers`"),
        (POD.replace("{name: a}", "[x]"), "`metadata` of Pod `None` must be a mapping"),
        (
            POD.replace("{name: a}", "{name: a, annotations: {x: 1}}"),
            "`x` in `annotations` of Pod `a` must be text",
        ),
        (
            POD.replace("{name: a}", "{name: a, annotations: [x]}"),
            "`annotations` of Pod `a` must be a mapping",
        ),
        (
            "kind: Deployment\nmetadata: {name: d}\nspec: {replicas: 1}\n",
            "Deployment `d` needs `spec: containers`",
        ),
        ("kind: Deployment\nmetadata: {name: d}\n", "Deployment `d` needs `spec: containers`"),
        (f"kind: List\nitems:\n- {POD.replace(chr(10), chr(10) + '  ')}", "`List` may hold pods"),
        ("a: b\n", "app.yaml:1: this is no descriptor: it has no `kind`"),
        ("- a\n", "app.yaml:1: this is no descriptor"),
        ("---\n", "app.yaml has no descriptor"),
    ],
)
def test_what_cannot_be_pinned_is_refused_with_its_place(changed: str, message: str) -> None:
    assert message in refusal(changed).message


def arguments_of(container: str) -> Any:
    content = (
        f"kind: Pod\nmetadata: {{name: a}}\nspec:\n  containers:\n  - name: b\n    image: c\n{container}"
    )
    file = parse(content)
    (found,) = file.containers(pins.texts(file.places))
    return found.arguments


def test_containers_say_what_runs_and_where_it_is_written() -> None:
    file = parse(of_kind("Deployment"))
    init, web = file.containers(pins.texts(file.places))
    assert (init.name, init.command, init.args) == ("init", ("init",), None)
    assert (web.name, web.command, web.args) == ("web", None, None)
    assert str(web.image) == pinned_name("acme/web:1")
    assert web.where == "app.yaml:12"


@pytest.mark.parametrize("text", ["acme/web:1", "acme/web", f"docker.io/acme/web:1@sha256:{'1' * 64}"])
def test_an_image_by_tag_is_refused(text: str) -> None:
    file = parse(of_kind("Pod"))
    with pytest.raises(RefusedError, match=r"app.yaml:\d+: .*is not named by digest") as caught:
        file.containers(dict.fromkeys(file.places, text))
    assert "a cosign key does not help" in str(caught.value.hint)


ENV = """\
    env:
    - {name: A, value: one}
    - {name: B, value: $(A)-$(C)}
    - {name: S, valueFrom: {}}
    - {name: T, value: $(S)}
    - {name: E}
"""
FROM = "    envFrom: [{configMapRef: {name: m}}]\n"


@pytest.mark.parametrize(
    ("written", "more", "expanded"),
    [
        # Kubernetes, "Define dependent environment variables" and "Define a command and arguments".
        ("$(A)", ENV, "one"),
        ("x$(A)y$(B)", ENV, "xoney" + "one-$(C)"),
        ("$(E)", ENV, ""),
        ("$(date)", ENV, "$(date)"),
        ("$$(A)", ENV, "$(A)"),
        ("$$$(A)", ENV, "$one"),
        ("echo $$", "", "echo $"),
        ("$A ${A} $( $", ENV, "$A ${A} $( $"),
        ("$(A", ENV, "$(A"),
        ("$()", ENV, "$()"),
        ("$(date +%s)", FROM, "$(date +%s)"),
        ("$$(date)", FROM, "$(date)"),
        ("$(DB_PASSWORD)", "", "$(DB_PASSWORD)"),
    ],
)
def test_arguments_are_expanded_as_the_kubelet_does(written: str, more: str, expanded: str) -> None:
    assert arguments_of(f"{more}    command: [run, '{written}']\n") == ("run", expanded)


@pytest.mark.parametrize(
    ("written", "more"),
    [
        ("$(S)", ENV),
        ("$(T)", ENV),
        ("$(date)", FROM),
        ("$(DB_SERVICE_HOST)", ""),
        ("$(DB_PORT_80_TCP_ADDR)", ""),
        ("$(KUBERNETES_SERVICE_PORT_HTTPS)", ""),
    ],
)
def test_arguments_that_only_the_cluster_knows_are_refused(written: str, more: str) -> None:
    with pytest.raises(
        UsageError, match=r"app.yaml:\d+: `args` of container `b` of Pod `a`: .*only the cluster"
    ):
        arguments_of(f"{more}    command: [run]\n    args: ['{written}']\n")


def findings(content: str, flavour: pods_advice.Flavour = "bmtl") -> list[str]:
    found = pods_advice.findings(parse(content), flavour)
    return [f"{finding.where} {finding.what}" for finding in found]


def test_another_runtime_is_reported() -> None:
    assert findings(of_kind("Pod")) == []
    assert findings(of_kind("Pod"), flavour="peerpod") == [
        "app.yaml:4 Pod `app` has `runtimeClassName: kata-cc`"
    ]
    assert findings(POD) == ["app.yaml:3 Pod `a` has no `runtimeClassName`"]
    assert findings(of_kind("Job").replace("kata-cc", "kata-remote"), flavour="peerpod") == []


@pytest.mark.parametrize(
    "probe", ["livenessProbe: {exec: {command: [x]}}", "lifecycle: {preStop: {exec: {command: [x]}}}"]
)
def test_commands_from_outside_are_reported(probe: str) -> None:
    (said,) = findings(of_kind("Pod") + f"    {probe}\n")
    assert "runs a command in the container" in said
    assert findings(of_kind("Pod") + "    livenessProbe: {httpGet: {port: 80}}\n") == []


def test_pods_of_unknown_kinds_are_reported_and_left_alone() -> None:
    rollout = of_kind("Deployment").replace("kind: Deployment", "kind: Rollout")
    assert findings(rollout) == ["app.yaml:1 `kind: Rollout` has containers"]
    assert pin(rollout) == rollout
    assert annotate(rollout) == rollout
    assert findings("kind: ConfigMap\nmetadata: {name: a}\ndata: {containers: image}\n") == []
