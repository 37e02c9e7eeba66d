"""The runtime's decision: which containers of a contract it would run, found out before anything is deployed.

`containers.py` finds what runs, `questions.py` says what is to be asked of registries and keys, and
`decide.py` decides over the answers. All of it is pure: whoever calls asks, and says when there was no
answer. Rules: IBM's page "About the contract", image subsections.
"""
