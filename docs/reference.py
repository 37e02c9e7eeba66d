"""Prints docs/config.md, the reference of secure-build.yaml, from the JSON schema; see `make schema`."""

from __future__ import annotations

import json
from typing import Any

from secure_build.config import schema

HEAD = """\
# secure-build.yaml

Generated from the declaration in `config/`. For completion and checks in an editor, save the output of
`secure-build schema` and put this on the first line:

```yaml
# yaml-language-server: $schema=./secure-build.schema.json
```

Paths are relative to the file's folder. A key that is not listed here is an error.
"""


def main() -> None:
    document = json.loads(schema())
    print(HEAD)
    print("## Top level\n")
    print_fields(document)
    for name, model in document["$defs"].items():
        print_section(name, model)


def print_section(name: str, model: dict[str, Any]) -> None:
    """A heading, what the model is, and its fields; nothing for what has no fields."""
    if model.get("type") == "object":
        print(f"## {_heading(name)}\n\n{model.get('description', '')}\n")
        print_fields(model)


def print_fields(model: dict[str, Any]) -> None:
    print("| key | type | default | meaning |\n|---|---|---|---|")
    for name, field in model["properties"].items():
        default = "required" if name in model.get("required", ()) else _default(field)
        print(f"| `{name}` | {_type(field)} | {default} | {field.get('description', '')} |")
    print()


def _heading(name: str) -> str:
    return "".join(f" {letter}" if letter.isupper() else letter for letter in name).strip().lower()


def _default(field: dict[str, Any]) -> str:
    default = field.get("default")
    return "" if default in (None, {}) else f"`{json.dumps(default)}`"


def _type(field: dict[str, Any]) -> str:
    if "$ref" in field:
        name = _heading(field["$ref"].rpartition("/")[2])
        return f"[{name}](#{name.replace(' ', '-')})"
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    for key in ("anyOf", "oneOf"):
        if key in field:
            return " or ".join(_type(option) for option in field[key] if option.get("type") != "null")
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}"
    if field.get("type") == "object":
        inner = field.get("additionalProperties") or next(
            iter(field.get("patternProperties", {}).values()), {}
        )
        return f"mapping to {_type(inner)}" if inner else "mapping"
    return {"string": "text", "boolean": "true or false", "integer": "number"}.get(str(field.get("type")), "")


if __name__ == "__main__":
    main()
