"""`keras.Model` with types.

Keras is not followed by the type checker, to which a class derived from it would be anything. With
the base class below it finds where a network lacks what `relaxnet.networks.network` asks for.
"""

# ruff: noqa: D102  (what each is stands in the documentation of Keras)
from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["Model"]

if TYPE_CHECKING:

    class Model:
        """What the package uses of `keras.Model`."""

        built: bool
        dtype_policy: Any
        compute_dtype: str

        def __init__(self, **kwargs: Any) -> None: ...

        def __call__(self, inputs: Any, training: bool = False) -> Any: ...

        @property
        def variables(self) -> list[Any]: ...

        @property
        def trainable_variables(self) -> list[Any]: ...

        @property
        def non_trainable_variables(self) -> list[Any]: ...

        def get_weights(self) -> list[Any]: ...

        def set_weights(self, weights: list[Any]) -> None: ...

        def count_params(self) -> int: ...

        def get_config(self) -> dict[str, Any]: ...

        def save(self, filepath: Any) -> None: ...

else:
    from relaxnet.networks.frameworks import keras

    Model = keras.Model
