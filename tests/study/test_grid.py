"""A config becomes cells: every combination once, an identity that follows the result and nothing else."""

from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch
from conftest import TINY_PREPROCESSING

from synthaug.augment.batches import ShuffledSampler
from synthaug.classify.training import train_classifier
from synthaug.config import (
    ClassifierConfig,
    Config,
    DataConfig,
    SplitConfig,
    StudyConfig,
    TrackingConfig,
    TrainingConfig,
)
from synthaug.ground.errors import InputError
from synthaug.study.grid import cells_of, cohorts_of, idle_axes, is_private, is_protected, settings_of, trained_once
from synthaug.study.running.cell import _sampler, _train

EVERY_KIND = {
    "classifier.network": ["resnet10", "densenet121"],
    "classifier.augment": [True, False],
    "split.train": [1, 0.5, 16],
    "generator.variant": ["ccella", "radmaisi"],
}


def identify(config):
    """As the real one: data by data and split, pool by these and the generator."""
    return str(config.split), f"{config.split} {config.generator} {config.pool}"


def cells(config):
    return cells_of(config, identify)


def study(**changes):
    return Config(study=StudyConfig(**changes))


def test_every_combination_is_a_cell_once():
    found = cells(study(axes=EVERY_KIND, synthetic_fraction=[0.25, 0.5], seeds=[0, 1]))
    real = [cell for cell in found if cell.regime == "real"]
    assert len(real) == 2 * 2 * 2 * 3  # seeds, networks, augmentation, training sets; generators do not touch them
    assert len(found) - len(real) == 3 * 2 * 2 * 2 * 3 * 2  # synthetic and two mixtures, and both generators
    assert len({cell.id for cell in found}) == len(found)
    assert all("generator.variant" not in cell.settings for cell in real)


def test_one_protected_cohort_makes_a_study_private():
    of = [replace(study(axes={"data.root": roots}), data=DataConfig()) for roots in (["a", None], [None])]
    assert [is_private(each) for each in of] == [True, False]
    assert [is_protected(each) for each in of] == [True, False]
    public = replace(study(axes={"data.public": ["own", "PROSTATEx"]}), data=DataConfig(root="a", public="PROSTATEx"))
    assert is_private(public)
    assert not is_private(replace(public, tracking=TrackingConfig(privacy="full")))
    assert [data.public for data in cohorts_of(public)] == ["own", "PROSTATEx"]


def test_arms_that_come_to_one_training_each_keep_their_cell_and_it_is_trained_once():
    def identify(config):  # folds 0 and 1 have 11 training patients, fold 2 has 12
        size = min(config.split.train if config.split.train > 1 else 99, 11 + (config.split.fold == 2))
        return f"fold {config.split.fold}, {size:g} patients", None

    axes = {"split.train": [1, 11], "split.fold": [0, 1, 2]}
    config = Config(split=SplitConfig(folds=3), study=StudyConfig(axes=axes, regimes=["real"], seeds=[0]))
    found = cells_of(config, identify)
    assert [(cell.settings["split.train"], cell.settings["split.fold"]) for cell in found] == [
        (train, fold) for train in (1, 11) for fold in (0, 1, 2)
    ]
    assert len(trained_once(found)) == 4
    assert idle_axes(found) == []
    idle = study(axes={"pool.keep": [0.25, 0.5]}, seeds=[0])
    assert idle_axes(cells_of(idle, lambda config: ("data", "one pool"))) == ["pool.keep"]
    assert idle_axes([cell for cell in found if cell.settings["split.fold"] != 2]) == ["split.train"]


def test_fine_tuning_is_a_cell_a_share_and_differs_from_a_mixture_of_that_share():
    regimes = ["real", "mixed", "finetuned"]
    found = cells(study(regimes=regimes, pretrain_share=[0.25, 0.5], synthetic_fraction=[0.5], seeds=[0]))
    assert [(cell.regime, cell.synthetic_fraction) for cell in found] == [
        ("real", None),
        ("mixed", 0.5),
        ("finetuned", 0.25),
        ("finetuned", 0.5),
    ]
    assert len({cell.id for cell in found}) == 4
    axes = {"pool.labels": ["requested", "agreed"], "split.train": [1, 0.5]}
    tuned = [cell for cell in cells(study(axes=axes, regimes=regimes, seeds=[0])) if cell.regime == "finetuned"]
    assert [tuple(cell.settings.values()) for cell in tuned] == [
        ("requested", 1),
        ("requested", 0.5),
        ("agreed", 1),
        ("agreed", 0.5),
    ]


def test_settings_are_typed_as_in_a_file_and_reach_the_config():
    for settings, config in settings_of(study(axes=EVERY_KIND)):
        assert config.classifier.network == settings["classifier.network"]
        assert config.split.train == settings["split.train"]
        assert type(config.split.train) is float
        assert config.generator.variant == settings["generator.variant"]
    [(_, config)] = settings_of(study(axes={"preprocess.shape": [[16, 16, 8]]}))
    assert config.preprocess.shape == (16, 16, 8)
    [(_, config)] = settings_of(study(axes={"classifier.training.learning_rate": ["1e-4"]}))
    assert config.classifier.training.learning_rate == 1e-4


def test_an_identity_is_that_of_the_resolved_config():
    """The same value from the config or from an axis is the same cell, so that a finished one is found again."""
    plain = Config(classifier=ClassifierConfig(network="resnet18"), split=SplitConfig(train=0.5))
    axes = study(axes={"classifier.network": ["resnet18"], "split.train": [0.5]})
    assert [cell.id for cell in cells(plain)] == [cell.id for cell in cells(axes)]


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"training": TrainingConfig(steps=120, warmup=10, learning_rate=1e-3, checkpoint_minutes=9)}, True),
        ({"training": TrainingConfig(steps=121, warmup=10, learning_rate=1e-3)}, False),
        ({"patience": 3}, False),
        ({"balance": "weighted"}, False),
        ({"test_flips": True}, False),
    ],
)
def test_an_identity_follows_what_determines_the_result(changes, same):
    before = [cell.id for cell in cells(Config())]
    after = [cell.id for cell in cells(Config(classifier=replace(ClassifierConfig(), **changes)))]
    assert (before == after) is same


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axes": {"classifier.netwrk": ["resnet10"]}}, "no setting 'classifier.netwrk'"),
        ({"axes": {"split.train.share": [1]}}, "no setting 'split.train.share'"),
        ({"axes": {"classifier.network": ["resnet11"]}}, "classifier.network=resnet11 cannot be"),
        ({"axes": {"split.train": [0]}}, "split.train=0 cannot be"),
    ],
)
def test_an_axis_that_cannot_be_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        cells(study(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axes": {"study.seeds": [[0]]}}, "no axis"),
        ({"axes": {"metrics.bootstrap": [10]}}, "no axis"),
        ({"axes": {"seed": [1]}}, "no axis"),
        ({"axes": {"split.train": []}}, "at least one value"),
        ({"axes": {"split.train": [0.5, 0.5]}}, "none twice"),
        ({"seeds": [0, 0]}, "holds a value twice"),
        ({"synthetic_fraction": [0.5, 1.0]}, "between 0 and 1"),
        ({"synthetic_fraction": []}, "must not be empty"),
        ({"regimes": ["real", "finetuned"], "pretrain_share": []}, "at least one where"),
        ({"pretrain_share": [0.5, 1.0]}, "shares between 0 and 1"),
        ({"pretrain_share": [0.5, 0.5]}, "holds a value twice"),
    ],
)
def test_a_grid_that_cannot_be_is_refused_at_once(changes, message):
    with pytest.raises(InputError, match=message):
        StudyConfig(**changes)


def test_combinations_are_checked_together():
    axes = {"classifier.balance": ["oversampled"], "classifier.class_weights": [[1.0, 2.0]]}
    with pytest.raises(InputError, match="stand beside classifier"):
        cells(study(axes=axes))


def test_each_repeat_trains_from_a_seed_of_its_own_which_all_its_arms_share():
    axes = {"split.seed": [3, 4], "split.fold": [0, 1, 2], "split.train": [1, 0.5], "classifier.augment": [True, False]}
    config = Config(split=SplitConfig(folds=3, val=0.2), study=StudyConfig(axes=axes, seeds=[0, 7]))
    seeds = {}
    for cell in cells(config):
        repeat = (cell.seed, cell.settings["split.seed"], cell.settings["split.fold"])
        seeds.setdefault(repeat, set()).add(cell.training_seed)
    assert len(seeds) == 2 * 2 * 3
    assert all(len(of_repeat) == 1 for of_repeat in seeds.values())
    assert len(set.union(*seeds.values())) == len(seeds)
    assert seeds[7, 3, 0] == {7}


def test_the_first_split_trains_as_a_study_without_splits():
    [first, second] = cells(study(axes={"split.seed": [0, 1]}, regimes=["real"], seeds=[5]))
    [alone] = cells(study(regimes=["real"], seeds=[5]))
    assert first.id == alone.id != second.id
    assert first.training_seed == alone.training_seed == 5
    assert second.training_seed not in (5, alone.training_seed)


def test_a_cell_trains_with_the_seed_of_its_repeat(tiny_subjects, tmp_path):
    training = TrainingConfig(steps=1, batch_size=4)
    classifier = ClassifierConfig(channels=(4, 4, 4, 4), augment=False, evaluate_every=1, training=training)
    config = replace(study(axes={"split.seed": [0, 1]}, regimes=["real"], seeds=[0]), preprocess=TINY_PREPROCESSING)
    split = SimpleNamespace(train=tiny_subjects, val=tiny_subjects)
    for cell in cells(replace(config, classifier=classifier)):
        used = SimpleNamespace(split=split, config=cell.config, out=tmp_path)
        sampler = _sampler(cell, used, None, fraction=None)
        assert sampler.seed == cell.training_seed
        ours = _train(cell, used, sampler, None, None).network.state_dict()
        settings = {"images": ["t2w"], "shape": TINY_PREPROCESSING.shape, "seed": cell.training_seed}
        alone = train_classifier(sampler.loader(), tiny_subjects, classifier, **settings).network.state_dict()
        assert all(torch.equal(ours[name], alone[name]) for name in alone)


def test_the_config_of_a_cell_says_all_but_the_regime():
    [cell, *_] = cells(study(axes={"classifier.augment": [False]}))
    assert asdict(cell.config.classifier) == asdict(ClassifierConfig(augment=False))
    expected = {
        "regime": "real",
        "seed": 0,
        "training_seed": 0,
        "synthetic_fraction": None,
        "settings": {"classifier.augment": False},
        "id": cell.id,
    }
    described = cell.describe()
    assert {name: described[name] for name in expected} == expected
    assert described["treatment"]["augment"] is False


# --- batches of the baselines that are not balanced


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_shuffled_batches_pass_every_subject_once_an_epoch_in_the_order_of_epoch_and_seed(ranks):
    subjects = [{"label": label} for label in [0] * 9 + [1] * 3]

    def epoch(number, seed=0):
        draws = []
        for rank in range(ranks):
            sampler = ShuffledSampler(subjects, None, batch_size=2, seed=seed, rank=rank, ranks=ranks)
            sampler.set_epoch(number)
            batches = list(sampler)
            assert len(batches) == len(sampler) == 6 // ranks
            assert all(len(batch) == 2 for batch in batches)
            draws += [draw for batch in batches for draw in batch]
        return sorted(draws, key=lambda draw: draw.slot)

    draws = epoch(0)
    assert [draw.slot for draw in draws] == list(range(12))
    assert sorted((draw.label, draw.member) for draw in draws) == [(0, n) for n in range(9)] + [
        (1, n) for n in range(3)
    ]
    assert epoch(0) == draws
    order = [(draw.label, draw.member) for draw in draws]
    assert order != [(draw.label, draw.member) for draw in epoch(1)]
    assert order != [(draw.label, draw.member) for draw in epoch(0, seed=1)]
