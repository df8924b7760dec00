"""A ring as an argument of `multiprocessing.Process`: it is pickled by its name.

    python examples/python/processes.py spawn

Give the child the ring, not an end of it: the child takes its role itself. The start methods
`spawn`, `forkserver` and `fork` all work.
"""

import multiprocessing
import sys

import ringspan


def work(numbers: ringspan.Ring, squares: ringspan.Ring) -> None:
    """Runs in the child."""
    with numbers.consumer() as rx, squares.producer() as tx:
        while True:
            try:
                tx.blocking_push(rx.blocking_pop() ** 2)
            except ringspan.Closed:
                return


def main(method: str) -> None:
    """Runs in the parent."""
    multiprocessing.set_start_method(method)
    # No name is ever shared by accident: this one holds the parent's process id.
    base = f"/squares-{multiprocessing.current_process().pid}"
    numbers = ringspan.Ring(f"{base}-in", ephemeral=True)
    squares = ringspan.Ring(f"{base}-out", ephemeral=True)
    tx, rx = numbers.producer(), squares.consumer()
    child = multiprocessing.Process(target=work, args=(numbers, squares))
    child.start()
    # An ephemeral ring goes with its last end: do not leave before the child is there.
    tx.blocking_attached()
    for n in range(5):
        tx.blocking_push(n)
    tx.close()
    print([rx.blocking_pop(timeout=20) for _ in range(5)])
    child.join()
    rx.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "spawn")
