"""``python -m masterframe`` is the command ``masterframe``."""

from masterframe.cli import program

if __name__ == "__main__":
    program()
