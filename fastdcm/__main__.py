"""``python -m fastdcm`` is the console script ``fastdcm``."""

import sys


def main() -> None:
    """Run the command line; Ctrl-C while it is loaded ends it as it does later."""
    try:
        from fastdcm.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
