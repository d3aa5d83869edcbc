import multiprocessing
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchio as tio
from accelerate import PartialState
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import log_loss, roc_auc_score
from small_pool import build_pool
from two_processes import in_two_processes

from synthaug.augment.sampler import SyntheticSampler
from synthaug.classify.augmentation import classical_augmentation
from synthaug.classify.batches import batches_of
from synthaug.classify.calibration import LIMITS, apply_temperature, calibrated_loss, fit_temperature
from synthaug.classify.objective import Objective, logit_offsets, loss_weights
from synthaug.classify.prediction import predict_logits
from synthaug.classify.selection import StepChoice
from synthaug.classify.training import Pretraining, _chosen, train_classifier
from synthaug.classify.weights import SavedClassifier, load_classifier, save_classifier
from synthaug.config import ClassifierConfig, PreprocessConfig, TrainingConfig
from synthaug.data.reading.manifest import class_counts, make_subject, stack_images
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import torch_generator
from synthaug.models.classifier import build_classifier

SHAPE = (16, 16, 8)
CONFIG = ClassifierConfig(
    channels=(4, 8, 8, 8),
    evaluate_every=10,
    training=TrainingConfig(steps=50, batch_size=8, learning_rate=5e-3, warmup=5),
)
SHORT = replace(CONFIG, evaluate_every=2, training=replace(CONFIG.training, steps=6, warmup=0))


def bright_or_not(n, *, name, classes=2, shape=SHAPE):
    """Noise; in class c a cube in the middle is brighter by 0.3 c."""
    subjects = []
    for index in range(n):
        label = index % classes
        volume = 0.2 + 0.2 * torch.rand(1, *shape, generator=torch_generator(name, index))
        volume[:, 5:11, 5:11, 2:6] += 0.3 * label
        image = tio.ScalarImage(tensor=volume)
        subjects.append(
            make_subject({"t2w": image}, label=label, subject_id=f"{name}{index}", patient_id=f"{name}{index}")
        )
    return subjects


def train(config=CONFIG, *, seed=0, train_on=None, validation=None, **options):
    subjects = train_on or bright_or_not(24, name="train")
    sampler = SyntheticSampler(subjects, None, batch_size=config.training.batch_size, seed=seed)
    return train_classifier(
        sampler.loader(),
        validation or bright_or_not(8, name="val"),
        config,
        images=["t2w"],
        shape=SHAPE,
        seed=seed,
        **options,
    )


@pytest.fixture(scope="module")
def pool(tiny_pipeline, tiny_subjects, tmp_path_factory):
    return build_pool(tiny_pipeline, tiny_subjects, tmp_path_factory.mktemp("classify") / "pool")


@pytest.fixture(scope="module")
def trained():
    return train()


@pytest.mark.parametrize("loss", ["focal", "cross_entropy"])
def test_a_bright_cube_is_learnt_in_fifty_steps(loss):
    trained = train(replace(CONFIG, loss=loss))
    held_out = bright_or_not(30, name="test")
    logits = predict_logits(trained.network, held_out, ["t2w"])
    assert roc_auc_score([subject["label"] for subject in held_out], logits.softmax(1)[:, 1]) > 0.9


def test_the_step_with_the_lowest_validation_loss_is_kept_with_its_weights(trained):
    validation = bright_or_not(8, name="val")
    best = min(trained.history, key=lambda record: record["val_loss"])
    assert trained.chosen_step == best["step"]
    assert [record["step"] for record in trained.history] == [10, 20, 30, 40, 50]
    logits = predict_logits(trained.network, validation, ["t2w"])
    labels = torch.tensor([subject["label"] for subject in validation])
    assert calibrated_loss(logits.numpy(), labels.numpy()) == pytest.approx(best["val_loss"], abs=1e-6)
    assert not trained.network.training


def test_weights_of_an_earlier_step_come_back_when_later_ones_are_worse():
    """The validation labels are the wrong way round, so that learning makes the validation loss rise."""
    validation = bright_or_not(8, name="val")
    for subject in validation:
        subject["label"] = 1 - subject["label"]
    trained = train(validation=validation)
    best = min(trained.history, key=lambda record: record["val_loss"])
    assert trained.chosen_step == best["step"] < 50
    logits = predict_logits(trained.network, validation, ["t2w"])
    labels = torch.tensor([subject["label"] for subject in validation])
    assert calibrated_loss(logits.numpy(), labels.numpy()) == pytest.approx(best["val_loss"], abs=1e-6)


def test_the_loss_that_chooses_does_not_mind_a_classifier_that_is_too_sure():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 40)
    logits = np.stack([np.zeros(40), labels - 0.5 + rng.normal(size=40)], axis=1)
    assert calibrated_loss(5 * logits, labels) == pytest.approx(calibrated_loss(logits, labels), abs=1e-6)
    worse = np.stack([np.zeros(40), labels - 0.5 + 3 * rng.normal(size=40)], axis=1)
    assert calibrated_loss(worse, labels) > calibrated_loss(5 * logits, labels)
    assert np.isnan(calibrated_loss(np.full((2, 2), np.nan), np.array([0, 1])))


def test_the_last_step_is_validated_even_off_the_beat():
    trained = train(replace(SHORT, evaluate_every=4))
    assert [record["step"] for record in trained.history] == [4, 6]


def test_one_seed_gives_one_classifier_whatever_the_global_generator_and_another_seed_another():
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(runs))
        state = torch.get_rng_state()
        runs.append(train(SHORT, seed=seed))
        assert torch.equal(torch.get_rng_state(), state)
    first, second, third = ([*run.network.state_dict().values()] for run in runs)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert runs[0].history == runs[1].history
    assert not all(torch.equal(a, b) for a, b in zip(first, third, strict=True))
    assert runs[0].history != runs[2].history


def test_a_network_that_drops_paths_at_random_follows_the_seed_and_not_the_global_generator():
    shape = (64, 64, 32)  # EfficientNet's least
    one_step = TrainingConfig(steps=1, batch_size=2)
    config = ClassifierConfig(network="efficientnet-b0", evaluate_every=1, training=one_step)
    subjects = bright_or_not(2, name="drops", shape=shape)
    histories = []
    for global_seed in range(2):
        torch.manual_seed(global_seed)
        loader = SyntheticSampler(subjects, None, batch_size=2).loader()
        trained = train_classifier(loader, subjects, config, images=["t2w"], shape=shape, seed=0)
        histories.append(trained.history)
    assert histories[0] == histories[1]


def test_validating_more_often_changes_no_training():
    often = train(replace(SHORT, evaluate_every=1)).history
    seldom = train(replace(SHORT, evaluate_every=3)).history
    assert [record for record in often if record["step"] in (3, 6)] == seldom


def test_every_step_is_reported():
    steps = []
    train(SHORT, on_step=lambda step, values: steps.append((step, values["loss"])))
    assert [step for step, _ in steps] == [1, 2, 3, 4, 5, 6]
    assert all(loss >= 0 for _, loss in steps)


def test_three_classes_train():
    subjects = bright_or_not(12, name="three", classes=3)
    config = replace(SHORT, training=replace(SHORT.training, batch_size=6))
    trained = train(config, train_on=subjects, validation=subjects[:6])
    assert predict_logits(trained.network, subjects, ["t2w"]).shape == (12, 3)


@pytest.mark.parametrize("training", [True, False])
def test_logits_do_not_depend_on_the_batch_size_and_the_mode_stays_as_found(trained, training):
    network = trained.network.train(training)
    subjects = bright_or_not(7, name="batch")
    reference = predict_logits(network, subjects, ["t2w"], batch_size=1)
    assert reference.shape == (7, 2)
    for batch_size in (2, 3, 7, 16):
        logits = predict_logits(network, subjects, ["t2w"], batch_size=batch_size)
        assert torch.allclose(logits, reference, atol=1e-5)
        assert not logits.requires_grad
    assert network.training is training
    network.eval()


def test_the_mode_stays_as_found_when_prediction_fails(trained):
    network = trained.network.train()
    with pytest.raises(KeyError):
        predict_logits(network, bright_or_not(2, name="fails"), ["adc"])
    assert network.training
    network.eval()


def test_classical_augmentation_keeps_shape_label_and_range_and_changes_the_voxels(tiny_subjects):
    augment = classical_augmentation(PreprocessConfig(spacing_mm=(5.0, 5.0, 8.0), shape=SHAPE))
    changed = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for subject in tiny_subjects * 2:
            result = augment(subject)
            assert result["t2w"].data.shape == (1, *SHAPE)
            assert result["t2w"].data.dtype == torch.float32
            assert result["label"] == subject["label"]
            assert list(result) == list(subject)
            assert -1e-3 <= result["t2w"].data.min() < result["t2w"].data.max() <= 1 + 1e-3
            changed += not torch.equal(result["t2w"].data, subject["t2w"].data)
    assert changed >= len(tiny_subjects)


def test_classical_augmentation_uses_each_of_flip_rotation_translation_and_zoom(tiny_subjects):
    augment = classical_augmentation(PreprocessConfig(spacing_mm=(5.0, 5.0, 8.0), shape=SHAPE))
    flips, rotations, translations, zooms = 0, [], [], []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for subject in tiny_subjects * 4:
            for entry in augment(subject).history:
                if entry.name == "Flip":
                    flips += 1
                    continue
                rotations += [entry.degrees]
                translations += [entry.translation]
                zooms += [entry.scales]
    n = 4 * len(tiny_subjects)
    assert flips / n == pytest.approx(0.5, abs=0.25)
    assert all(x == y == 0 and abs(z) <= 15 for x, y, z in rotations)
    assert all(abs(mm) <= reach for moved in translations for mm, reach in zip(moved, (8, 8, 6.4), strict=True))
    assert all(len(set(scale)) == 1 and 0.9 <= scale[0] <= 1.1 for scale in zooms)
    for values in (rotations, translations, zooms):
        assert 0.25 < sum(value not in ((0, 0, 0), (1, 1, 1)) for value in values) / n < 0.75


def test_classical_augmentation_can_leave_moves_out_and_interpolates_once(tiny_subjects):
    augment = classical_augmentation(PreprocessConfig(spacing_mm=(5.0, 5.0, 8.0), shape=SHAPE), ["rotate", "translate"])
    kinds = set()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for subject in tiny_subjects * 4:
            history = augment(subject).history
            assert len(history) <= 1
            for entry in history:
                assert tuple(entry.scales) == (1, 1, 1)
                kinds.add((any(entry.degrees), any(entry.translation)))
    assert kinds == {(True, False), (False, True), (True, True)}


@pytest.mark.parametrize(("augment", "moves"), [(True, 4), (False, 0), (["zoom", "flip"], 2)])
def test_the_moves_are_those_of_the_setting(augment, moves):
    assert len(ClassifierConfig(augment=augment).moves) == moves


@pytest.mark.parametrize("augment", [[], ["flip", "flip"]])
def test_moves_named_twice_or_not_at_all_are_refused(augment):
    with pytest.raises(InputError, match=r"classifier\.augment"):
        ClassifierConfig(augment=augment)


def test_a_pooled_network_sees_means_of_neighbouring_voxels():
    config = replace(CONFIG, pooling=2)
    network = build_classifier(config, in_channels=1, classes=2, shape=SHAPE, seed=0).eval()
    coarse = torch.rand(1, 1, *(side // 2 for side in SHAPE))
    fine = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
    checkers = torch.ones_like(fine)
    checkers[:, :, ::2] = -1  # texture that no mean of two neighbours has
    with torch.no_grad():
        torch.testing.assert_close(network(fine + 0.1 * checkers), network(fine), atol=1e-5, rtol=1e-4)
    with pytest.raises(InputError, match=r"classifier\.pooling"):
        replace(CONFIG, pooling=0)


def test_a_network_that_cannot_take_the_volume_is_refused():
    with pytest.raises(InputError, match="'efficientnet-b0' cannot take volumes"):
        train(replace(SHORT, network="efficientnet-b0"))


@pytest.mark.parametrize("network", ["resnet18", "densenet121"])
def test_every_network_gives_one_logit_a_class_and_depends_on_its_seed_alone(network):
    def logits(seed):
        classifier = build_classifier(
            replace(CONFIG, network=network), in_channels=2, classes=3, shape=(32, 32, 32), seed=seed
        ).eval()
        with torch.no_grad():
            return classifier(torch.ones(1, 2, 32, 32, 32))

    assert logits(0).shape == (1, 3)
    assert torch.equal(logits(0), logits(0))
    assert not torch.equal(logits(0), logits(1))


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(InputError, match="two classes needed"):
        train(SHORT, validation=bright_or_not(4, name="one", classes=1))
    three = bright_or_not(9, name="three", classes=3)
    assert class_counts(three) == {0: 3, 1: 3, 2: 3}
    with pytest.raises(InputError, match="have class 2, the validation subjects only 2"):
        train(replace(SHORT, training=replace(SHORT.training, batch_size=9)), train_on=three)
    weighted = replace(SHORT, balance="weighted")
    with pytest.raises(InputError, match="need the number of training subjects of 2 classes"):
        train(weighted)
    with pytest.raises(InputError, match=r"class_weights=\[1.0, 2.0, 3.0\] must be 2 numbers"):
        train(replace(weighted, class_weights=[1.0, 2.0, 3.0]))
    with pytest.raises(InputError, match="stand beside classifier"):
        ClassifierConfig(class_weights=[1.0, 2.0])
    with pytest.raises(InputError, match="No validation loss was finite"):
        _chosen(StepChoice(), torch.nn.Linear(1, 1), [], images=[], flips=False)


def test_a_saved_classifier_comes_back_with_its_temperature_and_its_probabilities(trained, tmp_path):
    preprocess = PreprocessConfig(spacing_mm=(5.0, 5.0, 8.0), shape=SHAPE)
    saved = SavedClassifier(trained.network, CONFIG, preprocess, ["t2w"], classes=2, temperature=1.5)
    save_classifier(tmp_path / "c.safetensors", saved)
    loaded = load_classifier(tmp_path / "c.safetensors")
    assert (loaded.temperature, loaded.images, loaded.classes) == (1.5, ["t2w"], 2)
    volumes = torch.stack([stack_images(subject, ["t2w"]) for subject in bright_or_not(3, name="test")])
    assert np.array_equal(loaded.probabilities(volumes), saved.probabilities(volumes))


@pytest.mark.parametrize("form", [float, torch.tensor])
def test_labels_of_any_form_and_a_data_set_of_torchio_validate_alike(form):
    def relabelled(subjects):
        for subject in subjects:
            subject["label"] = form(subject["label"])
        return subjects

    expected = train(SHORT)
    found = train(
        SHORT,
        train_on=relabelled(bright_or_not(24, name="train")),
        validation=tio.SubjectsDataset(relabelled(bright_or_not(8, name="val"))),
    )
    assert (found.history, found.temperature) == (expected.history, expected.temperature)


@pytest.mark.parametrize(("training", "validation"), [(3, 2), (2, 3)])
def test_classes_of_training_or_validation_alone_are_refused_before_a_step(training, validation):
    steps = []
    with pytest.raises(InputError, match="class 2"):
        train(
            replace(SHORT, training=replace(SHORT.training, batch_size=6)),
            train_on=bright_or_not(24, name="train", classes=training),
            validation=bright_or_not(9, name="val", classes=validation),
            on_step=lambda step, values: steps.append(step),
        )
    assert not steps


def test_a_loader_without_a_whole_batch_is_refused():
    subjects = bright_or_not(3, name="train")
    loader = tio.SubjectsLoader(subjects, batch_size=4, drop_last=True)
    with pytest.raises(InputError, match="batch"):
        train_classifier(loader, bright_or_not(8, name="val"), SHORT, images=["t2w"], shape=SHAPE, seed=0)


@pytest.mark.parametrize("label", [-1, 0.5])
def test_a_training_label_that_is_no_class_is_refused(label):
    subjects = bright_or_not(8, name="train")
    for subject in subjects[::2]:
        subject["label"] = label
    loader = tio.SubjectsLoader(subjects, batch_size=4)
    with pytest.raises(InputError, match="label"):
        train_classifier(loader, bright_or_not(8, name="val"), SHORT, images=["t2w"], shape=SHAPE, seed=0)


@pytest.mark.parametrize("label", [-1, 2, 0.5])
def test_a_temperature_is_fitted_to_classes_that_there_are(label):
    logits = np.array([[0.0, 1.0], [1.0, 0.0]])
    for fit in (fit_temperature, calibrated_loss):
        with pytest.raises(InputError, match="Label 1"):
            fit(logits, np.array([1, label]))
    assert fit_temperature(logits, np.array([1.0, 0.0])) == fit_temperature(logits, np.array([1, 0]))


# --- early stopping, weights, calibration, flips


def test_training_ends_when_patience_does_and_the_choice_is_the_same():
    """The validation labels are the wrong way round, so that nothing gets better after the first look."""
    validation = bright_or_not(8, name="val")
    for subject in validation:
        subject["label"] = 1 - subject["label"]
    full = train(validation=validation)
    stopped = train(replace(CONFIG, patience=2), validation=validation)
    assert stopped.steps == full.chosen_step + 20 < full.steps == 50
    assert stopped.history == full.history[: len(stopped.history)]
    assert stopped.chosen_step == full.chosen_step
    for one, other in zip(stopped.network.parameters(), full.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_patience_counts_validations_since_the_best_one():
    choice, network = StepChoice(patience=2), torch.nn.Linear(1, 1)
    seen = []
    for step, loss in enumerate([float("nan"), 0.5, 0.6, 0.4, 0.4, 0.41], start=1):
        choice.offer(step, network, train_loss=1.0, val_loss=loss)
        seen.append((choice.step, choice.exhausted()))
    assert seen == [(0, False), (2, False), (2, False), (4, False), (4, False), (4, True)]


def test_averaged_weights_are_what_is_validated_and_kept():
    trained = train(replace(SHORT, training=replace(SHORT.training, ema=0.9)))
    validation = bright_or_not(8, name="val")
    labels = torch.tensor([subject["label"] for subject in validation])
    logits = predict_logits(trained.network, validation, ["t2w"])
    chosen = {record["step"]: record["val_loss"] for record in trained.history}[trained.chosen_step]
    assert calibrated_loss(logits.numpy(), labels.numpy()) == pytest.approx(chosen, abs=1e-6)


@pytest.mark.parametrize("loss", ["cross_entropy", "focal"])
def test_a_weighted_loss_is_the_mean_of_weighted_rows(loss):
    """Weights (1, 3): the loss is a quarter of the rows' of class 0 alone and three quarters of those of class 1."""
    logits = torch.tensor([[1.0, 0.0], [0.3, 0.0], [0.0, 2.0], [0.5, 0.0]])
    labels = torch.tensor([0, 0, 1, 1])
    objective, weights = Objective(torch.nn.Identity(), loss), torch.tensor([1.0, 3.0])
    first, second = (objective(logits[rows], labels[rows])[0] for rows in (slice(0, 2), slice(2, 4)))
    assert objective(logits, labels, weights[labels])[0].item() == pytest.approx(
        (first / 2 + 3 * second / 2).item(), rel=1e-6
    )


def test_logit_adjustment_is_cross_entropy_under_the_shares_of_the_training_set():
    config = ClassifierConfig(loss="logit_adjusted", balance="none")
    offsets = logit_offsets(config, classes=2, class_counts={0: 9, 1: 1})
    objective, labels = Objective(torch.nn.Identity(), config.loss), torch.tensor([0, 1])
    found = objective(torch.zeros(2, 2), labels, None, offsets.repeat(2, 1))[0]  # as sure as the shares: -log of each
    assert found.item() == pytest.approx(-(np.log(0.9) + np.log(0.1)) / 2, rel=1e-6)
    common = objective(torch.zeros(1, 2), labels[:1], None, offsets[None])[0]
    assert common.item() == pytest.approx(-np.log(0.9), rel=1e-6)
    assert logit_offsets(ClassifierConfig(), classes=2, class_counts={0: 9, 1: 1}) is None
    with pytest.raises(InputError):
        logit_offsets(config, classes=2, class_counts={0: 9})
    with pytest.raises(InputError):
        ClassifierConfig(loss="logit_adjusted")


def test_logit_adjustment_trains_with_the_shares_of_its_training_set():
    """Without learning, more subjects of a class make its rows easier: the loss of a first step tells the shares."""
    config = replace(SHORT, loss="logit_adjusted", balance="none")
    losses = {}
    for counts in ({0: 1, 1: 1}, {0: 99, 1: 1}):
        seen = []
        train(config, class_counts=counts, on_step=lambda step, values, seen=seen: seen.append(values["loss"]))
        losses[counts[0]] = float(seen[0])
    assert losses[99] > losses[1] + 1  # half of the rows are of the class that is said to be rare


def test_balanced_weights_are_scikit_learns():
    weights = loss_weights(ClassifierConfig(balance="weighted"), classes=3, class_counts={0: 6, 1: 3, 2: 1})
    assert weights.tolist() == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    assert loss_weights(ClassifierConfig(), classes=2, class_counts=None) is None


def test_weights_move_the_predictions_towards_the_heavy_class():
    config = replace(CONFIG, loss="cross_entropy", balance="weighted", evaluate_every=20)
    config = replace(config, training=replace(CONFIG.training, steps=20))

    def mean_margin(weights):
        trained = train(replace(config, class_weights=weights))
        logits = predict_logits(trained.network, bright_or_not(8, name="val"), ["t2w"])
        return (logits[:, 1] - logits[:, 0]).mean()

    assert mean_margin([1.0, 20.0]) > mean_margin([20.0, 1.0]) + 0.3


def test_flips_average_a_volume_and_its_mirror_image(trained):
    subjects = bright_or_not(3, name="flips")
    plain = predict_logits(trained.network, subjects, ["t2w"])
    for subject in subjects:
        mirrored = tio.Flip("LR")(subject)
        subject["mirrored"] = mirrored["t2w"]
    other = predict_logits(trained.network, subjects, ["mirrored"])
    assert not torch.allclose(plain, other)
    flips = predict_logits(trained.network, subjects, ["t2w"], flips=True)
    torch.testing.assert_close(flips, (plain + other) / 2)


def test_the_temperature_is_that_of_the_chosen_step_on_validation(trained):
    validation = bright_or_not(8, name="val")
    logits = predict_logits(trained.network, validation, ["t2w"]).double().numpy()
    labels = np.array([subject["label"] for subject in validation])
    assert trained.temperature == fit_temperature(logits, labels)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 4), st.integers(0, 10_000), st.floats(0.2, 5.0))
def test_temperature_brings_back_a_scale_and_never_changes_a_decision(classes, seed, scale):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(40, classes))
    labels = np.concatenate([np.arange(classes), rng.integers(classes, size=40 - classes)])
    once, scaled = fit_temperature(logits, labels), fit_temperature(scale * logits, labels)
    if 0.5 < once < 2:  # both inside the limits
        assert scaled == pytest.approx(scale * once, rel=1e-3)
    warm = apply_temperature(softmax(logits, axis=1), once)
    np.testing.assert_allclose(warm, softmax(logits / once, axis=1), atol=1e-12)
    assert (warm.argmax(1) == logits.argmax(1)).all()
    if classes == 2:
        assert roc_auc_score(labels, warm[:, 1]) == pytest.approx(roc_auc_score(labels, softmax(logits, axis=1)[:, 1]))


@pytest.mark.parametrize("gap", [1.0, 50.0, 600.0])
def test_the_temperature_of_a_sure_classifier_divides_its_logits(gap):
    logits = np.array([[0.0, gap], [gap, 0.0]])
    warm = apply_temperature(softmax(logits, axis=1), LIMITS[1])
    np.testing.assert_allclose(warm, softmax(logits / LIMITS[1], axis=1), rtol=1e-9)


def test_temperature_lowers_the_cross_entropy_it_is_fitted_on_and_refuses_what_is_not_finite():
    logits, labels = np.array([[0.0, 9.0], [0.0, 9.0], [9.0, 0.0]]), np.array([0, 1, 0])
    temperature = fit_temperature(logits, labels)
    assert log_loss(labels, softmax(logits / temperature, axis=1)) < log_loss(labels, softmax(logits, axis=1))
    assert temperature > 1
    assert fit_temperature(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([1, 0])) == pytest.approx(LIMITS[0], rel=1e-3)
    with pytest.raises(InputError, match="finite"):
        fit_temperature(np.array([[np.nan, 0.0]]), np.array([0]))


# --- pre-training


def others(steps, *, counts=None, seed=0, size=12):
    """Pre-training on other subjects, as of a pool."""
    subjects = bright_or_not(size, name="pool")
    return Pretraining(SyntheticSampler(subjects, None, batch_size=8, seed=seed).loader(), steps, counts)


def losses_of(config=SHORT, **options):
    losses = []
    trained = train(config, on_step=lambda step, values: losses.append(values["loss"]), **options)
    return losses, trained


def test_the_first_steps_are_those_of_a_training_on_the_pool_and_the_total_is_the_same():
    pool = bright_or_not(12, name="pool")
    mixed, trained = losses_of(pretraining=others(4))
    alone, whole = losses_of(train_on=pool)
    real, _ = losses_of()
    assert len(mixed) == len(alone) == trained.steps == whole.steps == 6
    assert mixed[:4] == alone[:4]
    assert mixed[4] != alone[4]
    assert mixed[0] != real[0]


def test_the_fine_tuning_begins_with_the_first_batch_of_the_real_set():
    seen = []

    class Noted(SyntheticSampler):
        def __iter__(self):
            for batch in super().__iter__():
                seen.append((len(self.subjects), batch))
                yield batch

    real, pool = bright_or_not(24, name="train"), bright_or_not(12, name="pool")
    first = Pretraining(Noted(pool, None, batch_size=8).loader(), 4)
    loader = Noted(real, None, batch_size=8).loader()
    train_classifier(
        loader, bright_or_not(8, name="val"), SHORT, images=["t2w"], shape=SHAPE, seed=0, pretraining=first
    )
    assert [size for size, _ in seen] == [12] * 4 + [24] * 2
    assert [batch for size, batch in seen if size == 24] == list(SyntheticSampler(real, None, batch_size=8))[:2]


def test_only_the_fine_tuning_is_validated_and_chosen_from():
    """The pool's labels are right and the real ones wrong, so that pre-training alone would be best."""
    wrong = bright_or_not(24, name="train")
    for subject in wrong:
        subject["label"] = 1 - subject["label"]
    config = replace(CONFIG, patience=2)
    trained = train(config, train_on=wrong, pretraining=others(25))
    assert [record["step"] for record in trained.history][:1] == [30]
    assert trained.chosen_step >= 30


def test_weights_of_each_part_are_those_of_its_own_class_counts():
    config = replace(SHORT, loss="cross_entropy", balance="weighted")
    counts = {0: 4, 1: 12}
    plain, _ = losses_of(config, class_counts={0: 12, 1: 12}, pretraining=others(3, counts={0: 6, 1: 6}))
    weighted, _ = losses_of(config, class_counts={0: 12, 1: 12}, pretraining=others(3, counts=counts))
    assert weighted[0] != plain[0]
    pool = bright_or_not(12, name="pool")
    alone, _ = losses_of(config, train_on=pool, class_counts=counts)
    assert weighted[:3] == alone[:3]
    with pytest.raises(InputError, match="need the number of training subjects"):
        train(config, class_counts=counts, pretraining=others(3))


@pytest.mark.parametrize("steps", [6, 7, -1])
def test_a_pre_training_that_leaves_no_step_is_refused(steps):
    with pytest.raises(InputError, match=f"Of 6 steps {steps} cannot be pre-training"):
        train(SHORT, pretraining=others(steps))


@pytest.mark.parametrize("kill_at", [2, 5, 6, 9])
def test_a_killed_training_with_pre_training_resumes_to_the_same_classifier(kill_at, tmp_path):
    loop = replace(CONFIG.training, steps=10, warmup=0, checkpoint_minutes=0.0, ema=0.5)
    config = replace(CONFIG, evaluate_every=2, training=loop, balance="weighted")
    options = {"class_counts": {0: 12, 1: 12}}

    def first():
        return others(5, counts={0: 3, 1: 9})

    def kill(step, values):
        if step == kill_at:
            raise Killed

    unbroken = train(config, pretraining=first(), **options)
    with pytest.raises(Killed):
        train(config, pretraining=first(), checkpoint=tmp_path / "c", on_step=kill, **options)
    resumed = train(config, pretraining=first(), checkpoint=tmp_path / "c", **options)
    assert resumed.history == unbroken.history
    assert resumed.chosen_step == unbroken.chosen_step > 5
    for one, other in zip(resumed.network.parameters(), unbroken.network.parameters(), strict=True):
        assert torch.equal(one, other)


# --- resume


class Killed(Exception):
    """Stands for a signal in the middle of a training."""


@pytest.mark.parametrize("kill_at", [3, 6, 7, 11])
@pytest.mark.parametrize("changes", [{}, {"patience": 1}, {"loss": "cross_entropy", "balance": "weighted"}])
def test_a_killed_training_resumes_to_the_same_classifier(kill_at, changes, tmp_path):
    loop = replace(CONFIG.training, steps=12, warmup=0, checkpoint_minutes=0.0, schedule="one_cycle")
    config = replace(CONFIG, evaluate_every=3, training=loop, **changes)
    checkpoint, options = tmp_path / "c.checkpoint", {"class_counts": {0: 12, 1: 12}}

    def kill(step, values):
        if step == kill_at:
            raise Killed

    unbroken = train(config, **options)
    if unbroken.steps >= kill_at:
        with pytest.raises(Killed):
            train(config, checkpoint=checkpoint, on_step=kill, **options)
        assert checkpoint.is_file()
    resumed = train(config, checkpoint=checkpoint, **options)
    assert not checkpoint.exists()
    assert resumed.history == unbroken.history
    assert (resumed.chosen_step, resumed.temperature) == (unbroken.chosen_step, unbroken.temperature)
    held_out = bright_or_not(6, name="test")
    one, other = (predict_logits(each.network, held_out, ["t2w"]) for each in (resumed, unbroken))
    assert torch.equal(one, other)


@pytest.mark.parametrize("first", [3, 15, 24, 40])
def test_a_resumed_training_finds_its_batch_though_a_schedule_changes_the_length_of_epochs(first, pool, tiny_subjects):
    def batches():
        schedule = [(0, 0.8), (4, 0.0)]
        sampler = SyntheticSampler(tiny_subjects, pool, batch_size=4, synthetic_fraction=schedule)
        options = {"classes": 2, "weights": None, "offsets": None, "resumable": True}
        return batches_of(sampler.loader(), images=["t2w"], **options)

    unbroken, resumed = batches(), batches()
    for step in range(first):
        unbroken(step)
    for step in range(first, first + 3):
        assert torch.equal(unbroken(step)["volumes"], resumed(step)["volumes"])


def train_here(rank, folder, kill_at=None):
    """Train with a checkpoint at every step; what was found, unless this process is killed before."""

    def kill(step, values):
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    training = replace(SHORT.training, checkpoint_minutes=0.0)
    trained = train(replace(SHORT, training=training), checkpoint=folder / "c.checkpoint", on_step=kill)
    logits = predict_logits(trained.network, bright_or_not(4, name="test"), ["t2w"]).tolist()
    found = {"logits": logits, "history": trained.history, "steps": trained.steps}
    return {"processes": PartialState().num_processes, **found}


def test_kill_9_and_resume_end_with_the_same_predictions(tmp_path):
    child = multiprocessing.get_context("fork").Process(target=train_here, args=(0, tmp_path, 4))
    child.start()
    child.join(timeout=300)
    assert child.exitcode == -signal.SIGKILL
    assert (tmp_path / "c.checkpoint").is_file()
    record, unbroken = train_here(0, tmp_path), train(SHORT)
    assert record["history"] == unbroken.history
    expected = predict_logits(unbroken.network, bright_or_not(4, name="test"), ["t2w"])
    assert record["logits"] == expected.tolist()


def test_two_processes_end_with_one_classifier(tmp_path):
    first, second = in_two_processes(train_here, tmp_path)
    assert first["processes"] == 2
    assert first == second


def test_a_loader_that_cannot_be_resumed_is_refused(tmp_path):
    loader = tio.SubjectsLoader(tio.SubjectsDataset(bright_or_not(8, name="train")), batch_size=4)
    with pytest.raises(InputError, match="no set_epoch"):
        train_classifier(
            loader,
            bright_or_not(4, name="val"),
            SHORT,
            images=["t2w"],
            shape=SHAPE,
            seed=0,
            checkpoint=tmp_path / "c.checkpoint",
        )
