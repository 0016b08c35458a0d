"""`adapter` and `python -m ha`: the way in."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from ha.cli import app

    app()


if __name__ == "__main__":
    main()
