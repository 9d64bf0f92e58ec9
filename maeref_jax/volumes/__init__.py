"""Voxels in and out: any file as one lazy (z, y, x) view, read box by box; formats/ has one file per format."""
