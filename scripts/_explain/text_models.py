"""The document classifiers of ``explain.py text``, and why they decide as they do."""

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
from _explain.local_explanations import BIAS, NotExplainedError

WORD = r"(?u)\b\w+\b"
WORST_DIVERGENCE, WORST_SCORE = 0.15, 0.9
"""Beyond these the local model is another one than that which it stands for."""


@dataclass(frozen=True)
class LocalModel:
    """A linear model of a classifier around one document, as eli5's TextExplainer fits it.

    Attributes:
        divergence: Mean Kullback-Leibler divergence of the local model's probabilities on variations of the document
            that it was not fitted to.
        score: Share of these where both choose the same class.
        words: Class -> word -> weight.
        explanation: The same for eli5's formatters.
    """

    divergence: float
    score: float
    words: dict[str, dict[str, float]]
    explanation: Explanation

    @property
    def warning(self) -> str:
        """What is to be said about a poor local model; nothing about a good one."""
        if self.divergence <= WORST_DIVERGENCE and self.score >= WORST_SCORE:
            return ""
        return (
            f"the local model is poor (mean KL divergence {self.divergence:.3f}, at most {WORST_DIVERGENCE} is good; "
            f"score {self.score:.3f}, at least {WORST_SCORE} is good): do not trust its words"
        )


def linear_svm(corpus: Corpus, seed: int) -> Pipeline:
    """A linear SVM on tf-idf, calibrated, so that it has probabilities; the SVM under it is fitted to all texts."""
    machine = CalibratedClassifierCV(LinearSVC(random_state=seed), ensemble=False, cv=_folds(corpus))
    words = TfidfVectorizer(sublinear_tf=True, stop_words="english", min_df=_rarest(corpus, 2))
    return make_pipeline(words, machine).fit(corpus.texts, corpus.labels)


def svd_svm(corpus: Corpus, seed: int) -> Pipeline:
    """An SVM with RBF kernel on the 100 largest singular directions of tf-idf: a black box, as to words."""
    words = TfidfVectorizer(stop_words="english", ngram_range=(1, 2), min_df=_rarest(corpus, 3))
    rank = min(100, min(words.fit_transform(corpus.texts).shape) - 1)
    if rank < 1:
        raise ValueError(f"the texts of {corpus.name} have too few words in common; add texts")
    machine = CalibratedClassifierCV(SVC(C=150, gamma=2e-2), ensemble=False, cv=_folds(corpus))
    directions = TruncatedSVD(rank, n_iter=7, random_state=seed)
    return make_pipeline(words, directions, machine).fit(corpus.texts, corpus.labels)


def machine_of(model: Pipeline) -> LinearSVC:
    """The linear SVM under the calibration."""
    return model[-1].calibrated_classifiers_[0].estimator


def class_words(model: Pipeline, classes: Sequence[str], top: int) -> tuple[dict[str, dict[str, float]], Explanation]:
    """For each class the words of greatest weight in the linear SVM of a pipeline of tf-idf and that."""
    found = eli5.explain_weights(machine_of(model), vec=model[0], target_names=list(classes), top=(top, 0))
    words = {
        str(target.target): {str(one.feature): float(one.weight) for one in target.feature_weights.pos}
        for target in found.targets
    }
    if len(classes) == 2:  # one vector for both: what speaks against the one speaks for the other
        other = eli5.explain_weights(machine_of(model), vec=model[0], target_names=list(classes), top=(0, top))
        negative = other.targets[0].feature_weights.neg
        words[classes[0]] = {str(one.feature): -float(one.weight) for one in negative}
    return {name: words[name] for name in classes}, found


def exact_words(
    model: Pipeline, text: str, classes: Sequence[str], label: int
) -> tuple[dict[str, float], float, Explanation]:
    """What each word of a text adds to the linear SVM's score for a class, that score, and both for eli5's formatters.

    eli5 does not explain predictions of a Pipeline: it is given the vectorizer and the SVM by themselves.
    """
    found = eli5.explain_prediction(
        machine_of(model), text, vec=model[0], target_names=list(classes), targets=[classes[label]]
    )
    (target,) = found.targets
    # eli5 signs the weights of two classes for the class that is explained, but not the score.
    sign = -1 if len(classes) == 2 and label == 0 else 1
    weights = [*target.feature_weights.pos, *target.feature_weights.neg]
    return {str(one.feature): float(one.weight) for one in weights}, sign * float(target.score), found


def local_model(model: Pipeline, text: str, classes: Sequence[str], label: int, samples: int, seed: int) -> LocalModel:
    """Explain any classifier with probabilities around one text; the explanation shows the class ``label`` alone.

    Raises:
        NotExplainedError: If the classifier says the same of all variations of the text.
    """
    explainer = TextExplainer(n_samples=samples, random_state=seed, vec=CountVectorizer(token_pattern=WORD))
    try:
        explainer.fit(text, model.predict_proba)
    except ValueError as error:
        if "class" not in str(error) and "vocabulary" not in str(error):
            raise
        raise NotExplainedError(f"the text has no variation that changes the class ({error})") from error
    found = explainer.explain_prediction(target_names=list(classes), top=None)
    words = {}
    for target in found.targets:
        weights = [*target.feature_weights.pos, *target.feature_weights.neg]
        words[str(target.target)] = {str(one.feature): float(one.weight) for one in weights}
    if len(found.targets) == 1:  # two classes: one vector, signed for the one that is explained
        (only,) = words
        seen = [classes[int(label)] for label in explainer.clf_.classes_]
        words |= {name: {word: -value for word, value in words[only].items()} for name in seen if name != only}
    found.targets = [target for target in found.targets if target.target == classes[label]] or found.targets
    metrics = explainer.metrics_
    return LocalModel(float(metrics["mean_KL_divergence"]), float(metrics["score"]), words, found)


def agreement(first: dict[str, float], second: dict[str, float]) -> float:
    """The correlation of two weightings of words, where a lacking word has weight 0; NaN where one is constant."""
    words = [word for word in {**first, **second} if word != BIAS]
    pair = np.array([[weights.get(word, 0.0) for word in words] for weights in (first, second)])
    if pair.shape[1] < 2 or (pair.std(axis=1) == 0).any():
        return float("nan")
    return float(np.corrcoef(pair)[0, 1])


def _folds(corpus: Corpus) -> int:
    smallest = min(Counter(corpus.labels).values())
    if smallest < 2:
        raise ValueError(f"a class of {corpus.name} has one text to learn from, calibration needs two; add texts")
    return min(5, smallest)


def _rarest(corpus: Corpus, usual: int) -> int:
    """In how many texts a word must be: in any for the smallest corpora."""
    return usual if len(corpus.texts) >= 100 else 1


def score_table(models: dict[str, Any], corpus: Corpus) -> dict[str, dict[str, Any]]:
    """Accuracy and macro-F1 of each model on the test texts, beside those of always saying the most frequent class."""
    truth = np.array(corpus.labels_test)
    guesses = {name: model.predict(corpus.texts_test) for name, model in models.items()}
    guesses["most frequent class"] = np.full(len(truth), Counter(corpus.labels).most_common(1)[0][0])
    return {
        name: {
            "accuracy": float(accuracy_score(truth, guess)),
            "macro F1": float(f1_score(truth, guess, average="macro")),
        }
        for name, guess in guesses.items()
    }
