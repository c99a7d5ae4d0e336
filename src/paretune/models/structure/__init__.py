"""The structure of a model: its topology (stacks, heads) and its anatomy (names of its parts).

Nothing outside this folder asks for a kind of model or for a decoder.
"""
