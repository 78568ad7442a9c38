"""What every test has: seeds, one thread, no network, caches of its own, and the way to the data.

The data (real dances, numbers of the released code) are not part of the repository. They are looked for in the folder
that the environment variable `MEGADANCE_SHARED` names, `../shared` by default. Where they are missing, the tests that
need them are skipped; on a build server (`CI` set) they fail, so that nothing passes there by not being run.
"""

import atexit
import ipaddress
import json
import logging
import multiprocessing.spawn
import os
import random
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

# The libraries read these when they are imported, so they come before every other import. Each xdist worker loads this
# file anew and so has caches of its own: two workers never write the same dynamic module.
_caches = tempfile.mkdtemp(prefix="megadance-tests-")
atexit.register(shutil.rmtree, _caches, ignore_errors=True)
os.environ.update(
    HF_HOME=f"{_caches}/huggingface",
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    MPLCONFIGDIR=f"{_caches}/matplotlib",
    TOKENIZERS_PARALLELISM="false",
)
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

REPOSITORY = Path(__file__).resolve().parent.parent
pytest.register_assert_rewrite("documents")  # its asserts say what was compared, as those of tests do

# The same examples in every run: a test that fails, fails again. No deadline: the machine may be busy.
hypothesis.settings.register_profile("reproducible", deadline=None, derandomize=True, database=None, max_examples=50)
hypothesis.settings.load_profile("reproducible")


@pytest.fixture(autouse=True)
def _seeded():
    """Tests neither depend on nor disturb each other's random numbers."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(autouse=True)
def no_deprecations():
    """transformers logs what it is going to take away, it does not warn: an error all the same (warnings: pyproject.toml)."""
    said = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "deprecated" in record.getMessage():
                said.append(record.getMessage())

    logger, listener = logging.getLogger("transformers"), Listener()
    logger.addHandler(listener)
    yield
    logger.removeHandler(listener)
    assert not said, f"deprecated by transformers: {said}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no worker is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)  # stable: the order inside a file stays


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """With other versions than the pinned ones (tests/versions.py) a failure says which they are."""
    report = yield
    if report.failed and (versions := os.environ.get("MEGADANCE_VERSIONS")):
        report.sections.append(("versions", versions))
    return report


def _is_local(address) -> bool:
    if not isinstance(address, tuple):  # a Unix socket's path
        return True
    try:
        return ipaddress.ip_address(address[0]).is_loopback
    except ValueError:
        return address[0] in ("", "localhost")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Nothing is fetched: only this machine can be reached."""

    def guard(original: Callable) -> Callable:
        def connect(self, address):
            if not _is_local(address):
                raise OSError(f"tests must not use the network: connection to {address!r} refused")
            return original(self, address)

        return connect

    monkeypatch.setattr(socket.socket, "connect", guard(socket.socket.connect))
    monkeypatch.setattr(socket.socket, "connect_ex", guard(socket.socket.connect_ex))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def forked_python(tmp_path_factory):
    """What to start instead of `sys.executable` where a process of its own is meant, not what is imported in it: see forked_python.py."""
    if sys.platform != "linux":
        yield sys.executable
        return
    from forked_python import started

    with started(tmp_path_factory.mktemp("forked_python")) as executable:
        yield executable


@pytest.fixture
def forked_pools(forked_python):
    """What a pool of this process spawns is forked as well."""
    before = multiprocessing.spawn.get_executable()
    multiprocessing.set_executable(forked_python)
    yield
    multiprocessing.set_executable(before)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with the data; see the top of this file."""
    folder = Path(os.environ.get("MEGADANCE_SHARED") or REPOSITORY.parent / "shared")
    if folder.is_dir():
        return folder.resolve()
    from helpers import skip_outside_ci

    skip_outside_ci(f"no data in {folder}: set MEGADANCE_SHARED to the folder that holds data/ and parity/")


@pytest.fixture(scope="session")
def ballroom_dir(shared_dir) -> Path:
    """Raw paired ballroom dances: metadata.jsonl, motions/, music/, splits/."""
    return shared_dir / "data" / "ballroom"


@pytest.fixture(scope="session")
def ballroom2_dir(shared_dir) -> Path:
    """Raw ballroom dances from marker data: metadata.jsonl, motions/, music/ (one file per song), splits/."""
    return shared_dir / "data" / "ballroom2"


@pytest.fixture(scope="session")
def mocap_dir(shared_dir) -> Path:
    """Raw dances without music: metadata.jsonl, motions/."""
    return shared_dir / "data" / "mocap_dance"


@pytest.fixture(scope="session")
def parity_dir(shared_dir) -> Path:
    """Inputs and outputs of the released code."""
    return shared_dir / "parity"


@pytest.fixture(scope="session")
def parity(parity_dir) -> Callable[[str], tuple[dict[str, np.ndarray], dict]]:
    """`parity("motion_math")` -> its arrays by name, and what its JSON says."""

    def load(name: str) -> tuple[dict[str, np.ndarray], dict]:
        with np.load(parity_dir / f"{name}.npz") as arrays:
            return dict(arrays), json.loads((parity_dir / f"{name}.json").read_text(encoding="utf-8"))

    return load


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty stand-in for the Hub that this process is logged in to, and an empty cache."""
    import huggingface_hub
    import transformers
    from hub_server import OWNER, HubServer
    from huggingface_hub import constants

    with HubServer() as server:
        url = server.url
        changes = {"ENDPOINT": url, "HUGGINGFACE_CO_URL_TEMPLATE": url + "/{repo_id}/resolve/{revision}/{filename}"}
        changes |= {"HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True, "HF_HUB_CACHE": str(tmp_path / "cache")}
        for name, value in changes.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", url)
        monkeypatch.setattr(transformers.utils.hub, "_hf_api", None, raising=False)  # not in older ones
        monkeypatch.setenv("HF_TOKEN", OWNER)
        yield server
        assert not [request for request in server.unknown if "agent-harnesses" not in request[1]]
