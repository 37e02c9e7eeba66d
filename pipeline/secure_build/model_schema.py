"""The JSON schema of a pydantic model, as editors and other programs read it."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel


def text(model: type[BaseModel]) -> str:
    """The schema (JSON Schema 2020-12) as text that ends with a newline; keys as in the documents."""
    document = _tidy(model.model_json_schema())
    document["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _tidy(part: Any) -> Any:
    """The schema without what editors would show for no gain: derived titles and `null`."""
    if isinstance(part, list):
        return [_tidy(item) for item in part]
    if not isinstance(part, dict):
        return part
    choices = [choice for choice in part.get("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1:
        part = {**part, **choices[0]}
        del part["anyOf"]
    return {
        key: _tidy(value)
        for key, value in part.items()
        if not (key == "title" and isinstance(value, str)) and not (key == "default" and value is None)
    }
