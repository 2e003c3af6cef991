"""The default corpus of `explain.py text`: docstrings, classified by the library that they come from.

The four libraries are dependencies of this project, so that nothing is downloaded. Test documents come from other
packages than training documents; `torch.nn` and all modules below it count as one package. A document is the
description in a docstring, up to its first section, without what would merely name the library: code, names, and
sentences that the library repeats.
"""

import inspect
import random
import re
import warnings
from collections import Counter
from importlib import import_module

from _explain.corpora import Corpus

TRAIN = {
    "torch": "torch torch.autograd torch.distributed torch.fx torch.nn torch.nn.functional torch.optim "
    "torch.utils.data",
    "numpy": "numpy numpy.linalg numpy.fft numpy.random numpy.strings numpy.testing",
    "scikit-learn": "sklearn.cluster sklearn.covariance sklearn.datasets sklearn.decomposition sklearn.ensemble "
    "sklearn.linear_model sklearn.metrics sklearn.metrics.pairwise sklearn.model_selection sklearn.tree",
    "scipy": "scipy.integrate scipy.interpolate scipy.linalg scipy.ndimage scipy.optimize scipy.special scipy.stats",
}
TEST = {
    "torch": "torch.cuda torch.distributions torch.fft torch.jit torch.linalg torch.sparse torch.special",
    "numpy": "numpy.ma numpy.polynomial.polynomial numpy.polynomial.legendre numpy.lib.stride_tricks",
    "scikit-learn": "sklearn.feature_extraction.text sklearn.feature_selection sklearn.gaussian_process.kernels "
    "sklearn.impute sklearn.inspection sklearn.manifold sklearn.mixture sklearn.naive_bayes sklearn.neighbors "
    "sklearn.neural_network sklearn.pipeline sklearn.preprocessing sklearn.svm sklearn.utils",
    "scipy": "scipy.cluster.hierarchy scipy.fft scipy.io scipy.signal scipy.sparse scipy.sparse.csgraph scipy.spatial "
    "scipy.spatial.distance",
}
MIN_WORDS, MAX_WORDS = 15, 200
"""Shorter documents are left out, longer ones cut."""
MAX_REPEATS = 2
"""A sentence that more docstrings of a library share is left out."""

SECTION = re.compile(
    r"^\s*(?:parameters?|arg(?:ument)?s?|keyword arg\w*|returns?|yields?|raises|warns|notes?|warnings?|examples?|"
    r"see also|references|attributes|methods|shape|inputs?|outputs?)\s*:{0,2}\s*$",
    re.IGNORECASE | re.MULTILINE,
)
CODE = re.compile(
    r"^.*::.*\n(?:[ \t]*\n|[ \t]+.*\n)*"  # a directive or literal block, with the indented lines below it
    r"|^.*(?:>>>|->|\w\(.*\)\s*$).*$"  # interpreter sessions and signatures
    r"|:\w+:`[^`]*`|``.*?``|`[^`]*`",  # roles and names in backticks
    re.MULTILINE,
)
WORD = re.compile(r"a|[A-Za-z][a-z]+(?:-[a-z]+)*")
LIBRARY = re.compile(r"(?:py)?torch|num-?py|np\b|sci-?py|scikit|sklearn|matplotlib|pandas|onnx")


def docstrings(seed: int) -> Corpus:
    """Collect the corpus, with the same number of documents in each class; the seed draws those of larger classes."""
    used: set[str] = set()
    chance = random.Random(seed)
    texts: list[list[str]] = []
    labels: list[list[int]] = []
    for libraries in (TRAIN, TEST):
        by_class = [_documents(modules.split(), used) for modules in libraries.values()]
        count = min(map(len, by_class))
        texts.append([text for documents in by_class for text in chance.sample(documents, count)])
        labels.append([label for label in range(len(by_class)) for _ in range(count)])
    note = f"The test documents come from other modules: {', '.join(' '.join(TEST.values()).split())}."
    return Corpus("docstrings", list(TRAIN), texts[0], labels[0], texts[1], labels[1], note)


def _documents(modules: list[str], used: set[str]) -> list[str]:
    """Return the texts of a library's modules that are not in `used` yet, and add them to it."""
    with warnings.catch_warnings(action="ignore"):  # some modules warn when they are imported
        documents = [sentences(text) for name in modules for text in _public_docstrings(name)]
    repeats = Counter(sentence for one in documents for sentence in set(one))
    kept = [[sentence for sentence in one if repeats[sentence] <= MAX_REPEATS] for one in documents]
    cut = [" ".join(one).split()[:MAX_WORDS] for one in kept]
    long_enough = dict.fromkeys(" ".join(words) for words in cut if len(words) >= MIN_WORDS)
    texts = [text for text in long_enough if text not in used]
    used.update(texts)
    return texts


def _public_docstrings(name: str) -> list[str]:
    """Return the docstrings of a module's public functions and classes that its own library defines."""
    module = import_module(name)
    library = name.partition(".")[0]
    docstrings = []
    for attribute in sorted(getattr(module, "__all__", None) or vars(module)):
        member = vars(module).get(attribute)
        home = str(getattr(member, "__module__", None) or library).partition(".")[0]  # numpy's ufuncs have no module
        if callable(member) and not attribute.startswith("_") and home in (library, "builtins", f"_{library}"):
            docstrings.append(inspect.getdoc(member) or "")
    return docstrings


def sentences(docstring: str) -> list[str]:
    r"""Return the sentences of a docstring's description, in lower case, without code and libraries' names.

    Example:
        >>> sentences("Adds `y` to a NumPy array. See also np.add.\n\nArgs:\n    y: The addend.")
        ['adds to a array', 'see also']
    """
    text = CODE.sub(" ", SECTION.split(docstring)[0])
    cleaned = []
    for sentence in re.split(r"(?<=[.:;])\s+|\n\s*\n", text):
        words = [word.strip(".,;:!?()[]\"'*").removesuffix("'s") for word in sentence.split()]
        kept = [word.lower() for word in words if WORD.fullmatch(word)]
        cleaned.append(" ".join(word for word in kept if not LIBRARY.match(word)))
    return list(filter(None, cleaned))
