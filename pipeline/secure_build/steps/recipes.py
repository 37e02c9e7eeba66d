"""Recipes: what a builder is given for each image, exported from the commit, with its build secrets."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from secure_build import files
from secure_build.builders import Recipe
from secure_build.errors import UsageError
from secure_build.model import GUEST
from secure_build.source import Checkout
from secure_build.steps.job import LARGEST_FILE, Job
from secure_build.steps.sections import secret_content

# What BuildKit takes at most.
_LARGEST_SECRET = 500 * 1024


@contextlib.contextmanager
def recipes(work: Job, checkout: Checkout, names: Sequence[str]) -> Iterator[Mapping[str, Recipe]]:
    """For each image its recipe, for no platform yet; its folders and files last as long as the block."""
    with _exports(work, checkout, names) as exports, _secrets(work, names) as secrets:
        yield {name: replace(exports[name], secrets=secrets[name]) for name in names}


def find(work: Job, checkout: Checkout, name: str) -> tuple[PurePosixPath, PurePosixPath, bytes]:
    """Context and Dockerfile of an image in the commit, and what is in the Dockerfile.

    Raises UsageError when the commit has not got one of them.
    """
    recipe = work.loaded.config.built[name].build
    context = checkout.locate(recipe.context, what=f"{name}: the context")
    dockerfile = checkout.locate(
        str(PurePosixPath(recipe.context) / recipe.dockerfile), what=f"{name}: the Dockerfile"
    )
    if not checkout.is_directory(context):
        raise UsageError(f"{name}: the commit has no folder `{context}` to build in")
    content = checkout.read(dockerfile, at_most=LARGEST_FILE)
    if content is None:
        raise UsageError(
            f"{name}: the commit has no file `{dockerfile}`",
            hint="add and commit it, or set `dockerfile:`, which is relative to `context:`",
        )
    return context, dockerfile, content


@contextlib.contextmanager
def _exports(work: Job, checkout: Checkout, names: Sequence[str]) -> Iterator[dict[str, Recipe]]:
    """For each image its recipe, for no platform yet, with the folders exported from the commit."""
    with tempfile.TemporaryDirectory(prefix=".context-", dir=work.options.workdir) as folder:
        exported: dict[PurePosixPath, Path] = {}

        def export(place: PurePosixPath) -> Path:
            if place not in exported:
                exported[place] = Path(folder) / f"{len(exported)}"
                checkout.export(place, exported[place])
            return exported[place]

        result = {}
        for name in names:
            recipe = work.loaded.config.built[name].build
            context, dockerfile, content = find(work, checkout, name)
            # A copy of its own: the Dockerfile may lie outside the context, or be a link.
            own = Path(folder) / f"{name}.Dockerfile"
            own.write_bytes(content)
            ignored = checkout.read(
                dockerfile.with_name(f"{dockerfile.name}.dockerignore"), at_most=LARGEST_FILE
            )
            if ignored is not None:
                own.with_name(f"{own.name}.dockerignore").write_bytes(ignored)
            contexts: dict[str, Path | str] = {}
            for other, where in recipe.contexts.items():
                contexts[other] = where
                if "://" not in where:
                    place = checkout.locate(where, what=f"{name}: the context `{other}`")
                    if not checkout.is_directory(place):
                        raise UsageError(
                            f"{name}: the commit has no folder `{place}` for the context `{other}`"
                        )
                    contexts[other] = export(place)
            cache = recipe.cache
            result[name] = Recipe(
                context=export(context),
                dockerfile=own,
                platform=GUEST,
                epoch=int(checkout.source.committed_at.timestamp()),
                arguments=recipe.args,
                target=recipe.target,
                contexts=contexts,
                cache_from=cache.from_ if cache else (),
                cache_to=cache.to if cache else None,
                push=work.loaded.config.built[name].image.repository if work.options.to is None else None,
            )
        yield result


@contextlib.contextmanager
def _secrets(work: Job, names: Sequence[str]) -> Iterator[dict[str, dict[str, Path]]]:
    """For each image the files with its build secrets, by id, for their owner only; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix=".secrets-", dir=work.options.workdir) as folder:
        result: dict[str, dict[str, Path]] = {}
        for name in names:
            result[name] = {}
            for identity, named in work.loaded.config.built[name].build.secrets.items():
                # Neither an image's name nor an id has `@`, so no two of these are one file.
                result[name][identity] = Path(folder) / f"{name}@{identity}"
                files.write(
                    result[name][identity],
                    secret_content(work, named, at_most=_LARGEST_SECRET)[0],
                    mode=files.PRIVATE,
                )
        yield result
