"""`make soak MINUTES=n`: the same tests with larger amounts and a new seed in each round.

Tests multiply their amounts by RINGSPAN_SCALE and draw from RINGSPAN_SEED. The first failure ends
the soak and says how to repeat its round.
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
import time

import environments
from environments import ROOT


def main() -> int:
    """Runs rounds until the time is over; returns the status of the first failed one, or 0."""
    parser = argparse.ArgumentParser(description="Repeat the tests for a while.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--scale", type=int, default=10, help="how many times larger")
    options = parser.parse_args()
    try:
        environments.dev_env()
    except environments.SetupError as fault:
        print(fault, file=sys.stderr)
        return 1
    python = str(environments.python_in(environments.DEV))
    rust = ["cargo", "test", "--profile", "dev-wheel", "--features", "failpoints"]
    suites = [
        [*rust, "--lib", "--tests"],
        [python, "-m", "pytest", "-q", "-o", f"timeout={30 * options.scale}"],
    ]
    end = time.monotonic() + options.minutes * 60
    rounds = 0
    while rounds == 0 or time.monotonic() < end:
        rounds += 1
        doorbell = ("eventfd", "pipe")[rounds % 2]
        chosen = {
            "RINGSPAN_SEED": str(secrets.randbits(32)),
            "RINGSPAN_SCALE": str(options.scale),
            **({"RINGSPAN_DOORBELL": doorbell} if doorbell == "pipe" else {}),
        }
        shown = " ".join(f"{key}={value}" for key, value in chosen.items())
        for suite in suites:
            left = max(0.0, end - time.monotonic()) / 60
            print(f"\n== round {rounds}, {left:.0f} minutes left: {shown} {' '.join(suite)}")
            sys.stdout.flush()
            env = {**os.environ, **chosen}
            status = subprocess.run(suite, cwd=ROOT, env=env, check=False).returncode
            if status != 0:
                print(f"\nround {rounds} failed; to repeat it:\n  {shown} {' '.join(suite)}")
                return status
    print(f"\n{rounds} rounds, none failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
