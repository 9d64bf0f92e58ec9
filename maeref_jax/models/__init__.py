"""Networks, flax.linen only: functions of parameters and arrays, which know no files and no training."""
