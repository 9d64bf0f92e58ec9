"""One file per format of volumes on disk; `volumes/volume.py` finds the right one by the path."""
