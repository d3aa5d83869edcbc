"""Intervals: patients are resampled whole, classes stay, seeds are averaged, and coverage is what it says."""

import numpy as np
import pytest

from synthaug.ground.errors import InputError
from synthaug.metrics.classification import auroc
from synthaug.statistics.intervals import paired_difference, patient_bootstrap


def binary(positive: np.ndarray) -> np.ndarray:
    return np.stack([1 - positive, positive], axis=1)


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def cohort(n: int, *, seed: int = 0, rows: int = 1) -> dict:
    """``n`` patients of ``rows`` equal rows, half of them positive, with overlapping scores."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    scores = 1 / (1 + np.exp(-rng.normal(labels - 0.5)))
    return {
        "patient_ids": [f"p{i}" for i in range(n) for _ in range(rows)],
        "labels": labels.repeat(rows),
        "arrays": binary(scores.repeat(rows)),
    }


def test_value_is_the_statistic_on_all_rows():
    data = cohort(30)
    interval = patient_bootstrap(auroc, **data, resamples=50)
    assert interval.value == auroc(data["labels"], data["arrays"])
    assert 0 <= interval.low < interval.value < interval.high <= 1


def test_seed_names_the_resamples():
    data = cohort(30)
    first, again, other = (patient_bootstrap(auroc, **data, resamples=50, seed=seed) for seed in (0, 0, 1))
    assert first == again != other


def test_patients_are_drawn_whole():
    """Rows of one patient are always as many as a multiple of the patient's rows."""
    patient_ids, sizes = [], [1, 2, 3, 4, 5]
    for patient, size in enumerate(sizes):
        patient_ids += [str(patient)] * size
    probabilities = binary(np.array([int(patient) / 10 for patient in patient_ids]))
    labels = np.array([int(patient) % 2 for patient in patient_ids])

    def whole(labels: np.ndarray, drawn: np.ndarray) -> float:
        for patient, size in enumerate(sizes):
            assert np.sum(np.isclose(drawn[:, 1], patient / 10)) % size == 0
        return 0.0

    patient_bootstrap(whole, patient_ids=patient_ids, labels=labels, arrays=probabilities, resamples=100)


def test_copied_rows_add_no_certainty():
    """Ten copies of each patient's row change nothing; taken for patients, they would narrow the interval."""
    one, ten = cohort(40), cohort(40, rows=10)
    single, copied = (patient_bootstrap(accuracy, **data, resamples=300) for data in (one, ten))
    assert (copied.low, copied.high) == pytest.approx((single.low, single.high))
    rows = dict(ten, patient_ids=list(map(str, range(400))))
    apart = patient_bootstrap(accuracy, **rows, resamples=300)
    assert apart.high - apart.low < 0.5 * (single.high - single.low)


@pytest.mark.parametrize(
    ("patient_ids", "labels"),
    [
        ("abcdefgh", [0, 0, 0, 0, 0, 0, 0, 1]),  # one positive
        ("aabcdefg", [0, 1, 1, 1, 1, 1, 1, 1]),  # the only negative row is in a patient with both classes
        ("aabbccdd", [0, 0, 1, 2, 0, 1, 2, 2]),
    ],
)
def test_no_resample_lacks_a_class(patient_ids, labels):
    labels = np.array(labels)
    classes = set(labels.tolist())

    def complete(drawn: np.ndarray, probabilities: np.ndarray) -> float:
        assert set(drawn.tolist()) == classes
        return 0.0

    patient_bootstrap(complete, patient_ids=list(patient_ids), labels=labels, arrays=np.eye(3)[labels], resamples=200)


def test_seeds_are_averaged_and_resampled():
    """One training seed is always right, the other always wrong: only the draw of seeds moves the accuracy."""
    labels = np.array([0, 0, 1, 1])
    right = np.eye(2)[labels]
    interval = patient_bootstrap(
        accuracy, patient_ids=list("abcd"), labels=labels, arrays=[right, 1 - right], resamples=200
    )
    assert (interval.value, interval.low, interval.high) == (0.5, 0.0, 1.0)


def test_a_stack_of_arrays_is_a_list_of_seeds():
    data = cohort(20)
    twice = np.stack([data["arrays"], data["arrays"]])
    stacked = patient_bootstrap(auroc, **(data | {"arrays": twice}), resamples=20)
    assert stacked == patient_bootstrap(auroc, **(data | {"arrays": list(twice)}), resamples=20)


def test_paired_difference_cancels_what_is_shared():
    data = cohort(40)
    same = paired_difference(auroc, **data, baseline=data["arrays"], resamples=50)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)

    better = binary(np.clip(data["arrays"][:, 1] + 0.05 * (2 * data["labels"] - 1), 0, 1))
    gain = paired_difference(auroc, **(data | {"arrays": better}), baseline=data["arrays"], resamples=200)
    alone = patient_bootstrap(auroc, **data, resamples=200)
    assert gain.value == auroc(data["labels"], better) - alone.value
    assert gain.low > 0
    assert gain.high - gain.low < 0.7 * (alone.high - alone.low)


def test_seeds_are_paired_too():
    """Each training seed gains one half over its twin, whatever its own luck: the luck leaves with the difference."""
    labels = np.array([0, 0, 1, 1])
    right, half = np.eye(2)[labels], np.eye(2)[[0, 1, 1, 0]]
    usable = {"patient_ids": list("aabb"), "labels": labels, "resamples": 50}
    gain = paired_difference(accuracy, **usable, arrays=[right, half], baseline=[half, 1 - right])
    assert (gain.value, gain.low, gain.high) == (0.5, 0.5, 0.5)
    with pytest.raises(InputError, match="2 and 1 training seeds"):
        paired_difference(accuracy, **usable, arrays=[right, half], baseline=right)


def test_coverage():
    """Of 100 intervals at 90 %, fewer than 80 would hold the true AUROC once in 500 suites if coverage were 90 %."""
    truth = 0.7602  # P(N(1, 1) > N(0, 1)) = Phi(1 / sqrt 2)
    hits = 0
    for seed in range(100):
        data = cohort(60, seed=seed)

        def rank_auroc(labels: np.ndarray, probabilities: np.ndarray) -> float:
            positive, negative = probabilities[labels == 1, 1], probabilities[labels == 0, 1]
            return float(np.mean(positive[:, None] > negative))

        interval = patient_bootstrap(rank_auroc, **data, resamples=200, confidence=0.9)
        hits += interval.low <= truth <= interval.high
    assert 80 <= hits <= 98


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resamples": 0}, "resamples"),
        ({"confidence": 1.0}, "confidence"),
        ({"arrays": []}, "no probabilities"),
        ({"arrays": np.zeros((3, 2))}, "training seed 0"),
        ({"arrays": [np.zeros((4, 2)), np.zeros((4, 3))]}, "training seed 1"),
        ({"labels": np.array([0, 1])}, "do not fit"),
        ({"patient_ids": [], "labels": np.array([]), "arrays": np.zeros((0, 2))}, "do not fit"),
        ({"statistic": lambda labels, p: float("nan")}, "not finite"),
    ],
)
def test_unusable_input_is_named(change, message):
    usable = {"patient_ids": list("abcd"), "labels": np.array([0, 1, 0, 1]), "arrays": np.eye(2)[[0, 1, 0, 1]]}
    statistic = change.pop("statistic", accuracy)
    with pytest.raises(InputError, match=message):
        patient_bootstrap(statistic, **(usable | change))
