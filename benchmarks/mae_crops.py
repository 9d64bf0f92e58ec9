"""Twelve validation crops of a masked autoencoder as one picture: what it saw, what it filled in, the truth.

    python benchmarks/mae_crops.py --refiner runs/demo/mae --output docs/mae_crops.png

Hidden tokens are grey on the left. The truth is what the model was validated with, an ensemble's labels for the demo;
where the ensemble was undecided it is unknown, and dark violet.
"""

import argparse
import sys
from pathlib import Path

import jax
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parent.parent))

from maeref_jax.experiments import experiment
from maeref_jax.pipeline import methods
from maeref_jax.report.canvas import colour_labels

ROWS, GREY = 4, (160, 160, 160)
COLUMNS = {"input": "what it saw", "prediction": "filled in", "truth": "truth"}


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--refiner", required=True, type=Path)
    flags.add_argument("--output", required=True, type=Path)
    given = flags.parse_args()
    model = methods.load_model(given.refiner, "refiner")
    settings = model.settings
    prepared = experiment.prepare(settings, given.refiner, range(settings["batch"]))
    preview = jax.jit(prepared.method.preview)
    shown = [jax.device_get(preview(model.params, model.state, batch)) for batch in prepared.validation]
    # A few crops of every validation batch: each has a masking ratio of its own.
    each = -(-3 * ROWS // len(shown))
    found = {key: np.concatenate([one[key][:each] for one in shown])[: 3 * ROWS] for key in shown[0]}
    figure = Figure(figsize=(18, 8.4), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    for i in range(len(found["truth"])):
        block, row = divmod(i, ROWS)
        for j, (key, title) in enumerate(COLUMNS.items()):
            axes = figure.add_subplot(ROWS, 9, 9 * row + 3 * block + j + 1)
            picture = colour_labels(found[key][i].astype(int), settings["classes"]["colours"])
            if key == "input":
                picture[found["hidden"][i]] = GREY
            axes.imshow(picture, interpolation="nearest")
            axes.set_axis_off()
            axes.set_title(title if row == 0 else "", fontsize=11)
    figure.savefig(given.output, metadata={"Software": None})
    print(f"{given.output}: {len(found['truth'])} crops")


if __name__ == "__main__":
    main()
