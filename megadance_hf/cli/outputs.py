"""The files that a command writes: its options for them are checked before anything slow, then all files appear or none."""

import argparse
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import CommandError, add_body_option

if TYPE_CHECKING:
    from megadance_hf.motion.motion import Motion

BONES = ("smpl", "mixamo")  # repeated, because their home imports torch; a test compares them
FORMATS = """\
the suffix of OUT chooses the format:
  .mp4          video with the song                       .npz  SMPL poses, path, fps, genre (AMASS-like)
  .glb          animated figure for any 3D viewer         .pkl  the same for tools that want a pickle
  .bvh          skeleton for Blender, Maya, Unreal        .joints.npz, .json  joint positions, metres
  .vrma         VRM animation, for any VRM avatar         .smplx.npz  for Blender's SMPL-X add-on (as AMASS)

"""


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """-o, --bundle, --bones, --body, --no-title: what `Outputs` takes."""
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        action="append",
        default=[],
        help="file to write; give several -o for several formats",
    )
    parser.add_argument(
        "--bundle",
        metavar="DIR",
        help="new folder with everything for Blender: .glb, .bvh, the song cut to the dance, a script that opens them, a HOWTO",
    )
    parser.add_argument(
        "--bones",
        choices=BONES,
        default="smpl",
        help="skeleton of a .bvh: SMPL's 24 joints (default), or Mixamo's names and T-pose, for retargeting",
    )
    add_body_option(parser, "in .mp4, .glb and --bundle")
    parser.add_argument("--no-title", action="store_true", help="no name of the genre in the picture of an .mp4")


class Outputs:
    """Files of any format (`-o`) and a folder for animators (`--bundle`), for each of `num` dances.

    Names of several dances are numbered: dance-1.mp4, dance-2.mp4. None of `inputs` (name of the argument -> path or open file
    that the command reads) may be among them, by any name or link.

    Raises:
        CommandError: a file or folder cannot be written, or would replace something it must not.
    """

    def __init__(
        self,
        files: Sequence[str],
        num: int = 1,
        bundle: str | None = None,
        bones: str = "smpl",
        body: str = "mannequin",
        title: bool = True,
        inputs: Mapping[str, Any] | None = None,
    ) -> None:
        if not files and bundle is None:
            raise CommandError("nothing to write: give -o OUT or --bundle DIR")
        self.bones, self.body, self.title = bones, body, None if title else False
        self.files = _check_files(files, num, inputs or {})
        self.bundles = _check_bundles(bundle, num) if bundle is not None else []
        names = {os.path.abspath(path) for paths in self.files for path in paths}
        if repeated := [path for path in self.bundles if os.path.abspath(path) in names]:
            raise CommandError(f"argument --bundle: {str(repeated[0])!r} is also a file to write: give another name")

    def write(self, dances: "Sequence[Motion]", song: Any, start: float) -> list[str]:
        """Write all of them, or none: an error on the way leaves nothing behind. Returns a line for each, to be printed."""
        from megadance_hf.modeling.files_megadance import all_or_none

        body, bones = {"body": self.body}, {"bones": self.bones}
        options = {
            ".mp4": {"music": song, "music_start": start, "title": self.title, **body},
            ".glb": body,
            ".bvh": bones,
        }
        with all_or_none(CommandError, "choose another place with -o or --bundle") as temporary:
            for dance, paths in zip(dances, self.files, strict=True):
                for path in paths:
                    dance.save(temporary(path), **options.get(path.suffix.lower(), {}))
            for dance, path in zip(dances, self.bundles, strict=False):
                from megadance_hf.export.bundle import save_bundle

                save_bundle(dance, temporary(path), song, start, self.bones, self.body)
        return [_line(path) for paths in (*self.files, self.bundles) for path in paths]


def _check_files(outputs: Sequence[str], num: int, inputs: Mapping[str, Any]) -> list[list[Path]]:
    """The files to write, one list for each dance."""
    from megadance_hf.modeling.audio_megadance import is_same_file
    from megadance_hf.motion.motion import MotionError, check_output

    targets = []
    for output in outputs:
        path = Path(output)
        try:
            suffix = check_output(path)
        except MotionError as error:
            raise CommandError(f"argument -o: {error}") from None
        _check_folder("-o", path)
        stem = path.name[: -len(suffix)]
        numbered = [path.with_name(f"{stem}-{index}{path.name[len(stem) :]}") for index in range(1, num + 1)]
        targets.append(numbered if num > 1 else [path])
    dances = [[files[index] for files in targets] for index in range(num)]
    files = [os.path.abspath(path) for paths in dances for path in paths]
    if repeated := sorted({name for name in files if files.count(name) > 1}):
        raise CommandError(f"argument -o: {repeated[0]!r} is to be written twice: give each output another name")
    if folders := [name for name in files if os.path.isdir(name)]:
        raise CommandError(f"argument -o: {folders[0]!r} is a folder: give another name")
    for path, (argument, source) in itertools.product(itertools.chain.from_iterable(dances), inputs.items()):
        if is_same_file(path, source):
            raise CommandError(
                f"argument -o: {str(path)!r} is {argument} itself, which would be replaced: give another name"
            )
    return dances


def _check_bundles(bundle: str, num: int) -> list[Path]:
    """The folders to make, one for each dance."""
    from megadance_hf.export.bundle import check_bundle
    from megadance_hf.motion.motion import MotionError

    path = Path(bundle)
    folders = [path.with_name(f"{path.name}-{index}") for index in range(1, num + 1)] if num > 1 else [path]
    for folder in folders:
        try:
            check_bundle(folder)
        except MotionError as error:
            raise CommandError(f"argument --bundle: {error}") from None
    _check_folder("--bundle", path)
    return folders


def _check_folder(option: str, path: Path) -> None:
    from megadance_hf.modeling.files_megadance import check_place

    try:
        check_place(path)
    except OSError as error:
        raise CommandError(
            f"argument {option}: {str(path)!r} cannot be written ({error.strerror}): choose another place"
        ) from None


def _line(path: Path) -> str:
    from megadance_hf.modeling.files_megadance import readable_size

    sizes = [file.stat().st_size for file in (path.iterdir() if path.is_dir() else [path])]
    name, count = (f"{path}{os.sep}", f"{len(sizes)} files, ") if path.is_dir() else (path, "")
    return f"wrote {name} ({count}{readable_size(sum(sizes))})"
