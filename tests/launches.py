"""Counting what a GPU would be asked to do."""

from collections import Counter

from torch.utils._python_dispatch import TorchDispatchMode


class Launches(TorchDispatchMode):
    """How many operations compute something: what only looks at memory in another way, or reserves it, is left out. A `_foreach_*` or fused
    operation counts once, however many tensors it is given.

    Attributes:
        by_name: how often each operation occurred.
    """

    def __init__(self):
        super().__init__()
        self.by_name = Counter()

    @property
    def count(self) -> int:
        return sum(self.by_name.values())

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        results = [result.alias_info for result in function._schema.returns]
        is_view = any(alias is not None and not alias.is_write for alias in results)
        costs_nothing = ("empty", "_unsafe_view", "promote_types")
        if not is_view and not any(name in function._schema.name for name in costs_nothing):
            self.by_name[str(function)] += 1
        return function(*args, **(kwargs or {}))


class NeverWaits(TorchDispatchMode):
    """Fails where tensors that have no numbers yet are asked for them: on a GPU the program would wait there."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name.partition("::")[2]
        assert name not in ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select", "unique"), name
        result = function(*args, **(kwargs or {}))
        if name in ("_to_copy", "copy_", "clone"):
            sources = [one for one in args if hasattr(one, "device")]
            assert not (result.device.type == "cpu" and any(one.device.type != "cpu" for one in sources)), name
        return result
