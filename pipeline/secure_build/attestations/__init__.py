"""What is said of images: provenance and SBOMs as in-toto statements, and how they are kept beside them.

Signing them is the business of `signers/`.
"""
