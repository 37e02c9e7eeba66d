"""The generated policy, asked by an evaluator that is not ours (rego-cpp, through regopy)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from regopy import Interpreter

from secure_build.contract.confidential import policy
from secure_build.contract.confidential.container import ConfidentialContainer, ImageCommand
from secure_build.contract.confidential.policy import Policy
from secure_build.errors import UsageError
from secure_build.reference import Pinned

ONES, TWOS = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
WEB = f"us.icr.io/acme/web@{ONES}"
DATABASE = f"docker.io/library/redis@{TWOS}"
INFRA = f"quay.io/openshift-release-dev/ocp-v4.0-art-dev@{ONES}"
NAME = "io.kubernetes.cri-o.ImageName"
SHARED = "/run/kata-containers/shared/containers"
COPIED = f"{SHARED}/{'a1' * 32}-{'0f' * 8}-settings"


def container(
    image: str = WEB, *command: str, args: Iterable[str] = (), image_command: ImageCommand | None = None
) -> ConfidentialContainer:
    return ConfidentialContainer(
        "web", Pinned.parse(image), command or None, tuple(args) or None, image_command=image_command
    )


def decision(text: str, request: str, asked: dict[str, Any]) -> bool:
    interpreter = Interpreter()
    interpreter.add_module("policy.rego", text)
    interpreter.set_input_term(json.dumps(asked, ensure_ascii=False))
    answer = json.loads(str(interpreter.query(f"x = data.agent_policy.{request}")))["bindings"]["x"]
    assert isinstance(answer, bool)
    return answer


def creation(image: str | None, *arguments: str, **more: Any) -> dict[str, Any]:
    annotations = {"io.kubernetes.cri-o.ContainerType": more.pop("type", "container")}
    if image is not None:
        annotations[NAME] = image
    return {"OCI": {"Annotations": annotations, "Process": {"Args": list(arguments)}, "Hooks": None}} | more


def runs(text: str, image: str | None, *arguments: str, **more: Any) -> bool:
    return decision(text, "CreateContainerRequest", creation(image, *arguments, **more))


def pull(source: str) -> dict[str, str]:
    return {"driver": "image_guest_pull", "source": source, "fstype": "overlay"}


SHELL = container(WEB, "sh", "-c", args=["exec web --port 80"])
NGINX = container(DATABASE, args=["--save", ""], image_command=ImageCommand(("entry.sh", "redis"), ("x",)))
BOTH = policy.policy([SHELL, NGINX])


@pytest.mark.parametrize(
    ("image", "arguments"),
    [
        (WEB, ["sh", "-c", "exec web --port 80"]),
        # `args` alone keep the entry point of the image.
        (DATABASE, ["entry.sh", "redis", "--save", ""]),
    ],
)
def test_the_containers_of_the_pods_may_run(image: str, arguments: list[str]) -> None:
    assert runs(BOTH, image, *arguments)
    assert runs(BOTH, image, *arguments, storages=[pull(image), {"driver": "blk", "source": "x"}])


@pytest.mark.parametrize(
    ("image", "arguments", "more"),
    [
        (WEB.replace("1" * 64, "3" * 64), None, {}),
        (f"us.icr.io/acme/web:latest@{ONES}", None, {}),
        ("us.icr.io/acme/web:latest", None, {}),
        ("us.icr.io/acme/web", None, {}),
        (ONES, None, {}),
        (f"evil.example/{WEB}", None, {}),
        (f"us.icr.io/acme/web2@{ONES}", None, {}),
        (f"{WEB}0", None, {}),
        (f"{WEB}\n", None, {}),
        (f" {WEB}", None, {}),
        (WEB.upper(), None, {}),
        (WEB.replace(".", "x"), None, {}),
        (DATABASE, None, {}),
        ("", None, {}),
        (None, None, {}),
        (WEB, ["sh", "-c", "exec web --port 80", "x"], {}),
        (WEB, ["sh", "-c"], {}),
        (WEB, [], {}),
        (WEB, ["sh", "-c", "exec web --port 81"], {}),
        (WEB, ["-c", "sh", "exec web --port 80"], {}),
        (WEB, ["sh", "-c exec web --port 80"], {}),
        (WEB, ["entry.sh", "redis", "--save", ""], {}),
        (WEB, None, {"storages": [pull(DATABASE)]}),
        (WEB, None, {"storages": [pull(WEB), pull("evil.example/x")]}),
        (WEB, None, {"storages": [pull("pause")]}),
        (WEB, None, {"type": "sandbox", "storages": [pull("pause")]}),
    ],
)
def test_anything_else_may_not_run(
    image: str | None, arguments: list[str] | None, more: dict[str, Any]
) -> None:
    usual = ["sh", "-c", "exec web --port 80"]
    assert runs(BOTH, WEB, *usual)
    assert not runs(BOTH, image, *(usual if arguments is None else arguments), **more)


@pytest.mark.parametrize("hooks", [{"Prestart": []}, {"Prestart": [], "Poststop": []}, {}])
def test_empty_hooks_are_none(hooks: Any) -> None:
    asked = creation(WEB, "sh", "-c", "exec web --port 80")
    asked["OCI"]["Hooks"] = hooks
    assert decision(BOTH, "CreateContainerRequest", asked)


def test_a_hook_of_the_host_is_denied() -> None:
    asked = creation(WEB, "sh", "-c", "exec web --port 80")
    asked["OCI"]["Hooks"] = {"Prestart": [{"Path": "/bin/sh"}], "Poststop": []}
    assert not decision(BOTH, "CreateContainerRequest", asked)


@pytest.mark.parametrize(
    "asked", [{}, {"OCI": {}}, {"OCI": {"Annotations": {}, "Process": {}}}, {"OCI": None}]
)
def test_a_request_without_what_is_asked_for_is_denied(asked: dict[str, Any]) -> None:
    assert not decision(BOTH, "CreateContainerRequest", asked)


@pytest.mark.parametrize(
    ("image", "more", "allowed"),
    [
        (INFRA, {}, True),
        (INFRA, {"storages": [pull("pause")]}, True),
        (INFRA, {"storages": [pull(INFRA)]}, True),
        (INFRA, {"storages": [pull(WEB)]}, False),
        (INFRA, {"type": "container"}, False),
        (f"{INFRA}0", {}, False),
        (INFRA[:-1], {}, False),
        (f"{INFRA}\n", {}, False),
        (INFRA.replace("1" * 64, "G" * 64), {}, False),
        (INFRA.replace("quay.io", "quayxio"), {}, False),
        (INFRA.replace("v4.0", "v4x0"), {}, False),
        (f"evil.example/{INFRA}", {}, False),
        (f"x\n{INFRA}", {}, False),
        (INFRA.replace(f"@{ONES}", ":latest"), {}, False),
        (INFRA.replace("art-dev", "art-dev/x"), {}, False),
        ("pause", {}, False),
    ],
)
def test_the_pause_container_is_an_image_of_openshift(
    image: str, more: dict[str, Any], allowed: bool
) -> None:
    assert runs(BOTH, image, "/usr/bin/pod", **({"type": "sandbox"} | more)) == allowed


def test_a_known_pause_image_is_the_only_one() -> None:
    text = policy.policy([SHELL], infra=Pinned.parse(INFRA))
    assert runs(text, INFRA, type="sandbox")
    assert not runs(text, INFRA.replace("1" * 64, "2" * 64), type="sandbox")


@pytest.mark.parametrize(
    ("request_name", "asked", "allowed"),
    [
        ("ExecProcessRequest", {"process": {"Args": ["sh"]}}, False),
        ("SetPolicyRequest", {"policy": "package agent_policy"}, False),
        ("WriteStreamRequest", {"data": []}, False),
        ("TtyWinResizeRequest", {}, False),
        ("UpdateContainerRequest", {}, False),
        ("PullImageRequest", {"image": WEB}, False),
        ("StartContainerRequest", {}, True),
        ("SignalProcessRequest", {}, True),
        ("CreateSandboxRequest", {"guest_hook_path": "", "kernel_modules": []}, True),
        ("CreateSandboxRequest", {}, True),
        ("CreateSandboxRequest", {"guest_hook_path": "/tmp", "kernel_modules": []}, False),
        ("CreateSandboxRequest", {"kernel_modules": [{"name": "x"}]}, False),
        ("CopyFileRequest", {"path": COPIED}, True),
        ("CopyFileRequest", {"path": f"{COPIED}/..data/a"}, True),
        ("CopyFileRequest", {"path": COPIED.replace(SHARED, f"{SHARED}/watchable")}, True),
        ("CopyFileRequest", {"path": COPIED.replace(SHARED, f"{SHARED}/passthrough")}, True),
        ("CopyFileRequest", {"path": f"{COPIED}/../../../image/x"}, False),
        ("CopyFileRequest", {"path": f"{COPIED}/.."}, False),
        ("CopyFileRequest", {"path": f"/x{COPIED}"}, False),
        ("CopyFileRequest", {"path": f"{SHARED}/{'a1' * 32}/rootfs/bin/sh"}, False),
        ("CopyFileRequest", {"path": "/etc/passwd"}, False),
        ("CopyFileRequest", {"path": COPIED.removeprefix(f"{SHARED}/")}, False),
        ("CopyFileRequest", {"path": COPIED, "symlink_target": None}, True),
        ("CopyFileRequest", {"path": COPIED, "symlink_target": "..data/a"}, True),
        ("CopyFileRequest", {"path": COPIED, "symlink_target": "/run/kata-containers/image"}, False),
        ("CopyFileRequest", {"path": COPIED, "symlink_target": "a/../../../x"}, False),
        ("CopyFileRequest", {"path": COPIED, "symlink_src": ""}, True),
        ("CopyFileRequest", {"path": COPIED, "symlink_src": ".."}, False),
        ("AllowRequestsFailingPolicy", {}, False),
        ("CopyFileRequest", {"path": ""}, False),
        ("CopyFileRequest", {}, False),
    ],
)
def test_other_requests(request_name: str, asked: dict[str, Any], allowed: bool) -> None:
    assert decision(BOTH, request_name, asked) == allowed


AWKWARD = [
    '"',
    "\\",
    "\n",
    '\\"',
    "\\n",
    "^$",
    ".*",
    "é",
    "日本",
    "😀",
    "{{ .Env.X }}",
    "`",
    "$(date)",
    "\t",
    "\x01",
]
AWKWARD += [
    "#",
    "} CreateContainerRequest := true {",
    "]\n}\n\nany_command := []\n",
    "\u2028",
    "",
    " ",
    "x" * 5000,
]
AWKWARD += ["a\nb\n\nc", "\n" * 300, '"' * 400, "\x01" * 400]


@pytest.mark.parametrize("argument", AWKWARD, ids=[repr(text[:20]) for text in AWKWARD])
def test_any_text_is_an_argument(argument: str) -> None:
    wanted = container(WEB, "run", argument, "end")
    text = policy.policy([wanted])
    assert runs(text, WEB, "run", argument, "end")
    assert not runs(text, WEB, "run", argument + "x", "end")
    assert not runs(text, WEB, "run", argument, argument, "end")
    assert policy.uncovered(text, [wanted]) == []
    # An engine that bounds lines takes 1024 columns.
    assert max(len(line.encode()) for line in text.splitlines()) < 1024


words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=200)
commands = st.lists(words, min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(st.lists(commands, min_size=1, max_size=3), commands)
def test_exactly_what_was_given_may_run(allowed: list[list[str]], other: list[str]) -> None:
    assume(other not in allowed)
    containers = [container(WEB, *command) for command in allowed]
    text = policy.policy(containers)
    assert all(runs(text, WEB, *command) for command in allowed)
    assert not runs(text, WEB, *other)
    assert text == policy.policy([*reversed(containers), containers[0]])
    assert policy.uncovered(text, [*containers, container(WEB, *other)]) == [container(WEB, *other)]


IMAGE_COMMAND = ImageCommand(("entry",), ("serve",))


@pytest.mark.parametrize(
    ("command", "args", "image_command", "arguments"),
    [
        (["a"], ["b"], IMAGE_COMMAND, ("a", "b")),
        (["a"], [], IMAGE_COMMAND, ("a",)),
        (["a"], [], None, ("a",)),
        ([], ["b"], IMAGE_COMMAND, ("entry", "b")),
        ([], [], IMAGE_COMMAND, ("entry", "serve")),
        ([], ["b"], None, None),
        ([], [], None, None),
    ],
)
def test_command_and_args_replace_those_of_the_image_as_in_kubernetes(
    command: list[str], args: list[str], image_command: ImageCommand | None, arguments: tuple[str, ...] | None
) -> None:
    wanted = container(WEB, *command, args=args, image_command=image_command)
    assert wanted.arguments == arguments


def test_an_image_whose_arguments_are_unknown_may_run_with_any_and_is_reported() -> None:
    unknown = container(WEB)
    text = policy.policy([unknown, NGINX])
    assert runs(text, WEB, "anything")
    assert not runs(text, DATABASE, "anything")
    assert [finding.what for finding in policy.findings([unknown, NGINX])] == [
        f"container `web` may run `{WEB}` with any arguments"
    ]


def test_without_containers_nothing_runs_but_the_pause_container() -> None:
    text = policy.policy([])
    assert not runs(text, WEB)
    assert runs(text, INFRA, type="sandbox")
    assert policy.uncovered(text, [SHELL]) == [SHELL]


def test_a_policy_is_read_back() -> None:
    for infra in (None, Pinned.parse(INFRA)):
        text = policy.policy([SHELL, NGINX, container(INFRA)], infra=infra)
        assert Policy.read(text) == Policy.of([SHELL, NGINX, container(INFRA)], infra)
    assert policy.uncovered(BOTH, [SHELL, NGINX, container(WEB)]) == []
    other = container(WEB.replace("1" * 64, "3" * 64), "sh")
    assert policy.uncovered(BOTH, [SHELL, other, container(WEB, "sh")]) == [other, container(WEB, "sh")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "package agent_policy\ndefault CreateContainerRequest := true\n",
        BOTH + "\nCreateContainerRequest := true\n",
        BOTH.replace("default ExecProcessRequest := false", "default ExecProcessRequest := true"),
        BOTH.replace("\n", "\r\n"),
        BOTH.replace("commands := {", 'commands := {"x": 1,'),
        BOTH.replace("commands := {", "commands := {" + "[" * 5000),
        "commands := {\n}\n\nany_command := []\n",
    ],
)
def test_a_policy_of_somebody_else_cannot_be_checked(text: str) -> None:
    with pytest.raises(UsageError, match="was not written by this version"):
        policy.uncovered(text, [SHELL])
