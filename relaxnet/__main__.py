"""The program ``relaxnet`` as ``python -m relaxnet``."""

from relaxnet.cli import main

if __name__ == "__main__":
    main(prog_name="relaxnet")
