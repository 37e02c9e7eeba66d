"""Prints docs/migrate-from-secure-build-server.md from the table of keys; see `make schema`."""

from __future__ import annotations

from itertools import groupby

from secure_build.starter import KEYS

HEAD = """\
# From the Secure Build Server

```console
$ secure-build init --from sbs-config.json
```

writes a `secure-build.yaml` out of `sbs-config.json`, the configuration of IBM's Secure Build Server, and
says of every key in it what became of it. No value of a secret gets into the new file or into what is
printed: a secret becomes a name, and you put the value into an environment variable of that name, or into a
file of that name in the folder `$SECURE_BUILD_SECRETS`. Then

```console
$ secure-build run
```

builds the commit that `source` names on the machine you are on, publishes the image, and reads it back.
With `workload:` it writes the workload section too; without, `secure-build contract images` gives what your
own contract needs.

What is different:

- **The tag** is what stands in `image:`. The server's was the prefix, `-` and 7 digits of the commit.
  Nothing depends on the tag here: the contract names the digest, and `.secure-build/build-record.json` says
  which commit it is.
- **What may run** is decided by that digest, which is why no key for signing is carried over.
- **There is no server**, so its address, certificates, secret and state have nothing to be carried to.

The keys are those of `sbs-config.json`, in any letter case. *Carried*: the value stands in the new file.
*Replaced*: something else does the work. *Dropped*: nothing is needed. This page is generated from the
table that the command uses.
"""


def main() -> None:
    print(HEAD)
    for group, keys in groupby(KEYS, key=lambda key: key.group):
        print(f"## {group}\n\n| key | what becomes of it | where to | what to know |\n|---|---|---|---|")
        for key in keys:
            why = key.why.replace("|", r"\|")
            print(f"| `{key.name}` | {key.outcome} | {key.to} | {why} |")
        print()


if __name__ == "__main__":
    main()
