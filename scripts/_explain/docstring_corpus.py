"""Docstrings of four libraries as a corpus to classify: real text that is on every machine with the project.

The library is the class. The test part consists of whole modules that the training part has nothing of (``torch.nn``
with all below it is one), and every class has the same number of documents.
"""

import inspect
import random
import warnings
from collections import Counter
from importlib import import_module
from typing import Any

from _explain.corpora import Corpus
from _explain.docstring_text import prose_lines

NAMESPACES: dict[str, tuple[str, ...]] = {
    "torch": (
        "torch",
        "torch.nn",
        "torch.nn.functional",
        "torch.nn.init",
        "torch.nn.utils",
        "torch.optim",
        "torch.optim.lr_scheduler",
        "torch.linalg",
        "torch.fft",
        "torch.special",
        "torch.sparse",
        "torch.distributions",
        "torch.utils.data",
        "torch.utils.checkpoint",
        "torch.autograd",
        "torch.autograd.functional",
        "torch.func",
        "torch.cuda",
        "torch.distributed",
        "torch.jit",
        "torch.fx",
        "torch.profiler",
        "torch.export",
    ),
    "numpy": (
        "numpy",
        "numpy.linalg",
        "numpy.fft",
        "numpy.random",
        "numpy.ma",
        "numpy.strings",
        "numpy.testing",
        "numpy.lib.format",
        "numpy.lib.stride_tricks",
        "numpy.lib.recfunctions",
        "numpy.polynomial.polynomial",
        "numpy.polynomial.chebyshev",
        "numpy.polynomial.hermite",
        "numpy.polynomial.legendre",
        "numpy.polynomial.laguerre",
        "numpy.polynomial.polyutils",
        "numpy.rec",
        "numpy.exceptions",
    ),
    "scikit-learn": (
        "sklearn.calibration",
        "sklearn.cluster",
        "sklearn.compose",
        "sklearn.covariance",
        "sklearn.cross_decomposition",
        "sklearn.datasets",
        "sklearn.decomposition",
        "sklearn.discriminant_analysis",
        "sklearn.ensemble",
        "sklearn.feature_extraction.image",
        "sklearn.feature_extraction.text",
        "sklearn.feature_selection",
        "sklearn.gaussian_process",
        "sklearn.gaussian_process.kernels",
        "sklearn.impute",
        "sklearn.inspection",
        "sklearn.linear_model",
        "sklearn.manifold",
        "sklearn.metrics",
        "sklearn.metrics.pairwise",
        "sklearn.mixture",
        "sklearn.model_selection",
        "sklearn.multiclass",
        "sklearn.naive_bayes",
        "sklearn.neighbors",
        "sklearn.neural_network",
        "sklearn.pipeline",
        "sklearn.preprocessing",
        "sklearn.random_projection",
        "sklearn.svm",
        "sklearn.tree",
        "sklearn.utils",
    ),
    "scipy": (
        "scipy.cluster.hierarchy",
        "scipy.cluster.vq",
        "scipy.constants",
        "scipy.fft",
        "scipy.integrate",
        "scipy.interpolate",
        "scipy.io",
        "scipy.linalg",
        "scipy.ndimage",
        "scipy.optimize",
        "scipy.signal",
        "scipy.signal.windows",
        "scipy.sparse",
        "scipy.sparse.csgraph",
        "scipy.sparse.linalg",
        "scipy.spatial",
        "scipy.spatial.distance",
        "scipy.special",
        "scipy.stats",
        "scipy.stats.mstats",
        "scipy.stats.qmc",
    ),
}
SHORTEST, LONGEST = 15, 200
"""Words of a document; of longer ones the first count."""
REPEATED = 4
"""A line that so many docstrings of a library share is a set phrase, which would tell the library: it is left out."""
TEST_SHARE = 0.3


def docstrings(seed: int) -> Corpus:
    """The corpus.

    Args:
        seed: Of which modules are for testing, and of which documents are left out to make the classes equal.

    Raises:
        ImportError: If a library lacks a namespace.
    """
    taken: set[str] = set()
    parts: dict[str, tuple[list[str], list[str]]] = {}
    held_out: list[str] = []
    for library, namespaces in NAMESPACES.items():
        with warnings.catch_warnings(action="ignore"):  # looking at a deprecated name is a warning
            documents = _without_set_phrases({name: _documents(name, taken) for name in namespaces}, taken)
        modules: dict[str, list[str]] = {}
        for name, texts in documents.items():
            modules.setdefault(".".join(name.split(".")[:2]), []).extend(texts)
        test = _test_modules({name: len(texts) for name, texts in modules.items()}, seed)
        held_out += sorted(test)
        learned = [text for name, texts in modules.items() if name not in test for text in texts]
        parts[library] = learned, [text for name in sorted(test) for text in modules[name]]
    sizes = [min(len(part[place]) for part in parts.values()) for place in (0, 1)]
    chosen: tuple[list[tuple[str, int]], list[tuple[str, int]]] = ([], [])
    for label, (library, part) in enumerate(parts.items()):
        for place, size in enumerate(sizes):
            chance = random.Random(f"{seed} {library} {place}")
            chosen[place].extend((text, label) for text in chance.sample(part[place], size))
    learned, tested = ([text for text, _ in one] for one in chosen)
    labels, labels_test = ([label for _, label in one] for one in chosen)
    note = f"the test documents are all of other modules: {', '.join(held_out)}"
    return Corpus("docstrings", list(NAMESPACES), learned, labels, tested, labels_test, note)


def _without_set_phrases(documents: dict[str, list[list[str]]], taken: set[str]) -> dict[str, list[str]]:
    """The documents of a library, by namespace, without the lines that many of them share, cut to a length.

    A text that was taken before is left out, so that no test document is also one to learn from.
    """
    times = Counter(line for pages in documents.values() for lines in pages for line in set(lines))
    found: dict[str, list[str]] = {}
    for name, pages in documents.items():
        words = [" ".join(line for line in lines if times[line] < REPEATED).split() for lines in pages]
        texts = dict.fromkeys(" ".join(one[:LONGEST]) for one in words if len(one) >= SHORTEST)
        found[name] = [text for text in texts if text not in taken]
        taken.update(texts)
    return found


def _documents(namespace: str, taken: set[str]) -> list[list[str]]:
    """The lines of prose of a namespace's public functions and classes, each docstring once."""
    module = import_module(namespace)
    library = namespace.partition(".")[0]
    found = []
    for name in sorted(getattr(module, "__all__", None) or vars(module)):
        member = _member(module, name)
        if name.startswith("_") or not _is_own(member, library):
            continue
        docstring = inspect.getdoc(member) or ""
        if docstring not in taken:
            taken.add(docstring)
            found.append(prose_lines(docstring))
    return found


def _member(module: Any, name: str) -> Any:
    """A module's member; none where it is experimental, which some libraries say by an ImportError."""
    try:
        return getattr(module, name, None)
    except ImportError:
        return None


def _is_own(member: Any, library: str) -> bool:
    """Whether this is a function or class of the library itself; not a base class's docstring in a subclass."""
    if inspect.ismodule(member) or not callable(member):
        return False
    if inspect.isclass(member) and not vars(member).get("__doc__"):
        return False
    home = getattr(member, "__module__", None) or library  # numpy's ufuncs say nothing
    return home.lstrip("_").partition(".")[0] in (library, "builtins")


def _test_modules(sizes: dict[str, int], seed: int) -> set[str]:
    """Whole modules, drawn until they hold 30% of the documents; one that would go far beyond is left out."""
    names = sorted(sizes)
    random.Random(seed).shuffle(names)
    wanted = TEST_SHARE * sum(sizes.values())
    chosen: set[str] = set()
    for name in names:
        total = sum(sizes[one] for one in chosen)
        if total < wanted and total + sizes[name] <= 1.3 * wanted:
            chosen.add(name)
    return chosen
