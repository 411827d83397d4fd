"""Records: names of workflows, and states that exclude each other."""

from dataclasses import replace

from budsim.simulator.storage.records import (
    FINISHED,
    UNFINISHED,
    Run,
    Status,
    Step,
    StoredGroup,
    StoredPlan,
)

RUN = Run(run_id="r", status=Status.PENDING, step=Step.VALIDATION, request={}, created_s=0.0)


def test_every_attempt_has_a_workflow_of_its_own():
    """The first is named as the run, so that callers find it in the sidecar."""
    assert RUN.instance_id == "r"
    assert replace(RUN, attempt=2).instance_id == "r-2"


def test_a_paused_run_is_neither_finished_nor_worked_on():
    """It waits."""
    assert FINISHED.isdisjoint(UNFINISHED)
    assert Status.SUSPENDED not in FINISHED | UNFINISHED


def test_devices_of_a_plan_are_those_of_all_its_groups():
    """2 replicas of 4 x 1 and 1 replica of 2 x 2: 12 devices."""
    groups = tuple(
        StoredGroup(
            config_id=str(number), document={"replicas": replicas, "tp_size": tp, "pp_size": pp}
        )
        for number, (replicas, tp, pp) in enumerate([(2, 4, 1), (1, 2, 2)])
    )
    plan = StoredPlan(
        rank=1,
        cluster_id="c",
        replicas=3,
        concurrency=8,
        ttft_s=None,
        tokens_per_s_per_user=None,
        e2e_s=None,
        error_rate=0.0,
        cost_per_million_tokens_usd=1.0,
        cost_usd_per_h=1.0,
        quantized=False,
        groups=groups,
    )
    assert plan.devices == 12
