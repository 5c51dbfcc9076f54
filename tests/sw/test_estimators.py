import pickle

import numpy as np
import pytest
from sklearn.datasets import load_digits, make_regression
from sklearn.model_selection import train_test_split
from sklearn.utils.estimator_checks import parametrize_with_checks
from tenzo.estimators import TTClassifier, TTRegressor, _padded_fold


@pytest.mark.estimator_checks
@parametrize_with_checks([TTClassifier(random_state=0), TTRegressor(random_state=0)])
def test_scikit_learn_accepts_the_estimator(estimator, check) -> None:
    check(estimator)


def test_digits_are_learned() -> None:
    x, y = load_digits(n_class=4, return_X_y=True)
    names = np.array(["zero", "one", "two", "three"])[y]
    x_train, x_test, y_train, y_test = train_test_split(x, names, random_state=0, stratify=names)
    classifier = TTClassifier((64,), steps=100, batch_size=64, queries=16, rate=0.02, random_state=0)
    classifier.fit(x_train, y_train)
    assert classifier.score(x_test, y_test) > 0.9
    assert set(classifier.predict(x_test)) <= set(names)
    assert np.allclose(classifier.predict_proba(x_test).sum(axis=1), 1)
    again = pickle.loads(pickle.dumps(classifier))
    assert np.array_equal(again.predict_proba(x_test), classifier.predict_proba(x_test))


def test_words_moved_alone_learn_in_fewer_steps() -> None:
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, random_state=0, stratify=y)
    classifier = TTClassifier((64,), estimator="incremental-cge", steps=100, batch_size=64, rate=0.2, random_state=0)
    assert classifier.fit(x_train, y_train).score(x_test, y_test) > 0.93


def test_several_values_are_learned() -> None:
    x, y = make_regression(200, 5, n_targets=2, random_state=0)
    regressor = TTRegressor(random_state=0).fit(x, y)
    assert regressor.predict(x).shape == y.shape
    assert regressor.score(x, y) > 0.8


@pytest.mark.parametrize("size", range(1, 70))
def test_padded_folds_hold_every_feature(size: int) -> None:
    sizes = _padded_fold(size, 2)
    assert size <= np.prod(sizes) <= size + max(sizes)


def test_a_batch_that_does_not_fit_is_explained() -> None:
    with pytest.raises(ValueError, match="16 lanes"):
        TTClassifier(batch_size=10).fit([[0.0], [1.0]], [0, 1])
