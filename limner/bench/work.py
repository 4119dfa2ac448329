"""What a step has to compute at least, counted by hand from the sizes of the network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Product:
    """A matrix product, [rows, inner] by [inner, columns].

    Args:
        batch: how many of them are done in one call.
    """

    rows: int
    inner: int
    columns: int
    batch: int = 1

    @property
    def flops(self) -> int:
        """Multiplications and additions of a call."""
        return 2 * self.batch * self.rows * self.inner * self.columns

    def __str__(self) -> str:
        size = f"{self.rows} x {self.inner} x {self.columns}"
        return f"product {size}" if self.batch == 1 else f"{self.batch} products {size}"


@dataclass(frozen=True)
class Convolution:
    """A square two-dimensional convolution.

    Args:
        batch: pictures.
        inputs: channels in.
        outputs: channels out.
        height: of the output.
        width: of the output.
        kernel: pixels along each side.
        stride: between windows.
    """

    batch: int
    inputs: int
    outputs: int
    height: int
    width: int
    kernel: int = 3
    stride: int = 1

    @property
    def flops(self) -> int:
        """Multiplications and additions of a call."""
        window = self.inputs * self.kernel**2
        return 2 * self.batch * self.outputs * self.height * self.width * window

    def __str__(self) -> str:
        channels = f"{self.inputs} to {self.outputs} channels"
        stride = f" stride {self.stride}" if self.stride > 1 else ""
        size = f"{self.batch} x {self.height} x {self.width}"
        return f"convolution {self.kernel} x {self.kernel}{stride}, {channels}, {size}"


Operation = Product | Convolution


@dataclass
class Work:
    """The operations of a step.

    Args:
        times: operation -> how many of it; a fraction where only part of it is needed (a causal
            attention needs half of its products).
        bytes: that have to go from or to memory beside what the operations read and write.
        read: bytes that operations have to read from memory, as caches do not hold them; they may
            compute meanwhile.
    """

    times: dict[Operation, float] = field(default_factory=dict)
    bytes: int = 0
    read: int = 0

    def add(self, operations: Operation | Iterable[Operation], times: float = 1) -> None:
        """Count one or more operations."""
        several = [operations] if isinstance(operations, (Product, Convolution)) else operations
        for operation in several:
            self.times[operation] = self.times.get(operation, 0) + times

    @property
    def flops(self) -> float:
        """Of all operations."""
        return sum(times * operation.flops for operation, times in self.times.items())


def trained(rows: int, inputs: int, outputs: int) -> list[Product]:
    """Return the products of a linear layer in a training step.

    They are its output, the gradient of its input and that of its weight.
    """
    return [
        Product(rows, inputs, outputs),
        Product(rows, outputs, inputs),
        Product(outputs, rows, inputs),
    ]
