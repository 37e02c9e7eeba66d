"""Writes `action.yml` and the tables of `docs/github.md` from the command's own declaration.

    python actions/generate.py

Every flag that has a twin in the environment is an input of the action, under its own name.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from secure_build import arguments, twins
from secure_build.doors.outputs import OUTPUTS

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = (
    "run",
    "plan",
    "build",
    "sign",
    "publish",
    "verify",
    "contract images",
    "contract workload",
    "contract env",
    "contract assemble",
    "contract re-encrypt",
)
# What the door needs for itself, and what only a person at a terminal or in a working tree asks for.
_LEFT_OUT = {"output", "quiet", "into", "directory", "check", "probe-push"}
_EXAMPLES = {
    "builder": "buildah",
    "by-digest": "true",
    "config": "deploy/secure-build.yaml",
    "contract": "contract.yaml",
    "env": "env.encrypted.yaml",
    "format": "user-data",
    "hand-on": "true",
    "image-version": "1.1.15",
    "images": "web worker",
    "jobs": "8",
    "locked": "true",
    "offline": "true",
    "platform": "linux/s390x",
    "pods": "pods/",
    "re-encrypt": "true",
    "record": "registry.example.com/acme/web@sha256:…",
    "report": "${{ runner.temp }}/verify.sarif",
    "section": "workload",
    "strict": "true",
    "target": "ccrt",
    "to": "oci:${{ runner.temp }}/image",
    "verbose": "true",
    "with-evidence": "true",
    "workdir": ".secure-build",
    "workload": "workload.encrypted.yaml",
}


@dataclass(frozen=True)
class Input:
    """An input of the action; `variable` is what carries it into the step."""

    name: str
    meaning: str
    variable: str
    default: str = ""
    example: str = ""
    commands: tuple[str, ...] = ()
    # What counts where neither the input nor the variable says anything.
    fallback: str = ""


OWN = (
    Input(
        "command",
        f"What to do: {', '.join(f'`{name}`' for name in COMMANDS)}.",
        twins.COMMAND,
        example="verify",
        fallback="run",
    ),
)
OF_THE_DOOR = (
    Input(
        "working-directory",
        "Folder to work in; default: the workspace.",
        "ACTION_DIRECTORY",
        example="services/web",
    ),
    Input(
        "python",
        "Interpreter to install the tool with, 3.11 or newer.",
        "ACTION_PYTHON",
        "python3",
        "/opt/python3.13/bin/python3",
    ),
    Input(
        "cache",
        "Folder for the tool's wheels, to keep between jobs; default: none is kept. Their hashes are checked "
        "whatever it holds.",
        "ACTION_CACHE",
        example="${{ runner.temp }}/wheels",
    ),
)


def inputs() -> list[Input]:
    """All inputs: the command, those of its flags in their order, and those of the door itself."""
    found: dict[str, Input] = {}
    for command in COMMANDS:
        for action in twins.options(_verb(command)):
            name = twins.flag(twins.twin(action))
            if twins.why_without(action) or name in _LEFT_OUT:
                continue
            before = found.get(name)
            found[name] = Input(
                name,
                before.meaning if before else _meaning(action),
                twins.twin(action),
                example=_EXAMPLES[name],
                commands=(*(before.commands if before else ()), command),
            )
    return [*OWN, *found.values(), *OF_THE_DOOR]


def _verb(command: str) -> argparse.ArgumentParser:
    return twins.chosen(arguments.parser(), command.split())


def _meaning(action: argparse.Action) -> str:
    text = (action.help or "").strip()
    flag = "`true`: " if action.nargs == 0 else ""
    choices = f" ({', '.join(action.choices)})" if action.choices else ""
    meaning = f"{flag}{text}{choices}."
    # A value's name keeps its letters.
    return meaning if re.match(r"\w+[:,]", meaning) else meaning[0].upper() + meaning[1:]


def action_yml() -> str:
    """The text of `action.yml`."""
    lines = [
        "# Written by actions/generate.py from the command's own declaration: change that, and run it.",
        "name: secure-build",
        f"description: {arguments.parser().description}",
        "branding:",
        "  icon: lock",
        "  color: blue",
        "inputs:",
    ]
    for one in inputs():
        lines += [f"  {one.name}:", f"    description: {_quoted(one.meaning)}", "    required: false"]
        lines += [f"    default: {_quoted(one.default)}"]
    lines.append("outputs:")
    for name, meaning in OUTPUTS.items():
        lines += [f"  {name}:", f"    description: {_quoted(meaning)}"]
        lines.append(f"    value: ${{{{ steps.run.outputs.{name} }}}}")
    lines += ["runs:", "  using: composite", "  steps:", "    - id: run", "      shell: bash", "      env:"]
    # What the workflow's own environment says counts where the input says nothing, as for the command.
    lines += [f"        {one.variable}: {_value(one)}" for one in inputs()]
    lines.append("      run: '\"$GITHUB_ACTION_PATH/actions/github/secure-build.sh\"'")
    return "\n".join(lines) + "\n"


def _value(one: Input) -> str:
    value = f"inputs.{one.name}"
    if one.variable.startswith(twins.PREFIX):
        value += f" || env.{one.variable}"
    if one.fallback:
        value += f" || '{one.fallback}'"
    return f"${{{{ {value} }}}}"


def tables(text: str) -> str:
    """The documentation with its tables as they are now, between their marks."""
    rows = {"inputs": _input_rows(), "outputs": _output_rows()}
    for name, listed in rows.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        body = "\n".join(listed)
        text, count = re.subn(
            f"{begin}.*?{end}", lambda _, put=f"{begin}{body}\n{end}": put, text, flags=re.DOTALL
        )
        if count != 1:
            raise SystemExit(f"the documentation lacks the marks of `{name}`")
    return text


def _input_rows() -> Iterator[str]:
    yield "| input | meaning | default | example | for |"
    yield "|---|---|---|---|---|"
    for one in inputs():
        default = f"`{one.default or one.fallback}`" if one.default or one.fallback else ""
        commands = "" if not one.commands or len(one.commands) == len(COMMANDS) else ", ".join(one.commands)
        yield f"| `{one.name}` | {one.meaning} | {default} | `{one.example}` | {commands or 'all'} |"


def _output_rows() -> Iterator[str]:
    yield "| output | meaning |"
    yield "|---|---|"
    for name, meaning in OUTPUTS.items():
        yield f"| `{name}` | {meaning} |"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


if __name__ == "__main__":
    (ROOT / "action.yml").write_text(action_yml())
    documentation = ROOT / "docs" / "github.md"
    documentation.write_text(tables(documentation.read_text()))
