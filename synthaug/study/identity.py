"""Identity of a stage: the settings that change its result, and a revision.

A setting is left out of the id where it has the value that it was introduced with (:mod:`synthaug.study.introduced`). A
new setting therefore keeps every id. Revisions are never pooled in one arm.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from synthaug.config import ClassifierConfig, Config
from synthaug.ground.files import canonical, content_hash
from synthaug.study.introduced import ALWAYS, CELL, DATA, PREPROCESS, Each, Fields, Maybe, Stage

Identity = dict[str, Any]
"""Content of which an id is the hash."""


def told(settings: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """The named settings that differ from the values they were introduced with; missing ones count as these.

    Args:
        settings: Of a config as plain values, or as a file of an earlier version records them.
        fields: Of the stage.

    Example:
        >>> told({"steps": 20, "guidance": 3, "more": 1}, {"steps": 20, "guidance": 1.0})
        {'guidance': 3}
    """
    found = {}
    for name, introduced in fields.items():
        value = settings.get(name)
        if isinstance(introduced, Maybe):
            value, introduced = None if value is None else told(value, introduced.fields), None
        elif isinstance(introduced, Each):
            value, introduced = _told_each(settings.get(name, introduced.introduced), introduced), introduced.introduced
        elif isinstance(introduced, Mapping) and introduced:
            value, introduced = told(value or {}, introduced), {}
        else:
            value = settings.get(name, introduced)
        if introduced is ALWAYS or canonical(value) != canonical(introduced):
            found[name] = canonical(value)
    return found


def _told_each(whole: Any, each: Each) -> Any:
    if isinstance(whole, Mapping):
        return {name: told(section, each.fields) for name, section in whole.items()}
    return [told(section, each.fields) for section in whole]


def identify(stage: Stage, settings: Mapping[str, Any], **causes: Any) -> Identity:
    """What names a stage's result.

    Args:
        stage: The stage.
        settings: Its section of the config, plain values.
        **causes: What else it depends on: identities of the stages before, hashes of data.
    """
    return {"revision": stage.revision, "settings": told(settings, stage.fields), **canonical(causes)}


def id_of(identity: Any) -> str:
    """The id: sixteen hex digits.

    Example:
        >>> id_of({"steps": 2}) == id_of({"steps": 2.0})
        True
    """
    return content_hash(canonical(identity))


def classifier_settings(config: ClassifierConfig) -> dict[str, Any]:
    """A classifier's settings, without moves that are not made."""
    settings = asdict(config)
    return settings if config.augment == "labelled" else {**settings, "geometry": {}}


def generator_causes(config: Config) -> dict[str, Any]:
    """What a generator depends on beside its own settings and training data."""
    settings = asdict(config)
    return {"preprocess": told(settings["preprocess"], PREPROCESS), "data": told(settings["data"], DATA)}


def same_but_revisions(recorded: Any, identity: Any) -> bool:
    """Whether a recorded identity has the settings and data of another one, whatever their revisions.

    Example:
        >>> same_but_revisions({"revision": 1, "steps": [2]}, {"revision": 2, "steps": (2.0,)})
        True
    """
    return _without_revisions(recorded) == _without_revisions(canonical(identity))


def _without_revisions(identity: Any) -> Any:
    if isinstance(identity, Mapping):
        return {key: _without_revisions(each) for key, each in identity.items() if key != "revision"}
    return [_without_revisions(each) for each in identity] if isinstance(identity, list) else identity


def revisions_of(identity: Any, name: str = CELL.name) -> dict[str, int]:
    """The revisions behind an identity, by stage; none where an earlier version recorded none.

    Example:
        >>> revisions_of({"revision": 1, "pool": {"revision": 2, "settings": {}}, "data": "a"})
        {'cell': 1, 'pool': 2}
    """
    if not isinstance(identity, Mapping):
        return {}
    found = {name: identity["revision"]} if "revision" in identity else {}
    for key, each in identity.items():
        found |= revisions_of(each, key)
    return found
