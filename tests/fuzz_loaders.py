"""Fuzz every loader of files with damaged and odd ones, and count what must not happen.

    python tests/fuzz_loaders.py --cases 20000 --seed 0            # prints a table, Markdown
    python tests/fuzz_loaders.py --loaders motion,model --cases 500 --keep FOLDER

Small valid files of each kind are made once. Each case damages one of them (bits, bytes, cuts, splices, numbers, types) and opens it
in a child process. It may be accepted, or refused with an error of this package, in one line that names the file. Everything else
is a fault: other exceptions, messages without the file's name, a dead child, more than 20 s, more than 2 GB.
"""

import argparse
import copy
import json
import os
import pickle
import random
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
SECONDS, BYTES = 20.0, 2 << 30
# Larger allocations raise MemoryError, as they do for a user, and leave the machine's other processes alone.
ADDRESS_SPACE = 24 << 30


# --- damage ---------------------------------------------------------------------------------------------------------------

NUMBERS = "0 -1 1e308 -1e308 NaN Infinity 1e19 2147483647 4294967296 1000000000 99999999999999999999 0.5 1e-300 true null".split()
VALUES = [
    None,
    True,
    0,
    -1,
    1e19,
    1e300,
    float("nan"),
    10**9,
    "",
    "x",
    "\u0000\u2028",
    [],
    {},
    [[]],
    {"a": 1},
    [1, "x"],
    "9" * 5000,
]
WORDS = (b"\xff" * 4, bytes(4), b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\x01\x00\x00\x00", b"\xff" * 8, bytes(8))


def damage_bytes(raw: bytes, chance: random.Random) -> bytes:
    raw = bytearray(raw)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        if not raw:
            break
        # headers are at the beginning or, of archives and Parquet, at the end
        place = chance.random()
        at = chance.randrange(len(raw))
        if place < 0.35:
            at = chance.randrange(min(len(raw), 256))
        elif place < 0.6:
            at = len(raw) - 1 - chance.randrange(min(len(raw), 256))
        kind = chance.randrange(8)
        if kind <= 1:
            raw[at] ^= 1 << chance.randrange(8)
        elif kind == 2:
            raw[at] = chance.randrange(256)
        elif kind == 3:
            word = chance.choice(WORDS)
            raw[at : at + len(word)] = word
        elif kind == 4:
            del raw[at:]
        elif kind == 5:
            start = chance.randrange(len(raw))
            raw[at:at] = raw[start : start + chance.randint(1, 64)]
        elif kind == 6:
            del raw[at : at + chance.randint(1, 32)]
        else:
            raw[at:at] = bytes(chance.randrange(256) for _ in range(chance.randint(1, 8)))
    return bytes(raw)


def damage_text(raw: bytes, chance: random.Random) -> bytes:
    """Numbers, words and lines of a text."""
    text = raw.decode("utf-8", "replace")
    for _ in range(chance.choice((1, 1, 2))):
        numbers = list(re.finditer(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", text))
        kind = chance.randrange(5)
        if kind <= 1 and numbers:
            found = chance.choice(numbers)
            text = text[: found.start()] + chance.choice(NUMBERS) + text[found.end() :]
        elif kind == 2 and (words := list(re.finditer(r"\w+", text))):
            found = chance.choice(words)
            text = (
                text[: found.start()]
                + chance.choice(["", "x", "null", "[", "é\u2028", chance.choice(words)[0]])
                + text[found.end() :]
            )
        else:
            lines = text.splitlines(keepends=True) or [""]
            at = chance.randrange(len(lines))
            if kind == 3:
                del lines[at]
            else:
                lines.insert(at, chance.choice([chance.choice(lines), "- [\n", "\t{\n", "&a [*a, *a]\n", "\x00\n"]))
            text = "".join(lines)
    return text.encode("utf-8", "replace")


def damage_json(raw: bytes, chance: random.Random) -> bytes:
    """A value of another type or size somewhere inside, a missing key, or other content altogether."""
    lines = raw.decode().splitlines() if raw.count(b"\n{") else [raw.decode()]
    at = chance.randrange(len(lines))
    try:
        content = json.loads(lines[at])
    except ValueError:
        return damage_text(raw, chance)
    if chance.random() < 0.05:
        content = copy.deepcopy(chance.choice(VALUES))
    for _ in range(chance.choice((1, 1, 2))):
        spots = []
        waiting = [content]
        while waiting:
            item = waiting.pop()
            keys = item.keys() if isinstance(item, dict) else range(len(item)) if isinstance(item, list) else ()
            spots += [(item, key) for key in keys]
            waiting += [item[key] for key in keys]
        if not spots:
            break
        top = [spot for spot in spots if spot[0] is content]
        holder, key = chance.choice(top if chance.random() < 0.6 else spots)
        if chance.random() < 0.2:
            del holder[key]
        else:
            holder[key] = copy.deepcopy(chance.choice(VALUES))
    lines[at] = json.dumps(content)
    return "\n".join(lines).encode()


def damage(path: Path, chance: random.Random) -> None:
    raw = path.read_bytes()
    kinds: list[Callable[[bytes, random.Random], bytes]] = [damage_bytes]
    if path.suffix in (".json", ".jsonl"):
        kinds = [damage_json, damage_json, damage_json, damage_text, damage_bytes]
    elif path.suffix in (".yaml", ".txt", ".bvh", ".csv"):
        kinds = [damage_text, damage_text, damage_bytes]
    elif path.suffix == ".safetensors":
        kinds = [damage_bytes, damage_tensors, damage_tensors]
    elif path.suffix in (".npz", ".npy", ".pkl"):
        kinds = [damage_bytes, damage_bytes, odd_arrays]
    path.write_bytes(chance.choice(kinds)(raw, chance) if kinds != [damage_bytes] else damage_bytes(raw, chance))
    if path.suffix == ".npz" and path.read_bytes()[:1] == b"\x80":
        path.unlink()


def odd_arrays(raw: bytes, chance: random.Random) -> bytes:
    """A well-formed file with arrays of the wrong shape, type or range."""
    import io

    import numpy as np

    try:
        if raw[:2] == b"PK":
            with np.load(io.BytesIO(raw), allow_pickle=True) as file:
                content: Any = dict(file)
        elif raw[:1] == b"\x80":
            content = pickle.loads(raw)
        else:
            content = {"": np.load(io.BytesIO(raw), allow_pickle=False)}
    except Exception:
        return damage_bytes(raw, chance)
    key = chance.choice(list(content))
    array = np.atleast_1d(np.asarray(content[key]))
    odd = [
        np.zeros(0), np.zeros((0, 72)), np.float64(1e300), np.float64("nan"), np.array("x"), np.array([b"\xff"]), np.array(1e19),
        array[..., None], array.ravel(), array[:1], array[:-1], array.T, array[..., :-1] if array.ndim else array,
        np.array(True), np.zeros((2, 3, 4, 5)), -np.ones(3), np.full(array.shape, 1j), np.full(array.shape, "é"),
    ]  # fmt: skip
    if array.dtype.kind == "f":
        odd += [
            array * 1e38,
            array * np.nan,
            array.astype(np.float16),
            array.astype(">f8"),
            array * 0,
            array.astype(complex),
        ]
    if chance.random() < 0.2:
        del content[key]
    else:
        content[key] = chance.choice(odd)
    if chance.random() < 0.1:
        content[chance.choice(["fps", "genre", "metadata", "smpl_scaling", "up"])] = chance.choice(odd)
    memory = io.BytesIO()
    if raw[:2] == b"PK":
        chance.choice([np.savez, np.savez_compressed])(memory, **content)
    elif raw[:1] == b"\x80":
        pickle.dump(content, memory, protocol=chance.randint(0, 5))
    else:
        np.save(memory, content.get("", np.zeros(0)))
    return memory.getvalue()


def damage_tensors(raw: bytes, chance: random.Random) -> bytes:
    """A safetensors file whose header has other names, shapes or offsets, or whose numbers are not finite."""
    size = struct.unpack("<Q", raw[:8])[0]
    header, body = json.loads(raw[8 : 8 + size]), bytearray(raw[8 + size :])
    names = [name for name in header if name != "__metadata__"]
    name, kind = chance.choice(names), chance.randrange(6)
    entry = header[name]
    if kind == 0:
        del header[name]
    elif kind == 1:
        entry["shape"] = chance.choice([[], [1 << 40], [0], entry["shape"][::-1], [-1], [1, *entry["shape"]]])
    elif kind == 2:
        entry["data_offsets"] = chance.choice([[0, 1 << 40], [5, 2], [0, 0]])
    elif kind == 3:
        header[name + "x"] = header.pop(name)
    elif kind == 4:
        entry["dtype"] = chance.choice(["F16", "I64", "F64", "X", "BF16", "BOOL"])
    else:
        first, last = entry["data_offsets"]
        word = chance.choice(
            [struct.pack("<f", float("nan")), struct.pack("<f", float("inf")), struct.pack("<f", 1e38)]
        )
        body[first : first + 4] = word[: last - first]
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(body)


# --- the loaders --------------------------------------------------------------------------------------------------------------


class Loader:
    """One kind of file: how to make valid ones, and how to open one. `share`: its weight among all cases."""

    share = 1.0

    def make(self, folder: Path) -> None:
        """Write valid examples, a file or a folder each."""
        raise NotImplementedError

    def open(self, path: Path) -> None:
        raise NotImplementedError

    def damage(self, path: Path, chance: random.Random) -> Path:
        """Damage one file of the copy at `path`."""
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        chosen = chance.choice([file for file in files if self.wants(file)])
        damage(chosen, chance)
        return path

    def wants(self, file: Path) -> bool:
        return True


def small_motion() -> Any:
    import numpy as np

    from megadance_hf.motion.motion import Motion

    rng = np.random.default_rng(0)
    poses = rng.normal(size=(20, 24, 3)).astype(np.float32) * 0.1
    translation = rng.normal(size=(20, 3)).astype(np.float32) * 0.01 + np.array([0, 0.9, 0], np.float32)
    return Motion(poses, translation, genre="waltz", metadata={"seed": 1, "model": "x"})


class MotionLoader(Loader):
    share = 5.0

    def make(self, folder: Path) -> None:
        import numpy as np

        from megadance_hf.motion.motion import Motion

        motion = small_motion()
        for name in ("own.npz", "own.pkl", "own.bvh", "own.json", "own.joints.npz"):
            motion.save(folder / name)
        poses, path = motion.poses.reshape(20, 72), motion.translation
        aist = {"smpl_poses": poses, "smpl_trans": path * 90, "smpl_scaling": np.array([90.0]), "smpl_loss": 0.1}
        for protocol in (0, 2, 4, 5):
            (folder / f"aist{protocol}.pkl").write_bytes(pickle.dumps(aist, protocol))
        hands = np.concatenate([poses[:, :66], np.zeros((20, 99), np.float32)], axis=1)
        np.savez(
            folder / "amass.npz",
            poses=hands[:, :156],
            trans=path,
            mocap_framerate=np.float64(120),
            gender=np.array("male"),
        )
        np.savez(folder / "beat.npz", poses=hands, trans=path, betas=np.zeros(10), mocap_frame_rate=30)
        parts = {"global_orient": poses[:, :3], "body_pose": poses[:, 3:66], "transl": path}
        np.savez_compressed(folder / "parts.npz", **parts)
        (folder / "parts.pkl").write_bytes(pickle.dumps(parts, 4))
        sixes = np.tile(np.float32([1, 0, 0, 0, 1, 0]), (20, 52))
        np.save(folder / "fine.npy", np.concatenate([path, sixes], axis=1))
        for file in sorted(folder.iterdir()):  # only what can be loaded
            try:
                Motion.load(file)
            except ValueError:
                file.unlink()

    def open(self, path: Path) -> None:
        from megadance_hf.motion.motion import Motion

        len(Motion.load(path).joints())


class AudioLoader(Loader):
    share = 4.0

    def make(self, folder: Path) -> None:
        import numpy as np
        import soundfile

        from megadance_hf.modeling.audio_megadance import load_audio

        rate = 16000
        wave = np.random.default_rng(0).normal(size=rate) * 0.1 + 0.3 * np.sin(np.arange(rate) / 20)
        for name, options in (
            ("a.wav", {}),
            ("float.wav", {"subtype": "FLOAT"}),
            ("adpcm.wav", {"subtype": "IMA_ADPCM"}),
            ("a.flac", {}),
            ("a.ogg", {}),
            ("a.mp3", {}),
            ("a.aiff", {}),
            ("a.au", {}),
        ):
            soundfile.write(folder / name, np.stack([wave, wave], 1), rate, **options)
        for name, codec in (("a.m4a", "aac"), ("a.webm", "libopus"), ("a.mp4", "aac")):
            try:
                import av

                with av.open(str(folder / name), "w") as container:
                    stream = container.add_stream(codec, rate=48000)
                    frame = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="fltp", layout="mono")
                    frame.sample_rate = rate
                    for piece in av.AudioResampler("fltp", "stereo", 48000).resample(frame):
                        container.mux(stream.encode(piece))
                    container.mux(stream.encode(None))
                load_audio(folder / name)
            except Exception:
                (folder / name).unlink(missing_ok=True)

    def open(self, path: Path) -> None:
        from megadance_hf.modeling.audio_megadance import load_audio

        load_audio(path)


class ModelLoader(Loader):
    share = 5.0

    def make(self, folder: Path) -> None:
        import torch
        from helpers import save_tiny_model, tiny_generator

        from megadance_hf.modeling.processing_megadance import MegaDanceProcessor
        from megadance_hf.pipeline import MusicToDancePipeline

        for name, overrides in (
            ("plain", {}),
            ("sharded", {"music_reduction": "mean", "use_mamba": False, "rhythm_size": 8}),
        ):
            save_tiny_model(folder / name)
            torch.manual_seed(1)
            model = tiny_generator(**overrides)
            model.generation_config.start_codes = {"waltz": [[1, 2], [3, 4]]}
            model.generation_config.mode = "paper"
            model.generation_config.do_sample = True
            (folder / name / "model.safetensors").unlink()
            model.save_pretrained(folder / name, shard_by_genre=name == "sharded")
            pipe = MusicToDancePipeline.from_pretrained(folder / name, device="cpu")
            assert isinstance(pipe.processor, MegaDanceProcessor)
            pipe.processor.save_pretrained(folder / name)

    def open(self, path: Path) -> None:
        import numpy as np

        from megadance_hf.pipeline import MusicToDancePipeline, describe_model

        describe_model(path)
        pipe = MusicToDancePipeline.from_pretrained(path, device="cpu")
        pipe({"input_features": np.random.default_rng(0).random((40, 35)).astype(np.float32)}, seed=0)


class PreparedLoader(Loader):
    share = 3.0

    def make(self, folder: Path) -> None:
        from helpers import save_tiny_data

        save_tiny_data(folder / "set")

    def wants(self, file: Path) -> bool:
        return file.name != "README.md"

    def open(self, path: Path) -> None:
        from megadance_hf.data.prepared import read_prepared

        for clip in read_prepared(path, audio=True):
            len(clip)


class ConfigurationLoader(Loader):
    share = 3.0

    def make(self, folder: Path) -> None:
        for file in sorted((HERE.parent / "examples" / "configs").glob("*.yaml")):
            shutil.copyfile(file, folder / file.name)

    def open(self, path: Path) -> None:
        from megadance_hf.data.augmentation import MusicAugmentation
        from megadance_hf.modeling import configuration_megadance as configurations
        from megadance_hf.training.recipes import DataSettings, GenerationSettings, read_recipe

        kind = next(kind for kind in ("tokenizer", "generator", "classifier") if kind in path.name)
        prefix = {"generator": "", "tokenizer": "Tokenizer", "classifier": "Classifier"}[kind]
        recipe = read_recipe(path, kind)
        recipe.training()
        with recipe.using("model"):
            sizes = recipe.section("model")
            if kind == "generator" and not sizes.get("codebook_size"):
                sizes["codebook_size"] = 27
            getattr(configurations, f"MegaDance{prefix}Config")(**sizes)
        for section, settings in (
            ("data", DataSettings),
            ("augmentation", MusicAugmentation),
            ("generation", GenerationSettings),
        ):
            with recipe.using(section):
                settings(**recipe.section(section))


class RawLoader(Loader):
    """Metadata, splits and motions of raw folders; songs take too long."""

    share = 3.0

    def make(self, folder: Path) -> None:
        import numpy as np
        from raw_folders import AISTPP_NAMES, AISTPP_SPLITS, RealClip, make_aistpp, make_finedance_processed

        motion = small_motion()
        clip = RealClip(motion.poses.reshape(20, 72), motion.translation, np.zeros(100), 8000)
        aist = make_aistpp(folder / "aistpp", dict.fromkeys(AISTPP_NAMES[:2], clip), AISTPP_SPLITS, ("x",))
        shutil.rmtree(aist / "music")
        (aist / "music").mkdir()
        rows = np.concatenate([np.zeros((20, 33)), np.ones((20, 2))], 1).astype(np.float32)
        both = ("001@0", "002@0")
        made = (
            dict.fromkeys(both, clip),
            dict.fromkeys(both, rows),
            dict.fromkeys(both, 20),
            dict.fromkeys(both, "3\n9\n"),
        )
        make_finedance_processed(folder / "finedance", *made)
        for name in ("mocap", "ballroom"):
            (folder / name / "motions").mkdir(parents=True)
            (folder / name / "splits").mkdir()
            records = []
            for index in range(2):
                arrays = {"smpl_poses": clip.poses, "smpl_trans": clip.translation, "fps": np.float32(30)}
                np.savez(folder / name / "motions" / f"c{index}.npz", **arrays)
                records.append(
                    {"id": f"c{index}", "genre": "waltz", "paired": False, "source": "x", "beat_period_s": 0.5}
                )
            (folder / name / "metadata.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
            for split, ids in (("train", "c0"), ("test", "c1")):
                (folder / name / "splits" / f"{split}.txt").write_text(f"{ids}\n", encoding="utf-8")

    def open(self, path: Path) -> None:
        import importlib

        kind = next(name for name in ("aistpp", "finedance", "mocap", "ballroom") if name in path.name)
        module = importlib.import_module(f"megadance_hf.datasets_scripts.{kind}")
        listed = module.list_raw(path)
        for raw in listed[0] if isinstance(listed, tuple) else listed:
            raw.fingerprint()
            try:
                module.make(raw)
            except ValueError as error:
                if type(error).__module__.partition(".")[0] != "megadance_hf":
                    raise
                # prepare's report says `PATH: ... left out ID: REASON`
                error.args = (f"{path.name}: left out {raw.id}: {error}",)
                raise


class StatisticsLoader(Loader):
    share = 2.0

    def make(self, folder: Path) -> None:
        import numpy as np
        import torch

        table = {"music_librosa_mean": np.arange(35.0), "smpl_poses_mean": np.zeros((1, 144), np.float32)}
        np.savez(folder / "mean.npz", **table)
        np.save(folder / "mean.npy", table)
        for protocol in range(6):
            (folder / f"mean{protocol}.pkl").write_bytes(pickle.dumps(table, protocol))
        tensors = {name: torch.from_numpy(value) for name, value in table.items()}
        torch.save(tensors, folder / "mean.pt")
        torch.save({"model": tensors, "epoch": 3}, folder / "checkpoint.pth")
        torch.save(tensors, folder / "old.pth", _use_new_zipfile_serialization=False)

    def open(self, path: Path) -> None:
        from megadance_hf.hub.convert import read_checkpoint, read_statistics

        if path.suffix == ".pth":
            for value in read_checkpoint(path).values():
                value.sum()
        else:
            for value in read_statistics(path).values():
                value.copy()


class RequestLoader(Loader):
    """JSON requests to an Endpoint; errors name the parameter instead of a file."""

    share = 1.0

    def make(self, folder: Path) -> None:
        import base64
        import io

        import soundfile
        from helpers import click_song

        memory = io.BytesIO()
        soundfile.write(memory, click_song(1.0, 8000), 8000, format="WAV")
        parameters = {
            "genre": "waltz",
            "format": "npz",
            "seed": 0,
            "start": 0,
            "duration": 0.6,
            "temperature": 1.0,
            "top_k": 5,
        }
        parameters["mode"] = "paper"
        request = {"inputs": base64.b64encode(memory.getvalue()).decode(), "parameters": parameters}
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")

    def damage(self, path: Path, chance: random.Random) -> Path:
        request = json.loads(path.read_bytes())
        if chance.random() < 0.15:
            request["inputs"] = chance.choice(
                [*VALUES, request["inputs"][: chance.randrange(900)], request["inputs"] + "!"]
            )
        for _ in range(chance.choice((1, 1, 2))):
            holder = (
                request["parameters"]
                if chance.random() < 0.9 and isinstance(request.get("parameters"), dict)
                else request
            )
            holder[chance.choice([*holder, "unknown"])] = chance.choice([*VALUES, 1e-9, -5, 2, 2.5, "waltz", 10**30])
        path.write_text(json.dumps(request), encoding="utf-8")
        return path

    def open(self, path: Path) -> None:
        if not hasattr(self, "handler"):
            import torch
            from helpers import save_tiny_model

            from megadance_hf import pipeline  # noqa: F401  (registers the task)
            from megadance_hf.hub.handler import EndpointHandler

            torch.manual_seed(0)
            self.folder = tempfile.TemporaryDirectory()
            save_tiny_model(Path(self.folder.name, "model"))
            self.handler = EndpointHandler(str(Path(self.folder.name, "model")))
        self.handler(json.loads(path.read_bytes()))


LOADERS: dict[str, Loader] = {
    "motion": MotionLoader(),
    "audio": AudioLoader(),
    "model": ModelLoader(),
    "prepared": PreparedLoader(),
    "configuration": ConfigurationLoader(),
    "raw": RawLoader(),
    "statistics": StatisticsLoader(),
    "request": RequestLoader(),
}


# --- the child --------------------------------------------------------------------------------------------------------------


def judge(error: BaseException, path: Path, loader: str) -> str:
    """The kind of an exception: refused (as it should be), nameless (or of many lines), low-level."""
    message = str(error)
    module = type(error).__module__.partition(".")[0]
    if module not in ("megadance_hf", "examples", "transformers_modules"):
        return "low-level"
    named = {path.name, *(file.name for file in path.rglob("*"))} if path.is_dir() else {path.name}
    if loader == "request":
        named = {"inputs", "parameters", "request", "genre", "song of"}
    if "\n" in message or not any(name in message for name in named):
        return "nameless"
    return "refused"


def peak_memory() -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) << 10


def case_of(loader: str, valid: Path, work: Path, seed: int, number: int) -> Path:
    """The damaged copy of one case, reproducible from its seed and number."""
    chance = random.Random(zlib.crc32(f"{loader}-{seed}-{number}".encode()))
    source = chance.choice(sorted(valid.iterdir()))
    target = work / f"{source.name.partition('.')[0]}-{number}{''.join(source.suffixes)}"
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)
    return LOADERS[loader].damage(target, chance)


def warm_up(loader: str, valid: Path, work: Path) -> None:
    """Open the valid files once, so that no case is charged for imports and compilation."""
    for example in sorted(valid.iterdir()):
        copy = work / f"first-{example.name}"
        (shutil.copytree if example.is_dir() else shutil.copyfile)(example, copy)
        try:
            LOADERS[loader].open(copy)
        except ValueError:
            pass
        shutil.rmtree(copy, ignore_errors=True) if copy.is_dir() else copy.unlink()


def child(folder: Path, work: Path, seed: int) -> None:
    """Read lines "LOADER NUMBER" from stdin, write one line of JSON for each."""
    import resource
    import warnings

    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print
    warm: set[str] = set()
    for line in sys.stdin:
        loader, number = line.split()
        if loader not in warm:
            warm_up(loader, folder / loader, work)
            warm.add(loader)
        path = case_of(loader, folder / loader, work, seed, int(number))
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        began = time.monotonic()
        result: dict[str, Any] = {"number": int(number)}
        try:
            LOADERS[loader].open(path)
            result["kind"] = "accepted"
        except Exception as error:
            result["kind"] = judge(error, path, loader)
            result["message"] = f"{type(error).__module__}.{type(error).__name__}: {error}"[:600]
        result |= {"seconds": time.monotonic() - began, "bytes": peak_memory()}
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        print(json.dumps(result), file=out, flush=True)


# --- the parent -------------------------------------------------------------------------------------------------------------


class Child:
    """A process that opens damaged files, until it dies."""

    def __init__(self, folder: Path, seed: int):
        self.work = Path(tempfile.mkdtemp(dir=folder, prefix=".work-"))
        command = [sys.executable, __file__, "--child", str(folder), str(self.work), "--seed", str(seed)]
        environment = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **os.environ}
        self.errors = tempfile.TemporaryFile("w+", dir=folder)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.errors, "text": True}
        self.process = subprocess.Popen(command, env=environment, **pipes)
        self.warm: set[str] = set()

    def error_output(self) -> str:
        self.errors.seek(0)
        return self.errors.read()[-300:].strip()

    def run(self, loader: str, number: int) -> dict[str, Any]:
        self.process.stdin.write(f"{loader} {number}\n")
        self.process.stdin.flush()
        seconds = 1.5 * SECONDS + (0 if loader in self.warm else 300)  # imports, for the first
        self.warm.add(loader)
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        line = self.process.stdout.readline().strip() if ready else None
        if line:
            result = json.loads(line)
            if result["seconds"] > SECONDS:
                result["kind"] = "hang"
            elif result["bytes"] > BYTES:
                result["kind"] = "memory"
            return result
        self.end()
        kind = "hang" if line is None else "crash"
        return {"number": number, "kind": kind, "message": f"exit {self.process.returncode} {self.error_output()}"}

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.work, ignore_errors=True)


FAULTS = ("low-level", "nameless", "crash", "hang", "memory")


class Fuzz:
    """Runs cases in a child process and counts their kinds."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.seed, self.child = folder, seed, None

    def case(self, loader: str, number: int) -> dict[str, Any]:
        valid = self.folder / loader
        if not valid.is_dir():
            valid.mkdir(parents=True)
            LOADERS[loader].make(valid)
        self.child = self.child or Child(self.folder, self.seed)
        result = self.child.run(loader, number)
        if self.child.process.returncode is not None:
            self.child = None
        return {"loader": loader, **result}

    def cases(self, loader: str, count: int) -> tuple[Counter, list[dict[str, Any]], int]:
        """Counts by kind, all faults, and the largest peak memory in bytes."""
        counts, faults, largest = Counter(), [], 0
        for number in range(count):
            result = self.case(loader, number)
            counts[result["kind"]] += 1
            largest = max(largest, result.get("bytes", 0))
            if result["kind"] in FAULTS:
                faults.append(result)
        return counts, faults, largest

    def end(self) -> None:
        if self.child is not None:
            self.child.end()


def table(results: dict[str, tuple[Counter, list, int]]) -> str:
    lines = [
        "| loader | cases | accepted | refused, naming the file | low-level | nameless | crashes | hangs | over 2 GB | peak GB |"
    ]
    lines.append("|---|" + "---:|" * 9)
    rows = [(name, counts, largest) for name, (counts, _, largest) in results.items()]
    total = sum((counts for _, counts, _ in rows), Counter())
    for name, counts, largest in [*rows, ("all", total, max(largest for *_, largest in rows))]:
        cells = [counts[kind] for kind in ("accepted", "refused", *FAULTS)]
        lines.append(
            f"| {name} | {counts.total():,} | " + " | ".join(f"{n:,}" for n in cells) + f" | {largest / 1e9:.2f} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--loaders", default=",".join(LOADERS))
    parser.add_argument(
        "--keep", type=Path, help="folder for the valid files and faults.jsonl; a temporary one otherwise"
    )
    parser.add_argument("--only", type=int, help="run this one case of one loader and print it")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*map(Path, arguments.child), arguments.seed)
        return 0
    names = arguments.loaders.split(",")
    shares = sum(LOADERS[name].share for name in names)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        results = {}
        for name in names:
            run, began = Fuzz(folder, arguments.seed), time.monotonic()
            if arguments.only is not None:
                print(run.case(name, arguments.only))
            else:
                results[name] = run.cases(name, -int(-arguments.cases * LOADERS[name].share // shares))
                print(
                    f"{name}: {dict(results[name][0])} in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True
                )
            run.end()
        if not results:
            return 0
        faults = [fault for _, found, _ in results.values() for fault in found]
        if arguments.keep:
            lines = [json.dumps(fault) for fault in faults]
            (folder / "faults.jsonl").write_text("\n".join(lines), encoding="utf-8")
        print(table(results))
        for (loader, kind, message), number in Counter(
            (fault["loader"], fault["kind"], re.sub(r"\d+", "N", fault.get("message", ""))[:160]) for fault in faults
        ).most_common(60):
            print(f"{number:5d} {loader} {kind}: {message}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
