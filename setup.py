"""Packaging of relaxsim (simulator) and relaxnet (networks and fits)."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="relaxnet",
    version="0.1.0",
    description=(
        "T1 and T2 mapping with recurrent inference machines, and a simulator of its training data"
    ),
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["relaxsim", "relaxsim.*", "relaxnet", "relaxnet.*"]),
    package_data={
        "relaxsim": [
            "models/protocols/*/*.txt",
            "phantoms/*.csv",
            "phantoms/plates/*.csv",
            "simulation/tissues/*.csv",
            "py.typed",
        ],
        "relaxnet": [
            "networks/pretrained/*.keras",
            "networks/pretrained/*.json",
            "report/templates/*",
            "py.typed",
        ],
    },
    install_requires=[
        "click>=8.1",
        "h5py>=3.14",  # wheels with HDF5 1.14.6, the latest that TensorFlow 2.21 admits
        "jinja2>=3.1",
        # the first versions whose loaders have no known hole; 3.13 to 3.15 need Python 3.11
        "keras>=3.12.4; python_version < '3.11'",
        "keras>=3.15.1; python_version >= '3.11'",
        "matplotlib>=3.8",
        "nibabel>=5.2",
        "numpy>=1.26",
        "pillow>=9.1",
        "scipy>=1.11",
        "tensorflow>=2.16",
        "tqdm>=4.66",
    ],
    extras_require={
        "brainweb": ["brainweb-dl>=0.4.6"],
        "gpu": ["tensorflow[and-cuda]>=2.16"],
        "onnx": ["tf2onnx", "onnxruntime"],
        "test": [
            "hypothesis>=6.100",
            "import-linter>=2",
            "mypy>=1.10",
            "pytest>=8",
            "pytest-xdist>=3.5",
            "ruff>=0.6",
        ],
    },
    entry_points={
        "console_scripts": [
            "relaxsim=relaxsim.cli:main",
            "relaxnet=relaxnet.cli:main",
        ]
    },
)
