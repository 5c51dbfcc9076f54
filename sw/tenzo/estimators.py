"""scikit-learn estimators that train and predict on a machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from tenzo_hw.config import preset

from .device import Device
from .network import TT, Network, ReLU, fold
from .settings import COORDINATE_ESTIMATORS, Settings
from .trainer import Trainer
from .transport import open_transport

#: Standard deviations of an input that the machine's input words tell apart; what is further away is held there.
_INPUT_RANGE = 4.0
#: A step's length that trains well, for 16 queries: each of d weights moves by this over sqrt(d), and by the square
#: root of the queries, since the noise of the estimate falls with it.
_STEP_LENGTH = 0.25
#: Perturbations that train well: of all words at once, and of one word alone.
_MU, _COORDINATE_MU = 2.0**-3, 2.0**-6
#: A rate of slopes that trains well, with a momentum of 3/4.
_SLOPE_RATE, _SLOPE_MOMENTUM = 0.1, 2
#: Largest magnitude of an input on the machine, see ``Formats.default``.
_INPUT_LIMIT = 2.0


class _TTEstimator(BaseEstimator):
    """What classifier and regressor share: the network, its training and its outputs."""

    def __init__(
        self,
        hidden: Sequence[int] = (16,),
        *,
        cores: int = 2,
        rank: int = 4,
        steps: int = 100,
        batch_size: int = 32,
        estimator: str = "rge",
        queries: int = 8,
        rate: float | None = None,
        mu: float | None = None,
        machine: str = "engine_16x8",
        device: str = "model",
        random_state: Any = None,
    ) -> None:
        self.hidden = hidden
        self.cores = cores
        self.rank = rank
        self.steps = steps
        self.batch_size = batch_size
        self.estimator = estimator
        self.queries = queries
        self.rate = rate
        self.mu = mu
        self.machine = machine
        self.device = device
        self.random_state = random_state

    def _validated(self, x: Any, y: Any, **options: bool) -> tuple[np.ndarray, np.ndarray]:
        inputs, targets = validate_data(self, x, y, dtype=np.float64, **options)
        return np.asarray(inputs), np.asarray(targets)

    def _train(self, x: np.ndarray, targets: np.ndarray, outputs: int, loss: str) -> None:
        self._center = x.mean(axis=0)
        # Values of one feature that are all but equal differ by rounding only: such a feature says nothing.
        deviation = x.std(axis=0)
        noise = 10 * np.finfo(np.float64).eps * np.abs(x).max(axis=0)
        self._deviation = np.where(deviation > noise, deviation, np.inf)
        folds = [_padded_fold(x.shape[1], self.cores), *(fold(size, self.cores) for size in self.hidden)]
        layers: list[TT | ReLU] = []
        for inputs, units in pairwise(folds):
            layers += [TT(inputs, units, self.rank), ReLU()]
        layers.append(TT(folds[-1], (1,) * (self.cores - 1) + (outputs,), self.rank))
        self.network_ = Network(layers, loss)
        self._seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        with self._open() as device:
            trainer = self._trainer(device)
            trainer.start()
            trainer.train(self._inputs(x), targets)
            self.weights_ = trainer.weights
        self.loss_curve_ = trainer.losses
        self.cycles_ = trainer.cycles

    @property
    def _settings(self) -> Settings:
        if self.estimator in COORDINATE_ESTIMATORS:
            return Settings(
                estimator=self.estimator,
                rate=_SLOPE_RATE if self.rate is None else self.rate,
                mu=_COORDINATE_MU if self.mu is None else self.mu,
                momentum=_SLOPE_MOMENTUM,
                normalise=False,
            )
        words = sum(math.prod(shape) for shape in self.network_.weights.values())
        length = _STEP_LENGTH * math.sqrt(self.queries / 16 / words)
        return Settings(
            estimator=self.estimator,
            queries=self.queries,
            rate=length if self.rate is None else self.rate,
            mu=_MU if self.mu is None else self.mu,
        )

    def _outputs(self, x: Any) -> np.ndarray:
        check_is_fitted(self)
        x = np.asarray(validate_data(self, x, reset=False, dtype=np.float64))
        with self._open() as device:
            trainer = self._trainer(device)
            trainer.start(self.weights_)
            return trainer.predict(self._inputs(x))

    def _open(self) -> Device:
        config = preset(self.machine)
        return Device(open_transport(self.device, config), expected=config)

    def _trainer(self, device: Device) -> Trainer:
        return Trainer(
            self.network_,
            device.config,
            self._settings,
            device=device,
            batch=self.batch_size,
            steps=self.steps,
            seed=self._seed,
        )

    def _inputs(self, x: np.ndarray) -> np.ndarray:
        """Standardised features, and zeros up to the network's inputs."""
        inputs = np.zeros((len(x), self.network_.inputs))
        scaled = (x - self._center) / self._deviation
        inputs[:, : x.shape[1]] = np.clip(scaled, -_INPUT_RANGE, _INPUT_RANGE) * (_INPUT_LIMIT / _INPUT_RANGE)
        return inputs


class TTClassifier(ClassifierMixin, _TTEstimator):
    """Tensor-train classifier, trained with forward passes on a machine.

    Parameters: ``hidden`` sizes of the hidden layers, ``cores`` of every layer and their ``rank``; ``steps`` of
    ``batch_size`` samples (a multiple of the machine's lanes); ``estimator`` of the gradient (see ``Settings``) and
    ``queries``, its random directions; step size ``rate`` (None: one that suits the estimator and the number of
    trainable words), size of a perturbation ``mu`` (a power of two; None: one that suits the estimator); ``machine`` (a
    preset) and ``device`` (as in ``open_transport``).

    Attributes: ``classes_``, ``network_``, ``weights_`` (floats by name), ``loss_curve_`` (nats), ``cycles_``.
    """

    def fit(self, X: Any, y: Any) -> TTClassifier:
        """Trains on samples [samples, features] and their labels."""
        x, labels = self._validated(X, y)
        check_classification_targets(labels)
        self.classes_, numbers = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("the labels have 1 class: a classifier needs samples of two or more")
        self._train(x, numbers.astype(np.int64), len(self.classes_), "cross_entropy")
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities [samples, classes]."""
        outputs = self._outputs(X)
        powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> np.ndarray:
        """Labels [samples]."""
        outputs = self._outputs(X)
        return self.classes_[outputs.argmax(axis=1)]


class TTRegressor(RegressorMixin, _TTEstimator):
    """Tensor-train regressor, trained with forward passes on a machine.

    Parameters as of ``TTClassifier``. Targets are values [samples] or [samples, outputs].

    Attributes: ``network_``, ``weights_`` (floats by name), ``loss_curve_`` (squared error in standard deviations),
    ``cycles_``.
    """

    def fit(self, X: Any, y: Any) -> TTRegressor:
        """Trains on samples [samples, features] and their values."""
        x, values = self._validated(X, y, y_numeric=True, multi_output=True)
        self._one_value = values.ndim == 1
        values = values.reshape(len(values), -1).astype(np.float64)
        self._mean, spread = values.mean(axis=0), values.std(axis=0)
        self._spread = np.where(spread > 0, spread, 1.0)
        self._train(x, (values - self._mean) / self._spread, values.shape[1], "squared_error")
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Values, in the shape of the targets of ``fit``."""
        values = self._outputs(X) * self._spread + self._mean
        return values[:, 0] if self._one_value else values

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _padded_fold(size: int, count: int) -> tuple[int, ...]:
    """``count`` sizes that are as equal as possible, whose product is ``size`` or little more."""
    sizes = []
    for left in range(count, 0, -1):
        sizes.append(math.ceil(round(size ** (1 / left), 9)))
        size = math.ceil(size / sizes[-1])
    return tuple(sizes)
