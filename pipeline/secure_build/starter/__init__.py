"""Starters: a first secure-build.yaml, from what a repository holds or from another tool's configuration.

Pure: what is read comes through `Folder`, and what comes out is a `Draft`, text that the loader
takes as it is. Dockerfiles count by their presence and path only; what stands in them is the
business of the builders.
"""

from secure_build.starter.draft import Draft, Note, shown
from secure_build.starter.folder import Folder
from secure_build.starter.sbs import LARGEST, Carried, convert
from secure_build.starter.sbs_keys import KEYS
from secure_build.starter.survey import survey
from secure_build.starter.wishes import LoginWish, RegistryWish, Wishes, source, source_comments

__all__ = [
    "KEYS",
    "LARGEST",
    "Carried",
    "Draft",
    "Folder",
    "LoginWish",
    "Note",
    "RegistryWish",
    "Wishes",
    "convert",
    "shown",
    "source",
    "source_comments",
    "survey",
]
