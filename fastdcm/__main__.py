"""``python -m fastdcm`` is the console script ``fastdcm``."""

from fastdcm.cli import main

if __name__ == "__main__":
    main()
