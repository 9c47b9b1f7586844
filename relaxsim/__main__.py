"""The program ``relaxsim`` as ``python -m relaxsim``."""

from relaxsim.cli import main

if __name__ == "__main__":
    main(prog_name="relaxsim")
