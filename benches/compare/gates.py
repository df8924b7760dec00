"""What ringspan promises about its speed, as ratios inside one round."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

#: One cell as `compare-cells list` and `cells.py list` describe it.
Cell = dict[str, str | int]
#: Cell name to figure, of one round.
Round = dict[str, float]
#: Picks reference cells by looking at their description.
Pick = Callable[[Cell], bool]


@dataclass(frozen=True)
class Gate:
    """`subject` held against the best of the references, in the same round."""

    title: str
    subject: str
    #: A cell name, or a rule that picks several; the best of them counts. None: no reference,
    #: the figure itself is judged.
    reference: str | Pick | None
    #: None: the ratio is told, not judged.
    must: float | None
    goal: float | None = None
    #: True where the ratio must not be larger (times), False where not smaller (rates).
    at_most: bool = False
    #: Added to the reference, for gates that allow so much more.
    plus: float = 0.0
    #: Multiplies the figure before it is judged, for gates without a reference.
    scale: float = 1.0
    #: Judge this named extra figure of the subject instead of its main one.
    extra: str | None = None

    def references(self, cells: Iterable[Cell]) -> list[str]:
        """The names of the reference cells among `cells`."""
        if self.reference is None:
            return []
        if isinstance(self.reference, str):
            return [str(c["id"]) for c in cells if c["id"] == self.reference]
        return [str(c["id"]) for c in cells if self.reference(c)]

    def of_round(self, figures: Round, references: list[str]) -> float | None:
        """The figure to judge in one round; None where a part is missing."""
        key = f"{self.subject}#{self.extra}" if self.extra else self.subject
        value = figures.get(key)
        if value is None:
            return None
        if self.reference is None:
            return value * self.scale
        there = [figures[name] for name in references if name in figures]
        if not there:
            return None
        return value / ((min(there) if self.at_most else max(there)) + self.plus)

    def reaches(self, ratio: float, bar: float) -> bool:
        """Whether the ratio is on the right side of the bar."""
        return ratio <= bar if self.at_most else ratio >= bar

    def verdict(self, ratio: float) -> str:
        """Met or missed, and by how much."""
        if self.must is None:
            return "no target"
        if not self.reaches(ratio, self.must):
            if self.must == 0:
                return "MISSED"
            short = ratio / self.must if self.at_most else self.must / ratio
            return f"MISSED, {short:.2f} times too {'large' if self.at_most else 'small'}"
        if self.goal is None:
            return "met"
        return "goal met" if self.reaches(ratio, self.goal) else "must met, goal not"

    def bar(self) -> str:
        """The limits as text."""
        if self.must is None:
            return "-"
        sign = "<=" if self.at_most else ">="
        goal = "" if self.goal is None else f" [{self.goal:g}]"
        return f"{sign} {self.must:g}{goal}"


def peers(kind: str, size: int, *waits: str) -> Pick:
    """Every peer of one row that waits in one of the given ways."""

    def pick(cell: Cell) -> bool:
        row = (cell["class"], cell["kind"], cell["size"])
        return row == ("peer", kind, size) and cell["waits"] in waits

    return pick


S, T, L = "stream/64/apart", "rtt/64", "large/1048576/apart"
PS, PT, PA = "py-stream/64/apart", "py-rtt/64", "py-array/1048576/apart"

GATES = [
    Gate(
        "pop().await of the bare spinning ring",
        f"{S}/ringspan-pop",
        f"{S}/bare-spin-ring",
        0.4,
        0.7,
    ),
    Gate(
        "blocking_pop of the bare spinning ring",
        f"{S}/ringspan-blocking",
        f"{S}/bare-spin-ring",
        0.6,
    ),
    Gate(
        "pop().await of the best peer in tokio",
        f"{S}/ringspan-pop",
        peers("stream", 64, "tokio"),
        3,
        5,
    ),
    Gate(
        "pop().await of the best peer that parks",
        f"{S}/ringspan-pop",
        peers("stream", 64, "tokio", "parks"),
        1,
    ),
    Gate(
        "pop_many of the best peer that spins",
        f"{S}/ringspan-pop-many",
        peers("stream", 64, "spins"),
        1,
    ),
    Gate(
        "pop_many of the bare ring in batches of 16",
        f"{S}/ringspan-pop-many",
        f"{S}/bare-spin-ring-16",
        0.6,
    ),
    # "Per burst, not per message": fewer than one park for ten messages.
    Gate(
        "parks of the consumer per message",
        f"{S}/ringspan-pop",
        None,
        0.1,
        at_most=True,
        extra="parks/msg",
    ),
    Gate(
        "1 MiB, copy in and out, of memcpy",
        f"{L}/ringspan-copy",
        "memory/1048576/one/bare-memcpy",
        0.7,
    ),
    Gate(
        "1 MiB in place of the loops in one process",
        f"{L}/ringspan-in-place",
        "memory/1048576/one/bare-fill-sum",
        0.85,
    ),
    *(
        Gate(
            f"round trip in tokio, parked, {pin}",
            f"{T}/{pin}/ringspan-parked",
            f"{T}/{pin}/bare-eventfd-tokio",
            1.15,
            at_most=True,
        )
        for pin in ("apart", "same")
    ),
    Gate(
        "round trip in tokio, awake, of spinning",
        f"{T}/apart/ringspan-awake",
        f"{T}/apart/bare-spin-line",
        8,
        at_most=True,
    ),
    Gate(
        "round trip blocking, awake, of spinning",
        f"{T}/apart/ringspan-blocking",
        f"{T}/apart/bare-spin-line",
        3,
        at_most=True,
    ),
    # "Never slower" with 5 per cent for noise: the two cells do the same work when the rule holds.
    Gate(
        "staying awake on one core, of parking at once",
        f"{T}/same/ringspan-awake",
        f"{T}/same/ringspan-parked",
        1.05,
        at_most=True,
    ),
    Gate(
        "the same in blocking code",
        f"{T}/same/ringspan-blocking",
        f"{T}/same/ringspan-blocking-parked",
        1.05,
        at_most=True,
    ),
    Gate(
        "CPU seconds of two parked ends in 2 s",
        "idle/64/apart/ringspan-idle",
        None,
        0,
        at_most=True,
    ),
    Gate(
        "Python: await pop of multiprocessing.Queue",
        f"{PS}/ringspan-await",
        f"{PS}/mp-queue",
        22,
        35,
    ),
    Gate("Python: await pop of pyzmq", f"{PS}/ringspan-await", f"{PS}/pyzmq", 2.2, 3.5),
    Gate(
        "Python: pop_many(64) of membridge spinning",
        f"{PS}/ringspan-pop-many",
        f"{PS}/membridge-spin",
        1,
    ),
    Gate(
        "Python: blocking of multiprocessing.Queue",
        f"{PS}/ringspan-blocking",
        f"{PS}/mp-queue",
        30,
        50,
    ),
    Gate(
        "Python: 1 MiB array of shared memory, copied",
        f"{PA}/ringspan-array-copy",
        f"{PA}/shm-pipe-copy",
        1.3,
        at_most=True,
    ),
    Gate(
        "Python: 1 MiB array of shared memory, no copy",
        f"{PA}/ringspan-array-no-copy",
        f"{PA}/shm-pipe-no-copy",
        1.1,
        at_most=True,
    ),
    *(
        Gate(
            f"Python: round trip in asyncio, parked, {pin}",
            f"{PT}/{pin}/ringspan-asyncio",
            f"{PT}/{pin}/bare-add-reader",
            1.15,
            at_most=True,
        )
        for pin in ("apart", "same")
    ),
    Gate(
        "Python: round trip with spin=, us",
        f"{PT}/apart/ringspan-spin",
        None,
        1,
        at_most=True,
        scale=1e6,
    ),
]


@dataclass
class Judged:
    """A gate after all rounds."""

    gate: Gate
    ratios: list[float] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
