"""A pinned compose file says what the original said, but for `image` and `build`, or is refused."""

from __future__ import annotations

import copy
import random
import re
from pathlib import PurePosixPath
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_build.contract import compose
from secure_build.contract.compose import ComposeFile
from secure_build.contract.places import Place
from secure_build.errors import UsageError
from secure_build.reference import Digest, Pinned, Reference

DIGEST = Digest("sha256:" + "a" * 64)
WEB = f"docker.io/library/nginx@{DIGEST}"


def parse(text: str) -> ComposeFile:
    return ComposeFile.parse(text.encode(), "compose.yml")


def texts(file: ComposeFile) -> dict[Place, str]:
    """Every image with the same digest, those that are only built under a name of their own."""
    result = {}
    for place in file.places:
        image = place.name.reference if place.name else Reference.parse(f"registry.example/{place.alias}")
        written = image.pin(DIGEST) if image else None
        result[place] = place.name.pinned(written) if place.name else str(written)
    return result


def pin(text: str) -> str:
    file = parse(text)
    return file.pinned(texts(file)).decode()


def pinned_or_refused(text: str) -> str | None:
    try:
        return pin(text)
    except UsageError as error:
        return None if "compose.yml" in error.message else error.message


def expected(text: str) -> Any:
    """What PyYAML reads in the text, with every image pinned."""
    data = copy.deepcopy(yaml.safe_load(text))
    for name, body in data["services"].items():
        body.pop("build", None)
        body["image"] = str(Reference.parse(body.get("image", f"registry.example/{name}")).pin(DIGEST))
    return {key: value for key, value in data.items() if not key.startswith("x-")}


class Writer:
    """Writes services as a compose file in a random mixture of the styles that YAML has."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.comments: list[str] = []

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def scalar(self, value: str) -> str:
        quote = self.random.choice(["", "'", '"'])
        return f"{quote}{value}{quote}"

    def comment(self, *, kept: bool) -> str:
        text = f"# comment {len(self.comments)}: 'odd\" {{"
        if kept:
            self.comments.append(text)
        return text

    def flow(self, value: Any) -> str:
        if isinstance(value, str):
            return self.scalar(value)
        gap, comma = self.random.choice([("", ", "), (" ", ",  "), ("\n        ", ",\n        ")])
        tail = "," if self.chance(0.3) else ""
        if isinstance(value, list):
            return f"[{gap}{comma.join(map(self.flow, value))}{tail if value else ''}{gap}]"
        entries = [f"{self.scalar(key)}: {self.flow(entry)}" for key, entry in value.items()]
        return f"{{{gap}{comma.join(entries)}{tail if value else ''}{gap}}}"

    def block(self, value: dict[str, Any], indent: str, *, kept: bool = True) -> str:
        lines = []
        for key, entry in value.items():
            stays = kept and key != "build"
            if self.chance(0.2):
                lines.append(indent + self.comment(kept=kept))
            head = f"{indent}{self.scalar(key)}:"
            end = f" {self.comment(kept=stays)}" if self.chance(0.2) else ""
            if isinstance(entry, dict) and entry and self.chance(0.6):
                lines += [head + end, self.block(entry, indent + "  ", kept=stays).rstrip("\n")]
            elif isinstance(entry, list) and entry and self.chance(0.6):
                deeper = indent + "  " * self.random.randint(0, 1)
                lines += [head + end, *(f"{deeper}- {self.scalar(item)}" for item in entry)]
            else:
                anchor = f"&anchor{self.random.getrandbits(40)} " if stays and self.chance(0.2) else ""
                space = self.random.choice([" ", "  "])
                lines.append(f"{head}{space}{anchor}{self.flow(entry)}{end}")
            if self.chance(0.1):
                lines.append("")
        return "".join(f"{line}\n" for line in lines)

    def file(self, services: dict[str, Any]) -> str:
        if self.chance(0.3):
            services = {
                name: dict(self.random.sample(list(body.items()), len(body)))
                for name, body in services.items()
            }
        if self.chance(0.7):
            text = "services:\n" + "".join(
                f"  {self.scalar(name)}:\n{self.block(body, '    ')}"
                if self.chance(0.7)
                else f"  {self.scalar(name)}: {self.flow(body)}\n"
                for name, body in services.items()
            )
        else:
            text = f"{{services: {self.flow(services)}}}\n"
        text = text.removesuffix("\n") if self.chance(0.3) else text
        return text.replace("\n", "\r\n") if self.chance(0.3) else text


IMAGES = ["nginx:1.27", "nginx", "registry.example:5000/team/web", "us.icr.io/acme/web:1"]
images = st.sampled_from(IMAGES)
builds = st.one_of(
    st.sampled_from([".", "./app"]),
    st.fixed_dictionaries({"context": st.just("."), "args": st.dictionaries(st.sampled_from("AB"), images)}),
)
rest = {
    "command": st.lists(st.sampled_from(["serve", "--image", "build"]), max_size=2),
    "environment": st.dictionaries(st.sampled_from(["image", "build", "A"]), images, max_size=2),
    "restart": st.just("always"),
}
bodies = st.one_of(
    st.fixed_dictionaries({"image": images}, optional={"build": builds, **rest}),
    st.fixed_dictionaries({"build": builds}, optional=rest),
)
services = st.dictionaries(st.sampled_from(["web", "image", "build", "db-1"]), bodies, min_size=1)


@settings(max_examples=400, deadline=None)
@given(services, st.integers(0, 2**32))
def test_hardening_20_every_style_of_a_file_without_sharing_is_pinned(
    content: dict[str, Any], seed: int
) -> None:
    writer = Writer(seed)
    text = writer.file(content)
    assert yaml.safe_load(text) == {"services": content}, "the writer of this test is wrong"
    pinned = pin(text)
    assert yaml.safe_load(pinned) == expected(text)
    for comment in writer.comments:
        assert comment in pinned
    assert pinned.count("\r\n") == (pinned.count("\n") if "\r\n" in text else 0)
    assert pin(pinned) == pinned
    if not any("build" in body for body in content.values()):
        assert without_names(pinned) == without_names(text)


def without_names(text: str) -> str:
    """The text with every name of an image as `IMAGE`."""
    text = re.sub(rf"[\w./:-]+@{DIGEST}", "IMAGE", text)
    return re.sub("|".join(map(re.escape, IMAGES)), "IMAGE", text)


def shared(content: dict[str, Any], seed: int) -> str:
    """The services, with parts of them moved to anchors and taken back by alias or merge."""
    chooser = random.Random(seed)
    lines = ["x-parts:"]
    result = ["services:"]
    names: list[str] = []
    for name, body in content.items():
        result.append(f"  {name}:")
        merged = []
        for key, value in body.items():
            written = yaml.dump(value, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()
            anchor = f"{name}-{key}"
            match chooser.randrange(5):
                case 0:
                    lines.append(f"  {anchor}: &{anchor} {{{key}: {written}}}")
                    merged.append(anchor)
                    names.append(anchor)
                case 1:
                    lines.append(f"  {anchor}:\n    &{anchor}\n    {key}: {written}  # c")
                    merged.append(anchor)
                    names.append(anchor)
                case 2:
                    lines.append(f"  {anchor}: &{anchor} {written}")
                    result.append(f"    {key}: *{anchor}")
                case 3:
                    result.append(f"    {key}: &{anchor} {written}")
                case _:
                    result.append(f"    {key}: {written}")
        if names and chooser.random() < 0.3:
            merged.append(chooser.choice(names))
        if len(merged) == 1 and chooser.random() < 0.5:
            result.append(f"    <<: *{merged[0]}")
        elif merged:
            result.append(f"    <<: [{', '.join('*' + part for part in merged)}]")
    return "\n".join([*lines, "  last: {}", *result]) + "\n"


@settings(max_examples=400, deadline=None)
@given(services, st.integers(0, 2**32))
def test_hardening_20_what_is_shared_by_anchors_is_pinned_or_refused(
    content: dict[str, Any], seed: int
) -> None:
    text = shared(content, seed)
    assert yaml.safe_load(text)
    pinned = pinned_or_refused(text)
    if pinned is None:
        return
    read = yaml.safe_load(pinned)
    assert {key: value for key, value in read.items() if not key.startswith("x-")} == expected(text)


@given(st.text("services: web:\n image: nginx build: . {}[]&*<#'\"-?|"))
def test_hardening_58_any_text_is_pinned_or_a_usage_error(text: str) -> None:
    for whole in (text, f"services:\n  web:\n    image: nginx\n    {text}"):
        pinned = pinned_or_refused(whole)
        assert pinned is None or ComposeFile.parse(pinned.encode(), "x").places


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "services:\r\n  web:\r\n    build: .  # c\r\n    image: nginx\r\n",
            f"services:\r\n  web:\r\n    image: {WEB}\r\n",
        ),
        ("services:\n  web:\n    image: nginx", f"services:\n  web:\n    image: {WEB}"),
        ("services:\n  web:\n    image: nginx\n    build: .", f"services:\n  web:\n    image: {WEB}\n"),
        ("services:\n  web:\n    image: nginx # \tc\n", f"services:\n  web:\n    image: {WEB} # \tc\n"),
        (
            '# ü 😀\nservices:\n  wéb:\n    labels: {"ä": "日本 😀"}  # é\n    image: nginx  # ü\n',
            f'# ü 😀\nservices:\n  wéb:\n    labels: {{"ä": "日本 😀"}}  # é\n    image: {WEB}  # ü\n',
        ),
        ('{"services":{"web":{"image":"nginx"}}}', f'{{"services":{{"web":{{"image":"{WEB}"}}}}}}'),
    ],
)  # fmt: skip
def test_line_ends_tabs_and_unicode_stay_as_they_are(before: str, after: str) -> None:
    assert pin(before) == after


def test_quotes_are_added_where_a_registry_would_read_as_something_else() -> None:
    pinned = pin('services:\n  web:\n    image: "[::1]:5000/web"\n  db:\n    image: 10.0.0.1:5000/db\n')
    assert f'image: "[::1]:5000/web@{DIGEST}"\n' in pinned
    assert f'image: "10.0.0.1:5000/db@{DIGEST}"\n' in pinned


def test_services_that_share_an_image_need_the_same_digest() -> None:
    text = "x-a: &a {image: nginx}\nservices:\n  one: {<<: *a}\n  two: {<<: *a}\n"
    file = parse(text)
    other = Pinned(Reference.parse("nginx").repository, Digest("sha256:" + "b" * 64))
    with pytest.raises(UsageError, match=re.escape("compose.yml:1: this value is shared by places")):
        file.pinned(texts(file) | {file.places[1]: str(other)})


def test_services_say_which_image_they_name_and_where() -> None:
    file = parse(
        "x-a: &a\n  image: nginx:1\nservices:\n  one:\n    <<: *a\n    build: .\n  two:\n    build: .\n"
    )
    one, two = file.places
    assert one.name
    assert (one.what, str(one.name.reference), one.builds, one.where) == (
        "service `one`",
        "docker.io/library/nginx:1",
        True,
        "compose.yml:2",
    )
    assert (two.what, two.name, two.alias, two.builds, two.where) == (
        "service `two`",
        None,
        "two",
        True,
        "compose.yml:7",
    )


LOCAL = """\
services:
  web:
    image: nginx
    volumes:
      - ./conf:/etc/nginx:ro
      - ../outside:/x
      - .hidden:/y
      - data:/data
      - /var/hyperprotect:/var/hyperprotect:ro
      - ~/home:/z
      - /anonymous
      - .:/app
      - {type: bind, source: long/form.conf, target: /a}
      - {type: bind, source: /absolute, target: /b}
      - {type: volume, source: data, target: /c}
      - {type: tmpfs, target: /d}
  db:
    image: nginx
    build: {context: ., secrets: [npm]}
    volumes: [./conf:/again]
    configs: [one, two, three]
    secrets: [{source: key, target: tls.pem}, other]
configs:
  one: {file: ./one.conf}
  two: {external: true}
  three: {content: text}
secrets:
  key: {file: key.pem}
  other: {environment: KEY}
  npm: {file: ../npm-token}
volumes:
  data: {}
"""


def test_local_files_are_what_the_services_read_beside_the_file() -> None:
    # Not the secret that only the build reads: it must not get into the contract.
    assert parse(LOCAL).local_files() == [
        (".", ("services", "web", "volumes", 7)),
        ("../outside", ("services", "web", "volumes", 1)),
        ("./conf", ("services", "web", "volumes", 0)),
        ("./one.conf", ("configs", "one", "file")),
        (".hidden", ("services", "web", "volumes", 2)),
        ("key.pem", ("secrets", "key", "file")),
        ("long/form.conf", ("services", "web", "volumes", 8)),
    ]


@pytest.mark.parametrize(
    "entry", ["configs: text", "secrets: [a]", "configs: {a: text}", "secrets: {a: {file: [b]}}"]
)
def test_shapes_that_compose_will_refuse_do_not_stop_the_search(entry: str) -> None:
    service = "{image: nginx, configs: [a], secrets: [a, [b], {source: [c]}, 1]}"
    assert parse(f"services: {{web: {service}}}\n{entry}\n").local_files() == []


@pytest.mark.parametrize(
    ("relative", "path"),
    [
        ("./conf", "conf"),
        ("conf/", "conf"),
        ("a/../b", "b"),
        (".", "."),
        (".hidden", ".hidden"),
        ("./a//b", "a/b"),
    ],
)
def test_a_file_beside_the_compose_file_keeps_its_place(relative: str, path: str) -> None:
    place = compose.archive_path(PurePosixPath("deploy/compose.yml"), relative, "compose.yml:1")
    assert place == PurePosixPath(path)


@pytest.mark.parametrize("relative", ["..", "../x", "a/../../x", "/etc/passwd"])
def test_hardening_41_a_file_elsewhere_cannot_go_into_the_archive(relative: str) -> None:
    with pytest.raises(UsageError, match=r"compose.yml:7: .* lies outside the folder of `compose.yml`"):
        compose.archive_path(PurePosixPath("deploy/compose.yml"), relative, "compose.yml:7")
