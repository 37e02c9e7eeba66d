"""From the files of a commit to a starter: what is built, what is used, where it goes and what runs.

A compose file says how images are built, and is the workload when there are no pods. Pods are the
workload when there are any: they are IBM's documented way for several containers. Where a
repository leaves a choice, the user makes it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from typing import Any

from secure_build.contract.compose import ComposeFile
from secure_build.contract.play import PlayFile
from secure_build.errors import UsageError
from secure_build.model import GUEST
from secure_build.reference import DOCKER_HUB, Reference
from secure_build.starter import compose, logins, pods
from secure_build.starter.compose import Service
from secure_build.starter.draft import Draft, KeyPath, Note, shown
from secure_build.starter.folder import Folder
from secure_build.starter.pods import Descriptors, PodImage
from secure_build.starter.wishes import DEFAULT_TAG, Wishes

_COMPOSE = re.compile(r"(?:docker-)?compose(?:[.-][\w.-]+)?\.ya?ml")
_OVERRIDE = re.compile(r"(?:docker-)?compose\.override\.ya?ml")
_DOCKERFILE = re.compile(
    r"(?:Dockerfile|Containerfile)(?:\.(?P<after>[\w-]+))?|(?P<before>[\w-]+)\.(?:Dockerfile|Containerfile)"
)
# What `Dockerfile.prod` and the like are called after; no image is called `prod`.
_STAGES = frozenset("ci debug dev development local prod production release staging test".split())
_LONGEST_NAME = 63
_MOST_NAMED = 5

HEAD = """\
Written by `secure-build init` from what is in the repository; it is yours to change.
Every key is explained in secure-build's docs/config.md; `secure-build schema` is for editors."""
_TARGET = "The runtime: `ccrt`, `hpvs`, or `ccrv` (which takes pods only)."
_NO_WORKLOAD = """\
What the guest runs, for the contract; without it images are built and published only:
workload:
  compose: docker-compose.yml    # or `play:` and a file or folder of pods"""


def survey(folder: Folder, wishes: Wishes) -> Draft:
    """A starter for the commit; raises UsageError where the user has to choose, with the choices."""
    return _Survey(folder, wishes).draft()


class _Survey:
    """One look at a commit; collects images, comments and notes on the way."""

    def __init__(self, folder: Folder, wishes: Wishes) -> None:
        self._folder = folder
        self._wishes = wishes
        self._paths = folder.paths()
        self._images: dict[str, dict[str, Any]] = {}
        self._comments: dict[KeyPath, str] = dict(wishes.comments)
        self._notes: list[Note] = []
        self._named = False

    def draft(self) -> Draft:
        descriptors = self._pods()
        compose_file = self._compose(bool(descriptors))
        services = compose.read(self._folder, compose_file, self._notes) if compose_file else []
        if descriptors:
            self._take_pods(descriptors, services)
        elif compose_file:
            self._take_services(services, with_used=True)
        else:
            self._take_dockerfiles()
        if not self._images:
            raise UsageError(
                "no image was found that could be built or used" + _said(self._notes),
                hint="commit a Dockerfile, a compose file or pods, or write the config by hand",
            )
        self._name_what_is_not_used()
        workload = self._workload(descriptors, compose_file, len(services))
        registries, comments, missing = logins.registries(self._images, self._wishes)
        self._notes += missing
        self._comments |= comments
        if not self._wishes.target:
            self._comments[("target",)] = _TARGET
        data = {
            "version": 1,
            "target": self._wishes.target or "ccrt",
            **({"source": self._wishes.source} if self._wishes.source else {}),
            "images": self._images,
            **({"registries": registries} if registries else {}),
            **({"workload": workload} if workload else {}),
        }
        return Draft(data, self._comments, HEAD, tuple(self._notes))

    # What is there

    def _compose(self, has_pods: bool) -> str | None:
        wished = self._wishes.compose
        if wished:
            return posixpath.normpath(wished)
        found = _highest(path for path in self._paths if _COMPOSE.fullmatch(posixpath.basename(path)))
        for path in [path for path in found if _OVERRIDE.fullmatch(posixpath.basename(path))]:
            found.remove(path)
            self._note("compose merges this file into the other one; here it counts for nothing", path)
        if len(found) > 1:
            what = "says how images are built" if has_pods else "is the workload"
            raise UsageError(
                f"several compose files: {_listed(found)}", hint=f"name the one that {what}: `--compose FILE`"
            )
        return found[0] if found else None

    def _pods(self) -> list[Descriptors]:
        """The files of the workload's pods; none when the compose file is the workload."""
        wished = self._wishes.play
        if not wished:
            if self._wishes.compose:
                return []
            found = pods.find(self._folder, self._paths, self._notes)
            playable = [file for file in found if file.playable]
            homes = sorted({posixpath.dirname(file.path) for file in playable if "Pod" in file.kinds})
            if len(homes) > 1:
                raise UsageError(
                    f"pods in several folders: {_listed(home or '.' for home in homes)}",
                    hint="name what is the workload: `--play PATH`, or `--compose FILE`",
                )
            others = [
                file.path
                for file in found
                if not homes or (posixpath.dirname(file.path) in homes and not file.playable)
            ]
            self._not_used(others, "the runtime takes Pods, with ConfigMaps, and no other kinds")
            return [file for file in playable if posixpath.dirname(file.path) in homes]
        path = posixpath.normpath(wished)
        inside = self._folder.has_folder(path)
        looked = [
            str(posixpath.join(path, name)) if path != "." else name
            for name in sorted({_below(found, path) for found in self._all_paths()} - {""})
        ]
        chosen = pods.find(self._folder, looked if inside else [path], self._notes)
        if not any("Pod" in file.kinds for file in chosen):
            raise UsageError(
                f"`--play {wished}`: the commit has no pod there",
                hint="name a file or a folder with descriptors of the kind Pod",
            )
        return chosen

    def _all_paths(self) -> list[str]:
        root = self._folder.root
        return [str(file.path.relative_to(root)) for file in self._folder.tree.files(root)]

    def _dockerfiles(self) -> dict[str, str]:
        """The Dockerfiles, by path, with the name of the image that each of them would be."""
        found = {}
        for path in self._paths:
            match = _DOCKERFILE.fullmatch(posixpath.basename(path))
            if match:
                folder = posixpath.basename(posixpath.dirname(path)) or self._wishes.name
                named = match["after"] or match["before"] or folder
                found[path] = f"{folder}-{named}" if named.lower() in _STAGES else named
        return found

    # What goes into `images`

    def _take_services(self, services: Sequence[Service], *, with_used: bool) -> None:
        for service in [service for service in services if service.build]:
            self._add_built(service)
        built = {image["image"] for image in self._images.values()}
        for service in [service for service in services if with_used and not service.build]:
            if service.image is not None and str(service.image) not in built:
                self._add_used(service.name, service.image)

    def _take_pods(self, descriptors: Sequence[Descriptors], services: Sequence[Service]) -> None:
        self._take_services(services, with_used=False)
        built = {image["image"] for image in self._images.values()}
        by_name = {} if services else {name: path for path, name in self._dockerfiles().items()}
        for file in descriptors:
            for found in pods.images(self._folder, file.path, self._notes):
                if str(found.image) in built:
                    continue
                built.add(str(found.image))
                self._add_of_pod(found, by_name)

    def _add_of_pod(self, found: PodImage, by_name: dict[str, str]) -> None:
        last = found.image.repository.path.rpartition("/")[2]
        theirs = found.image.repository.registry == DOCKER_HUB or found.image.digest is not None
        if theirs or last not in by_name:
            self._add_used(last, found.image)
            return
        path = by_name[last]
        self._note(f"`{found.image}` is built from `{path}`, because the names agree", found.where)
        build = compose.recipe(posixpath.dirname(path) or ".", path)
        self._add(last, {"image": str(found.image), "build": {**build, "platforms": [str(GUEST)]}})

    def _take_dockerfiles(self) -> None:
        for path, name in self._dockerfiles().items():
            build = compose.recipe(posixpath.dirname(path) or ".", path)
            # No file names this image yet, so any name will do.
            free = self._free(_key(name))
            self._add_built(Service(free, path, None, {**build, "platforms": [str(GUEST)]}))

    def _add_built(self, service: Service) -> None:
        name = _key(service.name)
        image = service.image
        local = image is not None and str(image.repository).startswith(f"{DOCKER_HUB}/library/")
        if image is not None and image.digest is not None:
            self._note(
                f"service `{shown(service.name)}` is built and names a digest, which the build finds out",
                service.where,
                "write a tag instead",
            )
            return
        if image is None or local:
            image = self._name_for(service, name, local=local)
        entry = {"image": str(image), "build": service.build}
        same = [other for other, known in self._images.items() if known["image"] == str(image)]
        if not same:
            self._add(name, entry)
        elif self._images[same[0]] != entry:
            self._note(
                f"service `{shown(service.name)}` builds `{image}` in another way than `{same[0]}`; "
                "it was left out",
                service.where,
                "give each image a name of its own",
            )

    def _name_for(self, service: Service, name: str, *, local: bool) -> Reference:
        """The name of an image that is built and has none that could be published."""
        title, name = f"`{shown(service.name)}`", self._free(name)
        if self._wishes.registry is None:
            why = (
                f"`{service.image}` names no registry of yours" if local else "no name of its image is known"
            )
            raise UsageError(
                f"{service.where}: {title} is built, and {why}",
                hint="say where such images go: `--registry HOST/NAMESPACE`, for example "
                f"`--registry us.icr.io/acme` for `us.icr.io/acme/{name}:{DEFAULT_TAG}`",
            )
        image = self._wishes.registry.name(name)
        self._named = True
        self._comments[("images", name, "image")] = "Named after `--registry`; choose the tag."
        # The contract finds a service's image by its reference, or by the service's own name.
        if local or name != service.name:
            found = f"names `{service.image}`, which cannot be published" if local else "has no `image`"
            self._note(f"{title} {found}", service.where, f"write `image: {image}` there")
        return image

    def _add_used(self, name: str, image: Reference) -> None:
        if all(known.get("use") != str(image) for known in self._images.values()):
            self._add(name, {"use": str(image)})

    def _add(self, name: str, entry: dict[str, Any]) -> None:
        self._images[self._free(_key(name))] = entry

    def _free(self, name: str) -> str:
        numbered = (f"{name[: _LONGEST_NAME - 4].rstrip('._-')}-{number}" for number in range(2, 1000))
        return next(free for free in (name, *numbered) if free not in self._images)

    # What is said

    def _name_what_is_not_used(self) -> None:
        """Say which Dockerfiles nothing builds, and what of the command line had no effect."""
        used = set()
        for image in self._images.values():
            if build := image.get("build"):
                used.add(self._folder.join(build["context"], build.get("dockerfile", "Dockerfile")))
        others = [path for path in self._dockerfiles() if path not in used]
        self._not_used(others, "nothing in the workload is built from it")
        if self._wishes.registry and not self._named:
            self._note("`--registry` was not needed: every image has a name", None)

    def _not_used(self, paths: Sequence[str], why: str) -> None:
        more = f" and {len(paths) - _MOST_NAMED} more" if len(paths) > _MOST_NAMED else ""
        if paths:
            self._note(f"not used: {_listed(paths[:_MOST_NAMED])}{more}: {why}", None)

    def _workload(
        self, descriptors: Sequence[Descriptors], compose_file: str | None, services: int
    ) -> dict[str, Any]:
        if descriptors:
            play = pods.workload(self._folder, descriptors, self._notes)
            for file in descriptors:
                self._refused(file.path, play=True, templates=file.template)
            if compose_file:
                self._note(
                    "the pods are the workload; the compose file says how images are built",
                    compose_file,
                    f"`--compose {compose_file}` alone makes it the workload",
                )
            return {"play": play}
        if compose_file is None:
            self._comments[("workload",)] = _NO_WORKLOAD
            return {}
        if self._wishes.target == "ccrv":
            raise UsageError(
                f"`ccrv` takes pods only, and the workload is `{compose_file}`", hint="write pods"
            )
        self._check_compose(compose_file, services)
        return {"compose": compose_file}

    def _refused(self, path: str, *, play: bool, templates: bool = False) -> bool:
        """Whether the contract's reader refuses a file; a note says why."""
        content = self._folder.read(path) or b""
        try:
            if play:
                PlayFile.parse(content, path, templates=templates)
            else:
                ComposeFile.parse(content, path)
        except UsageError as error:
            self._note(f"`secure-build run` will refuse this: {shown(error.message)}", None, error.hint)
            return True
        return False

    def _check_compose(self, path: str, services: int) -> None:
        if self._refused(path, play=False):
            return
        if services > 1:
            self._note(
                f"{services} services: IBM documents one container for a compose file",
                path,
                "pods (`workload: play:`) are the documented way for several",
            )

    def _note(self, words: str, where: str | None, hint: str | None = None) -> None:
        self._notes.append(Note(words, where, hint))


def _key(name: str) -> str:
    """A name as both the config and a registry take it for an image."""
    plain = re.sub(r"[^a-z0-9]{2,}|[^a-z0-9._-]", "-", name.lower())
    return plain.strip("._-")[:_LONGEST_NAME].rstrip("._-") or "image"


def _highest(paths: Iterable[str]) -> list[str]:
    """The paths that are nearest to the top."""
    found = sorted(paths)
    top = min((path.count("/") for path in found), default=0)
    return [path for path in found if path.count("/") == top]


def _below(path: str, folder: str) -> str:
    """The name of a file that lies right in a folder; empty for any other."""
    return posixpath.basename(path) if (posixpath.dirname(path) or ".") == folder else ""


def _listed(paths: Iterable[str]) -> str:
    return ", ".join(f"`{shown(path)}`" for path in paths)


def _said(notes: Sequence[Note]) -> str:
    return "".join(f"\n{note.where}: {note.text}" if note.where else f"\n{note.text}" for note in notes)
