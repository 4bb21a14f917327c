"""The streams of the event log: their names and into how many partitions each is cut.

The number of partitions is fixed for the life of a log: an event's partition follows from its
subject, and positions count within a partition. The log refuses to open with other numbers.
"""

from typing import Final

TRACKING: Final = "tracking"
IDENTITY: Final = "identity"
PROFILE: Final = "profile"
SEGMENTATION: Final = "segmentation"
ACTIVATION: Final = "activation"
PRIVACY: Final = "privacy"

STREAMS: Final[dict[str, int]] = {
    TRACKING: 8,
    # One partition, one writer: identity's decisions have one order.
    IDENTITY: 1,
    PROFILE: 4,
    SEGMENTATION: 4,
    ACTIVATION: 4,
    PRIVACY: 1,
}
"""Stream name -> number of partitions."""
