"""How files are written: whole or not at all, and nothing is left lying about.

    with whole("dance.npz") as temporary:            # one file or folder
        np.savez_compressed(temporary, ...)
    with all_or_none() as beside:                    # several: all of them appear, or none
        save(beside("a.npz")), save(beside("b.bvh"))
    with scratch() as folder:                        # a folder for a while

Everything is first written in a private folder beside its place, `.megadance-` and twelve digits, and moved there when it is
finished. The folder holds a file that its process has locked. The system frees that lock when the process ends, in whatever way:
so whoever writes there next can tell what a killed process has left from what another one is at, and removes it.

What is replaced keeps its mode and, where that is allowed, its owner; what is new gets what the umask says. A link stays a link:
what it leads to is written. Pipes and devices are written to when all is there.
"""

import errno
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from .errors_megadance import FileError, reason_of

try:
    import fcntl
except ImportError:  # Windows, where a file that somebody has open cannot be removed: that tells as much
    fcntl = None

PREFIX = ".megadance-"
_NAME = re.compile(re.escape(PREFIX) + r"[0-9a-f]{12}")
_LOCK = ".lock"
# A folder without a lock has just been made, or its process died within the moment before it had one.
_MOMENT = 60.0
# How long somebody may take to come and read from a pipe.
_READER_SECONDS = 10.0
# Folders that have been looked through: once by each process.
_swept: set[str] = set()


# --- folders for a while ---------------------------------------------------------------------------------------------


class Scratch:
    """A private folder in `parent` (the system's for temporary files when None), until `close()` or the end of the process.

    Attributes:
        folder: its path.
        mode: the permissions that a new file would get in `parent`.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, parent: str | os.PathLike | None = None) -> None:
        parent = Path(tempfile.gettempdir() if parent is None else parent)
        if (known := os.path.abspath(parent)) not in _swept:
            _swept.add(known)
            sweep(parent)
        while True:
            self.folder = parent / f"{PREFIX}{secrets.token_hex(6)}"
            self.folder.mkdir(mode=0o700)
            try:
                self._lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            except FileNotFoundError:
                continue  # a process that slept for a minute: it was swept
            except BaseException:
                self.folder.rmdir()
                raise
            self.mode = stat.S_IMODE(os.fstat(self._lock).st_mode)
            if _lock(self._lock) is not False and os.fstat(self._lock).st_nlink:
                return
            os.close(self._lock)  # somebody came to sweep within the moment

    def close(self) -> None:
        """Remove the folder with all that is in it."""
        if self._lock is not None:
            lock, self._lock = self._lock, None
            _remove(self.folder, lock)


@contextmanager
def scratch(parent: str | os.PathLike | None = None) -> Iterator[Path]:
    """A `Scratch` folder for the time of a block."""
    made = Scratch(parent)
    try:
        yield made.folder
    finally:
        made.close()


def sweep(parent: str | os.PathLike) -> None:
    """Remove from a folder what processes that live no more have left in it; only what is ours."""
    try:
        entries = [entry for entry in os.scandir(parent) if _NAME.fullmatch(entry.name)]
    except OSError:
        return
    for entry in entries:
        with suppress(OSError):
            state = entry.stat(follow_symlinks=False)
            if not stat.S_ISDIR(state.st_mode) or (hasattr(os, "geteuid") and state.st_uid != os.geteuid()):
                continue
            try:
                lock = os.open(os.path.join(entry.path, _LOCK), os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
            except FileNotFoundError:
                if time.time() - state.st_mtime > _MOMENT:
                    os.rmdir(entry.path)  # does nothing to one that holds something
                continue
            if fcntl is None:
                os.close(lock)
                os.unlink(os.path.join(entry.path, _LOCK))  # an error where somebody has it open
                _remove(Path(entry.path), None)
            elif _lock(lock):
                _remove(Path(entry.path), lock)
            else:
                os.close(lock)


def _lock(file: int) -> bool | None:
    """Whether it could be locked; None where the file system knows no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _remove(folder: Path, lock: int | None) -> None:
    """The lock last: who is killed meanwhile leaves something that can be swept. Closed first: not every file system removes
    what is open."""
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            if entry.name != _LOCK:
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)
    if lock is not None:
        os.close(lock)
    with suppress(FileNotFoundError):
        os.unlink(folder / _LOCK)
    with suppress(OSError):
        folder.rmdir()


# --- whole or not at all ---------------------------------------------------------------------------------------------


def real_place(path: str | os.PathLike) -> Path:
    """Where a file of this name lies or would lie: links are followed, also one that leads to what is not there yet.

    Raises:
        OSError: the links lead round in a circle.
    """
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise
    return Path(os.path.realpath(path) if os.path.islink(path) else path)


def check_place(path: str | os.PathLike) -> None:
    """Raises OSError if nothing could be written under this name. Ask before a long computation, not after.

    Permission bits do not tell everything: a file system can be read-only or full, so it is tried.
    """
    if _is_stream(path):
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return
    place = real_place(path)
    with scratch(place.parent):
        _check_permission(place)


def _is_stream(path: str | os.PathLike) -> bool:
    """Whether it is a pipe or something like a terminal or /dev/null: written to, never replaced."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    if stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
        raise OSError(errno.EINVAL, "it is a device, not a file", os.fspath(path))
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def _check_permission(place: Path) -> None:
    """Only the folder's permission is needed to replace a file. One that may not be written to stays all the same."""
    if place.is_file() and not os.access(place, os.W_OK):
        raise PermissionError(errno.EACCES, "the file that is there is read-only", os.fspath(place))


class _Move:
    """One file or folder on its way to its place."""

    def __init__(self, path: str | os.PathLike, folders: dict[str, Scratch], stack: ExitStack) -> None:
        self.path, self.stream = Path(path), _is_stream(path)
        self.place = self.path if self.stream else real_place(path)
        if not self.place.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, f"the folder {self.place.parent} does not exist", os.fspath(path))
        parent = tempfile.gettempdir() if self.stream else os.fspath(self.place.parent)
        taken = parent in folders and (folders[parent].folder / self.place.name).exists()
        if parent not in folders or taken:
            folders[parent] = Scratch(parent)
            stack.callback(folders[parent].close)
        self.scratch = folders[parent]
        self.temporary = self.scratch.folder / self.place.name
        self.before: Path | None = None  # what was there, to be put back
        self.done = False

    def keep(self) -> None:
        """Give what is there a second name."""
        kept = self.scratch.folder / f"{_LOCK}-{secrets.token_hex(6)}"
        with suppress(OSError):  # file systems without: then it cannot be put back
            os.link(self.place, kept)
            self.before = kept

    def finish(self) -> None:
        if self.stream:
            _pour(self.temporary, self.path)
        elif self.temporary.is_dir():
            self._finish_folder()
        else:
            _check_permission(self.place)
            state = self.place.stat() if self.place.exists() else None
            _set(self.temporary, self.scratch.mode, state)
            os.replace(self.temporary, self.place)
        self.done = True

    def _finish_folder(self) -> None:
        state = self.place.stat() if self.place.is_dir() else None
        for folder, _, names in os.walk(self.temporary):
            for name in names:  # some libraries write files that nobody else can read
                file = os.path.join(folder, name)
                if not os.path.islink(file):
                    _set(file, self.scratch.mode | (os.stat(file).st_mode & 0o111), None)
        if state is not None:
            self.place.rmdir()  # it is empty, or this is an error; not every system renames onto a folder
            _set(self.temporary, 0, state)
        os.replace(self.temporary, self.place)

    def undo(self) -> None:
        if self.stream or not self.done:
            return
        with suppress(OSError):
            if self.before is not None:
                os.replace(self.before, self.place)
            elif self.place.is_dir():
                shutil.rmtree(self.place)
            else:
                os.unlink(self.place)


def _set(path: str | os.PathLike, mode: int, like: os.stat_result | None) -> None:
    """Permissions, and owner as far as one may; file systems that know none of it are content without."""
    with suppress(OSError, AttributeError):
        now = os.stat(path)
        if like is not None and (like.st_uid, like.st_gid) != (now.st_uid, now.st_gid):
            with suppress(OSError):
                os.chown(path, like.st_uid, like.st_gid)
        os.chmod(path, mode if like is None else stat.S_IMODE(like.st_mode))


def _pour(source: Path, target: Path) -> None:
    """Write a finished file into a pipe or device."""
    waited = time.monotonic() + _READER_SECONDS
    while True:
        try:
            file = os.open(target, os.O_WRONLY | os.O_NONBLOCK)  # else it would wait for a reader for ever
            break
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() > waited:
                reason = "nobody reads from this pipe" if error.errno == errno.ENXIO else error.strerror
                raise OSError(error.errno, reason, os.fspath(target)) from None
            time.sleep(0.05)
    os.set_blocking(file, True)
    with os.fdopen(file, "wb") as stream, source.open("rb") as content:
        shutil.copyfileobj(content, stream)


@contextmanager
def all_or_none(
    error: type[ValueError] = FileError, remedy: str = "choose another place"
) -> Iterator[Callable[[str | os.PathLike], Path]]:
    """`beside(path)` of the block gives a name to write to instead of `path`: a file or a new folder. When the block ends well
    they are all moved to their places, in the order in which they were asked for; otherwise none is.

    Args:
        error: class of what is raised when something cannot be written: one line, `PATH cannot be written (REASON): REMEDY`.
        remedy: what the user can do.
    """
    moves: list[_Move] = []
    folders: dict[str, Scratch] = {}
    last: list[str] = []

    def beside(path: str | os.PathLike) -> Path:
        last[:] = [os.fspath(path)]
        try:
            moves.append(_Move(path, folders, stack))
        except OSError as cause:  # about some folder above, perhaps: named is what was asked for
            raise OSError(cause.errno, cause.strerror or str(cause), os.fspath(path)) from None
        return moves[-1].temporary

    with ExitStack() as stack:
        try:
            yield beside
            try:
                for move in moves:
                    last[:] = [str(move.path)]
                    if len(moves) > 1 and not move.stream and move.place.is_file():
                        move.keep()
                    move.finish()
            except BaseException:
                for move in reversed(moves):
                    move.undo()
                raise
        except error:
            raise
        except Exception as cause:
            if not last or not _is_about_writing(cause, moves, last[0]):
                raise
            named = next((move.path for move in moves if str(move.temporary) in _texts(cause)), last[0])
            origin = cause
            while (
                origin.__cause__ is not None
            ):  # a writer inside this one has said it already, with its own name for the file
                origin = origin.__cause__
            said = _name_places(reason_of(origin), moves)
            raise error(f"{named} cannot be written ({said}): {remedy}") from cause


@contextmanager
def whole(
    path: str | os.PathLike, error: type[ValueError] = FileError, remedy: str = "choose another place"
) -> Iterator[Path]:
    """A name to write to instead of `path`, moved there when the block ends well; see `all_or_none`."""
    with all_or_none(error, remedy) as beside:
        yield beside(path)


def _texts(cause: Exception) -> str:
    return " ".join(map(str, (getattr(cause, "filename", ""), getattr(cause, "filename2", ""), cause)))


def _is_about_writing(cause: Exception, moves: list[_Move], path: str) -> bool:
    """Other files are read while one is written: an error about those says so itself."""
    texts = _texts(cause)
    if PREFIX in texts or "(os error " in texts:  # those of libraries (soundfile, safetensors) are no OSErrors
        return True
    if not isinstance(cause, OSError) or cause.errno is None:
        return False
    mine = {path, *(os.fspath(place) for move in moves for place in (move.path, move.place))}
    return cause.filename is None or str(cause.filename) in mine


def _name_places(text: str, moves: list[_Move]) -> str:
    for move in moves:
        text = text.replace(str(move.temporary), str(move.path))
    return text


def readable_size(count: int) -> str:
    """A number of bytes for people: 812 bytes, 4.2 kB, 13.0 MB, 1.5 GB."""
    if count < 1000:
        return f"{count} bytes"
    size, unit = next((count / one, unit) for one, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if count >= one)
    return f"{size:.1f} {unit}"


__all__ = ["Scratch", "all_or_none", "check_place", "readable_size", "real_place", "scratch", "sweep", "whole"]
