"""``python -m netferry``."""

from netferry.cli import main

if __name__ == "__main__":
    main()
