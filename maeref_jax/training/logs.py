"""What a person follows a run by: a progress bar, metrics.jsonl, TensorBoard, one line per evaluation."""

import json
import time
from contextlib import contextmanager, suppress

import jax
import numpy as np
from etils import epath
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from maeref_jax.errors import MARK, BadInput, tell
from maeref_jax.records import DETAILS
from maeref_jax.training.pictures import COLUMNS, contact_sheet
from maeref_jax.training.workdir import write_bytes, write_text
from maeref_jax.volumes import progress
from maeref_jax.volumes.json_files import parse_object

PICTURE = "validation.png"  # in the workdir
EVERY = 50  # steps between two lines of training metrics
# From how many hours on a CPU is warned about, by the fastest of so many steps: others may have been compiled for.
SLOW_HOURS, TIMED = 0.5, 12


def mean_metrics(sums):
    """[{name: (sum, count)}] over batches -> {name: float}: sums and counts added first, divided once (law 4)."""
    total = jax.tree.map(lambda *values: np.sum(values, axis=0), *jax.device_get(sums))
    return {name: float(value / max(count, 1e-8)) for name, (value, count) in total.items()}


def read_lines(path):
    """The lines of a metrics.jsonl, without those that a kill or a disk has damaged."""
    found = []
    for text in path.read_bytes().splitlines() if path.exists() else []:
        try:
            line = parse_object(text, path)
        except BadInput:
            continue
        found += [line] if isinstance(line.get("step"), int) else []
    return found


class Board:
    """TensorBoard's file of one run. What earlier runs told of `step` and later is forgotten.

    Written by this thread: tensorboardX's own dies of a full disk, and whoever hands it the next event waits for ever.
    A convenience: where it cannot be written, that is said, and training goes on without.
    """

    def __init__(self, folder, step):
        self.writer = None
        with self._unless_refused():
            epath.Path(folder).mkdir(parents=True, exist_ok=True)
            self.writer = EventsWriter(str(folder / "events"))
            started = SessionLog(status=SessionLog.START)
            self.writer.write_event(Event(step=step, session_log=started, wall_time=time.time()))

    def add(self, told, step):
        """told: what tensorboardX.summary makes."""
        with self._unless_refused():
            if self.writer:
                self.writer.write_event(Event(step=step, summary=told, wall_time=time.time()))

    def flush(self):
        with self._unless_refused():
            if self.writer:
                self.writer.flush()

    def close(self):
        with self._unless_refused():
            if self.writer:
                self.writer.close()

    @contextmanager
    def _unless_refused(self):
        try:
            yield
        except OSError as error:
            self.writer = None
            tell(f"{MARK}no more is written for TensorBoard: {error}")


class Logs:
    """The logs of one run in `workdir`, continued from step `start`; silent unless `primary`. judged_on: what it is
    evaluated on, for people.

    metrics.jsonl has one line per EVERY steps or evaluation; lines behind `start` are dropped.
    """

    def __init__(self, workdir, start, steps, batch, judged_on, primary=True):
        self.start, self.steps, self.batch, self.began = start, steps, batch, time.monotonic()
        self.judged_on, self.primary, self.sums, self.lines, self.board = judged_on, primary, [], [], None
        self.pictured = False
        self.seconds, self.last = [], None  # of the first steps, each; when the last one came
        self.path = workdir / "metrics.jsonl"
        if primary:
            self.lines = [line for line in read_lines(self.path) if line["step"] <= start]
            write_text(self.path, "".join(json.dumps(line) + "\n" for line in self.lines))
            self.board = Board(workdir / "tensorboard", start + 1)
        count = {"done": start * batch, "scaled": True, "silent": not primary}
        self.showing = progress.showing("train", steps * batch, "crop", **count)

    def __enter__(self):
        self.shown = self.showing.__enter__()
        self.shown.note("compiling the first step")
        return self

    def __exit__(self, *error):
        self.showing.__exit__(*error)
        if self.board:
            self.board.close()

    def add(self, step, logs):
        """The sums and counts of one training step."""
        if self.shown.done == self.start * self.batch:
            self.shown.note(f"step {step + 1}")
        self.shown.advance(self.batch)
        self._tell_if_slow(step, time.monotonic())
        self.sums.append(logs)
        if (step + 1) % EVERY == 0:
            means = mean_metrics(self.sums)
            self.sums = []
            losses = "".join(f", {name} {value:.4f}" for name, value in means.items())
            self.shown.note(f"step {step + 1}{losses}")
            self._write({"step": step + 1, **{f"train_{name}": value for name, value in means.items()}})

    def _tell_if_slow(self, step, now):
        """Says once how long the training will take on a CPU, when it is long."""
        if len(self.seconds) < TIMED and self.last is not None:
            self.seconds.append(now - self.last)
            hours = min(self.seconds) * (self.steps - step) / 3600
            if len(self.seconds) == TIMED and hours > SLOW_HOURS and jax.default_backend() == "cpu":
                told = (
                    f"about {min(self.seconds):.1f} s a step, {hours:.1f} hours for {self.steps - step - 1} more steps"
                )
                self.say(f"slow on this CPU: {told};")
                self.say("it is meant for a GPU or TPU, and a mode such as :demo or :small is made for CPUs")
        self.last = now

    def evaluated(self, step, metrics, preview, settings):
        """Validation metrics and the method's preview of some validation crops, at `step` steps taken."""
        self._write({"step": step, **{f"validation_{name}": value for name, value in metrics.items()}})
        seconds = (time.monotonic() - self.began) / max(step - self.start, 1)
        rate = f"{self.batch / max(seconds, 1e-9):.0f} crops/s, {seconds * (self.steps - step) / 60:.1f} min left"
        shown = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items() if not name.startswith(DETAILS))
        self.say(f"step {step}: validation on {self.judged_on}: {shown} ({rate})")
        if self.board and preview:
            sheet = contact_sheet(preview, settings["classes"]["colours"])
            told = summary.image("validation", sheet, dataformats="HWC")
            self.board.add(told, step)
            self._picture(told.value[0].image.encoded_image_string, preview)
        if self.board:
            self.board.flush()

    def _picture(self, png, preview):
        """What the last evaluation looks like, for people without TensorBoard; said once."""
        place = self.path.parent / PICTURE
        with suppress(OSError):  # of a full disk, the checkpoint tells
            write_bytes(place, png)
            if not self.pictured:
                columns = ", ".join(name for name in COLUMNS if preview.get(name) is not None)
                self.say(f"picture of every evaluation: {place} (from left to right: {columns})")
                self.pictured = True

    def say(self, text):
        if self.primary:
            progress.say(text)

    def at(self, step):
        """The validation metrics of one evaluation, {"step", "validation_…"}."""
        return next((line for line in self.lines if line["step"] == step and "validation_loss" in line), {})

    def _write(self, line):
        if not self.primary:
            return
        self.lines.append(line)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        for name, value in line.items():
            if name != "step":
                self.board.add(summary.scalar(name.replace("_", "/", 1), value), line["step"])
