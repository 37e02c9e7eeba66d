"""Every place of a plain workload that names an image, as the guest would read it.

Others write contracts too, so nothing is refused here that only our own pinning refuses. What may name
images and cannot be read as the guest reads it is said, as `unknown`. Form and schema are the business of
`checks/`, and what is found there is not said again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from secure_build import strict_yaml
from secure_build.contract import archive, interpolation, play
from secure_build.contract.advice import listed, mapping
from secure_build.contract.confidential.container import ConfidentialContainer
from secure_build.contract.confidential.pods import ConfidentialFile
from secure_build.contract.decision.model import Container
from secure_build.contract.decision.names import Meaning, Variables, meaning
from secure_build.contract.document import SectionText
from secure_build.contract.enforcement import Way
from secure_build.contract.places import Grammar, place_of
from secure_build.contract.reading import guest_data
from secure_build.contract.schema import encodings
from secure_build.errors import RefusedError, UsageError
from secure_build.model import GUEST, Finding, Level
from secure_build.strict_yaml import Document, Path

_ELSEWHERE = {
    "extends": "takes what it runs from another service or file",
    "provider": "starts a program that the guest does not have",
    "models": "names models, which are pulled too",
}
_FLATTEN = "flatten the file first: `docker compose config --no-interpolate > docker-compose.yml`"
_BESIDE = ("env_file", "label_file")
_NAME_IT = "name it by digest: `NAME@sha256:…`"


def containers(
    workload: SectionText | None, env: SectionText | None
) -> tuple[list[Container], list[Finding]]:
    """The containers of a plain workload section, and what of it could not be read.

    A section that is not known, or is no YAML, has none.
    """
    data = data_of(workload)
    if workload is None or data is None or workload.document is None:
        return [], []
    other = data_of(env)
    variables = Variables(_texts(data.get("env")), _texts(other.get("env")) if other is not None else None)
    walk = _Walk(variables, [], [], set())
    walk.section(workload.document, data)
    if "compose" in data:
        walk.unread.extend(_of_compose_itself(workload, env))
    if walk.kinds == {"ConfigMap"}:
        where = place_of(workload.document, ("play",))
        why = "has no Pod, so nothing would run"
        walk.unread.append(
            Finding("play", "fail", "workload.play", why, "inferred", "add one", where, "HPL15006I")
        )
    return walk.found, walk.unread


def _of_compose_itself(*sections: SectionText | None) -> Iterator[Finding]:
    """Variables that compose takes for its own settings (Compose, "Pre-defined environment variables")."""
    for section in sections:
        for name in mapping(mapping(data_of(section)).get("env")):
            if name.startswith("COMPOSE_") and section is not None and section.document is not None:
                why = "is a setting of compose, which may make it read other files than the checked one"
                where = place_of(section.document, ("env", name))
                hint = "give the variable another name"
                yield Finding("workload", "unknown", f"the variable `{name}`", why, "inferred", hint, where)


def data_of(section: SectionText | None) -> dict[str, Any] | None:
    """What a plain section holds; None when it is a token, not known, or cannot be read."""
    if section is None:
        return None
    try:
        document = section.document
    except UsageError:
        return None
    return mapping(guest_data(document)) if document else None


def pods(files: Sequence[ConfidentialFile]) -> dict[Container, ConfidentialContainer | None]:
    """The containers of pods for OpenShift, each with what it runs, None where only the cluster knows that.

    Their images are what the policy is asked about.
    """
    found: dict[Container, ConfidentialContainer | None] = {}
    for file in files:
        named = [(place, place.name) for place in file.places if place.name is not None]
        runs: Sequence[ConfidentialContainer | None]
        try:
            runs = file.containers({place: name.written for place, name in named})
        except (UsageError, RefusedError):
            runs = [None] * len(named)
        for (place, name), command in zip(named, runs, strict=True):
            container = Container(place.what, place.where, "pods", name.written, name.reference)
            found[container] = command
    return found


@dataclass(frozen=True, slots=True)
class _Spot:
    """A place in a document."""

    document: Document
    path: Path

    def at(self, *more: str | int) -> _Spot:
        return _Spot(self.document, (*self.path, *more))


@dataclass(frozen=True, slots=True)
class _Walk:
    """Finds images; `archive` is where the archive stands that the documents at hand are in.

    `kinds` are those of all descriptors.
    """

    variables: Variables
    found: list[Container]
    unread: list[Finding]
    kinds: set[str]
    archive: str | None = None

    def section(self, document: Document, data: dict[str, Any]) -> None:
        pods = mapping(data.get("play"))
        for index, item in enumerate(listed(pods.get("resources"))):
            self._pod(_Spot(document, ("play", "resources", index)), item, "plain")
        for index, item in enumerate(listed(pods.get("templates"))):
            self._pod(_Spot(document, ("play", "templates", index)), item, "template")
        for key in ("compose", "play"):
            inside = replace(self, archive=place_of(document, (key, "archive")))
            for path, content in _archived(mapping(data.get(key)).get("archive")):
                if key == "compose" and path in archive.COMPOSE_NAMES:
                    inside.compose(content, str(path))
                elif key == "play" and path.suffix in play.ENDINGS and len(path.parts) == 1:
                    inside.pods(content, str(path))

    def compose(self, content: bytes, name: str) -> None:
        """The services of a compose file."""
        try:
            document = strict_yaml.load(content, name)
        except UsageError:
            return
        data = mapping(document.data)
        for key, why in (("include", "takes services from other files"), ("models", _ELSEWHERE["models"])):
            if key in data:
                self._doubt(_Spot(document, (key,)), f"`{key}`", why, _FLATTEN)
        for service, body in mapping(data.get("services")).items():
            self._service(_Spot(document, ("services", service)), f"service `{service}`", mapping(body))

    def _service(self, spot: _Spot, what: str, body: dict[str, Any]) -> None:
        for key, why in _ELSEWHERE.items():
            if key in body:
                self._doubt(spot.at(key), f"`{key}` of {what}", why, _FLATTEN)
        for key in _BESIDE:
            if key in body:
                why = "whether the runtime reads files beside the compose file is not documented"
                hint = "write its lines into the file itself"
                self._doubt(spot.at(key), f"`{key}` of {what}", why, hint, level="warn")
        if "image" in body:
            self._image(spot.at("image"), what, body["image"], "compose")
        elif "extends" not in body and "provider" not in body:
            why = "it names no image, and the guest builds none"
            self._add(spot, what, "compose", "", Meaning(None, why, _NAME_IT, is_broken=True))
        for index, volume in enumerate(listed(body.get("volumes"))):
            if mapping(volume).get("type") == "image":
                place = spot.at("volumes", index, "source")
                self._image(place, f"a volume of {what}", volume.get("source"), "compose")
        for index, hook in enumerate(listed(body.get("pre_start"))):
            if "image" in mapping(hook):
                place = spot.at("pre_start", index, "image")
                self._image(place, f"step {index + 1} of `pre_start` of {what}", hook["image"], "compose")
        self._check_pull(spot, what, body)

    def _check_pull(self, spot: _Spot, what: str, body: dict[str, Any]) -> None:
        """What keeps the guest from pulling an image that it can run."""
        policy, platform = (self._filled_in(body.get(key)) for key in ("pull_policy", "platform"))
        for key, value in (("pull_policy", policy), ("platform", platform)):
            if value is None and body.get(key) is not None:
                why = "has a variable whose value is not known here"
                self._doubt(spot.at(key), f"`{key}` of {what}", why, "leave it out")
        if policy in ("never", "build"):
            self._not_pulled(spot.at("pull_policy"), f"`pull_policy` of {what}")
        if platform and platform != str(GUEST):
            why = f"asks for {platform}, and the guest is {GUEST}"
            self._doubt(spot.at("platform"), f"`platform` of {what}", why, "leave it out", level="fail")

    def _filled_in(self, value: Any) -> str | None:
        """A compose text with the contract's variables in it; None where the deployer has more to say."""
        if not isinstance(value, str) or "$" not in value:
            return value if isinstance(value, str) else None
        if interpolation.names(value) - self.variables.workload.keys() and self.variables.env is None:
            return None
        try:
            return interpolation.with_values(value, self.variables.values, blank=True)
        except UsageError:
            return None

    def _not_pulled(self, spot: _Spot, what: str) -> None:
        why = "the guest has no images, and would not pull this one"
        self._doubt(spot, what, why, "leave it out", level="fail")

    def pods(self, content: bytes, name: str) -> None:
        """The pods of a file."""
        try:
            documents = strict_yaml.load_all(content, name)
        except UsageError:
            return
        for document in documents:
            self._pod(_Spot(document, ()), document.data, "plain")

    def _pod(self, spot: _Spot, data: Any, grammar: Grammar) -> None:
        pod = mapping(data)
        name = mapping(pod.get("metadata")).get("name")
        # podman takes keys in any case, and others do not.
        try:
            play.check_spelling(spot.document, pod, spot.path)
            play.check_annotations(spot.document, pod, spot.path, str(name))
        except UsageError as error:
            self._doubt(spot, "a descriptor", error.message.partition(": ")[2], error.hint)
        self.kinds.add(str(pod.get("kind")))
        if pod.get("kind") != "Pod":
            return
        spec = mapping(pod.get("spec"))
        for key, word in (("initContainers", "init container"), ("containers", "container")):
            for index, container in enumerate(map(mapping, listed(spec.get(key)))):
                what = f"{word} `{container.get('name')}` of pod `{name}`"
                place = spot.at("spec", key, index)
                pulls = str(container.get("imagePullPolicy"))
                if pulls == "Never":
                    self._not_pulled(place.at("imagePullPolicy"), f"`imagePullPolicy` of {what}")
                elif "{{" in pulls:
                    why = "is an expression, and with `Never` nothing would be pulled"
                    self._doubt(
                        place.at("imagePullPolicy"), f"`imagePullPolicy` of {what}", why, "leave it out"
                    )
                is_init = key == "initContainers"
                self._image(place.at("image"), what, container.get("image"), grammar, is_init=is_init)
        for index, volume in enumerate(map(mapping, listed(spec.get("volumes")))):
            if "image" in volume:
                what = f"volume `{volume.get('name')}` of pod `{name}`"
                named = mapping(volume["image"]).get("reference")
                self._image(spot.at("spec", "volumes", index, "image"), what, named, grammar)

    def _image(
        self, spot: _Spot, what: str, written: Any, grammar: Grammar, *, is_init: bool = False
    ) -> None:
        if isinstance(written, str) and written:
            found = meaning(written, grammar, self.variables, short_names=grammar == "compose")
        else:
            written = ""
            found = Meaning(None, "it names no image", _NAME_IT, is_broken=True)
        self._add(spot, what, "compose" if grammar == "compose" else "play", written, found, is_init=is_init)

    def _add(
        self, spot: _Spot, what: str, way: Way, written: str, found: Meaning, *, is_init: bool = False
    ) -> None:
        where, inside = self._place(spot)
        self.found.append(
            Container(
                what,
                where,
                way,
                written,
                found.reference,
                found.doubt,
                found.hint,
                inside,
                found.is_broken,
                is_init,
                found.chooser,
                found.digest,
            )
        )

    def _doubt(self, spot: _Spot, what: str, why: str, hint: str | None, *, level: Level = "unknown") -> None:
        where, inside = self._place(spot)
        named = f"{what} ({inside})" if inside else what
        self.unread.append(Finding("workload", level, named, why, "inferred", hint, where))

    def _place(self, spot: _Spot) -> tuple[str, str | None]:
        """File and line of the contract and, for what is in an archive, file and line there."""
        place = place_of(spot.document, spot.path)
        return (place, None) if self.archive is None else (self.archive, place)


def _archived(text: Any) -> Iterator[tuple[PurePosixPath, bytes]]:
    # What is wrong with an archive is said by `checks`.
    if isinstance(text, str) and len(text) >= 4 and encodings.flat(text) is not None:
        yield from sorted(archive.unpack(text).files.items())


def _texts(variables: Any) -> dict[str, str]:
    return {name: value for name, value in mapping(variables).items() if isinstance(value, str)}
