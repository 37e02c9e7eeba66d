"""What all tests share: how a missing tool is handled (see `services/needed.py`)."""

from __future__ import annotations

from services.needed import need

__all__ = ["need"]
