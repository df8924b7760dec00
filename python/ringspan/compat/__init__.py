"""Older libraries on ringspan: the same names and behaviour, by changing one import line.

docs/migrating.md says for each what is the same, what is better and what differs.
"""
