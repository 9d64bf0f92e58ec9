"""Where everything of one output lies; output.py says what it is."""

from pathlib import Path
from typing import NamedTuple

EXPORTS = ("initial", "refined", "entropy", "hidden")


class Output(NamedTuple):
    """Where the results of the input `stem` go: `directory`, the user's --output; `formats`: suffixes of exports."""

    directory: Path
    stem: str
    formats: tuple[str, ...] = (".tif",)

    @property
    def folder(self) -> Path:
        return self.directory / f"{self.stem}.ome.zarr"

    @property
    def sidecar(self) -> Path:
        return self.directory / f"{self.stem}.json"

    @property
    def progress(self) -> Path:
        return self.folder / "progress"

    @property
    def notes(self) -> Path:
        return self.progress / "files"

    @property
    def objects(self) -> Path:
        return self.directory / f"{self.stem}_objects.csv"

    @property
    def repairs(self) -> Path:
        return self.directory / f"{self.stem}_repairs.csv"

    @property
    def skeletons(self) -> Path:
        return self.directory / f"{self.stem}_skeletons"

    @property
    def on_file_grid(self) -> Path:
        return self.directory / f"{self.stem}_on_file_grid.ome.zarr"

    @property
    def beside(self) -> tuple[Path, ...]:
        """All that is made beside the OME-Zarr and the sidecar."""
        exports = (self.export(name, suffix) for suffix in self.formats for name in EXPORTS)
        return (*exports, self.objects, self.skeletons, self.repairs, self.on_file_grid)

    def export(self, name: str, suffix: str = ".tif") -> Path:
        return self.directory / f"{self.stem}_{name}{suffix}"


def way_out(output: Output) -> str:
    """What to type where something of an output is damaged, as the end of a sentence."""
    return f"maeref verify --repair {output.folder}, then the same command makes it again"
