"""Other people's loops: every subject as often as the strategy says, epochs differ, workers differ, resume is exact."""

import json
import warnings
from collections import Counter

import accelerate
import ignite.engine
import monai.data
import pytest
import pytorch_lightning as lightning
import torch
from small_pool import build_pool
from torch import distributed, nn
from torch.utils.data import DataLoader
from two_processes import in_two_processes

from synthaug.augment.batches import ShuffledSampler
from synthaug.augment.monai_transform import SyntheticAugmentd
from synthaug.augment.sampler import SyntheticSampler
from synthaug.classify.training import train_classifier
from synthaug.config import ClassifierConfig, TrainingConfig
from synthaug.ground.errors import InputError

warnings.filterwarnings("ignore", module="pytorch_lightning")
EPOCHS = 3


@pytest.fixture(scope="module")
def pool(tiny_pipeline, tiny_subjects, tmp_path_factory):
    return build_pool(tiny_pipeline, tiny_subjects, tmp_path_factory.mktemp("loops") / "pool")


@pytest.fixture
def sampler(tiny_subjects, pool):
    """Epochs of 12 real and 4 synthetic subjects in 8 batches of 2."""
    return SyntheticSampler(tiny_subjects, pool, batch_size=2, synthetic_fraction=0.25)


def names(batch):
    return list(zip(batch["subject_id"], batch["synthetic"].tolist(), strict=True))


def passed(loader):
    """(name, synthetic) of every subject of one pass."""
    return [name for batch in loader for name in names(batch)]


def require_exact(epochs, subjects):
    """Each real subject once and four synthetic ones in every epoch, which differ."""
    for epoch in epochs:
        counts = Counter(name for name, synthetic in epoch if not synthetic)
        assert counts == Counter(subject["subject_id"] for subject in subjects)
        assert sum(synthetic for _, synthetic in epoch) == 4
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)
    # The epochs walk on through the pool's three and five volumes.
    assert len({name for epoch in epochs for name, synthetic in epoch if synthetic}) == 8


# --- loaders


def plain(sampler, kind=DataLoader, **options):
    """Anyone's loader over the same data set and batches."""
    own = sampler.loader()
    return kind(own.dataset, batch_sampler=sampler, collate_fn=own.collate_fn, **options)


LOADERS = {
    "synthaug": lambda sampler: sampler.loader(),
    "synthaug, workers": lambda sampler: sampler.loader(num_workers=2, persistent_workers=True),
    "torch": plain,
    "torch, 1 worker": lambda sampler: plain(sampler, num_workers=1),
    "torch, 3 workers": lambda sampler: plain(sampler, num_workers=3, multiprocessing_context="fork"),
    "torch, persistent": lambda sampler: plain(sampler, num_workers=2, persistent_workers=True),
    "torch, spawn": lambda sampler: plain(
        sampler, num_workers=1, persistent_workers=True, multiprocessing_context="spawn"
    ),
    "monai": lambda sampler: plain(sampler, monai.data.DataLoader, num_workers=2),
    "monai, threads": lambda sampler: plain(sampler, monai.data.ThreadDataLoader, num_workers=0),
    "monai, thread workers": lambda sampler: plain(
        sampler, monai.data.ThreadDataLoader, num_workers=2, use_thread_workers=True
    ),
    "accelerate": lambda sampler: accelerate.Accelerator(cpu=True).prepare(sampler.loader()),
}


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("name", LOADERS)
def test_a_bare_loop_sees_every_subject_as_often_as_it_should_and_other_epochs(name, sampler, tiny_subjects):
    loader = LOADERS[name](sampler)
    require_exact([passed(loader) for _ in range(EPOCHS)], tiny_subjects)
    assert len(loader) == 8


def test_a_loop_that_sets_the_epoch_gets_that_epoch(sampler):
    loader = sampler.loader()
    bare = [passed(loader) for _ in range(3)]
    for epoch in (2, 0, 0):
        sampler.set_epoch(epoch)
        assert passed(loader) == bare[epoch]


def test_a_pass_that_is_broken_off_is_followed_by_the_next_epoch(sampler):
    names(next(iter(sampler.loader())))
    list(sampler)
    assert sampler.epoch == 1


# --- resume


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_that_asks_ahead_must_say_what_was_consumed(sampler, workers):
    assert sampler.state_dict()["batch"] == 0
    batches = iter(plain(sampler, num_workers=workers))
    next(batches)
    with pytest.raises(InputError, match="consumed"):
        sampler.state_dict()
    assert sampler.state_dict(consumed=1)["batch"] == 1
    with pytest.raises(InputError, match="consumed=9"):
        sampler.state_dict(consumed=9)


@pytest.mark.parametrize("kind", [SyntheticSampler, ShuffledSampler])
@pytest.mark.parametrize("own", [True, False])
def test_every_sampler_resumes_exactly_in_the_middle_of_an_epoch_and_at_its_end(tiny_subjects, pool, kind, own):
    def sampler():
        return kind(tiny_subjects, pool, batch_size=2, synthetic_fraction=0.25)

    unbroken = sampler()
    loader = unbroken.loader()
    epochs = [[names(batch) for batch in loader] for _ in range(3)]
    for had in (3, 8):
        interrupted = sampler()
        loader = interrupted.loader() if own else plain(interrupted, num_workers=2)
        list(loader)
        for number, _ in enumerate(loader, start=1):
            if number == had:
                break
        state = json.loads(json.dumps(interrupted.state_dict(**({} if own else {"consumed": had}))))
        resumed = sampler()
        resumed.load_state_dict(state)
        rest = epochs[1][had:] + epochs[2]
        loader = resumed.loader()
        found = [names(batch) for batch in loader]
        found += [names(batch) for batch in loader] if had < 8 else []  # epoch 1 was over: the next pass is epoch 2
        assert found == rest


def test_a_loop_that_would_begin_elsewhere_than_the_loaded_state_is_refused(sampler):
    state = sampler.state_dict(consumed=3) | {"epoch": 2, "synthetic": [2, 2]}
    sampler.load_state_dict(state)
    with pytest.raises(InputError, match="epoch 2 after batch 3"):
        passed(accelerate.Accelerator(cpu=True).prepare(sampler.loader()))
    sampler.set_epoch(2)
    assert len(list(sampler)) == 5


# --- Lightning and ignite


class Watching(lightning.LightningModule):
    """Learns nothing, and writes down what it was shown."""

    def __init__(self, folder=None, stop_at=None):
        super().__init__()
        self.layer, self.folder, self.stop_at = nn.Linear(1, 1), folder, stop_at
        self.epochs = {}

    def training_step(self, batch, index):
        self.epochs.setdefault(self.current_epoch, []).extend(names(batch))
        if (self.current_epoch, index) == self.stop_at:
            self.trainer.save_checkpoint(self.folder / "stopped.ckpt")
        return self.layer(batch["label"].float()[:, None]).mean()

    def on_train_end(self):
        if self.folder:
            (self.folder / f"lightning-{self.global_rank}.json").write_text(
                json.dumps(list(self.epochs.values())), encoding="utf-8"
            )

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def trainer(**options):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return lightning.Trainer(
        accelerator="cpu", max_epochs=EPOCHS, enable_checkpointing=False, **(quiet | {"devices": 1} | options)
    )


@pytest.mark.parametrize("name", ["synthaug", "synthaug, workers", "torch", "torch, persistent"])
def test_lightning_reaches_every_epoch(name, sampler, tiny_subjects):
    watching = Watching()
    trainer().fit(watching, LOADERS[name](sampler))
    require_exact([watching.epochs[epoch] for epoch in range(EPOCHS)], tiny_subjects)
    sampler.set_epoch(2)
    assert watching.epochs[2] == passed(sampler.loader())


def test_lightning_resumes_in_the_middle_of_an_epoch(tiny_subjects, pool, tmp_path):
    def fit(watching, checkpoint=None):
        sampler = SyntheticSampler(tiny_subjects, pool, batch_size=2, synthetic_fraction=0.25)
        trainer().fit(watching, sampler.loader(num_workers=2), ckpt_path=checkpoint)
        return watching.epochs

    whole = fit(Watching(tmp_path, stop_at=(1, 2)))
    resumed = fit(Watching(), tmp_path / "stopped.ckpt")
    assert resumed[1] == whole[1][6:]
    assert resumed[2] == whole[2]


@pytest.mark.parametrize("name", ["synthaug, workers", "torch"])
def test_ignite_reaches_every_epoch(name, sampler, tiny_subjects):
    epochs = {}
    engine = ignite.engine.Engine(lambda e, batch: epochs.setdefault(e.state.epoch, []).extend(names(batch)))
    engine.run(LOADERS[name](sampler), max_epochs=EPOCHS)
    require_exact(list(epochs.values()), tiny_subjects)


# --- two processes


def together(ranks):
    """The epochs of two ranks, each as the batches of both."""
    return [[*first, *second] for first, second in zip(*ranks, strict=True)]


def prepared(rank, subjects, pool, made_before, **options):
    sampler = None
    if made_before:
        sampler = SyntheticSampler(subjects, pool, batch_size=2, synthetic_fraction=0.25)
    accelerator = accelerate.Accelerator(cpu=True, **options)
    sampler = sampler or SyntheticSampler(subjects, pool, batch_size=2, synthetic_fraction=0.25)
    loader = accelerator.prepare(sampler.loader(num_workers=0 if made_before else 2))
    epochs = [passed(loader) for _ in range(EPOCHS)]
    assert sampler.state_dict(consumed=1)["ranks"] == (1 if options else 2)
    assert len(accelerator.gather_for_metrics(torch.zeros(2))) == 4
    return len(loader), epochs


@pytest.mark.parametrize("made_before", [True, False])
def test_accelerate_deals_once_whether_the_sampler_was_made_before_or_after_it(tiny_subjects, pool, made_before):
    lengths, epochs = zip(*in_two_processes(prepared, tiny_subjects, pool, made_before), strict=True)
    assert lengths == (4, 4)
    require_exact(together(epochs), tiny_subjects)


def test_accelerate_splits_batches_in_two_processes(tiny_subjects, pool):
    configuration = accelerate.utils.DataLoaderConfiguration(split_batches=True)

    def split(rank):
        return prepared(rank, tiny_subjects, pool, True, dataloader_config=configuration)

    lengths, epochs = zip(*in_two_processes(split), strict=True)
    assert lengths == (8, 8)
    require_exact(together(epochs), tiny_subjects)


def resumed_by_accelerate(rank, subjects, pool):
    def sampler():
        return SyntheticSampler(subjects, pool, batch_size=2, synthetic_fraction=0.25)

    accelerator = accelerate.Accelerator(cpu=True)
    first = sampler()
    whole = [names(batch) for batch in accelerator.prepare(first.loader())]
    state = first.state_dict(consumed=1)
    second = sampler()
    second.load_state_dict(state)
    return [names(batch) for batch in accelerator.prepare(second.loader())] == whole[1:]


def test_a_prepared_loader_resumes_what_was_consumed(tiny_subjects, pool):
    assert in_two_processes(resumed_by_accelerate, tiny_subjects, pool) == [True, True]


def trained(rank, subjects, pool):
    seen = []
    sampler = SyntheticSampler(subjects, pool, batch_size=4, synthetic_fraction=0.25)
    accelerate.PartialState(cpu=True)
    config = ClassifierConfig(network="resnet10", training=TrainingConfig(steps=12, batch_size=4))

    def note(subject):
        seen.append((subject["subject_id"], subject["synthetic"]))
        return subject

    loader = sampler.loader(transform=note)
    seen.clear()  # the loader has compared a real subject with a synthetic one
    train_classifier(loader, subjects, config, images=["t2w"], shape=(16, 16, 8), seed=0)
    assert sampler.ranks == 2
    return seen


def test_train_classifier_in_two_processes_gives_each_its_share_of_whole_batches(tiny_subjects, pool):
    first, second = in_two_processes(trained, tiny_subjects, pool)
    assert first == second  # every process draws the whole batch and takes its share of it
    require_exact([first[start : start + 16] for start in (0, 16, 32)], tiny_subjects)


def fitted_by_lightning(rank, subjects, pool, folder):
    # Made before Lightning joins the processes, as in every script that calls fit(model, loader).
    sampler = SyntheticSampler(subjects, pool, batch_size=2, synthetic_fraction=0.25)
    watching = Watching(folder)
    trainer(devices=2, strategy="ddp", use_distributed_sampler=False).fit(watching, sampler.loader())
    assert distributed.is_initialized()


def test_lightning_in_two_processes_deals_the_epoch_out(tiny_subjects, pool, tmp_path):
    in_two_processes(fitted_by_lightning, tiny_subjects, pool, tmp_path)
    ranks = [json.loads((tmp_path / f"lightning-{rank}.json").read_text(encoding="utf-8")) for rank in range(2)]
    epochs = [[tuple(name) for name in epoch] for epoch in together(ranks)]
    require_exact(epochs, tiny_subjects)


# --- the MONAI transform in workers


def replaced(pool, loader_class, **options):
    """Per epoch and worker: which volumes stand in the place of the real ones."""
    augment = SyntheticAugmentd("image", pool, images=["t2w"], prob=1.0)
    rows = [{"image": torch.zeros(1, 16, 16, 8), "label": number % 2} for number in range(16)]
    data = monai.data.Dataset(rows, augment)
    augment.set_random_state(0)  # the data set's Compose took a seed from the system
    loader = loader_class(data, batch_size=4, **options)
    return [[list(batch["subject_id"]) for batch in loader] for _ in range(3)]


@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize("loader", [DataLoader, monai.data.DataLoader])
def test_the_transform_draws_differently_in_every_worker_and_epoch(pool, loader, persistent):
    def drawn(seed):
        generator = torch.Generator().manual_seed(seed)
        return replaced(pool, loader, num_workers=2, generator=generator, persistent_workers=persistent)

    epochs, others = drawn(0), drawn(1)
    assert all(epoch[0] != epoch[1] for epoch in epochs)  # the first batches of two workers
    assert len({json.dumps(epoch) for epoch in epochs}) == 3
    # The whole pool: of both runs, as one of 24 draws a class misses a volume in about 1 % of cases.
    assert len({name for epoch in epochs + others for batch in epoch for name in batch}) == 8
    assert others != epochs
