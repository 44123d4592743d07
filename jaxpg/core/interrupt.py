"""Signals by which people and schedulers stop a program: Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP.

The last is of a terminal that is closed; `nohup` has a program ignore it. A run looks after each
chunk whether one came (core/run.py), and then ends in good order. Where nobody looks, a signal ends
what is done at once, as an exception.
"""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")  # Windows has only two of them
SIGNALS = tuple(getattr(signal, x) for x in NAMES if hasattr(signal, x))
AGAIN = 1.0  # seconds; sooner it is the same signal, which launchers hand on twice


class Interrupted(KeyboardInterrupt):
    """Interrupt by a signal for which no run waited, or that came a second time."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


def exit_code(number: int) -> int:
    """Exit code of a command that a signal ended, as shells have it."""
    return 128 + number


class Signals:
    """Signals that came, while `catch_signals` catches them."""

    def __init__(self):
        self.asked = 0  # number of the signal that asks a run to stop; 0 is none
        self.waits = False  # whether somebody looks at `asked`
        self.previous: dict[int, Any] = {}  # handlers, by number
        self._came: dict[int, float] = {}  # when each came first, in seconds

    def handle(self, number: int, frame: Any) -> None:
        """Takes down a signal, or stops at once: a second one does, and one for which nobody
        waits."""
        now, first = time.monotonic(), self._came.get(number)
        self._came.setdefault(number, now)
        if first is not None and now - first < AGAIN:
            return
        if first is None and self.waits:
            self.asked = self.asked or number
            again = "Ctrl-C again" if number == signal.SIGINT else "a second one"
            name = "" if number == signal.SIGINT else f"{signal.Signals(number).name}: "
            # The handler may have come in the middle of another line, or after the terminal went.
            with contextlib.suppress(RuntimeError, OSError, ValueError):
                text = f"\n{name}stopping after this chunk; {again} stops at once"
                print(text, file=sys.stderr, flush=True)
            return
        before = self.previous.get(number)
        if not callable(before) or before is signal.default_int_handler:
            # What is thrown into others' code may get lost there, as in what Python calls while it
            # collects garbage: then the next run ends by this.
            self.asked = self.asked or number
        if callable(before):
            before(number, frame)  # for Ctrl-C Python's own, which raises KeyboardInterrupt
            return
        raise Interrupted(number)


_active: Signals | None = None  # of the innermost `catch_signals`, which those within it share


@contextlib.contextmanager
def catch_signals(
    wait: bool = True, numbers: Iterable[int] = SIGNALS, own: bool = False
) -> Iterator[Signals]:
    """Catches signals, and restores their handlers in the end.

    wait: whether the caller looks at `asked`; if not, a signal raises KeyboardInterrupt. Within
    another `catch_signals` it gives the same Signals. But for Ctrl-C a signal for which the program
    has a handler of its own, or which it ignores, is left alone, unless `own`; in a thread that is
    not the main one, where Python lets nobody catch signals, all are.
    """
    global _active
    if threading.current_thread() is not threading.main_thread():
        yield Signals()
        return
    outer, this = _active, _active or Signals()
    waited, mine = this.waits, []
    for number in numbers:
        before = signal.getsignal(number)
        known = number in this.previous
        free = own or number == signal.SIGINT or before is signal.SIG_DFL
        if before is None or not (known or free):
            continue
        if not known:
            mine.append(number)
            this.previous[number] = before
        signal.signal(number, this.handle)  # anew, too: libraries may have taken it meanwhile
    _active, this.waits = this, wait
    try:
        yield this
    finally:
        _active, this.waits = outer, waited
        for number in mine:
            signal.signal(number, this.previous.pop(number))


@contextlib.contextmanager
def hand_on(numbers: Iterable[int]) -> Iterator[None]:
    """Context in which runs also end at signals for which the program has handlers of its own: each
    is called when all in the context has ended, or at once where no run is under way."""
    own = [x for x in numbers if callable(signal.getsignal(x))]
    this, handlers = Signals(), {}
    try:
        with catch_signals(False, own, own=True) as this:
            handlers = dict(this.previous)
            yield
    finally:
        if this.asked in handlers:
            handlers[this.asked](this.asked, None)
