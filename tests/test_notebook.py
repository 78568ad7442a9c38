"""The notebook runs from top to bottom, as a reader runs it, and lies here without what it shows."""

import copy
import json
import sys

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

NOTEBOOK = "examples/quickstart.ipynb"


@pytest.fixture(scope="module")
def notebook(repository):
    return nbformat.read(repository / NOTEBOOK, as_version=4)


def test_it_lies_here_without_outputs(notebook):
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) > 8 and all(cell.outputs == [] and cell.execution_count is None for cell in cells)


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(notebook, tmp_path, monkeypatch):
    # The kernel is this Python, wherever Jupyter would look for one; without the network, and folders only here.
    spec = {"argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "here"}
    (tmp_path / "kernels" / "here").mkdir(parents=True)
    (tmp_path / "kernels" / "here" / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    for name in ("TMPDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    client = NotebookClient(
        copy.deepcopy(notebook), timeout=300, kernel_name="here", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.create_kernel_manager().kernel_spec_manager = KernelSpecManager(kernel_dirs=[str(tmp_path / "kernels")])
    done = client.execute()

    outputs = [output for cell in done.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [kind for output in outputs for kind in output.get("data", {})]
    assert shown.count("image/png") == 4, "two filmstrips, two plots"
    html = "".join(output["data"]["text/html"] for output in outputs if "text/html" in output.get("data", {}))
    assert "<audio" in html and "<video" in html and "<iframe srcdoc" in html and "base64" in html
    told = "".join(output.get("text", "") for output in outputs)
    assert "it knows waltz, tango, rumba, chacha" in told and "(360, 24, 3)" in told
    assert float(told.partition("frames are ")[2].partition(" cm")[0]) < 15
    (folder,) = (tmp_path / "TMPDIR").glob("megadance-*")
    made = {path.name for path in folder.rglob("*")}
    assert {"waltz.mp4", "waltz.glb", "waltz.bvh", "waltz.vrma", "waltz.npz", "open_in_blender.py"} <= made
