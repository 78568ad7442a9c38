"""Our sources: raw dance data sets as their users have them on disk, one module each. setup.py registers them as entry points.

Declared here, apart from their modules, so that `megadance prepare --help` imports none of these.
"""

from megadance_hf.data.sources import Option, Source
from megadance_hf.modeling.genres_megadance import AISTPP_GENRES, FINEDANCE_GENRES

FINEDANCE = Source(
    "FineDance, as downloaded or as the authors of MEGADance preprocess it",
    prepare="megadance_hf.datasets_scripts.finedance:prepare",
    genres=FINEDANCE_GENRES,
    options=(
        Option(
            "layout",
            "how RAW is laid out (default auto: by its files)",
            choices=("auto", "downloaded", "authors"),
            default="auto",
        ),
        Option(
            "split",
            "published lists: all genres in the test (default; the paper's), or dancers who are in no other split",
            choices=("genre", "dancer"),
            default="genre",
        ),
        Option(
            "validation",
            "train songs to hold back for early stopping; the genre split has none of its own (default 0, as the paper)",
            kind=int,
            default=0,
        ),
        Option(
            "hands",
            "finger by which SMPL's hands turn (default middle)",
            choices=("middle", "index", "none"),
            default="middle",
        ),
    ),
)
AISTPP = Source(
    "AIST++, as downloaded",
    prepare="megadance_hf.datasets_scripts.aistpp:prepare",
    genres=AISTPP_GENRES,
    options=(Option("music", "where the songs are, if not in RAW/music", metavar="FOLDER"),),
)
BALLROOM = Source(
    "waltz, rumba and cha-cha with their songs",
    prepare="megadance_hf.datasets_scripts.ballroom:prepare",
    genres=("chacha", "rumba", "waltz"),
)
BALLROOM2 = Source(
    "tango, rumba, cha-cha and salsa from marker data",
    prepare="megadance_hf.datasets_scripts.ballroom2:prepare",
    genres=("waltz", "tango", "rumba", "chacha", "salsa"),
    options=(Option("waltz", "raw folder of ballroom, to add its waltz", metavar="FOLDER"),),
)
MOCAP = Source(
    "dances without music",
    prepare="megadance_hf.datasets_scripts.mocap:prepare",
    genres=("modern_dance", "walk"),
)
SYNTHETIC = Source(
    "composed songs and choreographed dances; needs no download",
    prepare="megadance_hf.datasets_scripts.synthetic:prepare",
    genres=("bounce", "march", "reach", "sidestep", "sway"),
    has_raw=False,
    options=(
        Option("clips", "how many (default 80)", kind=int, minimum=1, default=80),
        Option("seconds", "length of each (default 24)", kind=float, minimum=2, default=24.0, metavar="S"),
        Option("seed", "another number, other songs", kind=int, default=0),
    ),
)
