"""notebooks/: executed as they are, at smoke size; what they refuse; that they hold no outputs."""

import json
import subprocess
from pathlib import Path

import nbformat
import pytest
import tifffile
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell

from maeref_jax.phantoms.phantom import phantom
from maeref_jax.volumes.volume import write_tiff

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
# A notebook that opens the accelerator takes it away from the programs that it starts.
LEFT_ALONE = 'import sys\nassert "jax" not in sys.modules, "the notebook itself imported jax"'


@pytest.fixture(scope="module")
def execute(root, tmp_path_factory):
    """execute(name, parameters, folder) -> the text that the executed notebook shows, pictures as "[picture]"."""
    own = tmp_path_factory.mktemp("jupyter")
    environment = {
        # Nothing of the user's own Jupyter takes part.
        **{f"{name}_DIR": own / name for name in ("JUPYTER_RUNTIME", "JUPYTER_CONFIG", "JUPYTER_DATA")},
        "IPYTHONDIR": own / "ipython",
        "JAX_PLATFORMS": "cpu",
        # pip finds everything installed, or the test fails: it downloads nothing.
        "PIP_NO_INDEX": "1",
        "PYTHONPATH": colab_package(own),
    }

    def run(name, parameters, folder=root / "notebooks", ending=LEFT_ALONE):
        notebook = nbformat.read(next(path for path in NOTEBOOKS if path.name.startswith(name)), as_version=4)
        notebook.cells.append(new_code_cell(ending))
        given = json.dumps({"MODE": "smoke", **parameters}, default=str)
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in {**environment, "MAEREF_NOTEBOOK": given}.items():
                patch.setenv(variable, str(value))
            NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
        return "".join(shown(output) for cell in notebook.cells for output in cell.get("outputs", ()))

    return run


def colab_package(folder):
    """A folder with a google.colab to import, whose Drive says that it is mounted."""
    package = folder / "packages" / "google" / "colab"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "drive.py").write_text('def mount(folder):\n    print(f"mounted {folder}")\n')
    return folder / "packages"


def shown(output):
    if output.output_type == "stream":
        return output.text
    return "[picture]" if "image/png" in output.data else output.data["text/plain"]


@pytest.fixture
def colab(root, tmp_path):
    """An empty folder to start in, and the address of the code."""
    # A copy of this code as a repository, changes that are not committed included.
    copy = tmp_path / "repository"
    copy.mkdir()
    for name in ("train.py", "refine.py", "evaluate.py", "requirements.txt", "configs", "maeref_jax"):
        (copy / name).symlink_to(root / name)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "copy"]):
        subprocess.run([*git, *command], cwd=copy, check=True, capture_output=True)
    (tmp_path / "content").mkdir()
    return tmp_path / "content", copy.as_uri()


@pytest.fixture(scope="module")
def phantoms(execute, tmp_path_factory):
    """What notebook 1 shows, and the folder of the models that it trained."""
    workdir = tmp_path_factory.mktemp("notebook") / "my models"
    return execute("1", {"WORKDIR": workdir}), workdir


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_committed_notebook_is_valid_holds_no_outputs_and_upgrades_nothing(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert code[0].source.startswith("# Parameters")
    assert not any("pip install -U" in cell.source or "--upgrade" in cell.source for cell in code)
    for cell in code:
        commands = [line for line in cell.source.splitlines() if line.strip().startswith("!")]
        assert cell.source.count("assert _exit_code == 0") == len(commands), f"unnoticed failure: {commands}"


def test_on_phantoms_both_models_are_trained_and_judged(phantoms):
    text, workdir = phantoms
    assert text.count("[picture]") == 3 and "Dice" in text
    for name in ("ensemble/summary.json", "mae/summary.json", "report.html"):
        assert (workdir / name).is_file()


def test_an_own_tiff_is_refined_and_shown(execute, phantoms, tmp_path):
    _, workdir = phantoms
    models = {"ENSEMBLE": workdir / "ensemble", "REFINER": workdir / "mae", "THRESHOLD": "0.9"}
    text = execute("2", {**models, "OUTPUT": tmp_path / "out"})
    assert text.count("[picture]") == 2 and text.count("were hidden") == 2
    assert tifffile.imread(tmp_path / "out" / "notebook2_example_refined.tif").shape == (6, 160, 160)
    hidden = tifffile.imread(tmp_path / "out" / "notebook2_labels_hidden.tif") > 0
    assert hidden[:, 70:90, 70:90].all() and 0.03 < hidden.mean() < 0.06


def test_from_python_an_array_is_segmented_refined_and_judged(execute, phantoms):
    _, workdir = phantoms
    given = {"ENSEMBLE": workdir / "ensemble", "REFINER": workdir / "mae"}
    text = execute("4", given, ending="assert fixed.labels.shape == image.shape == (6, 160, 160)")
    assert text.count("[picture]") == 1 and "were hidden" in text and "mean Dice in hidden places" in text


def test_from_clicks_a_new_phantom_is_segmented_and_judged(execute, tmp_path):
    text = execute(
        "5", {"WORKDIR": tmp_path, "SHAPE": (4, 32, 32)}, ending="assert (results / 'report.html').is_file()"
    )
    assert text.count("[picture]") == 2 and "z,y,x,class" in text and "mean Dice" in text
    assert tifffile.imread(tmp_path / "segmented" / "new_initial.tif").shape == (4, 32, 32)


def test_on_colab_a_new_session_continues_on_drive(execute, phantoms, colab, tmp_path):
    _, workdir = phantoms
    start, address = colab
    # The connection was lost: the second half of the training and its end never happened.
    metrics = (workdir / "mae" / "metrics.jsonl").read_text()
    (workdir / "mae" / "checkpoints" / "4").rename(tmp_path / "lost")
    (workdir / "mae" / "summary.json").unlink()
    made = phantom(7, (4, 66, 70))
    image = tmp_path / "my image.tif"
    write_tiff(image, made.image, made.voxel_size_nm)
    settings = {"WORKDIR": workdir, "REPOSITORY": address, "ACCELERATOR": "CPU", "IMAGE": image}
    text = execute("3", settings, start)
    assert "mounted /content/drive" in text and "on cpu" in text and "[picture]" in text
    assert (workdir / "mae" / "metrics.jsonl").read_text() == metrics, "from step 2 on, the same numbers"
    assert (workdir / "mae" / "checkpoints" / "4").is_dir() and (workdir / "mae" / "summary.json").is_file()
    assert tifffile.imread(workdir / "refined" / "my image_refined.tif").shape == (4, 66, 70)


def test_a_command_that_fails_stops_the_notebook_with_its_message(execute, tmp_path):
    with pytest.raises(CellExecutionError, match=r"refine.py failed") as raised:
        execute("2", {"IMAGE": "any.tif", "ENSEMBLE": tmp_path / "nothing", "OUTPUT": tmp_path / "out"})
    assert "nothing is not the workdir of a train.py run" in str(raised.value)


def test_an_accelerator_that_is_not_there_is_said_before_anything_is_trained(execute, colab, tmp_path):
    start, address = colab
    with pytest.raises(CellExecutionError, match=r'ACCELERATOR is "GPU", but jax finds cpu') as raised:
        execute("3", {"WORKDIR": tmp_path / "models", "REPOSITORY": address, "ACCELERATOR": "GPU"}, start)
    assert "Runtime > Change runtime type" in str(raised.value)
    assert not (tmp_path / "models").exists()


def test_a_wrong_repository_is_named(execute, colab, tmp_path):
    start, _ = colab
    with pytest.raises(CellExecutionError, match="is the parameter REPOSITORY right"):
        execute("3", {"REPOSITORY": f"file://{tmp_path}/elsewhere", "WORKDIR": tmp_path / "models"}, start)
