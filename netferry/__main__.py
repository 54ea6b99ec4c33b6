"""``python -m netferry``: the working folder, which Python would search first, is out (see ``__init__``)."""

from netferry.program import main

if __name__ == "__main__":
    main()
