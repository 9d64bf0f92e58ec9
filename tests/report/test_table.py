"""Tables as text and as HTML, and numbers in them."""

from maeref_jax import report
from maeref_jax.report.table import html_table

TABLE = report.Table(
    "Dice <of> all",
    ("region", "mean"),
    (("inside", ""), ("  initial", "0.5"), ("  refined", "0.75")),
    ("refined",),
    "A note.",
)


def test_text_table_is_aligned():
    lines = report.text_table(TABLE).splitlines()
    assert lines[0] == "Dice <of> all"
    assert lines[2].endswith("mean")
    assert lines[5].index("0.5") + 3 == lines[6].index("0.75") + 4 == len(lines[2])
    assert lines[-1] == "A note."


def test_html_table_escapes_marks_and_scrolls_inside_itself():
    found = html_table(TABLE._replace(rows=(*TABLE.rows, ("refined", "no such file " * 5))))
    assert "Dice &lt;of&gt; all" in found and '<tr class="strong"><th scope=row>  refined' in found
    assert '<tr class="group"><th scope=row>inside' in found
    assert "<div class=wide tabindex=0" in found and "<td class=long>no such file" in found


def test_undefined_numbers_are_a_dash():
    assert report.number(float("nan")) == "-"
    assert report.number(0.12345) == "0.123"
    summary = {
        "end_points": {"mean": 3.55, "se": 0.3},
        "boundary_to_area": {"mean": 0.1214, "se": 0.0094},
        "inner_background": {"mean": float("nan"), "se": float("nan")},
        "cycles": {"mean": 1.0, "se": float("nan")},
    }
    assert report.validity_cells(summary) == ("3.55 ± 0.30", "12.14 ± 0.94 %", "-", "1.00 ± -")
