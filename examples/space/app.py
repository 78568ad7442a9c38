"""The web page as a Hugging Face Space; `gather.py` beside this file gathers its files."""

from megadance_hf.demo import Limits, launch

if __name__ == "__main__":
    # A Space's free machine has two cores, shared by everybody in the queue; README.md names the port.
    launch(
        host="0.0.0.0", port=7860, limits=Limits(song_seconds=60.0, megabytes=20.0, compute_seconds=180.0, waiting=20)
    )
