"""Doors: how CI systems use the command, each with the outputs and summaries that its people expect.

A door sets nothing up and decides nothing: what it is asked comes from the environment, as for the
command, and what it tells comes from the JSON that the command prints.
"""
