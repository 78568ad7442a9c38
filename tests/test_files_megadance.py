"""Files appear whole or not at all, whatever kills the writer; modes, links, pipes and files of other processes are kept."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from megadance_hf.modeling import files_megadance as files
from megadance_hf.modeling.errors_megadance import FileError
from megadance_hf.modeling.files_megadance import all_or_none, check_place, readable_size, scratch, whole

pytestmark = pytest.mark.versions

posix = pytest.mark.skipif(os.name != "posix", reason="modes, links and signals of POSIX")


@pytest.fixture(autouse=True)
def _swept_never(monkeypatch):
    """Each test is a process of its own as far as sweeping goes."""
    monkeypatch.setattr(files, "_swept", set())


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def left_by_a_killed_process(folder: Path) -> str:
    """A process is killed while it writes a file of 1 kB; the name of what it leaves."""
    code = (
        "import sys, time\nfrom megadance_hf.modeling.files_megadance import whole\n"
        "with whole(sys.argv[1] + '/dance.npz') as temporary:\n"
        "    temporary.write_bytes(bytes(1000)); print('there', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE, text=True)
    with process.stdout:
        assert process.stdout.readline() == "there\n"
    (left,) = (name for name in os.listdir(folder) if name.startswith(files.PREFIX))
    assert (folder / left / "dance.npz").stat().st_size == 1000
    with whole(folder / "other.txt") as temporary:  # it lives: what it is at stays
        temporary.write_text("other")
    assert left in os.listdir(folder)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return left


@posix
def test_only_folders_of_killed_processes_are_swept(tmp_path, monkeypatch):
    left = left_by_a_killed_process(tmp_path)
    mine = [
        ".megadance-notes",
        ".megadance-0123456789ab",
        "dance.npz",
    ]  # a folder of somebody's, one with the right name
    for name in mine[:2]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").touch()
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / (files.PREFIX + "f" * 12)).mkdir()  # killed in the moment before it had a lock
    os.utime(tmp_path / (files.PREFIX + "f" * 12), (0, 0))
    (tmp_path / (files.PREFIX + "e" * 12)).mkdir()  # just made
    (tmp_path / (files.PREFIX + "d" * 12)).symlink_to(tmp_path)
    monkeypatch.setattr(files, "_swept", set())
    with scratch(tmp_path) as held, whole(tmp_path / "dance.npz") as temporary:
        files.sweep(tmp_path)
        assert held.is_dir()
        temporary.touch()
    stays = [*mine, "other.txt", files.PREFIX + "e" * 12, files.PREFIX + "d" * 12]
    assert names(tmp_path) == sorted(stays) and left not in stays


@posix
def test_modes_owners_and_links(tmp_path):
    mask = os.umask(0o027)
    try:
        path = tmp_path / "a.txt"
        with whole(path) as temporary:
            temporary.touch(mode=0o600)  # as tempfile and safetensors make them
        assert mode(path) == 0o640
        path.chmod(0o604)
        (tmp_path / "link").symlink_to("a.txt")
        (tmp_path / "dangling").symlink_to("b.txt")
        for name in ("link", "dangling"):
            with whole(tmp_path / name) as temporary:
                temporary.write_text(name)
        assert path.read_text() == "link" and mode(path) == 0o604
        assert (tmp_path / "b.txt").read_text() == "dangling" and mode(tmp_path / "b.txt") == 0o640
        assert (tmp_path / "link").is_symlink() and (tmp_path / "dangling").is_symlink()
        (tmp_path / "folder").mkdir(mode=0o710)
        with whole(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / "private").touch(mode=0o600)
            (temporary / "tool").touch(mode=0o700)
        assert mode(tmp_path / "folder") == 0o710
        assert mode(tmp_path / "folder" / "private") == 0o640 and mode(tmp_path / "folder" / "tool") == 0o740
    finally:
        os.umask(mask)
    if os.geteuid() == 0:
        os.chown(path, 1234, 2345)
        with whole(path) as temporary:
            temporary.touch()
        assert (path.stat().st_uid, path.stat().st_gid, mode(path)) == (1234, 2345, 0o604)


@posix
def test_places_without_permission(tmp_path):
    """In a process that is nobody, as root may write everywhere."""
    (tmp_path / "closed").mkdir()
    (tmp_path / "open").mkdir()
    for name in ("closed/theirs.txt", "open/theirs.txt"):
        (tmp_path / name).write_text("old")
        (tmp_path / name).chmod(0o444)
    (tmp_path / "open" / "link.txt").symlink_to("../closed/new.txt")
    (tmp_path / "closed").chmod(0o555)
    (tmp_path / "open").chmod(0o777)
    code = (
        "import os, sys\n"
        "from megadance_hf.modeling.files_megadance import FileError, check_place, whole\n"
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "for name in sys.argv[1:]:\n"
        "    try: check_place(name); print('checked')\n"
        "    except OSError as error: print(error.strerror)\n"
        "    try:\n"
        "        with whole(name) as temporary: temporary.write_text('new')\n"
        "    except FileError as error: print(error)\n"
    )
    places = ("closed/new.txt", "closed/theirs.txt", "open/link.txt", "open/theirs.txt")
    for folder in (tmp_path, *tmp_path.parents):  # pytest's own are closed to others
        if folder == Path(tempfile.gettempdir()):
            break
        folder.chmod(folder.stat().st_mode | 0o555)
    ran = subprocess.run([sys.executable, "-c", code, *places], cwd=tmp_path, capture_output=True, text=True)
    (tmp_path / "closed").chmod(0o755)
    assert ran.returncode == 0, ran.stderr
    reasons = ["Permission denied"] * 3 + ["the file that is there is read-only"]
    expected = []
    for place, reason in zip(places, reasons, strict=True):
        expected += [reason, f"{place} cannot be written ({reason}): choose another place"]
    assert ran.stdout.splitlines() == expected
    assert names(tmp_path / "closed") == ["theirs.txt"] and names(tmp_path / "open") == ["link.txt", "theirs.txt"]
    assert (tmp_path / "open" / "theirs.txt").read_text() == "old"


def test_an_ancestor_folder_without_permission(tmp_path):
    """Named is what was asked for, not the folder that cannot be looked into."""
    (tmp_path / "closed" / "here").mkdir(parents=True)
    code = (
        "import os\n"
        "from megadance_hf.modeling.files_megadance import FileError, whole\n"
        "os.chdir('closed/here'); os.chmod('..', 0)\n"
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "try:\n"
        "    with whole('new.txt') as temporary: temporary.write_text('new')\n"
        "except FileError as error: print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    (tmp_path / "closed").chmod(0o755)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("new.txt cannot be written (Permission denied): choose")


def test_all_or_none(tmp_path, monkeypatch):
    """The last of three cannot be moved to its place: the first is as it was, the second is not there."""
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "x").touch()
    with (
        pytest.raises(FileError, match=r"taken cannot be written \(.*\): choose another place"),
        all_or_none() as beside,
    ):
        for name in ("a.txt", "b.txt"):
            beside(tmp_path / name).write_text("new")
        beside(tmp_path / "taken").mkdir()
    assert names(tmp_path) == ["a.txt", "taken"] and (tmp_path / "a.txt").read_text() == "old"
    with all_or_none() as beside:
        for name in ("a.txt", "b.txt"):
            beside(tmp_path / name).write_text("new")
    assert names(tmp_path) == ["a.txt", "b.txt", "taken"] and (tmp_path / "a.txt").read_text() == "new"


def test_only_errors_about_writing_are_converted(tmp_path):
    (tmp_path / "a.txt").write_text("old")

    def fails(error):
        with whole(tmp_path / "a.txt", remedy="mend it") as temporary:
            temporary.write_text("half")
            raise error(temporary) if isinstance(error, type(fails)) else error

    with pytest.raises(FileError, match=r"a\.txt cannot be written \(No space left on device\): mend it") as caught:
        fails(OSError(28, "No space left on device"))
    assert files.PREFIX not in str(caught.value)
    with pytest.raises(FileError, match=r"a\.txt cannot be written \(Error opening '.*a\.txt'") as caught:
        fails(lambda temporary: RuntimeError(f"Error opening '{temporary}'"))  # as soundfile says it
    assert files.PREFIX not in str(caught.value)
    for error in (FileNotFoundError(2, "No such file", "song.mp3"), ValueError("a number"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught:
            fails(error)
        assert caught.value is error
    assert names(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_text() == "old"


@posix
def test_pipes_devices_and_circles(tmp_path, monkeypatch):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with (tmp_path / "read").open("wb") as read:
        reader = subprocess.Popen(["cat", pipe], stdout=read)
        with whole(pipe) as temporary:
            temporary.write_bytes(bytes(200_000))
        assert reader.wait() == 0
    assert (tmp_path / "read").read_bytes() == bytes(200_000) and stat.S_ISFIFO(pipe.stat().st_mode)
    monkeypatch.setattr(files, "_READER_SECONDS", 0.2)
    began = time.monotonic()
    with (
        pytest.raises(FileError, match=r"pipe cannot be written \(nobody reads from this pipe\)"),
        whole(pipe) as temporary,
    ):
        temporary.touch()
    assert time.monotonic() - began < 5
    (tmp_path / "null").symlink_to("/dev/null")
    with whole(tmp_path / "null") as temporary:
        temporary.write_text("gone")
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(FileError, match="one cannot be written .Too many levels"), whole(tmp_path / "one") as temporary:
        pass
    with (
        pytest.raises(FileError, match="x cannot be written .the folder .*no does not exist"),
        whole(tmp_path / "no" / "x"),
    ):
        pass
    for place in (pipe, tmp_path / "null", tmp_path / "new"):
        check_place(place)
    assert names(tmp_path) == ["null", "one", "pipe", "read", "two"]


def test_sizes_for_people():
    sizes = {
        0: "0 bytes",
        999: "999 bytes",
        1000: "1.0 kB",
        123_456: "123.5 kB",
        2_500_000: "2.5 MB",
        7 * 10**9: "7.0 GB",
    }
    assert {count: readable_size(count) for count in sizes} == sizes
