"""``python -m masterframe`` is the command ``masterframe``."""

from masterframe.cli import main

if __name__ == "__main__":
    main()
