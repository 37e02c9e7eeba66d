"""The contract's models beside IBM's published schemas: never looser, and stricter by listed rules only."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import ibm_schema
import secure_build
from fakes import contracts
from secure_build import strict_yaml
from secure_build.cli import main
from secure_build.contract import reading, schema
from secure_build.contract.schema.stricter import RULES, rule_of
from secure_build.mistakes import Mistake, mistakes

DATA = Path(secure_build.__file__).parent / "data"
DOCS = Path(__file__).parents[2] / "docs" / "contract.md"
CORPUS = Path(__file__).parents[1] / "corpus" / "play"
EMPTY = strict_yaml.load(b"{}", "contract")


def found(target: str, contract: dict[str, Any]) -> list[Mistake]:
    model = schema.models(target).document
    try:
        model.model_validate(contract)
    except ValidationError as error:
        return mistakes(EMPTY, model, error, tags=schema.TAGS)
    return []


@pytest.mark.parametrize("target", schema.TARGETS)
def test_every_field_is_taken_by_us_and_by_the_published_schema(target: str) -> None:
    for contract in contracts.full(target):
        assert [mistake.text(EMPTY) for mistake in found(target, contract)] == []
        jsonschema.validate(contract, json.loads(schema.json_schema(target)))
        assert ibm_schema.document_problems(target, contract) == []


@settings(max_examples=400)
@given(
    st.sampled_from(schema.TARGETS).flatmap(
        lambda target: st.tuples(st.just(target), contracts.mutated(target))
    )
)
def test_we_are_never_looser_than_the_published_schema_and_stricter_by_listed_rules_only(
    given_: tuple[str, dict[str, Any]],
) -> None:
    target, contract = given_
    ours = found(target, contract)
    theirs = ibm_schema.document_problems(target, contract)
    if not ours:
        assert theirs == []
    elif not theirs:
        assert [mistake.text(EMPTY) for mistake in ours if rule_of(mistake) is None] == []


@pytest.mark.parametrize("path", sorted(CORPUS.iterdir()), ids=lambda path: path.stem)
def test_pods_in_the_shapes_that_projects_use_are_taken_where_the_published_schema_takes_them(
    path: Path,
) -> None:
    documents = strict_yaml.load_all(path.read_bytes(), path.name)
    pods = [reading.guest_data(document) for document in documents if document.data is not None]
    workload = {"type": "workload", "play": {"resources": pods}}
    contract = {"workload": workload, "env": ibm_schema.ENV}
    assert [mistake.text(EMPTY) for mistake in found("ccrt", contract)] == []
    assert ibm_schema.document_problems("ccrt", contract) == []


def test_the_docs_list_our_rules_and_no_others() -> None:
    section = DOCS.read_text().partition("## Where we are stricter")[2].partition("\n## ")[0]
    assert set(re.findall(r"(?m)^\| `([a-z-]+)` \|", section)) == set(RULES)


@pytest.mark.parametrize("target", schema.TARGETS)
def test_the_command_prints_the_schema(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--contract", target]) == 0
    assert capsys.readouterr().out == schema.json_schema(target)


@pytest.mark.parametrize("target", schema.TARGETS)
def test_the_shipped_schema_is_the_one_that_the_models_make(target: str) -> None:
    text = (DATA / f"contract-{target}.schema.json").read_text()
    assert text == schema.json_schema(target), "`make schema` writes it anew"
    jsonschema.Draft202012Validator.check_schema(json.loads(text))
