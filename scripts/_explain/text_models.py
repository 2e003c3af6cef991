"""The document classifiers of `explain.py text`, and their explanations by word."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import eli5
import numpy as np
from eli5.base import Explanation
from eli5.lime import TextExplainer
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import SVC, LinearSVC

from _explain.corpora import Corpus
from _explain.local_explanations import BIAS, NotExplainedError, weights_of

WORD = r"(?u)\b\w+\b"
SMALL = 100
"""A corpus of fewer texts keeps words that occur in a single one."""
MAX_DIVERGENCE, MIN_SCORE = 0.15, 0.9
"""A local model beyond these limits does not represent its classifier."""


@dataclass(frozen=True)
class LocalModel:
    """A linear approximation of a classifier around one document, as eli5's TextExplainer fits it.

    Its fidelity is measured on variations of the document that were held out of the fit.
    """

    divergence: float  # mean Kullback-Leibler divergence of the class probabilities
    score: float  # share with the same predicted class
    words: dict[str, dict[str, float]]  # class -> word -> weight
    explanation: Explanation  # of the explained class, for eli5's formatters

    @property
    def warning(self) -> str:
        """A warning about a poor local model, or nothing."""
        if self.divergence <= MAX_DIVERGENCE and self.score >= MIN_SCORE:
            return ""
        return (
            f"the local model is poor (mean KL divergence {self.divergence:.3f}, at most {MAX_DIVERGENCE} is good; "
            f"score {self.score:.3f}, at least {MIN_SCORE} is good): do not trust its words"
        )


def linear_svm(corpus: Corpus, seed: int) -> Pipeline:
    """Fit a linear SVM on tf-idf, calibrated for its probabilities; the SVM itself is fitted to all documents."""
    svm = CalibratedClassifierCV(LinearSVC(random_state=seed), ensemble=False, cv=_folds(corpus))
    words = TfidfVectorizer(sublinear_tf=True, stop_words="english", min_df=2 if len(corpus.texts) >= SMALL else 1)
    return make_pipeline(words, svm).fit(corpus.texts, corpus.labels)


def svd_svm(corpus: Corpus, seed: int) -> Pipeline:
    """Fit an RBF SVM on the 100 largest singular directions of tf-idf: a black box with regard to words."""
    words = TfidfVectorizer(stop_words="english", ngram_range=(1, 2), min_df=3 if len(corpus.texts) >= SMALL else 1)
    rank = min(100, min(words.fit_transform(corpus.texts).shape) - 1)
    if rank < 1:
        raise ValueError(f"the texts of {corpus.name} have too few words in common; add texts")
    svm = CalibratedClassifierCV(SVC(C=150, gamma=2e-2), ensemble=False, cv=_folds(corpus))
    directions = TruncatedSVD(rank, n_iter=7, random_state=seed)
    return make_pipeline(words, directions, svm).fit(corpus.texts, corpus.labels)


def inner_svm(model: Pipeline) -> LinearSVC:
    """Return the SVM inside the calibration of `linear_svm`."""
    return model[-1].calibrated_classifiers_[0].estimator


def class_words(model: Pipeline, classes: Sequence[str], top: int) -> tuple[dict[str, dict[str, float]], Explanation]:
    """Return the `top` words of each class in `linear_svm`, and the same for eli5's formatters."""
    svm, options = inner_svm(model), {"vec": model[0], "target_names": list(classes)}
    explanation = eli5.explain_weights(svm, top=(top, 0), **options)
    words = {str(target.target): weights_of(target) for target in explanation.targets}
    if len(classes) == 2:  # one vector for both: words against one class support the other
        (target,) = eli5.explain_weights(svm, top=(0, top), **options).targets
        words[classes[0]] = {word: -weight for word, weight in weights_of(target).items()}
    return {name: words[name] for name in classes}, explanation


def exact_words(
    model: Pipeline, text: str, classes: Sequence[str], label: int
) -> tuple[dict[str, float], float, Explanation]:
    """Return each word's contribution to the score of a class in `linear_svm`, that score, and both for eli5.

    eli5 does not explain predictions of a pipeline, and gets the vectorizer and the SVM separately.
    """
    explanation = eli5.explain_prediction(
        inner_svm(model), text, vec=model[0], target_names=list(classes), targets=[classes[label]]
    )
    (target,) = explanation.targets
    # With two classes, eli5 signs the weights for the explained class, but not the score.
    sign = -1 if len(classes) == 2 and label == 0 else 1
    return weights_of(target), sign * float(target.score), explanation


def local_model(model: Pipeline, text: str, classes: Sequence[str], label: int, samples: int, seed: int) -> LocalModel:
    """Approximate any classifier with probabilities around one document, by its random variations."""
    explainer = TextExplainer(n_samples=samples, random_state=seed, vec=CountVectorizer(token_pattern=WORD))
    try:
        explainer.fit(text, model.predict_proba)
    except ValueError as error:
        if "class" not in str(error) and "vocabulary" not in str(error):
            raise
        raise NotExplainedError(f"no variation of the text changes the class ({error})") from error
    explanation = explainer.explain_prediction(target_names=list(classes), top=None)
    words = {str(target.target): weights_of(target) for target in explanation.targets}
    if len(explanation.targets) == 1:  # two classes: one vector, signed for the explained class
        (only,) = words
        names = [classes[int(index)] for index in explainer.clf_.classes_]
        words |= {name: {word: -value for word, value in words[only].items()} for name in names if name != only}
    own = [target for target in explanation.targets if target.target == classes[label]]
    explanation.targets = own or explanation.targets
    metrics = explainer.metrics_
    return LocalModel(float(metrics["mean_KL_divergence"]), float(metrics["score"]), words, explanation)


def strongest(weights: dict[str, float], count: int) -> list[str]:
    """Return the words of largest absolute weight."""
    return sorted((word for word in weights if word != BIAS), key=lambda word: -abs(weights[word]))[:count]


def agreement(first: dict[str, float], second: dict[str, float]) -> float:
    """Return the correlation of two sets of word weights, where a missing word has weight 0; NaN for a constant set."""
    words = [word for word in {**first, **second} if word != BIAS]
    pair = np.array([[weights.get(word, 0.0) for word in words] for weights in (first, second)])
    if pair.shape[1] < 2 or (pair.std(axis=1) == 0).any():
        return float("nan")
    return float(np.corrcoef(pair)[0, 1])


def score_table(models: dict[str, Any], corpus: Corpus) -> dict[str, dict[str, Any]]:
    """Return accuracy and macro-F1 on the test documents, for each model and for always predicting one class."""
    predictions = {name: model.predict(corpus.texts_test) for name, model in models.items()}
    most_frequent = Counter(corpus.labels).most_common(1)[0][0]
    predictions["most frequent class"] = np.full(len(corpus.labels_test), most_frequent)
    return {
        name: {
            "accuracy": float(accuracy_score(corpus.labels_test, predicted)),
            "macro F1": float(f1_score(corpus.labels_test, predicted, average="macro")),
        }
        for name, predicted in predictions.items()
    }


def _folds(corpus: Corpus) -> int:
    smallest = min(Counter(corpus.labels).values())
    if smallest < 2:
        raise ValueError(f"a class of {corpus.name} has one training text, but calibration needs two; add texts")
    return min(5, smallest)
