"""How much memory it takes to ask for many images, and how many requests."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from fakes.registry import FakeRegistry, small_image

MANY = """
import json, re, sys
from pathlib import Path
from secure_build.contract.decision.model import Question
from secure_build.reference import Digest, Reference, Repository
from secure_build.registry.http import Transport
from secure_build.steps.gathering import Means, gather

host, folder, digests = sys.argv[1], sys.argv[2], json.load(open(sys.argv[3]))
asked = [
    Question(Reference(Repository(host, f"acme/image{number}"), digest=Digest(digest)), None)
    for number, digest in enumerate(digests)
]
with Transport() as transport:
    answers, _ = gather(asked, [], Means(transport=transport, folder=Path(folder), jobs=8, offline=False))
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
print(sum(answer.pull.outcome == "good" for answer in answers.values()), peak)
"""


def test_a_thousand_images_take_little_memory(tmp_path: Path) -> None:
    with FakeRegistry() as registry:
        check(registry, tmp_path)


def check(registry: FakeRegistry, tmp_path: Path) -> None:
    digests = [
        str(registry.add(f"acme/image{number}", small_image(layer=str(number).encode())))
        for number in range(1000)
    ]
    (tmp_path / "digests.json").write_text(json.dumps(digests))
    ended = subprocess.run(
        [sys.executable, "-c", MANY, registry.host, str(tmp_path), str(tmp_path / "digests.json")],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    found = re.fullmatch(r"(\d+) (\d+)\n", ended.stdout)
    assert found
    assert int(found[1]) == 1000
    assert int(found[2]) < 150 << 10
    assert len(registry.requests) == 2000
