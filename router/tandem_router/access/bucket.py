"""A token bucket: so much at once, so much again per minute. Pure: the time is an argument."""

from dataclasses import dataclass

MINUTE = 60.0


@dataclass(slots=True)
class Bucket:
    """`capacity` is also what flows in per minute. A `level` below 0 is waited off."""

    capacity: float
    level: float
    filled: float

    def refill(self, now: float) -> float:
        """The level at `now`."""
        if now > self.filled:
            self.level = min(self.capacity, self.level + (now - self.filled) * self.capacity / MINUTE)
            self.filled = now
        return self.level

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` may be taken; 0 for now. More than the capacity waits for a full bucket."""
        missing = min(amount, self.capacity) - self.refill(now)
        return max(0.0, missing * MINUTE / self.capacity)

    def take(self, amount: float, now: float) -> None:
        """Takes `amount`, there or not; a negative one gives back."""
        self.level = min(self.capacity, self.refill(now) - amount)

    def until_full(self, now: float) -> float:
        return (self.capacity - self.refill(now)) * MINUTE / self.capacity


def new_bucket(per_minute: float, now: float) -> Bucket:
    """A full one."""
    return Bucket(per_minute, per_minute, now)
