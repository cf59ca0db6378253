"""Every notebook of the docs runs from its first cell to its last, in an empty folder, and shows what it promises."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
SHOWN = {"study": {"text/html": 2, "image/png": 2}, "own_strategy": {"text/html": 0, "image/png": 0}}


def test_each_notebook_is_known_here():
    assert {path.stem for path in (ROOT / "docs" / "notebooks").glob("*.ipynb")} == SHOWN.keys()


@pytest.mark.parametrize("name", SHOWN)
def test_a_notebook_runs(tmp_path, monkeypatch, name):
    notebook = nbformat.read(ROOT / "docs" / "notebooks" / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.outputs for cell in notebook.cells if cell.cell_type == "code"), "outputs would go stale"
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=900, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    results = [output["data"] for output in outputs if output["output_type"] == "execute_result"]
    for kind, count in SHOWN[name].items():
        assert sum(kind in data for data in results) == count, kind
    if name == "own_strategy":
        text = "".join(output["text"] for output in outputs if output["output_type"] == "stream")
        assert text.count("passed ") >= 5
