"""Rows of an earlier table that a run keeps."""

import csv

import pytest
from figures import write_rows
from other_rows import with_others

OLD = [
    {"snr": 3.0, "method": "fit", "rmse": 20.0, "voxels": 27560},
    {"snr": 3.0, "method": "net", "rmse": 9.0, "voxels": 27560},
    {"snr": 5.0, "method": "net", "rmse": 6.0, "voxels": 27560},
]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    write_rows(path, OLD)
    return path


def test_new_rows_take_the_place_of_old_ones(table):
    new = [
        {"snr": 10, "method": "net", "rmse": 4.0, "voxels": 27560},
        {"snr": 3, "method": "net", "rmse": 8.0, "voxels": 27560},
    ]
    merged = with_others(table, new, ("snr", "method"))
    assert [(r["snr"], r["method"], r["rmse"]) for r in merged] == [
        (3, "fit", 20.0),
        (3, "net", 8.0),
        (5, "net", 6.0),
        (10, "net", 4.0),
    ]


def test_a_table_of_a_table_is_the_same(table):
    before = table.read_bytes()
    write_rows(table, with_others(table, [], ("snr", "method")))
    assert table.read_bytes() == before
    with table.open(newline="") as file:
        assert [float(r["rmse"]) for r in csv.DictReader(file)] == [20.0, 9.0, 6.0]


def test_without_a_table_there_are_the_new_rows(tmp_path):
    assert with_others(tmp_path / "none.csv", OLD, ("snr", "method")) == OLD
