"""Network files: what a ``.keras`` file may hold, checked before it is read.

To Keras a ``.keras`` file is a program: its loader builds whatever classes the configuration names.
Here the file is data. ``config.json`` in it names `relaxnet.networks.rim.RIM` or
`relaxnet.networks.resnet.ResNet` and the arguments of its constructor, each of which has a type and
a range. The package builds that network itself. ``model.weights.h5`` must then hold the arrays of
this network and nothing else, of the same shapes, stored in the file itself without compression;
they are assigned to the network's variables. Keras' own loaders never see a file.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relaxsim.models.registry import MODELS
from relaxsim.models.signal_model import SignalModel

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
#: Members of the archive; the first is not read.
MEMBERS = ("metadata.json", CONFIG, WEIGHTS)

#: Most weights of a network. The widest RIM has 8 million, a ResNet of the default widths 3.
MOST_WEIGHTS = 10_000_000
#: Most bytes of the configuration, of which a network has about 500.
MOST_CONFIG_BYTES = 100_000
#: Most bytes that HDF5 takes for each array and the folders that it is in, which are about 2000.
MOST_BYTES_BESIDE_ARRAY = 5000
#: Most bytes of the archive's table of contents, which takes about 200.
MOST_CONTENTS_BYTES = 10_000
#: Most bytes of a file: all weights in float32, and what HDF5 adds.
MOST_FILE_BYTES = 4 * MOST_WEIGHTS + 10_000_000

#: Values that each argument may have: a type, names, or the least and largest whole number.
_RIM_ARGUMENTS = {
    "model": str,
    "features": (1, 512),
    "num_steps": (1, 64),
    "gradient": ("raw", "whitened"),
    "coordinates": ("linear", "log"),
    "fit_steps": bool,
    "uncertainty": bool,
    "times": ("absolute", "relative"),
    "signed": bool,
}
_RESNET_ARGUMENTS = {"model": str, "num_images": (1, 4096), "widths": list}
_ARGUMENTS: dict[str, dict[str, Any]] = {"RIM": _RIM_ARGUMENTS, "ResNet": _RESNET_ARGUMENTS}
#: Argument of old files that has no meaning any more.
_UNUSED = "signed"
#: Most blocks of a ResNet, and channels of each.
_MOST_BLOCKS, _MOST_CHANNELS = 64, 4096
#: Precisions that networks are trained or stored in.
_POLICIES = ("float32", "float16", "mixed_bfloat16", "mixed_float16")
_LONGEST_NAME = 100

#: End of an archive without a comment: signature, 12 bytes from the size of its table of contents.
_ARCHIVE_END = b"PK\x05\x06"
_ARCHIVE_END_BYTES = 22
#: What stands before the end of an archive beyond 4 GB or 65535 members.
_ZIP64_LOCATOR = b"PK\x06\x07"
_ZIP64_LOCATOR_BYTES = 20
_ENCRYPTED = 0x1

#: What reading a damaged file raises.
_DAMAGE = (
    AttributeError,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    OverflowError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


class ModelError(ValueError):
    """A network cannot be found, read or used; one line."""


@dataclass(frozen=True)
class Construction:
    """How the network in a file is built.

    Attributes
    ----------
    class_name : str
        ``RIM`` or ``ResNet``.
    arguments : mapping
        Of the constructor, all of them checked.
    """

    class_name: str
    arguments: Mapping[str, Any]


def read_construction(path: Path) -> Construction:
    """Class and arguments of the network in a file; neither Keras nor TensorFlow is loaded.

    Parameters
    ----------
    path : pathlib.Path
        A ``.keras`` file, which nothing is assumed of.

    Raises
    ------
    ModelError
        If the file is no archive of a network of this package, or an argument is out of range.
    """
    with _archive(path) as archive:
        return _construction(path, archive)


def read_network(path: Path) -> Any:
    """Network in a file, in float32.

    Parameters
    ----------
    path : pathlib.Path
        A ``.keras`` file, which nothing is assumed of.

    Returns
    -------
    network : relaxnet.networks.network.TrainableNetwork

    Raises
    ------
    ModelError
        As `read_construction`; also if the weights are not those of the network.
    """
    with _archive(path) as archive:
        network = _build(path, _construction(path, archive))
        sizes = [variable.shape.num_elements() for variable in network.weights]
        content = _member(
            path, archive, WEIGHTS, 4 * sum(sizes) + MOST_BYTES_BESIDE_ARRAY * (len(sizes) + 2)
        )
    try:
        _assign(network, content)
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path}: the weights in it are not the network's: {reason}.") from None
    return network


def count_resnet_weights(num_channels: int, widths: Sequence[int], num_parameters: int) -> int:
    """Weights of a `relaxnet.networks.resnet.ResNet`, running statistics among them.

    Parameters
    ----------
    num_channels : int
        Images, and known maps.
    widths : sequence of int
        Channels of each block.
    num_parameters : int
        Q.
    """
    count = (num_channels + 1) * widths[0] + 4 * widths[0]
    for before, width in zip((widths[0], *widths), widths, strict=False):
        count += 9 * before * width + 9 * width * width + 8 * width
        count += 0 if before == width else before * width
    return count + (widths[-1] + 1) * num_parameters


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive, of which the members' names and the sizes of the file have been checked.

    The table of contents has its size checked before `zipfile` reads all of it into memory.
    """
    if not path.is_file():
        raise ModelError(f"{path} is not a file.")
    if path.stat().st_size > MOST_FILE_BYTES:
        raise ModelError(f"{path} has more than {MOST_FILE_BYTES / 1e6:g} MB; no network has.")
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - _ARCHIVE_END_BYTES - _ZIP64_LOCATOR_BYTES))
        locator, end = (last := file.read())[:-_ARCHIVE_END_BYTES], last[-_ARCHIVE_END_BYTES:]
        if len(end) < _ARCHIVE_END_BYTES or not end.startswith(_ARCHIVE_END):
            raise ModelError(f"{path} is not a .keras file (or is cut short).")
        contents_bytes = int.from_bytes(end[12:16], "little")
        if locator.startswith(_ZIP64_LOCATOR) or contents_bytes > MOST_CONTENTS_BYTES:
            raise ModelError(f"{path} holds more members than a network's file does.")
        file.seek(0)
        try:
            archive = zipfile.ZipFile(file)
            names = [member.filename for member in archive.infolist()]
        except _DAMAGE:
            raise ModelError(f"{path} is not a .keras file (or is cut short).") from None
        surplus = [name for name in names if name not in MEMBERS or names.count(name) > 1]
        if surplus:
            raise ModelError(f"{path} holds {surplus[0][:60]!r}, which no network's file does.")
        with archive:
            yield archive


def _member(path: Path, archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """Bytes of a member of the archive; no more than `most` are ever unpacked."""
    try:
        member = archive.getinfo(name)
        stored = member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        if not stored or member.flag_bits & _ENCRYPTED:
            raise ValueError("other compression, or a password")
        with archive.open(member) as stream:
            content = stream.read(most + 1)
    except _DAMAGE:
        raise ModelError(f"{path} is damaged: {name} in it cannot be read.") from None
    if len(content) > most:
        raise ModelError(
            f"{path}: {name} in it takes more than {most / 1e6:.2g} MB; the network's does not."
        )
    return content


def _construction(path: Path, archive: zipfile.ZipFile) -> Construction:
    """Class and arguments by the configuration in an archive."""
    content = _member(path, archive, CONFIG, MOST_CONFIG_BYTES)
    try:
        config = json.loads(content)
        name, arguments = config["class_name"], config["config"]
        package = config["module"].split(".")[0]
        is_ours = name in _ARGUMENTS and config["registered_name"] == f"relaxnet>{name}"
        names_class = any(_names_class(config.get(part)) for part in _OF_KERAS)
    except _DAMAGE:
        is_ours = False
    if not is_ours or package != "relaxnet" or not isinstance(arguments, dict):
        raise ModelError(f"{path} is a Keras model, but none that relaxnet train made.")
    if names_class:
        raise ModelError(
            f"{path} holds other classes beside its network; a network is saved without them, "
            "and not compiled."
        )
    return Construction(name, _checked_arguments(path, name, arguments))


#: Parts of the configuration that Keras writes; they are not used.
_OF_KERAS = ("build_config", "compile_config")


def _names_class(value: Any) -> bool:
    """Whether a part of the configuration would have Keras look for a class."""
    if isinstance(value, dict):
        return "class_name" in value or any(map(_names_class, value.values()))
    return isinstance(value, list) and any(map(_names_class, value))


def _checked_arguments(path: Path, network: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a network's constructor, without the precision that it was stored in."""
    arguments = dict(config)
    if _policy(arguments.pop("dtype", None)) not in _POLICIES:
        raise ModelError(f"{path}: its dtype is none of {', '.join(_POLICIES)}.")
    name, trainable = arguments.get("name"), arguments.get("trainable", True)
    if name is not None and not _is_name(name):
        raise ModelError(f"{path}: its name is not a line of text.")
    if type(trainable) is not bool:
        raise ModelError(f"{path}: its trainable is {str(trainable)[:40]}, expected bool.")
    for key, value in arguments.items():
        if key not in ("name", "trainable"):
            _check_argument(path, network, key, value)
    model = MODELS.get(arguments.get("model", ""))
    if model is None:
        raise ModelError(
            f"{path} is for the signal model {str(arguments.get('model'))[:40]!r}; this version "
            f"has {', '.join(MODELS)}."
        )
    if network == "ResNet":
        _check_size(path, model, arguments)
    arguments.pop(_UNUSED, None)
    return arguments


def _policy(dtype: Any) -> Any:
    """Name of a dtype policy, as each version of Keras writes it; None if it is written otherwise.

    Keras 3.3 writes the name, later versions a class and its configuration.
    """
    if not isinstance(dtype, dict):
        return "float32" if dtype is None else dtype
    config = dtype.get("config")
    if (dtype.get("module"), dtype.get("class_name")) != ("keras", "DTypePolicy"):
        return None
    return config.get("name") if isinstance(config, dict) and set(config) == {"name"} else None


def _is_name(value: Any) -> bool:
    """Whether Keras would take a value as the name of a layer."""
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME:
        return False
    return value.isprintable() and "/" not in value


def _check_argument(path: Path, network: str, key: str, value: Any) -> None:
    """Refuse an argument that the constructor does not have, or that is out of range."""
    allowed = _ARGUMENTS[network].get(key)
    if allowed is None:
        raise ModelError(f"{path}: {key[:40]!r} is no argument of a {network}.")
    if allowed is list:
        is_right = (
            isinstance(value, list)
            and 1 <= len(value) <= _MOST_BLOCKS
            and all(type(width) is int and 1 <= width <= _MOST_CHANNELS for width in value)
        )
        expected = f"at most {_MOST_BLOCKS} whole numbers from 1 to {_MOST_CHANNELS}"
    elif isinstance(allowed, type):
        is_right, expected = type(value) is allowed, allowed.__name__
    elif isinstance(allowed[0], str):
        is_right, expected = type(value) is str and value in allowed, " or ".join(allowed)
    else:
        least, largest = allowed
        is_right = type(value) is int and least <= value <= largest
        expected = f"{least} to {largest}"
    if not is_right:
        raise ModelError(f"{path}: its {key} is {str(value)[:40]}, expected {expected}.")


def _check_size(path: Path, model: SignalModel, arguments: Mapping[str, Any]) -> None:
    """Refuse a ResNet of more weights than a network has; the ranges of a RIM allow none."""
    if "num_images" not in arguments or "widths" not in arguments:
        raise ModelError(f"{path}: its configuration lacks num_images or widths.")
    num_channels = arguments["num_images"] + len(model.known_maps)
    count = count_resnet_weights(num_channels, arguments["widths"], model.num_parameters)
    if count > MOST_WEIGHTS:
        raise ModelError(
            f"{path}: its widths make {count / 1e6:.0f} million weights; at most "
            f"{MOST_WEIGHTS / 1e6:.0f} million are read."
        )


def _build(path: Path, construction: Construction) -> Any:
    """New network of a file's class and arguments."""
    from relaxnet.networks.resnet import ResNet
    from relaxnet.networks.rim import RIM

    architecture: Any = {"RIM": RIM, "ResNet": ResNet}[construction.class_name]
    try:
        return architecture(**construction.arguments, dtype="float32")
    except ValueError as error:
        raise ModelError(f"{path} cannot be built: {error}") from None


def _assign(network: Any, content: bytes) -> None:
    """Give a network the arrays of an HDF5 file; raises one of `_DAMAGE` if they are not its own.

    All arrays have been checked when the first one is read.
    """
    import h5py
    import numpy as np

    with h5py.File(io.BytesIO(content), "r") as file:
        for variable, dataset in list(_pairs(file, layout(network))):
            values = dataset[()]
            if not np.isfinite(values).all():
                raise ValueError(f"{dataset.name} has values that are no finite numbers")
            variable.assign(values)


def layout(layer: Any) -> dict[str, Any]:
    """Variables of a layer, in folders as Keras stores them.

    Parameters
    ----------
    layer : keras.Layer

    Returns
    -------
    layout : dict
        ``vars`` has the layer's own variables by number. Every attribute that is a layer is a
        folder of that name. A list of layers is a folder as well, in which they are counted.

    Notes
    -----
    All versions of Keras 3 store networks so; the tests compare with what the installed one writes.
    """
    from relaxnet.networks.frameworks import keras

    parts: dict[str, dict[str, Any]] = {}
    for name, attribute in vars(layer).items():
        if name.startswith("_"):
            continue
        if isinstance(attribute, keras.Layer):
            parts[name] = {"": attribute}
        elif isinstance(attribute, list) and attribute and isinstance(attribute[0], keras.Layer):
            parts[name] = {_counted(part, n): part for n, part in enumerate(attribute)}
    of_parts = {id(v) for part in parts.values() for inner in part.values() for v in inner.weights}
    own = [variable for variable in layer.weights if id(variable) not in of_parts]
    folders: dict[str, Any] = {"vars": {str(n): variable for n, variable in enumerate(own)}}
    for name, part in parts.items():
        inner = {key: layout(layer) for key, layer in part.items()}
        folders[name] = inner.get("", inner)
    return folders


def _counted(layer: Any, number: int) -> str:
    """Folder of a layer in a list of layers of one class: ``residual_block_1`` is the second."""
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(layer).__name__).lower()
    return f"{name}_{number}" if number else name


def _pairs(group: Any, folders: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Each variable of a layout and its dataset; ValueError where the group holds anything else.

    Only what the layout has is opened: neither links to elsewhere nor folders in folders.
    """
    import h5py

    if len(group) > len(folders) or not set(group) <= set(folders):
        raise ValueError(f"{group.name} holds more than {', '.join(folders) or 'nothing'}")
    for name, expected in folders.items():
        is_folder = isinstance(expected, dict)
        if is_folder and not expected and name not in group:
            continue
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{group.name} lacks {name}, or has a link to elsewhere for it")
        node = group[name]
        if is_folder:
            if not isinstance(node, h5py.Group):
                raise ValueError(f"{node.name} is no folder")
            yield from _pairs(node, expected)
        else:
            _check_dataset(node, tuple(expected.shape))
            yield expected, node


def _check_dataset(dataset: Any, shape: tuple[int, ...]) -> None:
    """Refuse what is no array of float16 or float32 of this shape, whole in this file."""
    import h5py
    import numpy as np

    if not isinstance(dataset, h5py.Dataset) or dataset.shape != shape:
        found = str(getattr(dataset, "shape", "none"))[:60]
        raise ValueError(f"{dataset.name} has shape {found}, expected {shape}")
    stored = dataset.id.get_create_plist()
    is_plain = stored.get_layout() in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT)
    if not is_plain or stored.get_external_count() or stored.get_nfilters():
        raise ValueError(f"{dataset.name} lies in chunks or in other files")
    if not isinstance(dataset.id.get_type(), h5py.h5t.TypeFloatID):
        raise ValueError(f"{dataset.name} holds no numbers of type float16 or float32")
    if dataset.dtype.newbyteorder("=") not in (np.dtype("float16"), np.dtype("float32")):
        raise ValueError(f"{dataset.name} is {dataset.dtype}, expected float16 or float32")
