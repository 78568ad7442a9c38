"""Atomic writing: files appear whole or not at all, and no temporary files are left behind.

    with whole("dance.npz") as temporary:            # one file or folder
        np.savez_compressed(temporary, ...)
    with all_or_none() as beside:                    # several: all of them appear, or none
        save(beside("a.npz")), save(beside("b.bvh"))
    with scratch() as folder:                        # a temporary folder

Everything is first written to a private folder beside its destination, named `.megadance-` and twelve digits, and moved when it is
finished. The folder holds a file that its process has locked. The system frees that lock however the process ends, so the next
writer can tell what a killed process has left from what another process is using, and removes it.

A replaced file keeps its mode and, where allowed, its owner; a new file gets its mode from the umask. Symbolic links stay: their
target is written. Pipes and devices are written to when everything is finished.
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
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from .errors_megadance import FileError, reason_of

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be removed, which serves as the lock
    fcntl = None  # type: ignore[assignment]

PREFIX = ".megadance-"
_NAME = re.compile(re.escape(PREFIX) + r"[0-9a-f]{12}")
_LOCK = ".lock"
# A folder without a lock has just been made, or its process died before it had one; after so many seconds it is the latter.
_UNLOCKED_SECONDS = 60.0
# How long to wait for a reader of a pipe.
_READER_SECONDS = 10.0
# Folders that this process has swept, which it does once each.
_swept: set[str] = set()


# --- temporary folders -----------------------------------------------------------------------------------------------


class Scratch:
    """A private folder in `parent` (the system's temporary folder when None), until `close()` or the end of the process.

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
                self._lock: int | None = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            except FileNotFoundError:
                continue  # this process was suspended for a minute, and another one swept the folder
            except BaseException:
                self.folder.rmdir()
                raise
            self.mode = stat.S_IMODE(os.fstat(self._lock).st_mode)
            if _lock(self._lock) is not False and os.fstat(self._lock).st_nlink:
                return
            os.close(self._lock)  # another process swept the folder before it was locked

    def close(self) -> None:
        """Remove the folder and its content."""
        if self._lock is not None:
            lock, self._lock = self._lock, None
            _remove(self.folder, lock)


@contextmanager
def scratch(parent: str | os.PathLike | None = None) -> Iterator[Path]:
    """A `Scratch` folder that is removed at the end of the block."""
    with closing(Scratch(parent)) as made:
        yield made.folder


def sweep(parent: str | os.PathLike) -> None:
    """Remove from a folder the scratch folders of this user's processes that have ended."""
    try:
        entries = [entry for entry in os.scandir(os.fspath(parent)) if _NAME.fullmatch(entry.name)]
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
                if time.time() - state.st_mtime > _UNLOCKED_SECONDS:
                    os.rmdir(entry.path)  # fails if it is not empty
                continue
            if fcntl is None:
                os.close(lock)
                os.unlink(os.path.join(entry.path, _LOCK))  # fails if a process has it open
                _remove(Path(entry.path), None)
            elif _lock(lock):
                _remove(Path(entry.path), lock)
            else:
                os.close(lock)


def _lock(file: int) -> bool | None:
    """Whether the file could be locked; None if the file system has no locks."""
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
    """Remove a scratch folder, its lock file last, so that a killed process leaves something that can be swept. The lock is closed
    before it is removed, since not every file system removes open files."""
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
    """The path with symbolic links followed, also one whose target does not exist yet.

    Raises:
        OSError: the links form a circle.
    """
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise
    return Path(os.path.realpath(path) if os.path.islink(path) else path)


def check_place(path: str | os.PathLike) -> None:
    """Raises OSError if this path cannot be written. Call it before a long computation, not after.

    It tries to write, since permission bits are not enough: a file system can be read-only or full.
    """
    if _is_stream(path):
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return
    target = real_place(path)
    with scratch(target.parent):
        _check_permission(target)


def _is_stream(path: str | os.PathLike) -> bool:
    """Whether the path is a pipe or a character device (a terminal, /dev/null): written to, never replaced."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    if stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
        raise OSError(errno.EINVAL, "it is a device, not a file", os.fspath(path))
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def _check_permission(target: Path) -> None:
    """Raises PermissionError for a read-only file. The system would replace it: that needs only the folder's permission."""
    if target.is_file() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "the file that is there is read-only", os.fspath(target))


class _Move:
    """One file or folder that is written temporarily and moved to its destination."""

    def __init__(self, path: str | os.PathLike, folders: dict[str, Scratch], stack: ExitStack) -> None:
        self.path, self.stream = Path(path), _is_stream(path)
        self.target = self.path if self.stream else real_place(path)
        if not self.target.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, f"the folder {self.target.parent} does not exist", os.fspath(path))
        parent = tempfile.gettempdir() if self.stream else os.fspath(self.target.parent)
        taken = parent in folders and (folders[parent].folder / self.target.name).exists()
        if parent not in folders or taken:
            folders[parent] = Scratch(parent)
            stack.callback(folders[parent].close)
        self.scratch = folders[parent]
        self.temporary = self.scratch.folder / self.target.name
        self.backup: Path | None = None  # the replaced file, to be restored
        self.done = False

    def keep(self) -> None:
        """Link the existing file to a second name, so that `undo` can restore it."""
        backup = self.scratch.folder / f"{_LOCK}-{secrets.token_hex(6)}"
        with suppress(OSError):  # a file system without hard links: nothing can be restored
            os.link(self.target, backup)
            self.backup = backup

    def finish(self) -> None:
        if self.stream:
            _copy_to_stream(self.temporary, self.path)
        elif self.temporary.is_dir():
            self._finish_folder()
        else:
            _check_permission(self.target)
            state = self.target.stat() if self.target.exists() else None
            _set_mode(self.temporary, self.scratch.mode, state)
            os.replace(self.temporary, self.target)
        self.done = True

    def _finish_folder(self) -> None:
        state = self.target.stat() if self.target.is_dir() else None
        for folder, _, names in os.walk(self.temporary):
            for name in names:  # some libraries write files that nobody else can read
                file = os.path.join(folder, name)
                if not os.path.islink(file):
                    _set_mode(file, self.scratch.mode | (os.stat(file).st_mode & 0o111), None)
        if state is not None:
            self.target.rmdir()  # fails if it is not empty; not every system renames onto a folder
            _set_mode(self.temporary, 0, state)
        os.replace(self.temporary, self.target)

    def undo(self) -> None:
        if self.stream or not self.done:
            return
        with suppress(OSError):
            if self.backup is not None:
                os.replace(self.backup, self.target)
            elif self.target.is_dir():
                shutil.rmtree(self.target)
            else:
                os.unlink(self.target)


def _set_mode(path: str | os.PathLike, mode: int, replaced: os.stat_result | None) -> None:
    """Set permissions, those of the `replaced` file if there was one, and its owner if allowed. File systems may have neither."""
    with suppress(OSError, AttributeError):
        now = os.stat(path)
        if replaced is not None and (replaced.st_uid, replaced.st_gid) != (now.st_uid, now.st_gid):
            with suppress(OSError):
                os.chown(path, replaced.st_uid, replaced.st_gid)
        os.chmod(path, mode if replaced is None else stat.S_IMODE(replaced.st_mode))


def _copy_to_stream(source: Path, target: Path) -> None:
    """Write a finished file into a pipe or device."""
    deadline = time.monotonic() + _READER_SECONDS
    while True:
        try:
            file = os.open(target, os.O_WRONLY | os.O_NONBLOCK)  # a blocking one would wait for a reader for ever
            break
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() > deadline:
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
    """`beside(path)` gives a temporary name to write to instead of `path`: a file or a new folder. When the block succeeds they are
    all moved to their destinations, in the order in which they were requested; otherwise none is.

    Args:
        error: the class to raise when something cannot be written, with one line: `PATH cannot be written (REASON): REMEDY`.
        remedy: what the user can do.
    """
    moves: list[_Move] = []
    folders: dict[str, Scratch] = {}
    last: list[str] = []

    def beside(path: str | os.PathLike) -> Path:
        last[:] = [os.fspath(path)]
        try:
            moves.append(_Move(path, folders, stack))
        except OSError as cause:  # perhaps about a parent folder: the message names the requested path
            raise OSError(cause.errno, cause.strerror or str(cause), os.fspath(path)) from None
        return moves[-1].temporary

    with ExitStack() as stack:
        try:
            yield beside
            try:
                for move in moves:
                    last[:] = [str(move.path)]
                    if len(moves) > 1 and not move.stream and move.target.is_file():
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
            origin: BaseException = cause
            while origin.__cause__ is not None:  # the error of a nested writer names its own temporary file
                origin = origin.__cause__
            reason = reason_of(origin)
            for move in moves:
                reason = reason.replace(str(move.temporary), str(move.path))
            raise error(f"{named} cannot be written ({reason}): {remedy}") from cause


@contextmanager
def whole(
    path: str | os.PathLike, error: type[ValueError] = FileError, remedy: str = "choose another place"
) -> Iterator[Path]:
    """A temporary name to write to instead of `path`, moved there when the block succeeds; see `all_or_none`."""
    with all_or_none(error, remedy) as beside:
        yield beside(path)


def _texts(cause: Exception) -> str:
    return " ".join(map(str, (getattr(cause, "filename", ""), getattr(cause, "filename2", ""), cause)))


def _is_about_writing(cause: Exception, moves: list[_Move], path: str) -> bool:
    """Whether an error is about a file that is being written, rather than one that is read meanwhile."""
    texts = _texts(cause)
    if PREFIX in texts or "(os error " in texts:  # soundfile and safetensors raise errors that are no OSErrors
        return True
    if not isinstance(cause, OSError) or cause.errno is None:
        return False
    mine = {path, *(os.fspath(known) for move in moves for known in (move.path, move.target))}
    return cause.filename is None or str(cause.filename) in mine


def readable_size(count: int) -> str:
    """A number of bytes for people: 812 bytes, 4.2 kB, 13.0 MB, 1.5 GB."""
    if count < 1000:
        return f"{count} bytes"
    size, unit = next((count / one, unit) for one, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if count >= one)
    return f"{size:.1f} {unit}"
