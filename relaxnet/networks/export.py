"""Networks for other programs: one file or folder for one fixed list of times.

What is exported is the network alone. The caller does what `relaxnet.predict` does around it:
takes magnitude images (with their sign if the export is for signed data), divides them and sigma by
the series' scale, and multiplies the amplitude by it. `recipe` says so beside the file.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from relaxnet.networks.registry import ModelError, checksum, find_model, load_network, read_card
from relaxnet.networks.training_domain import check_series, envelope_of
from relaxnet.series.scale import PERCENTILE, knows_sign
from relaxsim.core.version import __version__
from relaxsim.models.protocols import Protocol
from relaxsim.models.registry import signal_model

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
    """Write a network for one list of times.

    Inputs are ``S`` (1, h, w, N), the moduli of a slice's images divided by the series' scale, and
    ``sigma`` (1,), the noise divided by it; outputs are ``kappa`` (1, h, w, Q), relaxation times in
    ms and the amplitude in units of the scale, and ``std`` of the same shape if the network has an
    error head. Height and width are free.

    Parameters
    ----------
    model : path or name
    protocol : Protocol
        Times, which become constants.
    out : path
        Folder (``saved_model``) or file (``onnx``). The recipe is written to ``relaxnet.json`` in
        the folder, or to a ``.json`` file beside the file.
    format : str
        ``saved_model`` or ``onnx``.
    overwrite : bool
        Replace what is there.
    signed : bool
        For inversion recovery whose images carry the signal's sign: a RIM then takes them as they
        are, not their moduli.

    Returns
    -------
    warnings : tuple of str
        How the times differ from what the network was trained for.

    Raises
    ------
    ModelError
        If the network cannot be loaded or does not suit the times.
    ValueError
        If the format is unknown, `out` is there, or the packages for ONNX are missing.
    """
    out = Path(out)
    _check(out, format, overwrite)
    path = find_model(model)
    card = read_card(path)
    network = load_network(path)
    _check_times(network, protocol)
    if signed:
        _check_sign(network)
    said = recipe(network, protocol, path, signed)
    function = fixed_function(network, protocol.tau, signed)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as place:
        made = Path(place) / out.name
        if format == "onnx":
            _write_onnx(function, made)
            card_name = made.with_suffix(".json")
        else:
            _write_saved_model(network, function, made)
            card_name = made / "relaxnet.json"
        card_name.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
        if out.is_dir():
            shutil.rmtree(out)
        if format == "onnx":
            card_name.replace(out.with_suffix(".json"))
        made.replace(out)
    envelope = envelope_of(card, network.model)
    if envelope is None:
        return ()
    verdict = check_series(envelope, np.asarray(protocol.tau), float(np.mean(envelope.sigma)))
    return (*verdict.refusals, *verdict.warnings)


def _check_sign(network: Any) -> None:
    if not (knows_sign(network.kind) and network.model.magnitude):
        raise ModelError("--signed is for recurrent networks of inversion recovery.")


def fixed_function(network: Any, tau: np.ndarray, signed: bool = False) -> Any:
    """A compiled function of ``S`` (1, h, w, N) and ``sigma`` (1,) with constant times.

    Parameters
    ----------
    network : keras.Model
        As `relaxnet.networks.registry.load_network` gives.
    tau : array, shape (N,)
        ms.
    signed : bool
        The images carry the signal's sign; else they are magnitudes with Rician noise.

    Returns
    -------
    function : tf.function
        Gives a dict of ``kappa`` and, of a network with an error head, ``std``.
    """
    import tensorflow as tf

    times = np.asarray(tau, np.float32)
    signature = [
        tf.TensorSpec((1, None, None, len(times)), tf.float32, name="S"),
        tf.TensorSpec((1,), tf.float32, name="sigma"),
    ]

    @tf.function(input_signature=signature, autograph=False)
    def estimate(S: Any, sigma: Any) -> dict[str, Any]:
        told = [None, True] if signed else [tf.ones(1)]
        inputs = [S, tf.constant(times), sigma, *told]
        if getattr(network, "has_std", False):
            kappa, std = network.with_std(inputs)
            return {"kappa": tf.identity(kappa, "kappa"), "std": tf.identity(std, "std")}
        return {"kappa": tf.identity(network.estimate(inputs), "kappa")}

    return estimate


def recipe(network: Any, protocol: Protocol, path: Path, signed: bool = False) -> dict[str, Any]:
    """What a caller has to know of an exported network."""
    model = signal_model(network.signal_model)
    names = ", ".join(model.parameters)
    units = dict(zip(model.parameters, model.units, strict=True))
    taken = "each image with its sign" if signed else "each image, a magnitude,"
    outputs = {
        "kappa": f"(1, h, w, {model.num_parameters}) float32: {names}; units as below, where a.u. "
        "is the scale of S"
    }
    if getattr(network, "has_std", False):
        outputs["std"] = "standard deviations of kappa, same shape and units"
    return {
        "Network": path.stem,
        "NetworkSHA256": checksum(path),
        "SignalModel": model.name,
        "Parameters": list(model.parameters),
        "Units": units,
        f"{'Inversion' if model.times == 'tis' else 'Echo'}TimesMs": protocol.tau.tolist(),
        "Inputs": {
            "S": f"(1, h, w, {protocol.num_images}) float32: one slice, {taken} in the "
            "order of the times, divided by the scale; finite, 0 where there is no signal",
            "sigma": "(1,) float32: noise standard deviation divided by the scale",
        },
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
                f"--format onnx needs {' and '.join(missing)}, which is not installed: "
                'pip install "relaxnet[onnx]".'
            )
        if out.suffix != ".onnx":
            raise ValueError(f"{out}: expected a file name that ends in .onnx.")
    if out.is_dir() and format == "onnx":
        raise ValueError(f"{out} is a folder; --out takes a file name.")
    if out.is_file() and format == "saved_model":
        raise ValueError(f"{out} is a file; --out takes a folder.")
    if out.exists() and not overwrite:
        raise ValueError(f"{out} is there. Give --overwrite or another --out.")
    if format == "onnx" and not _is_recipe(out.with_suffix(".json")):
        raise ValueError(
            f"{out.with_suffix('.json')}, where the recipe would go, holds something else. "
            "Give another --out."
        )
    if out.is_dir() and any(out.iterdir()) and not (out / "saved_model.pb").is_file():
        raise ValueError(f"{out} holds other things than a SavedModel. Give another --out.")


def _is_recipe(path: Path) -> bool:
    """Whether a file is missing or an earlier export's recipe, and no network's card."""
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        return isinstance(card, dict) and "NetworkSHA256" in card
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False


def _check_times(network: Any, protocol: Protocol) -> None:
    model = signal_model(network.signal_model)
    if model.times != protocol.model.times:
        raise ModelError(
            f"the network is for {model.name}: give its {model.time_name} with --{model.times}."
        )
    if network.num_images not in (None, protocol.num_images):
        raise ModelError(
            f"the network takes {network.num_images} images, {protocol.name} lists "
            f"{protocol.num_images} {protocol.words}."
        )


def _write_saved_model(network: Any, function: Callable[..., Any], out: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.weights = [variable.value for variable in network.variables]
    module.estimate = function
    tf.saved_model.save(module, str(out), signatures={"serving_default": function})


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
