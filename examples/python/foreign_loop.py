"""Two rings in one thread, by an event loop of your own: here the module `selectors`.

    python examples/python/foreign_loop.py /left /right
    python examples/python/blocking.py send /left one two
    python examples/python/blocking.py send /right three

The rule: before you sleep, `arm()`. True means that the descriptor becomes readable when there is
something to do; after that, `disarm()`, and look again. False means: look again now.
"""

import selectors
import sys

import ringspan


def drain(rx: ringspan.Consumer) -> bool:
    """Prints what is there; True at the end of the stream, False when it is armed for sleep."""
    while True:
        try:
            print(f"{rx.name}: {rx.try_pop().decode()}", flush=True)
        except ringspan.Closed:
            return True
        except ringspan.Empty:
            if rx.arm():
                return False


def main(names: list[str]) -> None:
    """Runs until every stream has ended."""
    rings = [ringspan.Ring(name, capacity=64 << 10, ephemeral=True) for name in names]
    open_ends = [ring.consumer() for ring in rings]
    with selectors.DefaultSelector() as loop:
        for rx in open_ends:
            loop.register(rx.fileno(), selectors.EVENT_READ, rx)
        while True:
            for rx in list(open_ends):
                if drain(rx):
                    loop.unregister(rx.fileno())  # out of the loop before the handle goes
                    open_ends.remove(rx)
                    rx.close()
            if not open_ends:
                return
            for key, _ in loop.select():
                key.data.disarm()


if __name__ == "__main__":
    main(sys.argv[1:])
