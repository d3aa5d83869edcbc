from dataclasses import replace

import pytest
import torch
import torchio as tio
from sklearn.metrics import roc_auc_score

from synthaug.augment.sampler import SyntheticSampler
from synthaug.classify.prediction import predict_logits
from synthaug.classify.training import classical_augmentation, train_classifier
from synthaug.config import ClassifierConfig, PreprocessConfig, TrainingConfig
from synthaug.data.manifest import class_counts, make_subject
from synthaug.errors import InputError
from synthaug.models.classifier import build_classifier
from synthaug.seeding import torch_generator

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
    assert torch.nn.functional.cross_entropy(logits, labels).item() == pytest.approx(best["val_loss"], abs=1e-6)
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
    assert torch.nn.functional.cross_entropy(logits, labels).item() == pytest.approx(best["val_loss"], abs=1e-6)


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
    two_steps = TrainingConfig(steps=2, batch_size=2)
    config = ClassifierConfig(network="efficientnet-b0", evaluate_every=2, training=two_steps)
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
    with pytest.raises(InputError, match=r"ema=0.9 must be 0"):
        train(replace(SHORT, training=replace(SHORT.training, ema=0.9)))
