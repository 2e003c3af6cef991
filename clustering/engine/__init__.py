"""The engine of `clustering.KMeans`, which uses only the names below.

A fit reads top down: `fit` surveys the data (`survey`), moves them near the origin (`coordinates`), makes several
starts on a sample (`starts`: `seeding`, `local_search`) and iterates on everything (`lloyd`). All of these reach the
rows through one interface (`rows`), implemented on the CPU by `cpu`, `assignment` and `nearest`, and for one GPU by
`gpu/`.
"""

from .apply import distances as distances
from .apply import label as label
from .apply import move as move
from .apply import objective as objective
from .checks import check_batches as check_batches
from .checks import check_data as check_data
from .checks import check_options as check_options
from .checks import check_weights as check_weights
from .coordinates import Coordinates as Coordinates
from .data import BLOCK as BLOCK
from .data import OutputType as OutputType
from .data import to_numpy as to_numpy
from .device import find_place as find_place
from .fit import fit_centres as fit_centres
from .parallel import Exchange as Exchange
from .problem import Problem as Problem
