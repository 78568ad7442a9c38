"""A Python in which torch and transformers are imported already: what it runs starts in a tenth of a second instead of in five.

`start(folder)` makes an executable there that takes a script, `-m`, `-c` or `-` as Python does. What it is given runs in a process of its
own, forked from one that has imported what is not of this package (`IMPORTED`) and nothing else. Where libraries are told something by an
environment variable as they are imported (`AT_IMPORT`), it is the real Python. Signals and open files beside the three standard ones are not
passed on; what needs them starts the real one.
"""

import array
import atexit
import contextlib
import gc
import importlib
import json
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

IMPORTED = (
    *("torch", "torch.distributed.tensor", "transformers.modeling_utils", "transformers.generation.utils"),
    *("transformers.pipelines", "transformers.feature_extraction_sequence_utils", "transformers.processing_utils"),
    *("transformers.masking_utils", "transformers.modeling_layers"),
    *(
        "accelerate",
        "huggingface_hub.hf_api",
        "librosa",
        "matplotlib.pyplot",
        "multiprocess",
        "numba.core.typing.templates",
    ),
    *(
        "datasets",
        "pyarrow.parquet",
        "pyarrow.dataset",
        "scipy.interpolate",
        "scipy.signal",
        "scipy.optimize",
        "soundfile",
        "av",
        "cv2",
        "yaml",
    ),
)
AT_IMPORT = ("HF_", "LD_", "MKL_", "NUMBA_", "OMP_", "PYTHON", "TORCH", "TRANSFORMERS_")


def told_at_import(environment: dict[str, str]) -> dict[str, str]:
    own = ("PYTHON", "PYTHONPATH")  # the variable of scripts that says which Python; and what is seen to here
    return {name: value for name, value in environment.items() if name.startswith(AT_IMPORT) and name not in own}


@contextlib.contextmanager
def started(folder: Path):
    """The executable, while the process lives that it forks."""
    executable, address = folder / "python", folder / "socket"
    command = shlex.join([sys.executable, "-IS", __file__, str(address)])
    executable.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    executable.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    (folder / "settings.json").write_text(json.dumps([sys.executable, told_at_import(environment)]))
    with subprocess.Popen(
        [sys.executable, __file__, "--serve", address], env=environment, stdout=subprocess.PIPE
    ) as server:
        assert server.stdout.readline() == b"ready\n"
        try:
            yield str(executable)
        finally:
            server.kill()


def ask(address: str, words: list[str]) -> None:
    """What the executable does: has `words` run, and ends as that did."""
    real, settings = json.loads(Path(address).with_name("settings.json").read_text())
    if (
        not words
        or (words[0][0] == "-" and words[0] not in ("-m", "-c", "-"))
        or told_at_import(os.environ) != settings
    ):
        os.execv(real, [real, *words])
    request = json.dumps([words, os.getcwd(), dict(os.environ)]).encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        server.sendmsg(
            [len(request).to_bytes(8, "little")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", range(3)))]
        )
        server.sendall(request)
        status = int.from_bytes(server.recv(4, socket.MSG_WAITALL), "little", signed=True)
    if status < 0:
        with contextlib.suppress(OSError):
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


def serve(address: str) -> tuple[list[str], str, dict[str, str]]:
    """Forks at each request, in which this returns what is asked for; a process whose asker is gone is killed."""
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
                size, streams, *_ = socket.recv_fds(asker, 8, 3)
                request = json.loads(asker.recv(int.from_bytes(size, "little"), socket.MSG_WAITALL))
                process = os.fork()
                if process == 0:
                    selector.close()
                    for open_here in (listener, asker, *(one for one, _ in asked.values())):
                        open_here.close()
                    for number, stream in enumerate(streams):
                        os.dup2(stream, number)
                        os.close(stream)
                    return request
                for stream in streams:
                    os.close(stream)
                ended = os.pidfd_open(process)
                asked[ended] = asker, process
                selector.register(ended, selectors.EVENT_READ)
                selector.register(asker, selectors.EVENT_READ, process)
            elif key.fileobj in asked:
                asker, process = asked.pop(key.fileobj)
                status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
                selector.unregister(key.fileobj)
                selector.unregister(asker) if asker in selector.get_map() else None
                os.close(key.fileobj)
                with contextlib.suppress(OSError), asker:
                    asker.sendall(status.to_bytes(4, "little", signed=True))
            elif key.fileobj in selector.get_map():
                selector.unregister(key.fileobj)
                os.kill(key.data, signal.SIGKILL)


def run(words: list[str], folder: str, environment: dict[str, str]) -> None:
    """As Python would."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    what, own = words[0], words[1:]
    paths = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    first = folder if what == "-m" else "" if what in ("-c", "-") else os.path.dirname(os.path.abspath(what))
    sys.path[:1] = [first, *paths]  # instead of the folder of this file
    if what == "-m":
        sys.argv = own
        runpy.run_module(own[0], run_name="__main__", alter_sys=True)
    elif what in ("-c", "-"):
        code, sys.argv = (own[0], ["-c", *own[1:]]) if what == "-c" else (sys.stdin.read(), words)
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})
    else:
        sys.argv = words
        runpy.run_path(what, run_name="__main__")


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        request, status = serve(sys.argv[2]), 0
        try:
            run(*request)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
            print(end.code, file=sys.stderr) if isinstance(end.code, str) else None
        except BaseException:
            traceback.print_exc()
            status = 1
        threading._shutdown()
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status & 0xFF)  # to take everything down that was imported would take seconds
    else:
        ask(sys.argv[1], sys.argv[2:])
