import numpy as np
import pytest
from scipy import stats

from relaxsim.simulation.tissues import BUNDLED, bundled_tables, parse_tissues, read_tissues

#: labels: T1, sd, T2, sd, A (paper, Table 1, with the labels that it leaves out).
TABLE_1 = {
    (1,): (3500, 300, 2000, 300, 1.0),
    (2,): (1400, 300, 110, 30, 0.85),
    (3,): (780, 250, 80, 20, 0.65),
    (4, 9): (420, 100, 70, 20, 0.9),
    (5,): (1200, 300, 50, 20, 0.7),
    (6, 10): (1230, 300, 50, 20, 0.7),
    (7,): (400, 100, 30, 10, 0.9),
    (8,): (1980, 300, 275, 70, 1.0),
    (11,): (580, 100, 50, 20, 0.8),
}


@pytest.mark.parametrize("name", ["paper", "wide"])
def test_tables_hold_table_1(name):
    table = read_tissues(name)
    found = {
        t.labels: (t.mean["T1"], t.sd["T1"], t.mean["T2"], t.sd["T2"], t.mean["A"])
        for t in table.tissues
    }
    assert found == TABLE_1
    assert all(t.sd["A"] == 0.3 for t in table.tissues)
    assert all(t.source for t in table.tissues)
    assert all(t.wide_share == (0.5 if name == "wide" else 0.0) for t in table.tissues)


def test_bundled_tables_are_all_tested():
    assert set(bundled_tables()) == {"paper", "t2star", "wide"}


def test_t2star_of_tissues_and_its_range():
    """Grey and white matter at 3 T (Peters et al. 2007), and no gap from 1 to 300 ms."""
    table = read_tissues("t2star")
    found = {t.labels: t.mean["T2star"] for t in table.tissues}
    assert (found[(2,)], found[(3,)]) == (66, 53)
    assert {t.labels: t.mean["A"] for t in table.tissues} == {k: v[4] for k, v in TABLE_1.items()}
    assert all(t.source and "T2" not in t.mean for t in table.tissues)
    values = table.draw("T2star", 20_000, np.random.default_rng(0))[:, 1:]
    for column in values.T:
        share = np.histogram(column, np.geomspace(1, 300, 31))[0] / len(column)
        assert share.min() > 0.6 / 30 * 0.8


def test_draws_have_the_tables_moments():
    values = read_tissues("paper").draw("T1", 40_000, np.random.default_rng(0))
    for labels, (mean, sd, *_) in TABLE_1.items():
        lower = (0.1 * mean - mean) / sd
        expected = stats.truncnorm(lower, np.inf, mean, sd)
        for label in labels:
            draw = values[:, label]
            assert draw.mean() == pytest.approx(expected.mean(), abs=4 * sd / 200)
            assert draw.std() == pytest.approx(expected.std(), rel=0.02)


def test_draws_are_truncated_not_clipped():
    values = read_tissues("paper").draw("A", 50_000, np.random.default_rng(0))[:, 3]
    assert values.min() > 0.065
    assert len(np.unique(values)) == len(values)
    truncated = stats.truncnorm((0.065 - 0.65) / 0.3, np.inf, 0.65, 0.3)
    assert stats.kstest(values, truncated.cdf).pvalue > 1e-3


def test_labels_of_a_row_share_its_draw_and_others_do_not():
    values = read_tissues("paper").draw("T2", 100, np.random.default_rng(1))
    np.testing.assert_array_equal(values[:, 4], values[:, 9])
    np.testing.assert_array_equal(values[:, 6], values[:, 10])
    assert not (values[:, 5] == values[:, 6]).any()
    assert (values[:, 0] == 1).all()


def test_background_has_no_signal():
    assert (read_tissues("paper").draw("A", 5, np.random.default_rng(0))[:, 0] == 0).all()


@pytest.mark.parametrize(("parameter", "low", "high"), [("T1", 50, 5000), ("T2", 5, 3000)])
def test_wide_table_leaves_no_gap(parameter, low, high):
    values = read_tissues("wide").draw(parameter, 20_000, np.random.default_rng(0))[:, 1:]
    counts, _ = np.histogram(np.log(values), np.linspace(np.log(low), np.log(high), 41))
    assert counts.min() > 0.4 * values.size / 40 / 2
    paper = read_tissues("paper").draw("T2", 20_000, np.random.default_rng(0))[:, 1:]
    in_gap = (paper > 700) & (paper < 800)  # the gap that it closes
    assert in_gap.mean() < 1e-5 < ((values > 700) & (values < 800)).mean()


def lines(**changes):
    """Text of the paper's table with the row of label 3 changed; None drops the row."""
    text = (BUNDLED / "paper.csv").read_text().splitlines()
    head = next(line for line in text if line.startswith("labels")).split(",")
    rows = [dict(zip(head, line.split(","), strict=True)) for line in text[-9:]]
    if changes.get("row", True) is None:
        rows.pop(2)
    else:
        rows[2] |= changes
    return "\n".join([",".join(head), *(",".join(row.values()) for row in rows)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"T1": "0.78", "T1_sd": "0.2"}, "T1 = 0.78 looks like seconds"),
        ({"T2": "-80"}, "expected a positive mean"),
        ({"T2_sd": "90"}, "spread from 0 to the mean"),
        ({"A": "nan"}, "expected a finite number"),
        ({"A": "much"}, "'much', expected a number"),
        ({"A": ""}, "expected a number"),
        ({"labels": "3 2"}, r"doubled \[2\]"),
        ({"labels": "12"}, r"missing \[3\], unknown \[12\]"),
        ({"labels": "x"}, "no whole numbers"),
        ({"row": None}, r"missing \[3\]"),
    ],
)
def test_bad_tables(changes, message):
    with pytest.raises(ValueError, match=message) as raised:
        parse_tissues(lines(**changes), "mine")
    assert "mine" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["", "a,b\n1,2", "labels,tissue,A\n1,CSF,1"])
def test_tables_without_columns(text):
    with pytest.raises(ValueError, match="has no column"):
        parse_tissues(text, "mine")


def test_tables_with_bad_wide_parts():
    wide = (BUNDLED / "wide.csv").read_text()
    with pytest.raises(ValueError, match="wide_share"):
        parse_tissues(wide.replace(",0.5,50,", ",1.5,50,"), "mine")
    with pytest.raises(ValueError, match="low < high"):
        parse_tissues(wide.replace(",0.5,50,", ",0.5,6000,"), "mine")
    with pytest.raises(ValueError, match="looks like seconds"):
        parse_tissues(wide.replace(",0.5,50,", ",0.5,0.05,"), "mine")
    with pytest.raises(ValueError, match="T1_low is '', expected a number"):
        parse_tissues(wide.replace(",0.5,50,", ",0.5,,"), "mine")
    with pytest.raises(ValueError, match="is no CSV table"):
        parse_tissues("labels,tissue\n1," + "x" * 200_000, "mine")


def test_a_users_table(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text(lines(T1="900", T1_sd="0"))
    table = read_tissues(path)
    assert table.name == "own"
    assert (table.draw("T1", 10, np.random.default_rng(0))[:, 3] == 900).all()
    with pytest.raises(ValueError, match="no column D"):
        table.draw("D", 1, np.random.default_rng(0))


def test_files_that_are_no_tables(tmp_path):
    with pytest.raises(ValueError, match=r"no such file.*paper, t2star, wide"):
        read_tissues("nowhere.csv")
    with pytest.raises(ValueError, match="no such file"):
        read_tissues(tmp_path / "wide.csv")  # not the bundled one of that name
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ValueError, match="not a text file"):
        read_tissues(tmp_path / "t.csv")
