"""Every parser that reads bytes of strangers or of users, with right bytes to start from.

Each is the code that the verbs run, up to where its result is used: what was read is also asked for,
written again and put in place, since a value that cannot be used is found out there.
"""

from torture.parsers import belongings, contracts, descriptors, registries, signatures
from torture.parsers.table import PARSERS, Parser, names

__all__ = ["PARSERS", "Parser", "belongings", "contracts", "descriptors", "names", "registries", "signatures"]
