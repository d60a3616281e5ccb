"""How long tasks wait for a slot: Little's law and Erlang's formula for many equal servers (M/M/c)."""

import math
from collections.abc import Iterator


def delays(load: float) -> Iterator[tuple[int, float]]:
    """(slots, probability that a task must wait), for every number of slots above the load, one after another.

    `load`: slots busy on average, arrivals × duration (erlangs). Erlang C out of the recurrence for Erlang B,
    B(c) = load·B(c-1) / (c + load·B(c-1)): sums of nothing but positive terms below 1, so it neither overflows nor
    cancels, for thousands of slots too (L. Kleinrock, Queueing Systems I, 3.5-3.6; D. L. Jagerman, 1974).
    """
    blocked, slots = 1.0, 0
    while True:
        slots += 1
        blocked = load * blocked / (slots + load * blocked)
        if slots > load:
            yield slots, slots * blocked / (slots - load * (1 - blocked))


def delay(slots: int, load: float) -> float:
    """Erlang C: the probability that a task finds every slot busy; 1 where the load is all the slots, or more."""
    if load >= slots:
        return 1.0
    return next(probability for number, probability in delays(load) if number == slots)


def mean_wait(slots: int, load: float, duration: float, variation: float = 1.0) -> float:
    """Seconds that a task waits for a slot on average; math.inf where the load is as much as the slots, or more.

    `duration`: mean seconds of a run; `variation`: its coefficient of variation, 1 for M/M/c. Other values scale the
    wait by (1 + variation²) / 2: exact for one slot (Pollaczek and Khinchine), a good approximation for several
    (A. O. Allen, Probability, Statistics, and Queueing Theory, 2nd ed., 5.3: Allen and Cunneen).
    """
    if load >= slots:
        return math.inf
    return wait_after(delay(slots, load), slots, load, duration, variation)


def wait_after(probability: float, slots: int, load: float, duration: float, variation: float) -> float:
    """mean_wait where the probability of a wait is known already."""
    return probability * duration / (slots - load) * (1 + variation * variation) / 2


def slots_for(load: float, duration: float, variation: float, *, wait: float, busy: float = 1.0) -> int:
    """The fewest slots with a mean wait of at most `wait` seconds and no more than the part `busy` of them in use.

    Raises ValueError where `wait` is not above 0 or `busy` not above 0 and at most 1: no number of slots would do.
    """
    if wait <= 0 or not 0 < busy <= 1:
        raise ValueError(f"no number of slots gives a wait of {wait} s with {busy:.0%} of them in use")
    return next(
        slots
        for slots, probability in delays(load)
        if load <= busy * slots and wait_after(probability, slots, load, duration, variation) <= wait
    )
