"""The console script. Nothing is imported before Ctrl-C is understood: what the commands need takes a third of a second."""

import sys


def main() -> None:
    """Run the command line; told to stop while it is still being loaded, it says so as it does later."""
    try:
        from netferry.cli import main as run

        run()
    except KeyboardInterrupt:
        print("netferry: interrupted; nothing half-done was left behind", file=sys.stderr)
        sys.exit(130)
