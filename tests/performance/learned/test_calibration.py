"""A site's correction helps what is like its measurements and leaves the rest alone."""

import json
from dataclasses import replace

import numpy as np
import pytest

from budsim.commons.errors import InvalidInput, Unavailable
from budsim.performance.learned.calibration import NOISE, SHARES, load_calibration
from budsim.performance.predictions import Basis
from budsim.performance.traffic import Traffic
from budsim.performance.training.site_calibration import calibrate
from tests.performance.learned.site import CREATED, SLOWER, corrected, site, sweep
from tests.performance.populations import population


def test_three_rows_carry_over_by_how_much_is_alike(shipped, few):
    """A site 1.5 times as slow.

    Most of it is corrected where it was measured, less in another layout, model and engine.
    """
    here = corrected(shipped, few, precision="fp8")
    layout = corrected(shipped, few, precision="fp8", tp=8)
    model = corrected(shipped, few, model="Qwen/Qwen3-235B-A22B", precision="fp8", tp=8)
    engine = corrected(
        shipped, few, model="Qwen/Qwen3-235B-A22B", engine="sglang", precision="fp8", tp=8
    )
    ladder = np.stack([engine, model, layout, here])
    assert (np.diff(ladder, axis=0) > 0).all()
    assert (here > 1.3).all()
    assert (here < 1.03 * SLOWER).all()  # measured with a noise of 3 %
    assert (engine > 1.0).all()


def test_other_devices_and_static_batches_are_left_alone(shipped, few):
    """Nothing measured here says anything of an A100, nor of a batch without arrivals."""
    assert corrected(shipped, few, device="A100-80GB") == pytest.approx([1.0, 1.0])
    assert corrected(shipped, few, static_batch=True) == pytest.approx([1.0, 1.0])


def test_a_row_says_half_as_much_at_ten_times_the_load_and_hardly_anything_far_away(shipped):
    """What is wrong with long prompts of few requests need not be wrong with short ones of many.

    exp(-ln(10)**2 / 8) is 0.515 of the 0.9 that are believed where the row was measured.
    """
    found = calibrate(site(shipped, sweep(4), noise=0.0), shipped, created=CREATED)
    tenfold = np.log(corrected(shipped, found, precision="fp8", concurrency=40))
    assert tenfold == pytest.approx([0.9 * 0.515 * np.log(SLOWER)] * 2, rel=1e-2)
    far = corrected(
        shipped, found, precision="fp8", concurrency=400, max_num_seqs=512, input_tokens=32
    )
    assert far == pytest.approx([1.0, 1.0], abs=0.01)


def test_requests_that_wait_for_a_place_are_no_load_of_steps(shipped):
    """Of 160 in flight 16 run: steps are those measured at 16, and so is the wait for a place.

    More of them run with 64 places: less of the correction holds for those steps.
    """
    found = calibrate(site(shipped, sweep(16), noise=0.0), shipped, created=CREATED)
    few, more = (
        corrected(shipped, found, precision="fp8", concurrency=160, max_num_seqs=places)
        for places in (16, 64)
    )
    assert np.log(few) == pytest.approx([0.9 * np.log(SLOWER)] * 2, rel=1e-2)
    assert (more < 0.97 * few).all()
    own = replace(shipped, calibration=found.calibration)
    where = {"tp": 4, "precision": "fp8", "input_tokens": 1024, "output_tokens": 256}
    waiting = own.predict(population(**where, concurrency=160, max_num_seqs=16))[1]
    assert waiting.measured_targets["tpot"].all()
    assert not waiting.measured_targets["ttft"].any()


def test_slow_places_make_requests_wait_longer(shipped):
    """A site of slow steps and quick prompts: most of a queue's TTFT is waiting for steps."""
    rows = site(shipped, sweep(16), noise=0.0)
    rows["ttft_ms_mean"] = (rows.ttft_ms_mean.astype(float) / SLOWER**2).astype(str)
    found = calibrate(rows, shipped, created=CREATED)
    ttft, tpot = corrected(shipped, found, precision="fp8", concurrency=160, max_num_seqs=16)
    assert 0.9 * tpot < ttft <= tpot


def test_basis_is_measured_near_a_measurement_only(shipped, few):
    """A concurrency of 16 was measured and 18 is near it.

    32, another tensor parallelism and another model are not.
    """
    own = replace(shipped, calibration=few.calibration)
    loads = own.predict(
        population(
            precision="fp8",
            tp=[4, 4, 4, 8],
            concurrency=[16, 18, 32, 16],
            input_tokens=1024,
            output_tokens=256,
        )
    )[1]
    assert [loads.basis(row) for row in range(4)] == [
        Basis.MEASURED,
        Basis.MEASURED,
        Basis.ANALYTIC,
        Basis.ANALYTIC,
    ]
    other = own.predict(
        population(model="Qwen/Qwen3-235B-A22B", precision="fp8", tp=4, concurrency=16)
    )[1]
    assert other.basis(0) is Basis.ANALYTIC


def test_intervals_narrow_where_the_site_measured_and_keep_their_value(shipped, few):
    """The 90 % interval of TPOT is narrower where three rows are near.

    In the logarithm; it holds the corrected value.
    """
    where = population(precision="fp8", tp=4, concurrency=16, input_tokens=1024, output_tokens=256)
    before, after = (
        p.predict(where)[1] for p in (shipped, replace(shipped, calibration=few.calibration))
    )
    widths = [
        float(np.log(each.tpot_s[0.9].high / each.tpot_s[0.9].low)[0]) for each in (before, after)
    ]
    assert widths[1] < 0.85 * widths[0]
    for interval, value in (
        (after.ttft_s[0.9], after.service.ttft_s),
        (after.e2e_s[0.9], after.service.e2e_s),
    ):
        assert interval.low[0] <= value[0] <= interval.high[0]


def test_one_row_is_shrunk_by_its_noise(shipped):
    """One row of a factor e**r moves its own configuration by everything but the noise.

    R times 1 - NOISE = 0.9.
    """
    found = calibrate(site(shipped, sweep(16), noise=0.0), shipped, created=CREATED)
    factor = corrected(shipped, found, precision="fp8")
    assert np.log(factor) == pytest.approx([0.9 * np.log(SLOWER)] * 2, rel=1e-3)
    assert sum(SHARES.values()) + NOISE == pytest.approx(1.0)


def test_calibrations_are_refused_where_they_do_not_belong(shipped, few, tmp_path):
    """A stored calibration reads back the same.

    One for other trained models, or a file that is none, is refused.
    """
    file = tmp_path / "site.json"
    file.write_text(json.dumps(few.calibration.document))
    again = load_calibration(file, shipped.models_sha256)
    assert again.document == few.calibration.document
    assert corrected(shipped, few) == pytest.approx(
        corrected(shipped, replace(few, calibration=again))
    )
    with pytest.raises(Unavailable, match="budsim calibrate"):
        load_calibration(file, "of other models")
    for text in ("", "{}", "[]", "7", json.dumps({**few.calibration.document, "rows": [{}]})):
        file.write_text(text)
        with pytest.raises(InvalidInput, match=r"site\.json"):
            load_calibration(file, shipped.models_sha256)


def test_a_slower_site_carries_less(shipped, few):
    """Steps 1.5 times as slow: the largest rate falls with them, and latencies rise with both.

    In a closed loop, percentiles are multiplied by what the means are.
    """
    own = replace(shipped, calibration=few.calibration)
    alike = population(tp=[4], concurrency=[16], input_tokens=[1024], output_tokens=[256])
    few_requests = {"input_tokens": 1024, "output_tokens": 256}
    for traffic in (
        Traffic.at_rate(requests_per_s=4.0, **few_requests),
        Traffic.closed(concurrency=16, **few_requests),
    ):
        _, told, served = own.predict_traffic(alike, [traffic])
        _, before, shipped_served = shipped.predict_traffic(alike, [traffic])
        slower = told.service.tpot_s / before.service.tpot_s
        assert 1.1 < slower[0] < 2.5
        assert served.tpot_s.mean == pytest.approx(told.service.tpot_s, rel=1e-6)
        assert served.e2e_s.p99[0] > shipped_served.e2e_s.p99[0]
        if traffic.is_open:
            assert served.largest_stable_rate[0] < 0.95 * shipped_served.largest_stable_rate[0]
