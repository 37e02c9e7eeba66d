"""Pinned pods say what the original said, but for the images, or are refused."""

from __future__ import annotations

import copy
import random
from pathlib import PurePosixPath
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fakes import pins
from secure_build.contract import play, play_advice, text
from secure_build.contract.play import PlayFile
from secure_build.errors import UsageError
from secure_build.reference import Reference

POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: b, image: c}]}\n"
IMAGES = ["nginx:1.27", "nginx", "registry.example:5000/team/web", "us.icr.io/acme/web:1"]
names = st.sampled_from(["web", "image", "reference", "db-1"])
images = st.sampled_from(IMAGES)
environment = st.lists(
    st.fixed_dictionaries(
        {"name": names, "value": st.one_of(images, st.sampled_from(["", "yes", "a: b", "é\n"]))}
    )
)
container = st.fixed_dictionaries(
    {"name": names, "image": images},
    optional={"env": environment, "args": st.lists(st.sampled_from(["--image", "nginx"]), max_size=2)},
)
volume = st.fixed_dictionaries({"name": names, "image": st.fixed_dictionaries({"reference": images})})
pod = st.fixed_dictionaries(
    {
        "apiVersion": st.just("v1"),
        "kind": st.just("Pod"),
        "metadata": st.fixed_dictionaries(
            {"name": names}, optional={"annotations": st.just({"image": "nginx"})}
        ),
        "spec": st.fixed_dictionaries(
            {"containers": st.lists(container, min_size=1, max_size=3)},
            optional={
                "initContainers": st.lists(container, max_size=2),
                "volumes": st.lists(volume, max_size=2),
            },
        ),
    }
)
config_map = st.fixed_dictionaries(
    {
        "apiVersion": st.just("v1"),
        "kind": st.just("ConfigMap"),
        "metadata": st.fixed_dictionaries({"name": names}),
        "data": st.dictionaries(
            st.sampled_from(
                ["image", "a.conf"]
            ),  # PyYAML writes `n` without quotes, which YAML 1.1 takes for `false`.
            st.text("image: nginx\n#'\"", max_size=20).filter(lambda text: text != "n"),
        ),
    }
)
documents = st.lists(st.one_of(pod, config_map), min_size=1, max_size=3)


def parse(content: str, *, templates: bool = False) -> PlayFile:
    return PlayFile.parse(content.encode(), "pod.yaml", templates=templates)


def pin(content: str) -> str:
    file = parse(content)
    return file.pinned(pins.texts(file.places)).decode()


def pinned_or_refused(content: str) -> tuple[str, str | None]:
    try:
        return pin(content), None
    except UsageError as error:
        return "", error.message


def places_of(data: list[Any]) -> list[tuple[dict[str, Any], str]]:
    """The mappings that hold an image, found with nothing of ours."""
    found = []
    for document in data:
        if document["kind"] == "Pod":
            spec = document["spec"]
            found += [(entry, "image") for entry in spec.get("initContainers", [])]
            found += [(entry, "image") for entry in spec["containers"]]
            found += [(entry["image"], "reference") for entry in spec.get("volumes", [])]
    return found


def expected(data: list[Any]) -> list[Any]:
    """The data with every image pinned, in the order and under the names of the test's own making."""
    data = copy.deepcopy(data)
    for mapping, key in places_of(data):
        reference = Reference.parse(mapping[key])
        digest = pins.Digest.of(str(reference).encode())
        mapping[key] = str(reference.pin(digest))
    return data


def written(data: list[Any], seed: int) -> str:
    """The documents in a random mixture of PyYAML's own styles, with what is equal shared by anchors."""
    chooser = random.Random(seed)
    pieces = []
    for document in data:
        style = chooser.choice([None, "'", '"'])
        flow = chooser.choice([None, True, False])
        shared = document if chooser.random() < 0.5 else share(copy.deepcopy(document), {})
        dumped = yaml.safe_dump(
            shared,
            default_style=style,
            default_flow_style=flow,
            sort_keys=chooser.random() < 0.5,
            allow_unicode=chooser.random() < 0.5,
            width=chooser.choice([20, 80, 10_000]),
            indent=chooser.choice([2, 4, 8]),
        )
        pieces.append(dumped)
    return "---\n" + "---\n".join(pieces)


def assume_written(content: str, data: list[Any]) -> None:
    """PyYAML writes tags for some quoted scalars, which we refuse, and breaks some lines wrongly."""
    assume("!!" not in content and list(yaml.safe_load_all(content)) == data)


def share(value: Any, known: dict[str, Any]) -> Any:
    """Equal mappings and lists become one object, which PyYAML writes with an anchor."""
    if isinstance(value, dict):
        value = {key: share(entry, known) for key, entry in value.items()}
    elif isinstance(value, list):
        value = [share(entry, known) for entry in value]
    else:
        return value
    return known.setdefault(repr(value), value) if value else value


@settings(max_examples=150, deadline=None)
@given(documents, st.integers(0, 2**32))
def test_hardening_20_every_style_of_pods_is_pinned(data: list[Any], seed: int) -> None:
    content = written(data, seed)
    assume_written(content, data)
    pinned, refusal = pinned_or_refused(content)
    if refusal:
        assert "cannot be pinned without changing something else" in refusal
        assert "&" in content
        return
    assert list(yaml.safe_load_all(pinned)) == expected(data)
    assert pin(pinned) == pinned


@settings(max_examples=60, deadline=None)
@given(documents, st.integers(0, 2**32))
def test_objects_are_what_the_file_says(data: list[Any], seed: int) -> None:
    content = written(data, seed)
    assume_written(content, data)
    assume("&" not in content)
    file = parse(content)
    assert yaml.safe_load(text.dump({"r": file.objects(pins.texts(file.places))})) == {"r": expected(data)}


scalars = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12),
    st.sampled_from(
        "0644 yes no on ~ null 1e3 0x1F 12:30 1_000 .5 +1 - = << 2026-01-01 0o17 .inf .NaN".split()
    ),
)


@given(st.lists(scalars), st.sampled_from([None, "'", '"']))
def test_readers_of_yaml_1_1_see_in_objects_what_they_see_in_the_file(values: list[str], style: Any) -> None:
    """PyYAML is such a reader: `0644` is a number to it, and must stay one."""
    lines = []
    for number, value in enumerate(values):
        plain = style is None and value and value == value.strip() and value.isalnum()
        known = plain or value in (
            "0644",
            "12:30",
            "1_000",
            "1e3",
            ".5",
            "+1",
            "2026-01-01",
            "~",
            ".inf",
            ".NaN",
        )
        lines.append(f"  k{number}: {value if known else text.scalar(value)}\n")
    content = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\nmore:\n  x: y\n{''.join(lines)}"
    dumped = text.dump({"resources": parse(content).objects({})})
    assert yaml.safe_load(dumped)["resources"] == [yaml.safe_load(content)]


@given(st.text("apiVersion: v1\nkind: Pod spec {}[]&*<#'\"-?|"))
def test_hardening_58_any_text_is_pods_or_a_usage_error(rest: str) -> None:
    head = POD.replace(
        "{containers: [{name: b, image: c}]}", "\n  containers:\n  - name: b\n    image: c\n    "
    )
    for whole in (rest, head + rest):
        pinned, refusal = pinned_or_refused(whole)
        assert "pod.yaml" in refusal if refusal else parse(pinned).descriptors


def test_one_pod_cannot_be_named_in_two_files() -> None:
    one, two = parse(POD), PlayFile.parse(b"\n" + POD.encode(), "two.yaml", templates=False)
    with pytest.raises(UsageError, match=r"two\.yaml:4: there is another Pod `a` \(pod\.yaml:3\)"):
        play.check_together([one, two])
    with pytest.raises(UsageError, match="there is another Pod `a`"):
        play.check_together([one, one])


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("./www", True),
        ("www/", True),
        ("www/index.html", True),
        ("./x/../www", True),
        ("other", False),
        ("..", False),
    ],
)
def test_relative_paths_start_in_the_archive(path: str, found: bool) -> None:
    file = parse(
        POD.replace("{containers", f"{{volumes: [{{name: v, hostPath: {{path: {path}}}}}], containers")
    )
    findings = play_advice.findings([file], [PurePosixPath("www/index.html")])
    assert (findings == []) == found
    assert all(finding.what == f"`{path}` is not in the archive" for finding in findings)
