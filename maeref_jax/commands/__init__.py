"""What a user types: `maeref COMMAND`, its flags, which inputs belong together, plans, thresholds."""
