"""What happens when the device's memory does not suffice: less at a time, then in pieces, then on the CPU.

The measures are taken in this order, each when the one before did not help, and the work is done again, so that the
request that met the shortage is finished. They are taken back one by one after good steps, and all of them when a
request finds the backend idle.
"""

import gc
import logging
from collections.abc import Callable
from typing import Protocol

import torch

from atelier_server.backends.sdxl.curve import Measured, StepCurve
from atelier_server.errors import ResourceExhausted

_LOG = logging.getLogger(__name__)

LEAST_ROWS = 2
"""One guided picture; its rows are not split."""
GOOD_STEPS = 32
"""Steps without a shortage, after which a measure is taken back."""
MOST_GOOD_STEPS = 1024
"""A measure that proved to be needed again is kept twice as long, up to this."""
HOME_AFTER_SECONDS = 30.0
"""A model that had to leave its device does not try to return sooner."""

_SIGNS = ("out of memory", "can't allocate memory", "_ALLOC_FAILED")
"""How memory shortages read that have no class of their own: the CPU's allocator, cuBLAS, cuDNN."""


class Movable(Protocol):
    """What is needed of a model."""

    device: torch.device
    can_economise: bool

    def economise(self, on: bool) -> None:
        """Computes in pieces that need less memory, or no longer."""

    def move(self, device: torch.device) -> None:
        """Moves everything to a device."""


class MemoryRelief:
    """Bounds a model's batches by what its memory was seen to hold. To the scheduler it is the model's curve.

    `on_move` is called when the model has moved while pictures are in the making.

    Args:
        model: At work.
        curve: Seconds of a step by rows there.
        native_pixels: Of one picture.
        allow_cpu: Whether the model may move to the CPU as the last measure.
        clock: Seconds that never go back.
        home: The device it is meant for; None: where it is.
    """

    def __init__(
        self,
        model: Movable,
        curve: StepCurve,
        native_pixels: int,
        *,
        allow_cpu: bool,
        clock: Callable[[], float],
        home: torch.device | None = None,
    ) -> None:
        self.on_move: Callable[[], None] = lambda: None
        self._model = model
        self._home = home or model.device
        self._home_curve = self._curve = curve
        self._native_pixels = native_pixels
        self._allow_cpu = allow_cpu
        self._clock = clock
        self._area: int | None = None  # most rows × pixels of a batch
        self._sliced = False
        self._left_home = clock()  # read only while the model is away
        self._good_steps, self._patience, self._took_back = 0, GOOD_STEPS, False

    @property
    def active(self) -> bool:
        """Whether any measure holds."""
        return self._area is not None or self._sliced or self.away

    @property
    def alters_pictures(self) -> bool:
        """Whether a measure holds under which the last bits of a picture differ."""
        return self._sliced or self.away

    @property
    def away(self) -> bool:
        """Whether the model had to leave its device."""
        return self._model.device != self._home

    @property
    def warnings(self) -> tuple[str, ...]:
        """What Health says while a measure holds."""
        holding = []
        if self._area is not None:
            holding.append(f"batches of at most {self.cap(self._native_pixels)} rows")
        if self._sliced:
            holding.append("attention and pictures in pieces")
        if self.away:
            holding.append(f"computing on the {self._model.device.type} instead of {self._home}")
        return (f"out of memory; since then {', '.join(holding)}",) if holding else ()

    @property
    def curve(self) -> StepCurve:
        """What is known of the device in use."""
        return self._curve

    def measured(self, curve: StepCurve) -> None:
        """Takes a new curve for the device in use."""
        self._home_curve = self._curve = curve

    def cap(self, pixels: int) -> int:
        """Most rows in a batch of pictures of that size."""
        cap = self._curve.cap(pixels)
        return cap if self._area is None else max(LEAST_ROWS, min(cap, self._area // pixels))

    def step_seconds(self, rows: int, pixels: int) -> float:
        """Expected seconds of a step."""
        return self._curve.step_seconds(rows, pixels)

    def fits(self, work: Callable[[], None]) -> bool:
        """Does the work. False when the memory did not suffice for it; other errors are raised."""
        try:
            work()
        except Exception as error:
            if not is_shortage(error):
                raise
            _LOG.warning("out of memory on %s: %s", self._model.device, str(error).split("\n", 1)[0])
        else:
            return True
        release_memory()  # only here: inside the handler the error still holds the tensors of its frames
        return False

    def relieve(self, rows: int = 0, pixels: int = 0) -> None:
        """Takes the next measure.

        Args:
            rows: Of a batch, where halving it is of use: the one that did not fit, or the widest that may come.
            pixels: Of each of its pictures.

        Raises:
            ResourceExhausted: There is none left.
        """
        self._good_steps = 0
        if self._took_back:
            self._took_back, self._patience = False, min(2 * self._patience, MOST_GOOD_STEPS)
        if rows > LEAST_ROWS:
            self._area = rows * pixels // 2
        elif not self._sliced and self._model.can_economise:
            self._sliced = True
            self._model.economise(True)
        elif self._allow_cpu and self._model.device.type != "cpu":
            self._left_home = self._clock()
            self._model.move(torch.device("cpu"))
            self.on_move()
        else:
            raise out_of_memory()
        _LOG.warning("%s", self.warnings[0])

    def update(self, rows: int, pixels: int, seconds: float) -> None:
        """Takes note of a good step, as the curve does; enough of them take a measure back."""
        if self.away and self._curve is self._home_curve:
            native_rows = max(1, rows * pixels // self._native_pixels)
            measured = {LEAST_ROWS: LEAST_ROWS * seconds / native_rows}
            self._curve = StepCurve(Measured(measured, measured), self._native_pixels, LEAST_ROWS)
        self._curve.update(rows, pixels, seconds)
        self._good_steps += 1
        if self.active and self._good_steps >= self._patience:
            self._good_steps = 0
            self._take_back()

    def restore(self) -> None:
        """Takes all measures back, for a request that finds nothing else running."""
        if not self.active:
            return
        if self.away and self._clock() - self._left_home < HOME_AFTER_SECONDS:
            return
        if self.away and not self.fits(lambda: self._model.move(self._home)):
            self._left_home = self._clock()
            self._model.move(torch.device("cpu"))
            return
        self._curve = self._home_curve
        if self._sliced:
            self._model.economise(False)
        self._area, self._sliced, self._took_back = None, False, False
        self._good_steps, self._patience = 0, GOOD_STEPS
        _LOG.info("all measures against the shortage of memory are taken back")

    def _take_back(self) -> None:
        """One measure, the last taken first; a model returns to its device only when it is idle."""
        if self._sliced and not self.away:
            self._sliced, self._took_back = False, True
            self._model.economise(False)
        elif self._area is not None:
            self._area, self._took_back = 2 * self._area, True
            if self._area // self._native_pixels >= self._curve.cap(self._native_pixels):
                self._area = None
        if not self.active:
            self._patience = GOOD_STEPS
            _LOG.info("all measures against the shortage of memory are taken back")


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def out_of_memory() -> ResourceExhausted:
    """What callers hear when no measure is left."""
    return ResourceExhausted(
        "The device's memory does not suffice for this picture; ask for a smaller one, or try again later.",
        reason="OUT_OF_MEMORY",
        retry_after_seconds=10.0,
    )


def release_memory() -> None:
    """Gives back what nobody uses."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
