"""The first use of what is looked up once in a process, interrupted."""

from __future__ import annotations

from typing import Any

INTERRUPTED = """
import os, signal, sys
import ringspan

name = sys.argv[1]
value = ringspan.Value(name, create=True)
value.try_set((1, 2))
seen = []


class Slow:
    # Among the modules that the first decoding imports.
    def find_spec(self, name, path=None, target=None):
        if name == "uuid":
            sys.meta_path.remove(self)
            meanwhile()


def read():
    assert ringspan.Value.peek(name) == (1, 2)
    seen.append(os.getpid())


sys.meta_path.insert(0, Slow())
sys.modules.pop("uuid", None)
"""


def test_a_signal_handler_that_decodes_during_the_first_decoding(
    name: str, run_python: Any
) -> None:
    code = """
def meanwhile():
    os.kill(os.getpid(), signal.SIGUSR1)


signal.signal(signal.SIGUSR1, lambda *_: read())
read()
assert len(seen) == 2, seen
value.remove()
"""
    run_python(INTERRUPTED + code, name)
