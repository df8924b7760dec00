"""The same verbs without an event loop: threads that park in the kernel.

    python examples/python/blocking.py recv /lines
    python examples/python/blocking.py send /lines one two three

The Rust twin is `examples/blocking.rs`; either side may be either language. Kill the sender before
it is done, and the receiver says so and waits for the next one.
"""

import sys

import ringspan


def send(ring: ringspan.Ring, words: list[str]) -> None:
    """Sends the words, once somebody is there to read them."""
    with ring.producer() as tx:
        tx.blocking_attached()
        for word in words:
            # Without a time-out it waits for as long as it takes; Ctrl-C works in any case.
            tx.blocking_push(word.encode(), timeout=30)


def receive(ring: ringspan.Ring) -> None:
    """Prints until the end of the stream."""
    with ring.consumer() as rx:
        while True:
            try:
                print(rx.blocking_pop().decode())
            except ringspan.Closed:
                break
            except ringspan.PeerDied as fault:
                print(fault)


if __name__ == "__main__":
    verb, name, *rest = sys.argv[1:]
    # Ephemeral: the last one out removes the name.
    wanted = ringspan.Ring(name, capacity=64 << 10, ephemeral=True)
    if verb == "send":
        send(wanted, rest)
    else:
        receive(wanted)
