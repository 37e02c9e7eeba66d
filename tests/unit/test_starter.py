"""Starters from a repository: whatever is found, what is written loads, or the user is told why not."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fakes.tree import MemoryTree
from secure_build import config
from secure_build.errors import UsageError
from secure_build.starter import Draft, Folder, LoginWish, RegistryWish, Wishes, survey
from secure_build.starter.compose import looks_secret
from secure_build.starter.wishes import is_icr, secret_name

HERE = PurePosixPath()
REGISTRY = RegistryWish.parse("registry.example.com/team")


def look(files: dict[str, Any], **wishes: Any) -> Draft:
    return survey(Folder(MemoryTree(files), HERE), Wishes(**wishes))


def compose(services: Any) -> str:
    return yaml.safe_dump({"services": services}, sort_keys=False)


def assert_loads(draft: Draft) -> config.Config:
    text = draft.text()
    # A reader that is not ours takes it for the same.
    assert yaml.safe_load(text) == draft.data
    return config.parse(text.encode(), Path("secure-build.yaml")).config


# Whatever is found

words = st.text(max_size=20) | st.sampled_from(
    ["web", "..", ".", "/", "a/b", "${X}", "a:b", "- a", "# a", "no", "1.0", "\n", "\x1b[31m", "é", "~", "@"]
)
scalars = words | st.integers() | st.booleans() | st.floats(allow_nan=False) | st.none()
builds = words | st.fixed_dictionaries(
    {},
    optional={
        "context": scalars,
        "dockerfile": scalars,
        "target": scalars,
        "args": st.dictionaries(words, scalars, max_size=3) | st.lists(words, max_size=3) | scalars,
        "secrets": st.lists(scalars | st.dictionaries(st.just("source"), words), max_size=2) | scalars,
        "additional_contexts": st.dictionaries(words, scalars, max_size=3) | scalars,
        "platforms": st.lists(words, max_size=2),
    },
)
services = st.dictionaries(
    words,
    st.fixed_dictionaries({}, optional={"image": scalars, "build": builds}) | scalars,
    max_size=4,
)


@given(services)
def test_what_is_written_loads_whatever_the_compose_file_says(found: dict[str, Any]) -> None:
    files = {
        # One service that is right, so that there is always something to write.
        "compose.yaml": compose({"good": {"image": "us.icr.io/acme/good:1", "build": "."}, **found}),
        "Dockerfile": "FROM scratch\n",
    }
    try:
        draft = look(files, registry=REGISTRY)
    except UsageError:
        return
    assert "us.icr.io/acme/good:1" in {str(image.image) for image in assert_loads(draft).built.values()}
    for note in draft.notes:
        assert "\x1b" not in note.text
        assert (note.where or "").count("\n") == 0


@given(st.lists(words.filter(lambda name: "\0" not in name), min_size=1, max_size=3))
def test_what_is_written_loads_whatever_folders_are_called(folders: list[str]) -> None:
    files = {f"f{folder.replace('/', '')}/Dockerfile": "FROM scratch\n" for folder in folders}
    assert len(assert_loads(look(files, registry=REGISTRY)).built) == len(files)


# Hostile files


@pytest.mark.parametrize("name", ["a:b", "two\nlines", "ünïcode", "'quote\"", "{flow}", "#", "no", "x" * 300])
def test_services_with_odd_names_get_names_that_the_config_takes(name: str) -> None:
    files = {
        "compose.yaml": compose({name: {"image": "us.icr.io/acme/web:1", "build": "."}}),
        "Dockerfile": "",
    }
    (image,) = assert_loads(look(files)).built.values()
    assert str(image.image) == "us.icr.io/acme/web:1"


def test_two_services_whose_names_become_one() -> None:
    files = {
        "compose.yaml": compose(
            {name: {"image": f"us.icr.io/acme/web:{tag}", "build": "."} for name, tag in (("A", 1), ("a", 2))}
        ),
        "Dockerfile": "",
    }
    assert list(assert_loads(look(files)).built) == ["a", "a-2"]


def test_hardening_42_a_compose_file_that_is_too_large_or_hostile_is_refused_with_its_name() -> None:
    with pytest.raises(UsageError, match=r"compose.yaml` has 10485760 bytes; the limit is"):
        look({"compose.yaml": b" " * (10 << 20)})
    with pytest.raises(UsageError, match=r"compose\.yaml:3: the key `a` stands twice"):
        look({"compose.yaml": "services:\n  a: {}\n  a: {}\n"})
    with pytest.raises(UsageError, match=r"compose\.yaml:1: this is no compose file"):
        look({"compose.yaml": "a: b\n"})


def test_hardening_42_a_file_that_is_no_candidate_stops_nothing() -> None:
    files: dict[str, Any] = {
        "compose.yaml": compose({"web": {"image": "us.icr.io/acme/web:1", "build": "."}}),
        "Dockerfile": "",
        "big.yaml": b"x" * (2 << 20),
        "link.yaml": UsageError("`link.yaml` is a symbolic link to `/etc/passwd`, outside the repository"),
        "binary.yaml": b"\xff\xfe\0",
    }
    draft = look(files)
    assert assert_loads(draft).workload == config.Workload(compose="compose.yaml")
    assert {note.where for note in draft.notes} == {"big.yaml", "link.yaml"}


def test_hardening_37_a_link_out_of_the_tree_is_refused_where_it_matters() -> None:
    link = UsageError("`compose.yaml` is a symbolic link to `/x`, outside the repository")
    with pytest.raises(UsageError, match="outside the repository"):
        look({"compose.yaml": link})


def test_pods_that_are_not_yaml_are_refused_with_their_line() -> None:
    with pytest.raises(UsageError, match=r"deploy/pod.yaml:5: this is not YAML"):
        look({"deploy/pod.yaml": "apiVersion: v1\nkind: ConfigMap\n---\nkind: Pod\n: : [\n"})


def test_a_kind_that_the_runtime_does_not_take_is_said_in_a_chosen_folder() -> None:
    spec = "{containers: [{name: a, image: us.icr.io/a/b:1}]}"
    pod = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec: {spec}\n"
    draft = look({"d/pod.yaml": pod, "d/x.yml": "apiVersion: v1\nkind: Deployment\n"}, play="d")
    (note,) = draft.notes
    assert note.text.startswith("`secure-build run` will refuse this: d/x.yml:2: ")
    assert "Deployment" in note.text


def test_the_target_without_compose_is_told_before_anything_is_written() -> None:
    files = {
        "compose.yaml": compose({"web": {"image": "us.icr.io/acme/web:1", "build": "."}}),
        "Dockerfile": "",
    }
    with pytest.raises(UsageError, match="`ccrv` takes pods only"):
        look(files, target="ccrv")


def test_what_the_contract_would_refuse_is_said_at_once() -> None:
    files = {"compose.yaml": compose({"web": {"image": "us.icr.io/acme/web:1", "extends": "x"}})}
    (note,) = look(files).notes
    assert note.text.startswith("`secure-build run` will refuse this: compose.yaml:4: `extends`")
    assert note.hint


# The command line's words


def test_a_login_is_a_name_and_the_name_of_a_secret() -> None:
    assert LoginWish.parse("team=ci=PUSH").data == {"username": "team=ci", "password": {"secret": "PUSH"}}


@pytest.mark.parametrize(
    "text", ["ci=X", "canary", "user=", "=SECRET", "user=not a name", "user=canary-1", ""]
)
def test_a_wrong_login_is_not_repeated(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        LoginWish.parse(text)
    assert "canary" not in f"{caught.value.message}{caught.value.hint}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("us.icr.io/acme", "us.icr.io/acme/web:0.1.0"),
        ("us.icr.io/acme/shop/", "us.icr.io/acme/shop/web:0.1.0"),
        ("localhost:5000", "localhost:5000/web:0.1.0"),
        ("index.docker.io/acme", "docker.io/acme/web:0.1.0"),
    ],
)
def test_where_images_go(text: str, expected: str) -> None:
    assert str(RegistryWish.parse(text).name("web")) == expected


@pytest.mark.parametrize(
    "text", ["acme", "acme/web", "docker.io", "us.icr.io/Acme", "https://us.icr.io/a", "", "/", "a b.c/d"]
)
def test_where_images_cannot_go(text: str) -> None:
    with pytest.raises(UsageError):
        RegistryWish.parse(text)


def test_names_of_secrets_come_from_the_host() -> None:
    assert secret_name("us.icr.io", "PUSH") == "US_ICR_IO_PUSH"
    assert secret_name("127.0.0.1:5000", "PULL") == "HOST_127_0_0_1_5000_PULL"
    assert secret_name("[::1]:5000", "PULL") == "HOST_1_5000_PULL"


def test_which_registries_are_ibm_container_registry() -> None:
    hosts = ["icr.io", "us.icr.io", "private.de.icr.io", "icr.io.example.com", "noticr.io"]
    assert [is_icr(host) for host in hosts] == [True, True, True, False, False]


def test_which_build_arguments_look_like_secrets() -> None:
    names = ["NPM_TOKEN", "npm-token", "DB_PASSWORD", "API_KEY", "SECRET", "KEY", "TOKENIZER", "KEYBOARD_API"]
    assert [looks_secret(name) for name in names] == [True] * 5 + [False] * 3
