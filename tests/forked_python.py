"""A Python in which torch and transformers are imported already: what it runs starts in a tenth of a second instead of in five.

`started(folder)` makes an executable there that takes a script, `-m`, `-c` or `-` as Python does (and -u and -B, which it ignores). What
it is given runs in a process of its own, forked from one that has imported what is not of this package (`IMPORTED`) and nothing else.
Where libraries are told something by an environment variable as they are imported (`AT_IMPORT`), it is the real Python. Open files are
passed on, signals are not. `PYTHON_EXEC=` the executable makes launchers and pools of processes below start it, too.
"""

import atexit
import contextlib
import fcntl
import gc
import importlib
import itertools
import json
import multiprocessing
import os
import runpy
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import threading
import traceback
from pathlib import Path

IMPORTED = """
    torch torch.distributed.tensor torch.distributed.run accelerate.commands.launch huggingface_hub.hf_api datasets multiprocess
    transformers.modeling_utils transformers.generation.utils transformers.masking_utils transformers.modeling_layers
    transformers.pipelines transformers.feature_extraction_sequence_utils transformers.processing_utils
    av cv2 librosa matplotlib.pyplot pyarrow.dataset pyarrow.parquet scipy.interpolate scipy.optimize scipy.signal soundfile yaml
""".split()
AT_IMPORT = "HF_ LD_ MKL_ NUMBA_ OMP_ PYTHON TORCH_LOGS TORCHDYNAMO_ TORCHINDUCTOR_ TRANSFORMERS_".split()
MOST_FILES = 64
READ_LATER = "PYTHON PYTHON_EXEC PYTHONPATH".split()  # the first two: what scripts and launchers start


def told_at_import(environment: dict[str, str]) -> dict[str, str]:
    names = [name for name in environment if name.startswith(tuple(AT_IMPORT)) and name not in READ_LATER]
    return {name: environment[name] for name in names}


@contextlib.contextmanager
def started(folder: Path):
    """The executable, while the process lives that it forks."""
    executable, address = folder / "python", folder / "socket"
    command = shlex.join([sys.executable, "-IS", __file__, str(address)])
    executable.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    executable.chmod(0o755)
    settings = [sys.executable, told_at_import(dict(os.environ))]
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, __file__, "--serve", address]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as server:
        assert server.stdout.readline() == b"ready\n"
        try:
            yield str(executable)
        finally:
            server.kill()


def ask(address: str, words: list[str]) -> None:
    """What the executable does: has `words` run, and ends as that did."""
    real, settings = json.loads(Path(address).with_name("settings.json").read_text(encoding="utf-8"))
    own = list(itertools.dropwhile(lambda word: word in ("-u", "-B"), words))
    is_known = own and (own[0] in ("-m", "-c", "-") or own[0][0] != "-")
    if not is_known or told_at_import(dict(os.environ)) != settings:
        os.execv(real, [real, *words])
    files = [int(number) for number in os.listdir("/proc/self/fd")]
    files = [number for number in files if os.path.exists(f"/proc/self/fd/{number}")]  # not that of the listing
    request = json.dumps([files, [own, os.getcwd(), dict(os.environ)]]).encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        socket.send_fds(server, [len(request).to_bytes(8, "little")], files)
        server.sendall(request)
        status = int.from_bytes(server.recv(4, socket.MSG_WAITALL), "little", signed=True)
    if status < 0:
        with contextlib.suppress(OSError):  # SIGKILL has no handler
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


def serve(address: str) -> tuple[list[str], str, dict[str, str]]:
    """Forks at each request, and returns it in the new process. One whose asker is gone is killed."""
    for name in IMPORTED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    listener, selector, asked = socket.socket(socket.AF_UNIX), selectors.DefaultSelector(), {}
    listener.bind(address)
    listener.listen()
    selector.register(listener, selectors.EVENT_READ)
    gc.freeze()
    print("ready", flush=True)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                asker, _ = listener.accept()
                size, received, *_ = socket.recv_fds(asker, 8, MOST_FILES)
                numbers, request = json.loads(asker.recv(int.from_bytes(size, "little"), socket.MSG_WAITALL))
                process = os.fork()
                if process == 0:
                    selector.close()
                    for connection in (listener, asker, *(connection for connection, _ in asked.values())):
                        connection.close()
                    received = [fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 512) for file in received]  # out of the way
                    for number, file in zip(numbers, received, strict=True):
                        os.dup2(file, number)
                    return request
                for file in received:
                    os.close(file)
                ended = os.pidfd_open(process)
                asked[ended] = asker, process
                selector.register(ended, selectors.EVENT_READ)
                selector.register(asker, selectors.EVENT_READ, process)
            elif key.fileobj in asked:
                asker, process = asked.pop(key.fileobj)
                status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
                for watched in (key.fileobj, asker):
                    if watched in selector.get_map():
                        selector.unregister(watched)
                os.close(key.fileobj)
                with contextlib.suppress(OSError), asker:
                    asker.sendall(status.to_bytes(4, "little", signed=True))
            elif key.fileobj in selector.get_map():  # not answered above in this round
                selector.unregister(key.fileobj)
                os.kill(key.data, signal.SIGKILL)


def run(words: list[str], folder: str, environment: dict[str, str]) -> None:
    """As Python would."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if "PYTHON_EXEC" in environment:
        sys.executable = environment["PYTHON_EXEC"]
        multiprocessing.set_executable(sys.executable)
    what, own = words[0], words[1:]
    paths = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    first = {"-m": folder, "-c": "", "-": ""}.get(what, os.path.dirname(os.path.abspath(what)))
    sys.path[:1] = [first, *paths]  # instead of the folder of this file
    if what == "-m":
        sys.argv = own
        sys.modules.pop(own[0], None)
        runpy.run_module(own[0], run_name="__main__", alter_sys=True)
    elif what in ("-c", "-"):
        code, sys.argv = (own[0], ["-c", *own[1:]]) if what == "-c" else (sys.stdin.read(), words)
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})
    else:
        sys.argv = words
        runpy.run_path(what, run_name="__main__")


def end_as(request: tuple[list[str], str, dict[str, str]]) -> None:
    """Run it and end: at once, since to take down all that was imported would take seconds."""
    status = 0
    try:
        run(*request)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status & 0xFF)


if __name__ == "__main__":
    end_as(serve(sys.argv[2])) if sys.argv[1] == "--serve" else ask(sys.argv[1], sys.argv[2:])
