"""A model in Python that other processes ask: `examples/model_client.rs` does, from tokio.

    python examples/python/model.py /model
    cargo run --example model_client -- /model

The model is a logistic regression in plain Python: whether a point lies above a line. What matters
is the service around it: `predict` runs on the event loop between two requests (`inline=True`, it
takes microseconds), `train` on a worker thread, so that the loop goes on answering meanwhile.
"""

import asyncio
import math
import random
import sys

import ringspan


class Model:
    """Weights of two inputs, and a bias."""

    def __init__(self) -> None:
        self.weights = (0.0, 0.0, 0.0)

    def predict(self, x: float, y: float) -> float:
        """How likely it is that the point lies above the line."""
        a, b, bias = self.weights
        return 1 / (1 + math.exp(-(a * x + b * y + bias)))

    def train(self, points: list[tuple[float, float, bool]], epochs: int = 100) -> float:
        """Learns from points; returns the mean error of the last epoch."""
        a, b, bias = self.weights
        error = 0.0
        for _ in range(epochs):
            error = 0.0
            for x, y, above in points:
                off = self.predict(x, y) - above
                error += abs(off)
                a, b, bias = a - off * x, b - off * y, bias - off
                self.weights = a, b, bias  # one assignment: `predict` sees the old or the new ones
        return error / len(points)


def service(name: str) -> ringspan.Service:
    """A model with what others may ask of it."""
    model = Model()
    made = ringspan.Service(name, max_concurrency=64)

    @made.method(inline=True)
    def predict(x: float, y: float) -> float:
        return model.predict(x, y)

    @made.method
    def train(points: list[tuple[float, float, bool]], epochs: int = 100) -> float:
        if not points:
            raise ValueError("no points to learn from")
        return model.train(points, epochs)

    @made.method
    async def samples(count: int, seed: int = 0) -> list[tuple[float, float, bool]]:
        chance = random.Random(seed)
        points = [(chance.random(), chance.random()) for _ in range(count)]
        return [(x, y, x + y > 1) for x, y in points]

    return made


async def main(name: str) -> None:
    """Serves until the name is removed, or Ctrl-C."""
    async with service(name) as served:
        print("serving", flush=True)
        await served.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
