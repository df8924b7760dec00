"""`make bench`: the cargo benchmarks, then the comparison with the alternatives.

Arguments go to `benches/compare/run.py`, which runs under the Python that has the LTO wheel.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib

import environments
from environments import ROOT


def main() -> int:
    """Runs whatever benchmarks there are; returns the first status that is not 0."""
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    commands: list[list[str]] = []
    if manifest.get("bench"):
        commands.append(["cargo", "bench"])
    compare = ROOT / "benches" / "compare" / "run.py"
    try:
        python = str(environments.release_env())
    except environments.SetupError as fault:
        print(fault, file=sys.stderr)
        return 1
    if compare.is_file():
        commands.append([python, str(compare), *sys.argv[1:]])
    for command in commands:
        print(f"$ {' '.join(command)}", flush=True)
        status = subprocess.run(command, cwd=ROOT, check=False).returncode
        if status != 0:
            return status
    if not commands:
        print("nothing to run: no [[bench]] in Cargo.toml, no benches/compare/run.py")
    return 0 if commands else 1


if __name__ == "__main__":
    sys.exit(main())
