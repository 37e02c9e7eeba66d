"""Prints docs/contract-fields.md, the fields of contracts, from the models; see `make schema`."""

from __future__ import annotations

import json
from typing import Any

from reference import print_section

from secure_build.contract import schema
from secure_build.contract.schema.pods import descriptor_parts

HEAD = """\
# The contract's fields

Generated from the declaration in `contract/schema/`. Parts of `ccrv` and `ccco` are listed where they are
others. Descriptors of `play` have the fields of Pod and ConfigMap in the Kubernetes API reference (core/v1).
"""


def main() -> None:
    print(HEAD)
    known: dict[str, Any] = {}
    for target in ("ccrt", "ccrv", "ccco"):
        parts = json.loads(schema.json_schema(target))["$defs"]
        print(f"# {'`hpvs` and ' if target == 'ccrt' else ''}`{target}`\n")
        for name, part in parts.items():
            if name not in descriptor_parts() and known.get(name) != part:
                print_section(name, part)
        known |= parts


if __name__ == "__main__":
    main()
