"""Pictures, tables and pages that a person looks at. Nothing in this room computes a score.

canvas.py drawing, panels.py one slice, figures.py the paper's figures, table.py, methods.py the paragraph for a paper,
page.py the HTML document, refinement.py the page of refine.py with what_changed.py its tables and most_changed.py its
pictures. Tables, which all callers make, are taken from here.
"""

from maeref_jax.report.table import METRIC_NAMES, Table, number, text_table, validity_cells

__all__ = ["METRIC_NAMES", "Table", "number", "text_table", "validity_cells"]
