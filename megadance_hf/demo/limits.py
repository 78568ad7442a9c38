"""What one visitor of the web page may ask of the machine."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one visitor may ask of the machine.

    Attributes:
        song_seconds: longest dance; of a longer song an excerpt is danced.
        megabytes: largest file to upload.
        compute_seconds: a dance that takes longer is cancelled.
        waiting: visitors in the queue; the next one is asked to come back later.
        disk_megabytes: for the songs and dances of all visitors. The oldest are deleted first; when all of them are younger than
            `SAFE_SECONDS`, visitors are asked to come back later.
        listening_seconds: of a longer song only the beginning is used.
    """

    song_seconds: float = 120.0
    megabytes: float = 30.0
    compute_seconds: float = 300.0
    waiting: int = 20
    disk_megabytes: float = 4000.0
    listening_seconds: float = 600.0
