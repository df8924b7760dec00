"""The older libraries: what is done with each, and that `ringspan.compat` is never slower."""

from dataclasses import dataclass

from gates import Gate

#: "Never slower", with 5 per cent for noise.
NEVER_SLOWER = 0.95


@dataclass(frozen=True)
class Library:
    """A library, and the titles of its operations by kind, without "py-compat-", size and pin."""

    title: str
    #: What pip calls it; empty for the standard library, None where pip has none.
    package: str | None
    operations: dict[tuple[str, int, str], str]


LIBRARIES = {
    "membridge": Library(
        "membridge",
        "membridge",
        {
            ("ring-bytes", 64, "one"): "ring: push and pop of 64 B",
            ("ring-bytes", 64 << 10, "one"): "ring: push and pop of 64 KiB",
            ("ring-text", 64, "one"): "ring: push and pop of a str of 64 B",
            ("ring-int", 8, "one"): "ring: push and pop of an int",
            ("ring-empty", 64, "one"): "ring: pop where there is nothing",
            ("ring-used", 64, "one"): "ring: push, used, pop, used",
            ("stream-busy", 64, "apart"): "ring: stream of 64 B, trying again and again",
            ("stream-busy", 64 << 10, "apart"): "ring: stream of 64 KiB, trying again and again",
            ("stream-sleeping", 64, "apart"): "ring: stream of 64 B, `sleep(0)` and again",
            ("stream-sleeping", 64 << 10, "apart"): "ring: stream of 64 KiB, `sleep(0)` and again",
            ("stream-awaited", 64, "apart"): "ring: stream of 64 B, `apush` and `apop`",
            ("stream-awaited", 64 << 10, "apart"): "ring: stream of 64 KiB, `apush` and `apop`",
            ("view-write-int", 8, "one"): "view: write of an int",
            ("view-read-int", 8, "one"): "view: seek and read of an int",
            ("view-read", 1 << 10, "one"): "view: read_range of 1 KiB",
            ("view-write", 64 << 10, "one"): "view: write of 64 KiB",
            ("view-read", 64 << 10, "one"): "view: read_range of 64 KiB",
            ("view-write-mixed", 64, "one"): "view: write_mixed of four items",
            ("view-read-mixed", 64, "one"): "view: read_mixed of four items",
        },
    ),
    "multiprocessing": Library(
        "multiprocessing.shared_memory",
        "",
        {
            ("create", 4 << 10, "one"): "create, close and unlink, 4 KiB",
            ("create", 1 << 20, "one"): "create, close and unlink, 1 MiB",
            ("create-untracked", 4 << 10, "one"): "create, close and unlink, untracked",
            ("attach", 4 << 10, "one"): "attach and close",
            ("buf-write", 4 << 10, "one"): "4 KiB written by a slice of buf",
            ("buf-read", 4 << 10, "one"): "4 KiB read by a slice of buf",
            ("list-create", 64, "one"): "ShareableList: create, close and unlink",
            ("list-get", 64, "one"): "ShareableList: get a str",
            ("list-set", 64, "one"): "ShareableList: set an int",
        },
    ),
    "sysframe": Library(
        "sysframe",
        "sysframe",
        {
            ("call", 64, "apart"): "call_function, one at a time",
            ("write", 64, "one"): "write_memory of a small dict",
            ("read", 64, "one"): "read_memory of a small dict",
        },
    ),
    "memory_interface": Library(
        "memory_interface",
        None,
        {
            ("int", 8, "one"): "SharedInt: write and read",
            ("text", 64, "one"): "SharedString: write and read, 64 B",
            ("objects", 64, "one"): "MemoryInterface: write and read of a dict",
        },
    ),
    "shared_memory": Library(
        "shared_memory",
        None,
        {
            ("array-create", 4 << 10, "one"): "create and unlink of an array of 4 KiB",
            ("array-load", 4 << 10, "one"): "load of an array of 4 KiB",
            ("queue", 64, "one"): "ShmMessageQueue: put and get of 64 B",
        },
    ),
}


def rows(library: str) -> dict[str, str]:
    """The beginnings of the cells' names, with the title of each operation."""
    return {
        f"py-compat-{library}-{what}/{size}/{pin}": title
        for (what, size, pin), title in LIBRARIES[library].operations.items()
    }


COMPAT = [
    Gate(
        f"{LIBRARIES[library].title}, {title}",
        f"{row}/ringspan-compat",
        f"{row}/original",
        None if "-awaited/" in row else NEVER_SLOWER,  # the original has nothing to await
    )
    for library in LIBRARIES
    for row, title in rows(library).items()
]
