"""How anything learns: steps, checkpoints, logs, devices, members. It runs any Method and knows none."""
