"""One Python cell of the comparison per call; `run.py` interleaves them.

Usage:
    python cells.py list                      every cell as one JSON array
    python cells.py run CELL [--seconds S]    measure one cell, print one JSON object
"""

import argparse
import json
import os
import sys

import bare
import peers
import peers_rpc
from harness import Subject, measure


def subjects() -> list[type[Subject]]:
    """All subjects, ringspan last."""
    import compat_blocks
    import compat_membridge
    import compat_sysframe
    import ours
    import ours_rpc
    import ours_shared
    import turns

    others = [*bare.SUBJECTS, *peers.SUBJECTS, *turns.SUBJECTS, *peers_rpc.SUBJECTS]
    older = [*compat_membridge.SUBJECTS, *compat_blocks.SUBJECTS, *compat_sysframe.SUBJECTS]
    return [*others, *older, *ours.SUBJECTS, *ours_shared.SUBJECTS, *ours_rpc.SUBJECTS]


def cells() -> dict[str, tuple[type[Subject], str, int, str]]:
    """Cell name to (subject, kind, size, pinning)."""
    found = {}
    for subject in subjects():
        rows = [("py-stream", size, "apart") for size in subject.streams]
        rows += [("py-rtt", 64, pin) for pin in subject.trip_pins]
        rows += [("py-array", 1 << 20, "apart")] if subject.array else []
        rows += [("py-handover", 64, pin) for pin in subject.handover]
        rows += [("py-handover-wake", 64, pin) for pin in subject.handover]
        rows += [("py-value", size, "one") for size in subject.gets]
        rows += [("py-rpc-add", 64, pin) for pin in subject.rpc_pins]
        rows += [("py-rpc-add-64", 64, "apart")] if subject.in_flight else []
        if subject.rpc_pins:
            rows += [("py-rpc-echo", size, "apart") for size in (1 << 10, 64 << 10)]
        rows += [(f"py-compat-{what}", size, pin) for what, size, pin in subject.compat]
        for kind, size, pin in rows:
            found[f"{kind}/{size}/{pin}/{subject.name}"] = (subject, kind, size, pin)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["list", "run"])
    parser.add_argument("cell", nargs="?")
    parser.add_argument("--seconds", type=float, default=0.5)
    args = parser.parse_args()
    if args.what == "list":
        rows = [
            {
                "id": name, "kind": kind, "size": size, "pin": pin, "subject": subject.name,
                "class": subject.subject_class, "waits": subject.waits,
                "needs": subject.needs,
            }
            for name, (subject, kind, size, pin) in cells().items()
        ]  # fmt: skip
        print(json.dumps(rows))
        return 0
    if args.cell not in cells():
        print(f"no such cell: {args.cell}", file=sys.stderr)
        return 1
    subject, kind, size, pin = cells()[args.cell]
    made = subject(size, f"ringspan-compare-{os.getpid()}")
    made.kind = kind
    value, more = measure(made, kind, pin, args.seconds)
    print(json.dumps({"id": args.cell, "value": value, "more": more}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
