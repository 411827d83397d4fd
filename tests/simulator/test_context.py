"""Options of a site: topics that events may go to, and what pods load."""

from pathlib import Path

import pytest

from budsim.commons.errors import InvalidInput
from budsim.simulator.context import ServiceOptions
from budsim.simulator.questions import ModelSource


@pytest.mark.parametrize("topic", ["deploymentMessages", "budSimMessages", "notifications"])
def test_allowed_topics_are_patterns_our_own_and_the_notification_services(topic: str):
    """`*Messages`, and both topics the service knows by name."""
    ServiceOptions(notify_topic="notifications").check_topics([topic])


@pytest.mark.parametrize("topic", ["cluster_info", "deploymentmessages", "Messages/x"])
def test_other_topics_are_refused_with_those_that_are_allowed(topic: str):
    """A topic named like a key of the state store would harm everyone's events."""
    with pytest.raises(InvalidInput, match=r"source_topic.*\*Messages, budSimMessages"):
        ServiceOptions().check_topics(["aMessages", topic])


def test_pods_load_hub_ids_as_they_are_and_paths_below_their_folder(tmp_path: Path):
    """A folder of the registry is a path, whatever it looks like; an unknown flat name is one."""
    (tmp_path / "org" / "name").mkdir(parents=True)
    here = ServiceOptions(source=ModelSource(registry_dir=tmp_path, pod_dir="/m/"))
    elsewhere = ServiceOptions()
    loaded = [
        here.overrides("org/name").path,
        here.overrides("Qwen/Qwen3-8B").path,
        elsewhere.overrides("Qwen/Qwen3-8B").path,
        elsewhere.overrides("my_model_v2").path,
    ]
    assert loaded == [
        "/m/org/name",
        "Qwen/Qwen3-8B",
        "Qwen/Qwen3-8B",
        "/data/models-registry/my_model_v2",
    ]
