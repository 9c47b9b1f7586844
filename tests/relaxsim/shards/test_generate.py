import json

import numpy as np
import pytest

from relaxsim.anatomy.anatomy import load_anatomy
from relaxsim.models.protocols import read_protocol
from relaxsim.shards.generate import make_shard, shard_rng


def pairs(names):
    return tuple((n, tuple(read_protocol(n, "tis").tau.tolist())) for n in names)


def test_shard_is_a_function_of_settings_and_index(small_settings):
    settings = small_settings(patches=500)
    first, again = make_shard(settings, 1)[0], make_shard(settings, 1)[0]
    other = make_shard(settings, 0)[0]
    for name, values in first.items():
        np.testing.assert_array_equal(values, again[name])
    for name in ("S", "kappa", "sigma", "origin"):
        assert not np.array_equal(first[name], other[name])


@pytest.mark.parametrize(("patches", "sizes"), [(6, [6]), (240, [240]), (485, [240, 240, 5])])
def test_patches_fill_shards(small_settings, patches, sizes):
    settings = small_settings(patches=patches, patch_size=4)
    assert [settings.patches_of(i) for i in range(settings.num_shards)] == sizes


def test_random_protocols_make_small_shards(small_settings):
    settings = small_settings(patches=50, protocols=())
    assert [settings.patches_of(i) for i in range(settings.num_shards)] == [24, 24, 2]
    taus = [settings.protocol_of(i).tau for i in range(3)]
    assert len({t.tobytes() for t in taus}) == 3
    np.testing.assert_array_equal(settings.protocol_of(1).tau, taus[1])


def test_every_protocol_meets_every_anatomy(small_settings):
    names = ["cine23", "cine31"]
    anatomies = tuple((f"{k}.nii", "") for k in range(4))
    settings = small_settings(protocols=pairs(names), anatomies=anatomies)
    met = {(settings.protocol_of(i).name, settings.anatomy_of(i)[0]) for i in range(8)}
    assert len(met) == 8


def test_streams_of_a_shard_differ():
    draws = {shard_rng(*key).random() for key in ((0, 0), (0, 1), (1, 0), (0, 0, 1))}
    assert len(draws) == 4


@pytest.mark.parametrize("noise", ["gaussian", "rician"])
def test_signal_has_the_shards_kappa_and_sigma(small_settings, noise):
    settings = small_settings(patches=40, noise=noise, sigma_range=(0.01, 0.02))
    arrays, protocol = make_shard(settings, 0)
    inside = arrays["labels"] > 0
    clean = settings.model.forward(arrays["kappa"][inside], protocol.tau)
    strong = clean > 0.2  # where Rician noise is Gaussian
    sigma = np.broadcast_to(arrays["sigma"][:, None, None], inside.shape)[inside][:, None]
    z = ((arrays["S"][inside] - clean) / sigma)[strong]
    assert z.mean() == pytest.approx(0, abs=0.05)
    assert z.std() == pytest.approx(1, abs=0.02)


def test_origin_says_where_a_patch_lies(small_settings, head):
    settings = small_settings(patches=12, augment=False, patch_size=6)
    arrays, _ = make_shard(settings, 0)
    labels = np.pad(load_anatomy(head).labels, 8)
    for patch, (subject, z, y, x) in zip(arrays["labels"], arrays["origin"], strict=True):
        assert subject == 7
        np.testing.assert_array_equal(patch, labels[z + 8, y + 5 : y + 11, x + 5 : x + 11])


def test_augmentation_turns_patches(small_settings):
    plain, turned = (
        make_shard(small_settings(patches=24, augment=a), 0)[0]["labels"] for a in (False, True)
    )
    assert not np.array_equal(plain, turned)
    # both begin with the same centres; the first patch is turned, not another
    assert np.bincount(plain[0].ravel(), minlength=12).tolist() == (
        np.bincount(turned[0].ravel(), minlength=12).tolist()
    )


def test_partial_volumes(small_settings):
    arrays, _ = make_shard(small_settings(patches=12, voxel_size=(3.0, 4.0)), 0)
    labels, purity = arrays["labels"], arrays["purity"].astype(float)
    assert ((purity > 0) == (labels > 0)).all()
    assert 0.05 < (purity[labels > 0] < 0.99).mean() < 0.95
    kappa = arrays["kappa"]
    assert (kappa[labels > 0] > 0).all()
    assert not kappa[labels == 0].any()
    crisp = make_shard(small_settings(patches=12), 0)[0]
    assert (crisp["purity"] == (crisp["labels"] > 0)).all()


def test_shapes_replace_anatomy(small_settings):
    arrays, _ = make_shard(small_settings(patches=60, shapes=0.5), 0)
    drawn = arrays["origin"][:, 0] == -1
    assert 0.3 < drawn.mean() < 0.7
    assert (arrays["origin"][drawn, 1:] == 0).all()
    assert set(np.unique(arrays["labels"][drawn])) == set(range(12))
    assert set(np.unique(arrays["labels"][~drawn])) <= {0, 1, 2, 3, 6, 7}


def test_details_change_the_anatomy_here_and_there(small_settings):
    plain = make_shard(small_settings(patches=12), 0)[0]
    assert make_shard(small_settings(patches=12, details=0.0), 0)[0]["S"].tobytes() == (
        plain["S"].tobytes()
    )
    drawn = make_shard(small_settings(patches=60, details=1.0), 0)[0]
    found = [set(np.unique(labels)) - {0, 1, 2, 3, 6, 7} for labels in drawn["labels"]]
    assert np.mean([bool(others) for others in found]) > 0.5
    assert (drawn["origin"][:, 0] != -1).all()


def test_float16(small_settings):
    arrays, _ = make_shard(small_settings(dtype="float16"), 0)
    assert arrays["S"].dtype == np.float16
    full = make_shard(small_settings(), 0)[0]["S"]
    np.testing.assert_allclose(arrays["S"], full, rtol=1e-3, atol=1e-4)


def test_settings_in_json_name_files_without_their_folders(small_settings, head):
    stored = small_settings(voxel_size=(1.0, 2.0)).to_json()
    assert json.loads(json.dumps(stored)) == stored
    assert stored["anatomies"][0][0] == head.name
    assert stored["voxel_size"] == [1.0, 2.0]


def test_a_changed_anatomy_is_noticed(small_settings, head):
    settings = small_settings(anatomies=((str(head), "0" * 64),))
    with pytest.raises(ValueError, match="has changed"):
        make_shard(settings, 0)


@pytest.mark.data
def test_real_brains(small_settings, data_dir):
    from relaxsim.anatomy.anatomy import file_checksum

    brain = data_dir / "brainweb20/subject04_crisp_v.mnc.gz"
    settings = small_settings(
        anatomies=((str(brain), file_checksum(brain)),),
        patches=60,
        patch_size=40,
        protocol="cine31",
    )
    arrays, _ = make_shard(settings, 0)
    assert arrays["S"].shape == (60, 40, 40, 31)
    assert (arrays["origin"][:, 0] == 4).all()
    shares = np.bincount(arrays["labels"].ravel(), minlength=12) / arrays["labels"].size
    assert shares[1:4].sum() > 0.7  # mostly CSF, grey and white matter
    T1 = arrays["kappa"][..., 2]
    white, grey = (np.median(T1[arrays["labels"] == label]) for label in (3, 2))
    assert 500 < white < 1100 < grey < 1700
