"""Has pictures filtered by a Rust process, `examples/image_filter.rs`.

    python examples/python/filter_client.py /filter pictures

writes three files into the folder `pictures`: a generated picture, its edges, and, where numpy is
installed, the picture blurred. Any viewer shows PGM.
"""

import asyncio
import sys
from pathlib import Path

import ringspan

WIDTH, HEIGHT = 160, 120


def generated() -> bytes:
    """A disc on a slope, as a PGM file."""
    pixels = bytearray()
    for y in range(HEIGHT):
        for x in range(WIDTH):
            inside = (x - 80) ** 2 + (y - 60) ** 2 < 40**2
            pixels.append(230 if inside else x * 100 // WIDTH)
    return b"P5\n%d %d\n255\n" % (WIDTH, HEIGHT) + pixels


async def main(name: str, folder: Path) -> None:
    """Calls both filters and writes the pictures."""
    original = generated()
    (folder / "original.pgm").write_bytes(original)
    rust = await ringspan.connect(name, timeout=20)

    edges = await rust.edges(original)  # a method of raw bytes: the file goes as it is
    (folder / "edges.pgm").write_bytes(edges)
    print(f"edges.pgm: {len(edges)} bytes, {sum(edges[-WIDTH * HEIGHT :]) // 1000}k of contrast")

    try:
        await rust.edges(b"not a picture")
    except ValueError as error:  # the type that the Rust handler named
        print(f"refused: {error}")

    try:
        import numpy as np
    except ImportError:
        print("no numpy, no blur")
        return
    image = np.frombuffer(original, "u1", offset=len(original) - WIDTH * HEIGHT)
    image = image.reshape(HEIGHT, WIDTH)
    # Eight at once; an array is an argument and a result like any other.
    blurred = await asyncio.gather(*(rust.blur(image, radius) for radius in range(8)))
    assert all(one.shape == (HEIGHT, WIDTH) and one.dtype == "u1" for one in blurred)
    header = b"P5\n%d %d\n255\n" % (WIDTH, HEIGHT)
    (folder / "blurred.pgm").write_bytes(header + blurred[-1].tobytes())
    spread = [int(one.std()) for one in blurred]
    print(f"blurred.pgm: the spread of the pixels fell from {spread[0]} to {spread[-1]}")


if __name__ == "__main__":
    pictures = Path(sys.argv[2])
    pictures.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(sys.argv[1], pictures))
