"""Tekton's own schemas, for tests that hold our documents to them; they are not part of this project.

Get the CRDs from the public repository `tektoncd/pipeline` on GitHub, folder `config/300-crds/`. Turn each
into a strict JSON schema, such as `task-v1.schema.json`, and put the folder's path into `TEKTON_CRD_SCHEMAS`:

    python tests/action/tekton/crd_schemas.py 300-task.yaml v1 > FOLDER/task-v1.schema.json
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = "TEKTON_CRD_SCHEMAS"
_SCALAR = {"type": ["string", "number", "boolean"]}
# What the definitions leave open, as Tekton reads it.
_PARAM_VALUE = {
    "anyOf": [
        _SCALAR,
        {"type": "array", "items": _SCALAR},
        {"type": "object", "additionalProperties": _SCALAR},
    ]
}
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_METADATA = {
    "type": "object",
    "additionalProperties": False,
    "anyOf": [{"required": ["name"]}, {"required": ["generateName"]}],
    "properties": {
        "name": {"type": "string", "maxLength": 63},
        "generateName": {"type": "string"},
        "namespace": {"type": "string"},
        "labels": _TEXTS,
        "annotations": _TEXTS,
    },
}


def problems(document: dict[str, Any]) -> list[str]:
    """What the schema of its kind has against a document; skips the test when there are no schemas."""
    from jsonschema import Draft202012Validator

    folder = os.environ.get(FOLDER)
    if not folder:
        pytest.skip(f"set {FOLDER} to a folder with strict schemas of Tekton's CRDs, see {__name__}")
    version = document["apiVersion"].rpartition("/")[2]
    path = Path(folder) / f"{document['kind'].lower()}-{version}.schema.json"
    schema = json.loads(path.read_text())
    schema["properties"]["metadata"] = _METADATA
    found = Draft202012Validator(schema).iter_errors(document)
    return [f"{'.'.join(map(str, one.path))}: {one.message[:300]}" for one in found]


def strict(definition: dict[str, Any], version: str) -> dict[str, Any]:
    """The schema of one version of a CustomResourceDefinition, with every object closed: Tekton's webhook
    refuses fields that it does not know."""
    spec = definition["spec"]
    (served,) = (one for one in spec["versions"] if one["name"] == version)
    schema: dict[str, Any] = _closed(served["schema"]["openAPIV3Schema"], ())
    schema["properties"] |= {
        "apiVersion": {"const": f"{spec['group']}/{version}"},
        "kind": {"const": spec["names"]["kind"]},
        "metadata": _METADATA,
    }
    return {**schema, "required": ["apiVersion", "kind", "metadata", "spec"]}


def _closed(node: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    is_open = node.get("x-kubernetes-preserve-unknown-fields")
    if is_open and path and path[-1] in ("default", "value"):
        return _PARAM_VALUE
    if node.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    result = {
        key: value
        for key, value in node.items()
        if not key.startswith("x-kubernetes-") and key not in ("nullable", "format")
    }
    if "properties" in node:
        result["properties"] = {
            key: _closed(value, (*path, key)) for key, value in node["properties"].items()
        }
        if not is_open:
            result.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            result[key] = _closed(node[key], (*path, "[]"))
    # The webhook names a step before the schema is looked at.
    if path[-2:] == ("steps", "[]") and result.get("required") == ["name"]:
        del result["required"]
    return result


if __name__ == "__main__":
    json.dump(strict(yaml.safe_load(Path(sys.argv[1]).read_text()), sys.argv[2]), sys.stdout, indent=1)
