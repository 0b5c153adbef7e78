"""The command line: ``entry`` runs it, ``jobs`` and ``inspection`` hold the commands, ``options`` what they take."""

from fastdcm.cli.entry import main as main
from fastdcm.cli.entry import run as run
