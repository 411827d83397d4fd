/* Replays requests through the scheduler of one replica, jumping from event to event.

   An event is an arrival, a finished request, a full cache or a step with prompt tokens. Between
   two events the engine only decodes: `k` such steps take the time of a trapezoid, because the time
   of a step grows linearly with the context. `stepwise.py` in the tests does the same step by step.

   Times are seconds, lengths tokens. A replica has one or more attention ranks. Ranks step together;
   each has its own queue and cache. `native.py` mirrors the structures; `scheduling.py` says what
   the fields of a setting mean. */

#include <stdlib.h>

#include "pools.h"
#include "record.h"
#include "schedule.h"

/* ---- clients */

/* The front end reads requests one after another: its time per request and token is serial. A part
   of it (burst_s) it spends on every request of the first wave before it hands over any of them. */
static void send_next(Replica *r, double at) {
    const Setting *set = r->set;
    int64_t request = r->sent++;
    if (r->req->concurrency > 0) r->req->send[request] = at;
    else at = r->req->send[request];
    double starts = at > r->host_free ? at : r->host_free;
    r->host_free = starts + set->request_s + set->token_s * r->req->prompt[request];
    r->enter[request] = r->host_free;
    int64_t together = r->req->concurrency;
    if (together > r->req->count) together = r->req->count;
    int64_t behind = together - 1 - request;
    if (behind >= 0) r->enter[request] += set->first_wave_s + set->burst_s * (double)behind;
}

/* Tokens leave now, or when the thread that also reads requests has read those before them. */
static void deliver(Replica *r) {
    for (; r->reached < r->sent && r->req->send[r->reached] <= r->now; r->reached++) {
        double wave = r->reached < r->req->concurrency ? r->set->first_wave_s : 0.0;
        if (r->enter[r->reached] - wave > r->delivered) r->delivered = r->enter[r->reached] - wave;
    }
    if (r->now > r->delivered) r->delivered = r->now;
}

static double load_of(const Rank *rank) {
    return 4.0 * rank->queued + rank->decoding + (rank->partial >= 0);
}

static int64_t least_loaded(Replica *r) {
    int64_t best = r->turn % r->set->ranks;
    for (int64_t i = 1; i < r->set->ranks; i++) {
        int64_t other = (r->turn + i) % r->set->ranks;
        if (load_of(&r->rank[other]) < load_of(&r->rank[best])) best = other;
    }
    r->turn++;
    return best;
}

static int64_t route(Replica *r, int64_t request) {
    if (r->set->ranks == 1) return 0;
    if (r->set->router == IN_TURN) return r->turn++ % r->set->ranks;
    int64_t best = least_loaded(r), source = r->req->reused_from[request];
    if (r->set->router == PREFIX_AWARE && source >= 0 && source < r->seen) {
        int64_t home = r->home[source];
        if (load_of(&r->rank[home]) <= 2.0 * load_of(&r->rank[best]) + 4.0) return home;
    }
    return best;
}

/* When the next prefix is loaded from the host; far away where none is. */
static double next_loaded(const Replica *r) {
    double next = HUGE_VAL;
    for (int64_t i = 0; i < r->loading_count; i++)
        if (r->loaded_at[r->loading[i]] < next) next = r->loaded_at[r->loading[i]];
    return next;
}

/* Put requests whose prefix is loaded at the head of their rank's queue. */
static void take_loads(Replica *r) {
    int64_t waiting = 0;
    for (int64_t i = 0; i < r->loading_count; i++) {
        int64_t request = r->loading[i];
        if (r->loaded_at[request] <= r->now + 1e-12) {
            r->ready[request] = r->step;
            enqueue_first(r, &r->rank[r->home[request]], request);
        } else {
            r->loading[waiting++] = request;
        }
    }
    r->loading_count = waiting;
}

/* Whether a busy engine that looks for requests now and then does not look at this step. Of looks
   that it passed, when nobody had arrived, the last one counts. */
static int looks_later(Replica *r) {
    double interval = r->set->receive_steps;
    if (interval <= 1.0) return 0;
    if (r->since_receive >= interval) {
        double since = r->since_receive - floor(r->since_receive / interval) * interval;
        if (since < 1.0) return 0;
        r->since_receive = since;
    }
    return 1;
}

/* Hand arrived requests to their ranks. A busy engine has scheduled its next step already. */
static void receive(Replica *r) {
    take_loads(r);
    int busy = running(r) > 0, idle = !busy && queued(r) == 0 && r->loading_count == 0;
    if (idle && r->seen < r->sent && r->enter[r->seen] > r->now) {
        sample(r, r->enter[r->seen], 0.0);
        r->now = r->enter[r->seen];
    }
    if (!idle && looks_later(r)) return;
    r->since_receive = 0.0;
    while (r->seen < r->sent && r->enter[r->seen] <= r->now + 1e-12) {
        int64_t request = r->seen;
        r->home[request] = route(r, request);
        r->ready[request] = r->step + (busy ? (int64_t)r->set->lag_steps : 0);
        enqueue(r, &r->rank[r->home[request]], request);
        r->seen++;
    }
}

/* ---- finishing */

static void finish(Replica *r, Rank *rank, int64_t request, double growth) {
    r->req->done[request] = r->delivered;
    r->generated[request] += growth;
    release(r, rank, request, growth);
    r->finished++;
    if (r->req->concurrency > 0 && r->sent < r->req->count)
        send_next(r, r->delivered + r->set->reply_s);
}

static void finish_due(Replica *r, Rank *rank) {
    while (rank->heap_size > 0 && r->key[rank->heap[0]] <= rank->decoded) {
        int64_t request = rank->heap[0];
        remove_finish(r, rank, request);
        finish(r, rank, request, leave(r, rank, request));
    }
}

/* A prompt is computed: its first token is out, and it decodes from the next step on. */
static void begin_decode(Replica *r, int64_t request) {
    Rank *rank = &r->rank[r->home[request]];
    if (r->req->first[request] < 0.0) r->req->first[request] = r->delivered;
    if (r->generated[request] > 0.0) count_gaps(r, r->now - r->token_at[request], 1.0);
    r->known[request] = r->req->prompt[request];
    r->token_at[request] = r->now;
    r->generated[request] += 1.0;
    double to_come = r->req->output[request] - r->generated[request];
    if (to_come <= 0.0) {
        stop(r, rank, request);
        finish(r, rank, request, 0.0);
        return;
    }
    r->since[request] = rank->decoded;
    r->base[request] = r->req->prompt[request] + r->generated[request];
    r->key[request] = rank->decoded + (int64_t)ceil(to_come - 1e-9);
    rank->decoding++;
    rank->context += r->base[request];
    rank->to_come += to_come;
    push_finish(r, rank, request);
    r->begun[r->begun_count++] = request;
    rank->begun++;
}

/* ---- taking steps */

typedef struct {
    double prefill, cost, sequences, context, load_s;
} Load;

/* The load that sets the time of a step: between the mean and the fullest rank. */
static Load load_of_step(const Replica *r) {
    Load sum = {0, 0, 0, 0, 0}, most = {0, 0, 0, 0, 0};
    double ranks = (double)r->set->ranks, share = r->set->imbalance;
    for (int64_t i = 0; i < r->set->ranks; i++) {
        const Rank *rank = &r->rank[i];
        double sequences = rank->decodes_now ? (double)rank->decoding : 0.0;
        sum.prefill += rank->prefill;
        sum.cost += rank->prefill_cost;
        sum.sequences += sequences;
        if (rank->decodes_now) sum.context += rank->context;
        if (rank->prefill > most.prefill) most.prefill = rank->prefill;
        if (rank->prefill_cost > most.cost) most.cost = rank->prefill_cost;
        if (sequences > most.sequences) most.sequences = sequences;
        if (rank->load_s > sum.load_s) sum.load_s = rank->load_s;
    }
    if (sum.sequences > 0.0) sum.context /= sum.sequences;
    sum.prefill += share * (ranks * most.prefill - sum.prefill);
    sum.cost += share * (ranks * most.cost - sum.cost);
    sum.sequences += share * (ranks * most.sequences - sum.sequences);
    return sum;
}

static double step_seconds(const Replica *r, const Load *load) {
    const Setting *set = r->set;
    double decode = 0.0;
    if (load->sequences > 0.0) decode = decode_seconds(r->tables, load->sequences, load->context);
    if (load->prefill <= 0.0) {
        decode *= set->decode_factor;
        return decode > set->step_floor_s ? decode : set->step_floor_s;
    }
    double all = mixed_seconds(r->tables, load->prefill, load->cost, load->sequences, load->context);
    double seconds = decode * set->decode_factor + (all - decode) * set->prefill_factor;
    if (load->load_s > seconds) seconds = load->load_s;
    return seconds > set->prompt_step_floor_s ? seconds : set->prompt_step_floor_s;
}

/* Let every rank that decodes in this step do so `steps` times. Returns the tokens generated. */
static double decode_all(Replica *r, int64_t steps) {
    double tokens = 0.0;
    for (int64_t i = 0; i < r->set->ranks; i++) {
        Rank *rank = &r->rank[i];
        if (!rank->decodes_now) continue;
        double growth = (double)(steps * rank->decoding);
        rank->decoded += steps;
        rank->context += growth;
        rank->to_come -= growth;
        if (!r->set->reserve_output) {
            rank->used += growth;
            rank->allocated += growth;
            rank->written += growth;
        }
        rank->ratio -= (FIRST_RATIO - LEAST_RATIO) / RATIO_STEPS * (double)steps;
        if (rank->ratio < LEAST_RATIO) rank->ratio = LEAST_RATIO;
        tokens += growth;
    }
    return tokens;
}

static void finish_all_due(Replica *r) {
    for (int64_t i = 0; i < r->set->ranks; i++) finish_due(r, &r->rank[i]);
}

/* One step with prompt tokens. */
static void prefill_step(Replica *r, const Load *load) {
    double seconds = step_seconds(r, load), start = r->now;
    pass(r, seconds, 1, 0.0);
    r->since_receive = r->set->receive_steps;
    decode_all(r, 1);
    deliver(r);
    count_decode_gaps(r, start, seconds);
    for (int64_t i = 0; i < r->starting_count; i++) begin_decode(r, r->starting[i]);
    r->starting_count = 0;
    finish_all_due(r);
}

static int64_t smaller(int64_t a, double b) {
    if (b < 1.0) return 1;
    return b < (double)a ? (int64_t)b : a;
}

/* Steps until something else than decoding may happen, arrivals aside. */
static int64_t steps_ahead(const Replica *r) {
    int64_t steps = INT64_MAX / 2;
    for (int64_t i = 0; i < r->set->ranks; i++) {
        const Rank *rank = &r->rank[i];
        int64_t ready = rank->queued > 0 ? r->ready[rank->queue_first] : r->step;
        /* A request may become ready on a rank that has nothing to decode. */
        if (ready > r->step) steps = smaller(steps, (double)(ready - r->step));
        if (!rank->decodes_now) continue;
        steps = smaller(steps, (double)(r->key[rank->heap[0]] - rank->decoded));
        double room = r->set->cache_tokens - rank->used;
        if (!r->set->reserve_output)
            steps = smaller(steps, floor(room / (double)rank->decoding));
        int waits = rank->queued > 0 && ready <= r->step;
        if (waits && r->set->kind == PREFILL_FIRST && rank->decoding < r->set->max_sequences)
            steps = smaller(steps, RESERVE_STEPS);
    }
    if (r->set->receive_steps > 1.0 && r->seen < r->sent)
        steps = smaller(steps, ceil(r->set->receive_steps - r->since_receive));
    return steps;
}

/* The first step boundary at or after `wait` seconds; step i takes first + slope i seconds. */
static int64_t steps_until(double wait, double first, double slope) {
    double steps = wait / first;
    if (slope > 0.0) {
        double half = first - slope / 2.0;
        steps = (sqrt(half * half + 2.0 * slope * wait) - half) / slope;
    }
    steps = ceil(steps - 1e-9);
    return steps < 1.0 ? 1 : (int64_t)steps;
}

/* Of `steps` decode steps those that end before the next arrival is received. */
static int64_t steps_to_arrival(const Replica *r, int64_t steps, double first, double slope) {
    int nobody = r->seen >= r->sent || r->set->receive_steps > 1.0;
    double loaded = next_loaded(r);
    if (nobody && loaded == HUGE_VAL) return steps;
    double next = nobody ? loaded : r->enter[r->seen];
    double wait = (loaded < next ? loaded : next) - r->now;
    int64_t until = steps_until(wait > 0.0 ? wait : 0.0, first, slope);
    return until < steps ? until : steps;
}

/* Decode until the next event. */
static void decode_steps(Replica *r, Load load) {
    int64_t steps = steps_ahead(r);
    double first = step_seconds(r, &load), slope = 0.0, start = r->now;
    if (steps > 1) {
        load.context += (double)(steps - 1);
        slope = (step_seconds(r, &load) - first) / (double)(steps - 1);
        steps = steps_to_arrival(r, steps, first, slope);
    }
    double later = (double)(steps - 1);
    double rest = later * (first + slope * (later + 1.0) / 2.0);
    double growth = r->set->reserve_output ? 0.0 : (double)(running(r) * steps);
    pass(r, first + rest, steps, growth);
    r->since_receive += (double)steps;
    double each = decode_all(r, steps) / (double)steps;
    deliver(r);
    count_decode_gaps(r, start, first);
    if (steps > 1) count_gaps(r, rest / later, each * later);
    finish_all_due(r);
}

/* Nothing runs: go to the next arrival, or to the step in which a request may start. */
static int wait_for_next(Replica *r) {
    int64_t ready = INT64_MAX;
    for (int64_t i = 0; i < r->set->ranks; i++)
        if (r->rank[i].queued > 0 && r->ready[r->rank[i].queue_first] < ready)
            ready = r->ready[r->rank[i].queue_first];
    if (ready != INT64_MAX && ready > r->step) {
        r->step = ready;
        return DONE;
    }
    double next = next_loaded(r);
    if (r->seen >= r->sent && next == HUGE_VAL) return STUCK;
    if (r->seen < r->sent && r->enter[r->seen] < next) next = r->enter[r->seen];
    if (next > r->now) {
        sample(r, next, 0.0);
        r->now = next;
    }
    r->since_receive = r->set->receive_steps;
    return DONE;
}

static int take_step(Replica *r) {
    receive(r);
    for (int64_t i = 0; i < r->set->ranks; i++) form(r, &r->rank[i]);
    Load load = load_of_step(r);
    if (load.prefill > 0.0) prefill_step(r, &load);
    else if (load.sequences > 0.0) decode_steps(r, load);
    else return wait_for_next(r);
    return DONE;
}

/* ---- memory and entry */

static void *cut(char **arena, int64_t count) {
    void *found = *arena;
    *arena += 8 * count;
    return found;
}

static void cut_arrays(Replica *r, char *arena, int64_t n, int64_t heap) {
    double **reals[] = {&r->enter, &r->generated, &r->charged, &r->base, &r->evicted_at, &r->held,
                        &r->token_at, &r->left_at, &r->loaded_at, &r->known, &r->found};
    int64_t **wholes[] = {&r->ready, &r->next, &r->older, &r->newer, &r->key, &r->place, &r->since,
                          &r->home, &r->root, &r->holders, &r->sharer, &r->starting, &r->begun, &r->loading};
    for (int i = 0; i < 11; i++) *reals[i] = cut(&arena, n);
    for (int i = 0; i < 14; i++) *wholes[i] = cut(&arena, n);
    for (int64_t i = 0; i < r->set->ranks; i++) r->rank[i].heap = cut(&arena, heap);
}

static void start(Replica *r) {
    Requests *req = r->req;
    for (int64_t i = 0; i < r->set->ranks; i++) {
        Rank *rank = &r->rank[i];
        rank->newest = rank->partial = -1;
        rank->ratio = FIRST_RATIO;
    }
    for (int64_t i = 0; i < req->count; i++)
        req->admitted[i] = req->first[i] = req->done[i] = -1.0;
    int64_t first = req->count;
    if (req->concurrency > 0 && req->concurrency < first) first = req->concurrency;
    for (int64_t i = 0; i < first; i++) send_next(r, 0.0);
    r->now = req->concurrency > 0 ? 0.0 : req->send[0];
    r->next_sample = r->now;
    r->rec->sample_every_s = 1e-3;
}

/* Fill send, admitted, first and done of the requests, and the record. Returns 0, or why not. */
int replay(const Tables *tables, const Setting *set, Requests *req, Record *rec) {
    int64_t n = req->count;
    Replica r = {.tables = tables, .set = set, .req = req, .rec = rec};
    memset(rec, 0, sizeof *rec);
    r.rank = calloc((size_t)set->ranks, sizeof(Rank));
    char *arena = calloc((size_t)(n * (25 + set->ranks)), 8);
    int status = r.rank && arena ? DONE : NO_MEMORY;
    if (status == DONE) {
        cut_arrays(&r, arena, n, n);
        start(&r);
        while (status == DONE && r.finished < n) status = take_step(&r);
    }
    rec->end_s = r.now;
    rec->loaded_tokens = r.loaded_tokens;
    free(arena);
    free(r.rank);
    return status;
}
