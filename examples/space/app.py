"""The web page as a Hugging Face Space; `gather.py` beside this file puts together what the Space holds."""

from megadance_hf.demo import Limits, launch

if __name__ == "__main__":
    # The free machine of a Space has two cores, and everybody in the queue waits for them.
    launch(limits=Limits(song_seconds=60.0, megabytes=20.0, compute_seconds=180.0, waiting=20))
