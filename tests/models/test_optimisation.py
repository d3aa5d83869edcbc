"""The one optimisation loop: killed and resumed it ends with the same bits, and several processes are as one."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from accelerate import PartialState
from torch import nn
from two_processes import in_two_processes

from synthaug.config import GeneratorConfig, LevelConfig, TrainingConfig
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import torch_generator
from synthaug.models.precision import measured_precision
from synthaug.models.training.loop import _average, _half_precision
from synthaug.models.training.optimisation import optimise

LOOP = TrainingConfig(steps=8, batch_size=4, learning_rate=0.05, warmup=2, checkpoint_minutes=0.0)


class Killed(Exception):
    """Stands for a signal in the middle of a loop."""


class Regression(nn.Module):
    """A small regression, with dropout to show that the loop's own draws are resumed too."""

    def __init__(self, dropout=0.0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layers = [nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 1)]
            self.network = nn.Sequential(*layers)
        self.frozen = nn.Linear(1, 1).requires_grad_(False)

    def forward(self, inputs, targets):
        loss = (self.network(inputs) - targets).square().mean()
        return loss, {"loss": loss.detach()}


def batch_of(step):
    inputs = torch.randn(4, 3, generator=torch_generator("batch", step))
    return {"inputs": inputs, "targets": inputs.sum(1, keepdim=True)}


def weights(module):
    return torch.cat([value.detach().flatten() for value in module.network.parameters()])


def train(config=LOOP, *, kill_at=None, checkpoint=None, dropout=0.0):
    """Weights after the loop and the loss of each step; killed after ``kill_at`` steps and resumed, if given."""
    losses = {}

    def on_step(step, values):
        losses[step] = values["loss"]
        if step == kill_at and not resumed:
            raise Killed

    resumed = False
    objective = Regression(dropout)
    if kill_at is not None:
        with pytest.raises(Killed):
            optimise(objective, batch_of, config, checkpoint=checkpoint, on_step=on_step)
        assert checkpoint.is_file()
        resumed, objective = True, Regression(dropout)
        torch.rand(5)  # another process would find the global generator elsewhere
    optimise(objective, batch_of, config, checkpoint=checkpoint, on_step=on_step)
    return weights(objective), losses


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("kill_at", [2, 5, 8])
def test_a_killed_loop_resumes_to_the_same_bits(optimizer, ema, kill_at, tmp_path):
    config = replace(LOOP, optimizer=optimizer, ema=ema)
    unbroken, losses = train(config, dropout=0.5)
    resumed, again = train(config, kill_at=kill_at, checkpoint=tmp_path / "loop.checkpoint", dropout=0.5)
    assert torch.equal(resumed, unbroken)
    assert again == losses


def test_a_resumed_loop_does_not_repeat_finished_steps(tmp_path):
    checkpoint = tmp_path / "loop.checkpoint"
    seen = []

    def on_step(step, values):
        seen.append(step)
        if step == 5 and seen.count(5) == 1:
            raise Killed

    with pytest.raises(Killed):
        optimise(Regression(), batch_of, LOOP, checkpoint=checkpoint, on_step=on_step)
    optimise(Regression(), batch_of, LOOP, checkpoint=checkpoint, on_step=on_step)
    # Step 5 was not yet saved when its callback broke off.
    assert seen == [1, 2, 3, 4, 5, 5, 6, 7, 8]


def test_the_checkpoint_is_removed_at_the_end(tmp_path):
    checkpoint = tmp_path / "loop.checkpoint"
    train(checkpoint=checkpoint)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_another_loop_is_refused(tmp_path):
    checkpoint = tmp_path / "loop.checkpoint"
    with pytest.raises(Killed):
        optimise(Regression(), batch_of, LOOP, checkpoint=checkpoint, on_step=kill_after(3))
    with pytest.raises(InputError, match=r"loop\.checkpoint: begun with learning_rate=0\.05"):
        optimise(Regression(), batch_of, replace(LOOP, learning_rate=0.1), checkpoint=checkpoint)
    other = Regression()
    other.network.append(nn.Linear(1, 1))
    with pytest.raises(InputError, match=r"loop\.checkpoint: weights do not fit"):
        optimise(other, batch_of, LOOP, checkpoint=checkpoint)
    # How often it saves is not part of what it computes.
    optimise(Regression(), batch_of, replace(LOOP, checkpoint_minutes=9.0), checkpoint=checkpoint)


def kill_after(last):
    def on_step(step, values):
        if step == last:
            raise Killed

    return on_step


def test_the_loop_neither_reads_nor_moves_the_global_generator():
    torch.manual_seed(1)
    first, _ = train(dropout=0.5)
    torch.manual_seed(2)
    expected = torch.rand(3)
    torch.manual_seed(2)
    second, _ = train(dropout=0.5)
    nn.Linear(1, 1)  # what Regression draws for its frozen layer
    torch.manual_seed(2)
    objective = Regression(0.5)
    torch.manual_seed(2)
    optimise(objective, batch_of, LOOP)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first, second)


def test_dropout_follows_the_seed():
    assert not torch.equal(train(dropout=0.5)[0], train(replace(LOOP, seed=1), dropout=0.5)[0])


def test_averaged_weights_differ_from_the_last_and_are_the_running_average():
    last, losses = train()
    averaged, same = train(replace(LOOP, ema=0.9))
    assert losses == same  # averaging does not touch the optimisation
    assert not torch.equal(last, averaged)
    # By hand: the average follows the weights after each step with diffusers' warm-up (1 + n) / (10 + n).
    history = []
    objective = Regression()
    optimise(objective, batch_of, LOOP, on_step=lambda step, values: history.append(weights(objective).clone()))
    expected = history[0]
    for n, current in enumerate(history[1:], start=1):
        decay = min((1 + n) / (10 + n), 0.9)
        expected = decay * expected + (1 - decay) * current
    torch.testing.assert_close(averaged, expected)


class Slope(nn.Module):
    """A constant gradient, for which Adam moves by the learning rate itself."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, inputs, targets):
        return self.weight.sum(), {}


def test_the_rate_warms_up_then_falls_with_power_two_to_nothing():
    places, objective = [0.0], Slope()
    config = TrainingConfig(steps=100, batch_size=4, learning_rate=1e-3, warmup=10)
    optimise(objective, batch_of, config, on_step=lambda step, values: places.append(objective.weight.item()))
    moved = [before - after for before, after in pairwise(places)]
    rate = [n / 10 if n < 10 else (1 - (n - 10) / 90) ** 2 for n in range(100)]
    assert moved == pytest.approx([1e-3 * share for share in rate], abs=1e-6)
    assert 0 < rate[-1] < 1e-3


def test_one_cycle_rises_to_the_rate_and_falls_to_nothing(monkeypatch):
    rates, objective = [], Slope()
    made = []
    adamw = torch.optim.AdamW

    def remember(*arguments, **options):
        made.append(adamw(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(torch.optim, "AdamW", remember)
    config = TrainingConfig(steps=50, batch_size=4, learning_rate=1e-3, warmup=10, schedule="one_cycle")
    # The callback comes after the schedule's step: the first rate told is that of the second step.
    optimise(objective, batch_of, config, on_step=lambda step, values: rates.append(made[0].param_groups[0]["lr"]))
    assert max(rates) == pytest.approx(1e-3)
    assert rates.index(max(rates)) + 1 == 10
    assert rates[8] < rates[9] > rates[10]
    assert rates[-2] < 1e-5
    optimise(Slope(), batch_of, replace(config, warmup=0, steps=1))  # shortest there is


def test_weight_decay_shrinks_what_no_gradient_moves():
    objective = Slope()
    objective.still = nn.Parameter(torch.ones(1))
    zero = torch.zeros(1)

    def forward(inputs, targets):
        return objective.weight.sum() + (objective.still * zero).sum(), {}

    objective.forward = forward
    config = TrainingConfig(steps=1, batch_size=4, learning_rate=0.1, weight_decay=0.5)
    optimise(objective, batch_of, config)
    assert objective.still.item() == pytest.approx(1 - 0.1 * 0.5)


@pytest.mark.parametrize("kill_at", [None, 4, 5, 6, "asked"])
def test_until_ends_the_loop_after_an_interval_also_when_resumed(kill_at, tmp_path):
    """The companion counts the looks; the loop ends after the third of every two steps, wherever it was killed."""

    class Looks:
        count = 0

        def state_dict(self):
            return {"count": self.count}

        def load_state_dict(self, state):
            self.count = state["count"]

    seen, checkpoint = [], tmp_path / "loop.checkpoint"

    def run(kill):
        looks = Looks()

        def on_step(step, values):
            seen.append(step)
            if step == kill:
                raise Killed

        def look(step):
            looks.count += 1

        def enough():
            if kill == "asked" and looks.count == 3:  # the checkpoint of the last step is written, and no more
                raise Killed
            return looks.count == 3

        optimise(
            Regression(),
            batch_of,
            LOOP,
            checkpoint=checkpoint,
            on_step=on_step,
            every=2,
            on_interval=look,
            until=enough,
            companion=looks,
        )
        assert looks.count == 3

    if kill_at:
        with pytest.raises(Killed):
            run(kill_at)
    run(None)
    assert sorted(set(seen)) == [1, 2, 3, 4, 5, 6]


def test_frozen_parameters_stay_and_training_improves():
    objective = Regression()
    frozen = objective.frozen.weight.clone()
    losses = []
    config = replace(LOOP, steps=60)
    optimise(objective, batch_of, config, on_step=lambda step, values: losses.append(values["loss"]))
    assert torch.equal(objective.frozen.weight, frozen)
    assert sum(losses[-5:]) < 0.2 * sum(losses[:5])
    assert not objective.training


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_loop_and_names_the_step(value):
    def spoiled(step):
        batch = batch_of(step)
        if step == 3:
            batch["targets"][0] = value
        return batch

    with pytest.raises(InputError, match="step 3"):
        optimise(Regression(), spoiled, LOOP)


def test_parts_of_a_batch_add_up_to_its_step():
    expected, losses = train()
    in_parts, again = train(replace(LOOP, accumulate=2))
    torch.testing.assert_close(in_parts, expected, rtol=0, atol=1e-5)
    assert list(again.values()) == pytest.approx(list(losses.values()), abs=1e-6)


def test_the_rate_that_one_cycle_moves_is_not_set_without_effect():
    with pytest.raises(InputError, match="betas"):
        TrainingConfig(schedule="one_cycle", betas=(0.8, 0.999))
    assert TrainingConfig(schedule="one_cycle", betas=(0.9, 0.99)).betas == (0.9, 0.99)


@pytest.mark.parametrize("warmup", [True, False])
def test_the_average_starts_by_the_formula_that_its_setting_tells(warmup):
    average = _average([nn.Parameter(torch.zeros(1))], TrainingConfig(ema=0.99, ema_warmup=warmup))
    for n in (1, 2, 50):
        assert average.get_decay(n + 1) == pytest.approx((n + (not warmup)) / (10 + n))


def test_a_batch_of_a_level_that_does_not_divide_into_parts_is_refused_with_the_settings():
    levels = [LevelConfig(), LevelConfig(batch_size=3)]
    with pytest.raises(InputError, match=r"generator\.levels\[1\]\.batch_size=3"):
        GeneratorConfig(levels=levels, training=TrainingConfig(batch_size=4, accumulate=2))


def test_a_batch_that_does_not_divide_into_parts_is_refused():
    with pytest.raises(InputError, match="batch_size=4 must be a multiple of"):
        TrainingConfig(batch_size=4, accumulate=3)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_look_sees_the_averaged_weights_and_changes_nothing(ema):
    config, seen = replace(LOOP, ema=ema), {}
    expected, _ = train(config, dropout=0.5)
    objective = Regression(dropout=0.5)

    def look(step):
        assert not objective.training
        torch.rand(7)
        seen[step] = weights(objective).clone()

    optimise(objective, batch_of, config, every=config.steps - 1, on_interval=look)
    assert torch.equal(weights(objective), expected)
    assert list(seen) == [config.steps - 1, config.steps]
    assert torch.equal(seen[config.steps], expected)  # what the look saw at the end is what the training left


def test_a_look_asks_no_other_gpu_for_its_generator(monkeypatch):
    asked = []
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setattr("torch.cuda.get_rng_state", asked.append)
    monkeypatch.setattr("torch.cuda.set_rng_state", lambda *_: None)
    optimise(Regression(), batch_of, LOOP, every=LOOP.steps, on_interval=lambda step: None)
    assert not asked


@pytest.mark.parametrize(("native", "half"), [(True, torch.bfloat16), (False, None)])
def test_half_precision_is_chosen_only_where_the_gpu_has_it(native, half, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    assert _half_precision("auto") == half
    assert measured_precision.__wrapped__() == ("bf16" if native else "float32")


def patience_of_a_rank(rank):
    """Seconds that one of several processes waits for the others."""
    train()
    group = torch.distributed.group.WORLD
    return group._get_backend(torch.device("cpu")).options._timeout.total_seconds()


def test_processes_wait_for_the_main_one_however_long_it_looks():
    assert min(in_two_processes(patience_of_a_rank)) >= 24 * 3600


def train_as_a_rank(rank, optimizer):
    """What one of several processes makes of the whole loop."""
    found, losses = train(replace(LOOP, optimizer=optimizer))
    return {"processes": PartialState().num_processes, "losses": list(losses.values()), "weights": found.tolist()}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_two_processes_train_as_one_at_the_same_global_batch(optimizer):
    expected, losses = train(replace(LOOP, optimizer=optimizer))
    ranks = in_two_processes(train_as_a_rank, optimizer)
    assert [rank["processes"] for rank in ranks] == [2, 2]
    assert ranks[0]["weights"] == ranks[1]["weights"]
    torch.testing.assert_close(torch.tensor(ranks[0]["weights"]), expected, rtol=0, atol=1e-5)
    for rank in ranks:  # each tells the loss of the whole batch
        assert rank["losses"] == pytest.approx([losses[step] for step in sorted(losses)], abs=1e-5)


def leave_nan_behind():
    """In freed memory, where a kernel finds it that reads beside its own."""
    for size in (1000, 5000, 20000, 50000, 200000):
        blocks = [torch.full((size,), torch.nan) for _ in range(12)]
        del blocks


class Convolution(nn.Module):
    """A convolution of maps that are smaller than its kernel."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.network = nn.Conv3d(32, 32, 3, padding=1)

    def forward(self, inputs):
        leave_nan_behind()
        loss = self.network(inputs).float().square().mean()
        leave_nan_behind()
        return loss, {"loss": loss.detach()}


@pytest.mark.parametrize("shape", [(2, 2, 1), (2, 4, 4), (1, 3, 3)])
def test_small_maps_are_convolved_in_float32_where_bf16_trains(shape):
    """oneDNN's gradient in bf16 reads beside its memory there: it was NaN, or the process died."""
    inputs = torch.randn(4, 32, *shape, generator=torch_generator("maps"))
    trained = {}
    for precision in ("float32", "bf16"):
        objective = Convolution()
        optimise(objective, lambda step: {"inputs": inputs}, replace(LOOP, steps=12, precision=precision))
        trained[precision] = objective.network.weight.detach()
    assert torch.isfinite(trained["bf16"]).all()
    assert (trained["bf16"] - trained["float32"]).abs().mean() < 5e-3  # what is handed on is rounded to bf16
