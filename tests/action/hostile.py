"""Values that nobody means well with, each tried at every door.

`values(mark)` has them by name; whoever lets one of them run makes the file `mark`.
"""

from __future__ import annotations

LONG = 100_000


def values(mark: str) -> dict[str, str]:
    run = f"touch {mark}"
    return {
        "command substitution": f"$({run})",
        "backticks": f"`{run}`",
        "single quote": f"'; {run}; '",
        "double quote": f'"; {run}; "',
        "both quotes": f"'\"; {run} #",
        "semicolon": f"x; {run}",
        "pipe": f"x | {run}",
        "background": f"x & {run}",
        "newline": f"x\n{run}\n",
        "carriage return": f"x\r\n{run}\r\n",
        "escaped newline": f"x\\n{run}",
        "no spaces": f"$({{touch,{mark}}})",
        "field separator": f"x;touch${{IFS}}{mark}",
        "nested": f"$($(echo {run}))",
        "dollar that is doubled": f"$$({run})",
        "flag": "--offline",
        "short flag": "-v",
        "flag with a value": "--workdir=/workspace/output/elsewhere",
        "help": "--help",
        "two dashes": "--",
        "flag after a newline": "x\n--insecure-unverified-certificate",
        "encoded command to a runner": f"x%0A::set-output name=status::{mark}",
        "command to a runner": "x\n::add-mask::x\n::stop-commands::x",
        "delimiter of outputs": "x\nEOF\nstatus=done\nx<<EOF",
        "expression of GitHub": "${{ github.token }}",
        "variable of Tekton": "$(context.taskRun.name) $(params.IMAGE) $(workspaces.output.path)",
        "variable of Kubernetes": "$(SECURE_BUILD_COMMAND) $(HOME)",
        "path upwards": "../../../../../../etc/passwd",
        "tag of YAML": f"!!python/object/apply:os.system ['{run}']",
        "end of JSON": '"}], "x": [{"',
        "format": "%s%n{0.__class__}",
        "other direction": "\u202egnitrats\u2066",
        "escape of a terminal": "\x1b]0;x\x07\x1b[2J",
        "zero": f"x\0{run}",
        "long": "x" * LONG,
    }
