"""A config -> a workdir: training runs, parameter search, calibration, out-of-fold prediction, rendering."""
