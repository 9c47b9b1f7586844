"""BIDS names and the inheritance principle."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_bids import write_json

from relaxnet.io.bids_names import BidsError, dataset_root, entity_name, parse_name, read_sidecar

label = st.text("abcXYZ019", min_size=1, max_size=4)


@given(st.dictionaries(st.sampled_from(["sub", "ses", "acq", "run", "inv"]), label), label)
def test_a_name_is_read_as_it_was_put_together(entities, suffix):
    name = parse_name(entity_name(entities, suffix) + ".nii.gz")
    assert (name.entities, name.suffix, name.extension) == (entities, suffix, ".nii.gz")


@pytest.mark.parametrize("name", ["sub-01", "a_b-c_T1map.nii", "sub-01_sub-02_IRT1.nii", "x y.nii"])
def test_other_names_are_none(name):
    assert parse_name(name) is None


@pytest.fixture
def image(tmp_path):
    write_json(tmp_path / "ds/dataset_description.json")
    path = tmp_path / "ds/sub-01/ses-a/anat/sub-01_ses-a_inv-1_IRT1.nii.gz"
    path.parent.mkdir(parents=True)
    return path


def test_nearer_sidecars_overrule(image):
    root, anat = dataset_root(image), image.parent
    assert root.name == "ds"
    write_json(root / "IRT1.json", a=0, b=0, c=0, d=0)
    write_json(root / "sub-01/sub-01_IRT1.json", b=1, c=1, d=1)
    write_json(anat / "sub-01_ses-a_IRT1.json", c=2, d=2)
    write_json(anat / "sub-01_ses-a_inv-1_IRT1.json", d=3)
    card = read_sidecar(image)
    assert card.fields == {"a": 0, "b": 1, "c": 2, "d": 3}
    assert card.name == "sub-01_ses-a_inv-1_IRT1.json"
    assert len(card.files) == 4


def test_sidecars_of_others_do_not_apply(image):
    anat = image.parent
    write_json(anat / "sub-01_ses-a_inv-2_IRT1.json", a=1)  # another index
    write_json(anat / "sub-01_ses-a_acq-x_IRT1.json", a=1)  # an entity that the image lacks
    write_json(anat / "sub-01_ses-a_inv-1_MESE.json", a=1)  # another suffix
    write_json(dataset_root(image).parent / "IRT1.json", a=1)  # above the dataset
    card = read_sidecar(image)
    assert not card.fields
    assert not card.files
    assert card.name == "sub-01_ses-a_inv-1_IRT1.json"


def test_two_sidecars_of_one_level_that_contradict_are_refused(image):
    write_json(image.parent / "sub-01_IRT1.json", a=1, b=1)
    write_json(image.parent / "ses-a_IRT1.json", a=1, b=2)
    with pytest.raises(BidsError, match=r"ses-a_IRT1.json and sub-01_IRT1.json .* differ in b"):
        read_sidecar(image)


def test_without_a_description_the_folder_of_sub_is_in_the_dataset(image):
    (dataset_root(image) / "dataset_description.json").unlink()
    assert dataset_root(image).name == "ds"
    write_json(dataset_root(image) / "IRT1.json", a=1)
    assert read_sidecar(image).fields == {"a": 1}


def test_outside_a_dataset_the_own_folder_counts(tmp_path):
    write_json(tmp_path / "IRT1.json", a=1)
    assert read_sidecar(tmp_path / "sub-01_inv-1_IRT1.nii.gz").fields == {"a": 1}
    assert not read_sidecar(tmp_path / "IRT1_copy.nii.gz").fields
    write_json(tmp_path / "series.json", b=1)
    assert read_sidecar(tmp_path / "series.nii.gz").fields == {"b": 1}


@pytest.mark.parametrize(("text", "words"), [("{", "not readable JSON"), ("[1]", "no JSON object")])
def test_what_is_no_json_object_is_refused_by_name(image, text, words):
    (image.parent / "sub-01_ses-a_IRT1.json").write_text(text)
    with pytest.raises(BidsError, match=f"sub-01_ses-a_IRT1.json .*{words}"):
        read_sidecar(image)


def test_a_changed_sidecar_is_read_again(image):
    path = write_json(image.with_name("sub-01_ses-a_inv-1_IRT1.json"), a=1)
    assert read_sidecar(image).fields == {"a": 1}
    write_json(path, a=1, b=22)
    assert read_sidecar(image).fields == {"a": 1, "b": 22}
