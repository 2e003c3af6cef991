"""The former names of `run.py`."""

from _common.run import find_last as find_last
from _common.run import new_run as new_run
from _common.run import run_of as run_of
from _common.run import shell as shell
from _common.run import write_json as write_json
