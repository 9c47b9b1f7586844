"""Networks for other programs: one file or folder for one fixed protocol.

The network alone is exported. The caller does what `relaxnet.predict` does around it: takes
magnitude images (with their sign if the export is for signed data), divides them and sigma by the
series' scale, and multiplies the amplitude by it. The recipe beside the file describes this.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from relaxnet.networks.network import Network, TrainableNetwork
from relaxnet.networks.precision import use_full_precision
from relaxnet.networks.registry import (
    ModelError,
    NetworkFile,
    load_network,
    network_file,
)
from relaxnet.networks.training_domain import check_series, envelope_of
from relaxnet.series.scale import PERCENTILE
from relaxsim.core.files import read_json, temporary_folder, write_json
from relaxsim.core.only_run import LOCK, only_run
from relaxsim.core.replacing import replace_files
from relaxsim.core.version import __version__
from relaxsim.models.protocols import Protocol

FORMATS = ("saved_model", "onnx")
_OPSET = 17
_ONNX_PACKAGES = ("tf2onnx", "onnx")


def export_network(
    model: str | Path,
    protocol: Protocol,
    out: str | Path,
    format: str = "saved_model",
    overwrite: bool = False,
    signed: bool = False,
) -> tuple[str, ...]:
    """Write a network for one protocol.

    Inputs are ``S`` (1, h, w, N), the moduli of a slice's images divided by the series' scale,
    ``sigma`` (1,), the noise divided by it, and ``known`` (1, h, w, K) of a model with known maps;
    outputs are ``kappa`` (1, h, w, Q), in the model's units but for the amplitude, which is in
    units of the scale, and ``std`` of the same shape if the network has standard deviations. Height
    and width are free.

    Parameters
    ----------
    model : path or name
    protocol : Protocol
        Becomes a constant; one that holds for all slices.
    out : path
        Folder (``saved_model``) or file (``onnx``). The recipe is written to ``relaxnet.json`` in
        the folder, or to a ``.json`` file beside the file.
    format : str
        ``saved_model`` or ``onnx``.
    overwrite : bool
        Replace what is there.
    signed : bool
        For images that carry the sign of a signal which changes it: the network then takes them as
        they are, not their moduli.

    Returns
    -------
    warnings : tuple of str
        How the protocol differs from those that the network was trained for.

    Raises
    ------
    ModelError
        If the network cannot be loaded or does not suit the protocol.
    ValueError
        If the format is unknown, `out` is there, or the packages for ONNX are missing.
    """
    out = Path(out)
    _check(out, format, overwrite)
    file = network_file(model)
    network = load_network(file.path)
    _check_protocol(network, protocol)
    if signed and not (network.takes_sign and network.model.magnitude):
        raise ModelError(
            "`signed` is for networks that take the signal's sign, of models whose images are "
            "moduli."
        )
    envelope = envelope_of(file.card, network.model)  # refused before anything is written
    description = recipe(network, protocol, file, signed)
    function = fixed_function(network, protocol.table, signed)
    folder = out.parent if format == "onnx" else out  # that no other run may write to meanwhile
    with only_run(folder), temporary_folder(out) as place:
        made = place / out.name
        if format == "onnx":
            _write_onnx(function, made)
            recipe_path = made.with_suffix(".json")
        else:
            _write_saved_model(network, function, made)
            recipe_path = made / "relaxnet.json"
        write_json(recipe_path, description)
        _check(out, format, overwrite)  # again: another run may have ended
        moves = {recipe_path: out.with_suffix(".json")} if format == "onnx" else {}
        # a folder goes with the lock of this run; that of a file is the user's, and gets no mark
        replace_files({**moves, made: out}, (), place / "earlier", marked=False)
    if envelope is None:
        return ()
    verdict = check_series(envelope, protocol.table, float(np.mean(envelope.sigma)))
    return (*verdict.refusals, *verdict.warnings)


def fixed_function(network: Network, protocol: np.ndarray, signed: bool = False) -> Any:
    """A compiled function of ``S``, ``sigma`` and known maps with a constant protocol.

    Parameters
    ----------
    network : Network
        As `relaxnet.networks.registry.load_network` gives.
    protocol : array, shape (N, D)
        (N,) of a model with one column.
    signed : bool
        The images carry the signal's sign; else they are magnitudes with Rician noise.

    Returns
    -------
    function : tf.function
        Gives a dict of ``kappa`` and, of a network with standard deviations, ``std``.
    """
    from relaxnet.networks.frameworks import tf

    use_full_precision()
    model = network.model
    table = model.network_protocol(protocol)
    signature = [
        tf.TensorSpec((1, None, None, len(table)), tf.float32, name="S"),
        tf.TensorSpec((1,), tf.float32, name="sigma"),
    ]
    if model.known_maps:
        shape = (1, None, None, len(model.known_maps))
        signature.append(tf.TensorSpec(shape, tf.float32, name="known"))

    @tf.function(input_signature=signature, autograph=False)
    def estimate(S: Any, sigma: Any, known: Any = None) -> dict[str, Any]:
        noise_and_sign = [None, True] if signed else [tf.ones(1), None]
        inputs = [S, tf.constant(table), sigma, *noise_and_sign, known]
        if network.has_std:
            kappa, std = network.with_std(inputs)
            return {"kappa": tf.identity(kappa, "kappa"), "std": tf.identity(std, "std")}
        return {"kappa": tf.identity(network.estimate(inputs), "kappa")}

    return estimate


def recipe(
    network: Network, protocol: Protocol, file: NetworkFile, signed: bool = False
) -> dict[str, Any]:
    """What a caller has to know of an exported network, for a JSON file."""
    model = network.model
    taken = "each image with its sign" if signed else "each image, a magnitude,"
    inputs = {
        "S": f"(1, h, w, {protocol.num_images}) float32: one slice, {taken} in the "
        f"order of the {'times' if model.border.columns[0].is_time else 'protocol'}, "
        "divided by the scale; finite, 0 where there is no signal",
        "sigma": "(1,) float32: noise standard deviation divided by the scale",
    }
    if model.known_maps:
        names = ", ".join(f"{m.name} ({m.unit})" for m in model.known_maps)
        inputs["known"] = f"(1, h, w, {len(model.known_maps)}) float32: {names}"
    outputs = {
        "kappa": f"(1, h, w, {model.num_parameters}) float32: {', '.join(model.parameters)}; "
        "units as below, where a.u. is the scale of S"
    }
    if network.has_std:
        outputs["std"] = "standard deviations of kappa, same shape and units"
    return {
        "Network": file.path.stem,
        "NetworkSHA256": file.sha256,
        "SignalModel": model.name,
        "Parameters": list(model.parameters),
        "Units": dict(zip(model.parameters, model.units, strict=True)),
        **{
            column.sidecar_field: protocol.table[:, d].tolist()
            for d, column in enumerate(model.border.columns)
        },
        "Inputs": inputs,
        "Outputs": outputs,
        "Scale": f"{PERCENTILE:g}th percentile, over the voxels of the mask of the whole series, "
        "of the maximum over images of the modulus",
        "Halo": int(network.halo),
        "Noise": "Gaussian" if signed else "Rician",
        "Slices": "in the acquisition plane; an estimate depends on Halo voxels on each side, so "
        "tiles of a large slice overlap by as much",
        "SoftwareName": "relaxnet",
        "SoftwareVersion": __version__,
    }


def _check(out: Path, format: str, overwrite: bool) -> None:
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}, expected one of {', '.join(FORMATS)}")
    if format == "onnx":
        missing = [name for name in _ONNX_PACKAGES if find_spec(name) is None]
        if missing:
            raise ValueError(
                f"`format` onnx needs {' and '.join(missing)}, which is not installed: "
                'pip install "relaxnet[onnx]".'
            )
        if out.suffix != ".onnx":
            raise ValueError(f"{out}: expected a file name that ends in .onnx.")
    if out.is_dir() and format == "onnx":
        raise ValueError(f"{out} is a folder; `out` takes a file name.")
    if out.is_file() and format == "saved_model":
        raise ValueError(f"{out} is a file; `out` takes a folder.")
    holds = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    if out.exists() and holds != [LOCK] and not overwrite:
        raise ValueError(f"{out} is there. Give `overwrite` or another `out`.")
    if format == "onnx" and not _is_recipe(out.with_suffix(".json")):
        raise ValueError(
            f"{out.with_suffix('.json')}, where the recipe would go, holds something else. "
            "Give another `out`."
        )
    if set(holds) - {LOCK} and not (out / "saved_model.pb").is_file():
        raise ValueError(f"{out} holds other things than a SavedModel. Give another `out`.")


def _is_recipe(path: Path) -> bool:
    """Whether a file is missing or an earlier export's recipe, and no network's card."""
    try:
        content = read_json(path)
        return isinstance(content, dict) and "NetworkSHA256" in content
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False


def _check_protocol(network: Network, protocol: Protocol) -> None:
    model = network.model
    options = model.border.options
    if options != protocol.model.border.options:
        ways = " and ".join(f"{c.words} with `{c.option}`" for c in model.border.columns)
        raise ModelError(f"the network is for {model.name}: give its {ways}.")
    if protocol.by_slice:
        raise ModelError("an export has one protocol for all slices, not one for each.")
    if network.num_images not in (None, protocol.num_images):
        raise ModelError(
            f"the network takes {network.num_images} images, {protocol.name} lists "
            f"{protocol.num_images} {protocol.words}."
        )


def _write_saved_model(network: TrainableNetwork, function: Callable[..., Any], out: Path) -> None:
    from relaxnet.networks.frameworks import tf

    module = tf.Module()
    module.weights = [variable.value for variable in network.variables]
    module.estimate = function
    try:
        str(out).encode()
    except UnicodeEncodeError:  # TensorFlow takes no name that is not UTF-8
        with tempfile.TemporaryDirectory() as place:
            _save_module(module, function, Path(place) / "model")
            shutil.move(Path(place) / "model", out)
    else:
        _save_module(module, function, out)


def _save_module(module: Any, function: Callable[..., Any], out: Path) -> None:
    """Write a SavedModel; what TensorFlow raises where it cannot write becomes an OSError."""
    from relaxnet.networks.frameworks import tf

    try:
        tf.saved_model.save(module, str(out), signatures={"serving_default": function})
    except tf.errors.OpError as error:
        reason = (error.message or type(error).__name__).split("\n")[0][-120:]
        raise OSError(f"{out.parent.parent} cannot be written to ({reason}).") from None


def _write_onnx(function: Any, out: Path) -> None:
    import tf2onnx

    model, _ = tf2onnx.convert.from_function(
        function, input_signature=function.input_signature, opset=_OPSET
    )
    _name_inputs(model.graph, [spec.name for spec in function.input_signature])
    out.write_bytes(model.SerializeToString())


def _name_inputs(graph: Any, names: list[str]) -> None:
    """Give a graph's inputs the names of the function's, which TensorFlow turned to lower case."""
    for given, name in zip(graph.input, names, strict=True):
        for node in graph.node:
            node.input[:] = [name if source == given.name else source for source in node.input]
        given.name = name
