"""Flags, their environment twins and their precedence."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from secure_build import arguments as command_line
from secure_build import twins
from secure_build.errors import UsageError


def parse(arguments: str, **environment: str) -> argparse.Namespace:
    return command_line.parse(arguments.split(), environment)


def test_a_variable_is_the_default_of_its_flag() -> None:
    parsed = parse("build", SECURE_BUILD_JOBS="2", SECURE_BUILD_CONFIG="x.yaml", SECURE_BUILD_VERBOSE="true")
    assert (parsed.jobs, str(parsed.config), parsed.verbose) == (2, "x.yaml", True)


def test_a_flag_wins_over_its_variable() -> None:
    assert parse("build --jobs 3", SECURE_BUILD_JOBS="2").jobs == 3


def test_an_empty_variable_counts_as_unset() -> None:
    assert parse("build", SECURE_BUILD_JOBS="").jobs == 4


def test_a_variable_of_another_verb_is_passed_over() -> None:
    assert not hasattr(parse("contract workload", SECURE_BUILD_TO="oci:x"), "to")


def test_a_value_has_to_suit_the_verb_that_takes_it() -> None:
    assert parse("verify", SECURE_BUILD_OUTPUT="sarif").output == "sarif"
    assert parse("verify", SECURE_BUILD_TARGET="ccco").target == "ccco"
    with pytest.raises(UsageError, match="must be one of hpvs, ccrt, ccrv"):
        parse("init", SECURE_BUILD_TARGET="ccco")


def test_verify_has_twins() -> None:
    given = {"REPORT": "a.md\nb.xml", "STRICT": "1", "OFFLINE": "1", "PODS": "pods", "IMAGE_VERSION": "1.2"}
    parsed = parse("verify", **{f"SECURE_BUILD_{name}": value for name, value in given.items()})
    assert (parsed.reports, parsed.strict, parsed.offline) == (("a.md", "b.xml"), True, True)
    assert (str(parsed.pods), parsed.image_version, parsed.output) == ("pods", "1.2", "text")


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


def test_every_flag_has_a_twin_but_those_that_weaken_a_check_name_a_secret_or_tell_of_one_file() -> None:
    options = list(twins.options(command_line.parser()))
    without = {action.dest for action in options if twins.why_without(action)}
    weakening = {"allow_dirty", "insecure_unverified_certificate", "reveal", "sha256"}
    assert without == {
        *weakening,
        "token",
        "push",
        "runtime",
        "passphrase",
        "target",
        "image_version",
        "chain",
        "key",
        "old_record",
    }


@pytest.mark.parametrize("name", ["TOKEN", "PUSH", "RUNTIME"])
def test_a_secret_in_a_variable_that_would_be_its_name_is_not_shown(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse("init", **{f"SECURE_BUILD_{name}": "ghp_canary"})
    assert "takes the name of a secret" in (caught.value.hint or "")
    assert "canary" not in f"{caught.value.message}{caught.value.hint}"


def test_the_flags_of_init_and_records_have_twins() -> None:
    parsed = parse("init", SECURE_BUILD_FROM="sbs.json", SECURE_BUILD_REF="main", SECURE_BUILD_SOURCE="x")
    assert (str(getattr(parsed, "from")), parsed.ref, parsed.source) == ("sbs.json", "main", "x")
    assert parse("run", SECURE_BUILD_RECORD="a\nb\n").records == ("a", "b")
    assert parse("run --record c --record d", SECURE_BUILD_RECORD="a\nb").records == ("c", "d")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("contract", "PART"),
        ("build --jobs 0", "a number from 1 to 64"),
        ("build --output xml", "invalid choice: 'xml'"),
        ("nothing", "invalid choice: 'nothing'"),
    ],
)
def test_a_wrong_command_line(arguments: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(arguments)
    assert said in caught.value.message
    assert "--help` shows what there is" in (caught.value.hint or "")


def test_without_a_verb_there_is_help_and_2() -> None:
    with pytest.raises(SystemExit) as ended:
        parse("")
    assert ended.value.code == 2


def test_the_verb_from_the_environment() -> None:
    parsed = parse("", SECURE_BUILD_COMMAND=" contract  workload ", SECURE_BUILD_JOBS="2")
    assert (parsed.verb, parsed.jobs) == ("workload", 2)
    assert parse("--jobs 3", SECURE_BUILD_COMMAND="run").jobs == 3
    # What is written on the command line goes first.
    assert parse("plan", SECURE_BUILD_COMMAND="run").verb == "plan"
    with pytest.raises(UsageError) as caught:
        parse("", SECURE_BUILD_COMMAND="verfy")
    assert caught.value.hint == "did you mean `verify`?"


def test_images_and_a_contract_from_the_environment() -> None:
    assert parse("run", SECURE_BUILD_IMAGES=" web\n api\t--allow-dirty ").images == (
        "web",
        "api",
        "--allow-dirty",
    )
    assert parse("run worker", SECURE_BUILD_IMAGES="web").images == ["worker"]
    assert parse("verify", SECURE_BUILD_CONTRACT="-x.yaml").contract == Path("-x.yaml")
    assert parse("verify c.yaml", SECURE_BUILD_CONTRACT="x.yaml").contract == Path("c.yaml")
