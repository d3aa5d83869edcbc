"""Watches the trainings of a study in MLflow."""

from dataclasses import asdict

from synthaug.study.events import Training
from synthaug.study.grid import is_private
from synthaug.tracking.entries import flatten
from synthaug.tracking.monitoring import TrainingMonitor
from synthaug.tracking.trainings import TrainingRun


class TrainingListener:
    """A :class:`synthaug.study.events.Listener`: each training becomes a run, looked at as often as its config says."""

    def training_begins(self, training: Training) -> TrainingMonitor | None:
        """A run for the training, unless its ``monitor_every`` is 0."""
        config = training.config
        settings = getattr(config, training.stage)
        if not settings.monitor_every:
            return None
        params = flatten({training.stage: asdict(settings)})
        run = TrainingRun(
            training.out,
            experiment=config.study.name,
            stage=training.stage,
            stage_id=training.id,
            params=params,
            private=is_private(config),
        )
        return TrainingMonitor(run, training.validation, config.data.images, config.metrics, training.training)
