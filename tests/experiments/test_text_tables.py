from sweep import score_table
from text_tables import table, write_markdown


def test_cells_are_formatted_and_nan_is_empty():
    rows = [{"a": 1.25, "b": float("nan"), "c": True}, {"a": "x"}]
    lines = table(rows, {"a": ("A", ".1f"), "b": ("B", ".2f"), "c": ("C", "")})
    assert lines[2] == "| 1.2 |  | yes |"
    assert lines[3] == "| x |  |  |"


def test_scores_of_two_tissues_stand_in_one_row():
    head = {"protocol": "fse6", "snr": 3.0, "method": "mle"}
    rows = [
        {**head, "tissue": tissue, "bias": 1.0, "cv": 2.0, "rmse": 3.0}
        for tissue in ("GM", "WM", "CSF")
    ]
    lines = score_table(rows, {"protocol": "protocol"})
    assert lines[2:] == ["| fse6 | 3 | mle | +1.0 / 2.0 / 3.0 | +1.0 / 2.0 / 3.0 |"]


def test_page_has_title_and_parts(tmp_path):
    write_markdown(tmp_path / "a" / "b.md", "Title", [("", ["- x"]), ("Part", ["| y |"])])
    assert (tmp_path / "a" / "b.md").read_text() == "# Title\n\n- x\n\n## Part\n\n| y |\n"
