"""The files that a command writes: what could not be written is found first, and then all of them appear or none.

Only the standard library until `Outputs` is made; see `cli.py`.
"""

import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import file_size

if TYPE_CHECKING:
    from megadance_hf.motion.motion import Motion


class CommandError(ValueError):
    """Something the user can put right; the message is one line."""


class Outputs:
    """Files of any format (`-o`) and a folder for animators (`--bundle`), for each of `num` dances.

    With several dances their numbers go into the names: dance-1.mp4, dance-2.mp4. None of `inputs` (name of the argument -> what
    the command reads, paths or open files) may be among them, by whatever name or link.

    Raises:
        CommandError: something could not be written there.
    """

    def __init__(
        self,
        files: Sequence[str],
        num: int = 1,
        bundle: str | None = None,
        bones: str = "smpl",
        body: str = "mannequin",
        inputs: Mapping[str, Any] | None = None,
    ) -> None:
        if not files and bundle is None:
            raise CommandError("nothing to write: give -o OUT or --bundle DIR")
        self.bones, self.body = bones, body
        self.files = _check_files(files, num)
        self.bundles = _check_bundles(bundle, num) if bundle is not None else []
        _check_inputs(self.files, inputs or {})
        names = {os.path.abspath(path) for paths in self.files for path in paths}
        if twice := [path for path in self.bundles if os.path.abspath(path) in names]:
            raise CommandError(f"argument --bundle: {str(twice[0])!r} is also a file to write: give another name")

    def write(self, dances: "Sequence[Motion]", song: Any, start: float) -> list[str]:
        """Write them all, or none: an error on the way leaves nothing behind. Returns a line for each, to be printed."""
        from megadance_hf.modeling.files_megadance import all_or_none

        with all_or_none(CommandError, "choose another place with -o or --bundle") as beside:
            for dance, paths in zip(dances, self.files, strict=True):
                for path in paths:
                    suffix, options = path.suffix.lower(), {}
                    if suffix == ".mp4":
                        options = {"music": song, "music_start": start, "body": self.body}
                    elif suffix == ".glb":
                        options = {"body": self.body}
                    elif suffix == ".bvh" and self.bones != "smpl":
                        options = {"bones": self.bones}
                    dance.save(beside(path), **options)
            for dance, path in zip(dances, self.bundles, strict=False):
                from megadance_hf.export.bundle import save_bundle

                save_bundle(dance, beside(path), song, start, self.bones, self.body)
        return [_line(path) for paths in (*self.files, self.bundles) for path in paths]


def _check_files(outputs: Sequence[str], num: int) -> list[list[Path]]:
    """The files to write, one list a dance."""
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
    if twice := sorted({name for name in files if files.count(name) > 1}):
        raise CommandError(f"argument -o: {twice[0]!r} is to be written twice: give each output another name")
    if folders := [name for name in files if os.path.isdir(name)]:
        raise CommandError(f"argument -o: {folders[0]!r} is a folder: give another name")
    return dances


def _check_inputs(dances: list[list[Path]], inputs: Mapping[str, Any]) -> None:
    """Nobody means to replace the song by the dance."""
    from megadance_hf.modeling.audio_megadance import is_same_file

    for path in itertools.chain.from_iterable(dances):
        for argument, source in inputs.items():
            if is_same_file(path, source):
                raise CommandError(
                    f"argument -o: {str(path)!r} is {argument} itself, which would be replaced: give another name"
                )


def _check_bundles(bundle: str, num: int) -> list[Path]:
    """The folders to make, one a dance."""
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
    if path.is_dir():
        sizes = [file.stat().st_size for file in path.iterdir()]
        return f"wrote {path}{os.sep} ({len(sizes)} files, {file_size(sum(sizes))})"
    return f"wrote {path} ({file_size(path.stat().st_size)})"
