"""What GitHub's runner makes of a log: its commands are read by the runner's own rules.

A command is `::name …::value` at the start of a line, blanks before it not counted, or `##[name …]value`
anywhere in one; between `stop-commands` and its token there are none (actions/runner, ActionCommand and
ActionCommandManager).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

# What the runner knows; other words are no commands.
_KNOWN = (
    "add-mask",
    "add-matcher",
    "add-path",
    "debug",
    "echo",
    "endgroup",
    "error",
    "group",
    "notice",
    "remove-matcher",
    "save-state",
    "set-env",
    "set-output",
    "stop-commands",
    "warning",
)
_COMMAND = re.compile(r"\s*::([A-Za-z-]+)(?: ([^\n]*?))?::(.*)")
_OLD_COMMAND = re.compile(r".*?##\[([A-Za-z-]+)(?: ([^\]]*))?\](.*)")


@dataclass(frozen=True)
class Command:
    name: str
    value: str
    properties: dict[str, str]


@dataclass
class Log:
    """The commands that the runner carries out, and the lines that it shows, masked."""

    commands: list[Command] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)

    def of(self, name: str) -> list[Command]:
        return [one for one in self.commands if one.name == name]


def read(text: str) -> Log:
    log, token = Log(), ""
    for line in re.split(r"\r\n|\r|\n", text):
        if token:
            if line.strip() == f"::{token}::":
                token = ""
            else:
                log.lines.append(_masked(line, log.masks))
            continue
        found = _COMMAND.fullmatch(line) or _OLD_COMMAND.fullmatch(line)
        if found is None or found[1].lower() not in _KNOWN:
            log.lines.append(_masked(line, log.masks))
            continue
        properties = dict(one.split("=", 1) for one in (found[2] or "").split(",") if "=" in one)
        command = Command(
            found[1].lower(), _decoded(found[3]), {key: _decoded(value) for key, value in properties.items()}
        )
        if command.name == "stop-commands":
            token = command.value
        elif command.name == "add-mask":
            log.masks.append(command.value)
        else:
            shown = _masked(command.value, log.masks)
            log.lines.append(shown)
            log.commands.append(Command(command.name, shown, command.properties))
    assert not token, "the runner was left without ears"
    return log


def outputs(text: str) -> dict[str, str]:
    """The values of an output file, `NAME<<MARK` and the value up to the mark."""
    found, lines = {}, iter(text.splitlines())
    for line in lines:
        name, _, mark = line.partition("<<")
        assert mark
        value = []
        while (one := next(lines)) != mark:
            value.append(one)
        found[name] = "\n".join(value)
    return found


def _masked(text: str, masks: list[str]) -> str:
    for mask in sorted(masks, key=len, reverse=True):
        text = text.replace(mask, "***")
    return text


def _decoded(text: str) -> str:
    for written, meant in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(written, meant)
    return text
