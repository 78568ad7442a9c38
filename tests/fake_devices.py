"""Devices that compute like a CPU and refuse tensors of each other, as several GPUs do.

torch has a backend to be written in Python (`privateuseone`), once for a process: `test_device_map.py` runs `device_map_checks.py` in one of
its own. Its tensors here hold one on the CPU. Every operation goes through `FakeDevices`, which computes it with what they hold and checks
that all are on one device.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

NAME = "twin"
_FREE = ("_to_copy", "copy_", "copy")  # may have tensors of two devices
_INDEX = ("index", "index_put", "index_put_", "_index_put_impl_")  # may have indices of the CPU


def setup() -> None:
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME)
    library = torch.library.Library("aten", "IMPL")  # what torch calls below all modes
    library.impl("empty_strided", _empty_strided, "PrivateUse1")
    library.impl("_copy_from", _copy_from, "PrivateUse1")
    _libraries.append(library)  # it ends with the object
    torch.Generator = AnyGenerator


_libraries: list = []


def _empty_strided(size, stride, dtype=None, layout=None, device=None, pin_memory=None):
    return OnDevice(torch.empty_strided(size, stride, dtype=dtype), device)


def _copy_from(source, target, non_blocking=False):
    _held(target).copy_(_held(source))
    return target


def _held(x):
    return x.held if isinstance(x, OnDevice) else x


class OnDevice(torch.Tensor):
    """A tensor that says it is on a device, and holds one on the CPU."""

    @staticmethod
    def __new__(cls, held, device):
        options = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, held.shape, device=device, requires_grad=False, **options)
        made.held = held
        return made

    def __repr__(self):
        return f"{self.held!r} on {self.device}"

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return compute(function, args, kwargs or {})

    def tolist(self):
        return self.held.tolist()

    def numpy(self, *args, **kwargs):
        raise TypeError("a tensor of a device has no array: .cpu() first")


def compute(function, args, kwargs):
    name = function.overloadpacket.__name__
    tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
    on = {x.device for x in tensors if isinstance(x, OnDevice)}
    others = {x.device for x in tensors if not isinstance(x, OnDevice) and x.dim() > 0}
    if name not in _FREE and len(on | (set() if name in _INDEX else others)) > 1:
        raise RuntimeError(f"{function}: expected all tensors on one device, found {sorted(map(str, on | others))}")
    device = next(iter(on), torch.device("cpu"))
    asked = kwargs.get("device")
    if asked is not None:
        device = torch.device(asked)
        if device.type == NAME:
            kwargs = {**kwargs, "device": torch.device("cpu")}
    if name in ("copy_", "index_put_", "_index_put_impl_"):
        device = args[0].device
    args, kwargs = tree_map(_held, (args, kwargs))
    result = function(*args, **kwargs)
    if name == "_to_copy" and result is args[0]:
        result = result.clone()
    if device.type != NAME:
        return result
    return tree_map(lambda x: OnDevice(x, device) if isinstance(x, torch.Tensor) else x, result)


class FakeDevices(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return compute(function, args, kwargs or {})


class AnyGenerator(torch.Generator):
    """Random numbers of the CPU: the devices have none of their own."""

    def __new__(cls, device="cpu"):
        return super().__new__(cls, "cpu")
