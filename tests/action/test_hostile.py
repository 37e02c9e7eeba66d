"""Whatever stands in a variable, it is one value: it sets what it is called after, and nothing else."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from action import hostile
from secure_build.arguments import as_path, parse, parser
from secure_build.errors import UsageError
from secure_build.twins import Several, chosen, options, twin, why_without

VALUES = hostile.values("mark")
VERBS = ("run", "verify", "contract assemble")


def parsed(verb: str, environment: dict[str, str]) -> dict[str, Any]:
    return vars(parse([], {"SECURE_BUILD_COMMAND": verb, **environment}))


USUAL = {verb: parsed(verb, {}) for verb in VERBS}


def taken(verb: str) -> dict[str, argparse.Action]:
    """What a verb takes from variables, by its attribute."""
    of_verb = chosen(parser(), verb.split())
    return {action.dest: action for action in options(of_verb) if not why_without(action)}


TAKEN = {verb: taken(verb) for verb in VERBS}


def is_text(action: argparse.Action) -> bool:
    return action.nargs != 0 and action.choices is None and action.type in (None, as_path)


def meant(action: argparse.Action, value: str) -> object:
    if isinstance(action, Several):
        return tuple(line.strip() for line in value.splitlines() if line.strip())
    if action.nargs == "*":
        return tuple(value.split())
    return Path(value) if action.type is as_path else value


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_text_stays_one(value: str, verb: str) -> None:
    texts = {name: action for name, action in TAKEN[verb].items() if is_text(action)}
    assert len(texts) > 3
    found = parsed(verb, {twin(action): value for action in texts.values()})
    assert found == USUAL[verb] | {name: meant(action, value) for name, action in texts.items()}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_what_is_no_text_is_refused(value: str) -> None:
    for action in TAKEN["verify"].values():
        if not is_text(action):
            with pytest.raises(UsageError):
                parsed("verify", {twin(action): value})


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_no_value_is_a_verb(value: str) -> None:
    with pytest.raises(UsageError):
        parsed(value, {})
