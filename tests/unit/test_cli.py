"""Flags, their environment twins and their precedence."""

from __future__ import annotations

import argparse

import pytest

from secure_build import cli, flags
from secure_build.errors import UsageError


def parse(arguments: str, **environment: str) -> argparse.Namespace:
    return cli._parse(arguments.split(), environment)


def test_a_variable_is_the_default_of_its_flag() -> None:
    parsed = parse("build", SECURE_BUILD_JOBS="2", SECURE_BUILD_CONFIG="x.yaml", SECURE_BUILD_VERBOSE="true")
    assert (parsed.jobs, str(parsed.config), parsed.verbose) == (2, "x.yaml", True)


def test_a_flag_wins_over_its_variable() -> None:
    assert parse("build --jobs 3", SECURE_BUILD_JOBS="2").jobs == 3


def test_an_empty_variable_counts_as_unset() -> None:
    assert parse("build", SECURE_BUILD_JOBS="").jobs == 4


def test_a_variable_of_another_verb_is_passed_over() -> None:
    assert not hasattr(parse("contract workload", SECURE_BUILD_TO="oci:x"), "to")


def test_the_folder_of_secrets_is_no_flag() -> None:
    parse("build", SECURE_BUILD_SECRETS="/run/secrets")


def test_other_variables_are_none_of_ours() -> None:
    parse("build", JOBS="x", SECURE_BUILDER="x")


@pytest.mark.parametrize(
    ("name", "value", "message", "hint"),
    [
        ("SECURE_BUILD_JOB", "2", "`SECURE_BUILD_JOB` means nothing", "did you mean `SECURE_BUILD_JOBS`?"),
        ("SECURE_BUILD_ALLOW_DIRTY", "1", "means nothing", "must be given on the command line"),
        ("SECURE_BUILD_JOBS", "0", "`SECURE_BUILD_JOBS`: must be a number from 1 to 64", None),
        ("SECURE_BUILD_JOBS", "many", "`SECURE_BUILD_JOBS`", None),
        ("SECURE_BUILD_OUTPUT", "xml", "must be one of text, json", None),
        ("SECURE_BUILD_QUIET", "maybe", "must be one of 1, true", None),
    ],
)
def test_a_variable_that_nobody_reads_or_that_is_wrong(
    name: str, value: str, message: str, hint: str | None
) -> None:
    with pytest.raises(UsageError) as caught:
        parse("build", **{name: value})
    assert message in caught.value.message
    if hint is not None:
        assert caught.value.hint is not None
        assert hint in caught.value.hint


def test_every_flag_has_a_twin_but_those_that_weaken_a_check() -> None:
    without = {a.dest for a in flags.options(cli._parser()) if not getattr(a, "has_twin", True)}
    assert without == {"allow_dirty"}


@pytest.mark.parametrize("arguments", ["", "contract", "build --jobs 0", "build --output xml", "nothing"])
def test_a_wrong_command_line_ends_with_2(arguments: str) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(arguments)
    assert caught.value.code == 2
