"""A whole volume, block by block, in bounded memory; stopped anywhere, it goes on where it was.

job      one volume to refine: its inputs, and the folder and stem of its results                     jobs.py
         whether inputs, models and settings fit together                                           checks.py
method   a segmenter or a refiner by name; a model is one of them trained                             methods.py
run      a job that was checked, with its models, settings and the arrays that it writes              passes.py
pass     one way through the whole volume: "copy" (the image), "segment", "judge" where a corrector
         says what is hidden, then "refine"                                           passes.py, segmenting.py
block    a box of the volume, the unit of reading, writing and resuming; no result depends on it      blockwise.py
program  what a network computes of windows of one shape, compiled once, beside what is computed      programs.py
part     the blocks of one of N processes that the user starts, who know each other by finished marks parts.py
worker   one of N processes that this one starts, and gives a block after another                     workers.py
         who come to it by a gate that asks for a token, and end when it does                gate.py, watched.py

refining.py is the course of it: open the run, do its passes, finish. Before that space.py looks at the disk, and
asking.py tries the refiner on what is known of the volume; doubts.py is the one place of all that a user is warned of.
inside.py says what a mask of what is worked on leaves out; file_grid.py brings results back to the voxels of the file
where others were worked at. tissue.py makes such masks, by passes of its own: "segment", then "clean" (cleaning.py).
Only this room composites: a voxel outside the hidden tokens keeps its initial label, bit for bit.
"""
