"""The workflows of examples/github, run by act as they stand, each with a sibling that must fail and does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from action.github.conftest import Repository
from integration import examples
from services import opened
from services.belongings import Belongings

Repositories = Callable[[str], Repository]


def test_a_single_image(repository: Repositories, owned: Belongings) -> None:
    one = repository("hpvs")
    run = one.run("single")
    assert run.code == 0, run.text
    print(run.text)
    print(run.events)
    print(run.summary)
    contract = examples.contract(one.kept("contract") / "contract.yaml")
