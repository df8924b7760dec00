"""Older shared-memory libraries, on ringspan: change the import line, keep the program.

Each module offers what its library documents, over the objects of `ringspan`, and adds awaited
forms and time-outs. docs/migrating.md says what is the same, what is better and what differs.
"""
