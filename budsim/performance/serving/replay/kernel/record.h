/* What a replay records besides the times of its requests: a timeline and the gaps of tokens. */

#ifndef BUDSIM_RECORD_H
#define BUDSIM_RECORD_H

#include "replica.h"

static int64_t running(const Replica *r) {
    int64_t sum = 0;
    for (int64_t i = 0; i < r->set->ranks; i++)
        sum += r->rank[i].decoding + (r->rank[i].partial >= 0);
    return sum;
}

static int64_t queued(const Replica *r) {
    int64_t sum = 0;
    for (int64_t i = 0; i < r->set->ranks; i++) sum += r->rank[i].queued;
    return sum;
}

static void halve_samples(Replica *r) {
    Record *rec = r->rec;
    for (int64_t i = 0; i < SAMPLES / 2; i++) {
        rec->time[i] = rec->time[2 * i];
        rec->running[i] = rec->running[2 * i];
        rec->waiting[i] = rec->waiting[2 * i];
        rec->cached[i] = rec->cached[2 * i];
    }
    rec->samples = SAMPLES / 2;
    rec->sample_every_s *= 2.0;
    r->next_sample = rec->time[rec->samples - 1] + rec->sample_every_s;
}

static double cached(const Replica *r) {
    double sum = 0.0;
    for (int64_t i = 0; i < r->set->ranks; i++) sum += r->rank[i].used;
    return sum;
}

static double in_system_waiting(const Replica *r, double at) {
    int64_t waiting = queued(r) + r->loading_count;
    for (int64_t i = r->seen; i < r->sent && r->req->send[i] <= at; i++) waiting++;
    return (double)waiting;
}

/* Sample what runs, waits and is cached at even distances of time, up to `until`. */
static void sample(Replica *r, double until, double growth) {
    Record *rec = r->rec;
    double length = until - r->now;
    while (r->next_sample <= until) {
        if (rec->samples == SAMPLES) {
            halve_samples(r);
            continue;
        }
        double share = length > 0.0 ? (r->next_sample - r->now) / length : 0.0;
        int64_t i = rec->samples++;
        rec->time[i] = r->next_sample;
        rec->running[i] = (double)(running(r) + r->starting_count);
        rec->waiting[i] = in_system_waiting(r, r->next_sample);
        rec->cached[i] = cached(r) + growth * share;
        r->next_sample += rec->sample_every_s;
    }
}

static void count_gaps(Replica *r, double gap, double tokens) {
    if (tokens <= 0.0 || r->seen <= r->req->measured_from || r->seen > r->req->measured_to) return;
    uint64_t bits;
    memcpy(&bits, &gap, 8);
    int64_t bin = (int64_t)(bits >> GAP_SHIFT);
    bin -= (int64_t)(1023 + GAP_OCTAVE) << (52 - GAP_SHIFT);
    bin = bin < 0 ? 0 : bin >= GAPS ? GAPS - 1 : bin;
    r->rec->gaps[bin] += tokens;
    r->rec->gap_seconds[bin] += tokens * gap;
}

/* Gaps that end with the decode step of `seconds` from `start`, of all ranks that decode in it.
   Sequences that began to decode while others were stalled by prompts have waited for less; on
   other ranks they go on waiting. */
static void count_decode_gaps(Replica *r, double start, double seconds) {
    int64_t waiting = 0;
    for (int64_t i = 0; i < r->begun_count; i++) {
        int64_t request = r->begun[i];
        Rank *rank = &r->rank[r->home[request]];
        if (rank->decodes_now) {
            count_gaps(r, start + seconds - r->token_at[request], 1.0);
        } else {
            r->begun[waiting++] = request;
        }
    }
    r->begun_count = waiting;
    for (int64_t i = 0; i < r->set->ranks; i++) {
        Rank *rank = &r->rank[i];
        if (rank->decodes_now) {
            count_gaps(r, seconds + rank->stalled, (double)(rank->decoding - rank->begun));
            rank->stalled = 0.0;
            rank->begun = 0;
        } else if (rank->decoding > 0) {
            rank->stalled += seconds;
        }
    }
}

static void pass(Replica *r, double seconds, int64_t steps, double growth) {
    sample(r, r->now + seconds, growth);
    double held = cached(r) + growth, waiting = (double)queued(r);
    if (held > r->rec->peak_cached) r->rec->peak_cached = held;
    if (waiting > r->rec->peak_waiting) r->rec->peak_waiting = waiting;
    r->now += seconds;
    r->rec->busy_s += seconds;
    r->rec->steps += steps;
    r->step += steps;
}

#endif
