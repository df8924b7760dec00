"""The lock, the value and the waits for a change: two targets, and the ratios people ask for."""

from gates import Gate


def ratio(title: str, subject: str, reference: str, *, at_most: bool = True) -> Gate:
    """A ratio inside the rounds that is told and not judged."""
    table = subject.rsplit("/", 1)[0]
    return Gate(title, subject, f"{table}/{reference}", None, at_most=at_most)


PINS = {"apart": "each on its own core", "same": "both on one core"}

SHARED = [
    *(
        Gate(
            f"a free lock taken to {verb}, of parking_lot in one process",
            f"lock-{verb}/64/one/ringspan-blocking",
            f"lock-{verb}/64/one/parking-lot",
            3,
            at_most=True,
        )
        for verb in ("read", "write")
    ),
    ratio(
        "reads of four threads, of parking_lot",
        "lock-threads/64/any/ringspan-blocking",
        "parking-lot",
        at_most=False,
    ),
    *(
        ratio(
            f"turns of two processes, {form}, of a pthread lock, {words}",
            f"handover/64/{pin}/ringspan-{form}",
            "pthread-rwlock",
            at_most=False,
        )
        for pin, words in PINS.items()
        for form in ("blocking", "tokio")
    ),
    *(
        ratio(
            f"wake of a waiter, {form}, of a pthread lock, {words}",
            f"handover-wake/64/{pin}/ringspan-{form}",
            "pthread-rwlock",
        )
        for pin, words in PINS.items()
        for form in ("blocking", "tokio")
    ),
    *(
        ratio(
            f"Python: turns of two processes, {form}, of multiprocessing.Lock, {words}",
            f"py-handover/64/{pin}/ringspan-{form}",
            "mp-lock",
            at_most=False,
        )
        for pin, words in PINS.items()
        for form in ("blocking", "asyncio")
    ),
    *(
        ratio(
            f"Python: wake of a waiter, {form}, of multiprocessing.Lock, {words}",
            f"py-handover-wake/64/{pin}/ringspan-{form}",
            "mp-lock",
        )
        for pin, words in PINS.items()
        for form in ("blocking", "asyncio")
    ),
    *(
        ratio(f"{what} of {words}, of memcpy", f"{kind}/{size}/{pin}/ringspan-value", "bare-memcpy")
        for size, words in ((64, "64 B"), (1 << 20, "1 MiB"))
        for what, kind, pin in (
            ("get", "value-get", "one"),
            ("get beside a process that sets", "value-get", "apart"),
            ("set", "value-set", "one"),
        )
    ),
    *(
        ratio(f"a change and its answer, {what}, of the ring, {words}", f"{row}/{subject}", ring)
        for pin, words in PINS.items()
        for row in (f"changed/64/{pin}",)
        for what, subject, ring in (
            ("watch().next()", "ringspan-watch", "ringspan-ring-parked"),
            ("changed()", "ringspan-value", "ringspan-ring-parked"),
            ("SharedInt", "ringspan-int", "ringspan-ring-parked"),
            ("blocking_next", "ringspan-watch-blocking", "ringspan-ring-blocking-parked"),
            ("blocking_changed", "ringspan-value-blocking", "ringspan-ring-blocking-parked"),
            ("SharedInt, blocking", "ringspan-int-blocking", "ringspan-ring-blocking-parked"),
        )
    ),
    *(
        ratio(
            f"Python: get of {words}, of a copy out of shared memory",
            f"py-value/{size}/one/ringspan-value",
            "bare-shm-bytes",
        )
        for size, words in ((64, "64 B"), (1 << 20, "1 MiB"))
    ),
]
