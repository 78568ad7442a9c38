"""The web page as a Hugging Face Space: gather its files in a folder, and push that.

    python examples/space/gather.py runs/space                        # try it: cd runs/space && python app.py
    python examples/space/gather.py runs/space --push OWNER/NAME      # a private Space; `hf auth login` comes first

The Space's Dockerfile installs the requirements before the files are there, so that a change of a file does not install them again. So the
package is not installed: it lies beside `app.py`, as in a checkout.
"""

import argparse
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SPACE = ("app.py", "README.md", "Dockerfile", "requirements.txt")
sys.path.insert(0, str(ROOT))  # the package that is gathered, not an installed one

from megadance_hf.modeling.files_megadance import whole  # noqa: E402

PACKAGE = ("megadance_hf", "modeling", "datasets_scripts", "setup.py", "LICENSE")


def gather(out: Path) -> Path:
    """Write the Space's files into a new folder; it appears whole or not at all.

    Raises:
        SystemExit: `out` exists and has something in it.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        sys.exit(f"OUT={str(out)!r} is there already: give the name of a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole(out) as folder:
        folder.mkdir()
        for name in PACKAGE:
            source, target = ROOT / name, folder / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        for name in SPACE:
            shutil.copy(HERE / name, folder / name)
    return out


def push(folder: Path, repository: str) -> str:
    """Upload a gathered folder to a Space, which is created (private) if there is none; returns its URL."""
    from huggingface_hub import HfApi

    api = HfApi()
    url = api.create_repo(repository, repo_type="space", space_sdk="docker", private=True, exist_ok=True)
    api.upload_folder(folder_path=folder, repo_id=repository, repo_type="space")
    return str(url)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="OUT", type=Path, help="new folder for the Space's files")
    parser.add_argument("--push", metavar="OWNER/NAME", help="upload them to this Space")
    arguments = parser.parse_args()
    print(f"gathered in {gather(arguments.out)}")
    if arguments.push:
        print(f"pushed to {push(arguments.out, arguments.push)}")


if __name__ == "__main__":
    main()
