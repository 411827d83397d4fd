/* The state of one replica: its requests, its attention ranks, and their heap, queue and list. */

#ifndef BUDSIM_REPLICA_H
#define BUDSIM_REPLICA_H

#include "tables.h"

enum { MIXED = 0, PREFILL_FIRST = 1, STATIC = 2 };
enum { IN_TURN = 0, LEAST_LOAD = 1, PREFIX_AWARE = 2 };
/* When others find a prompt's tokens in the cache: with its first token, after the step that computes
   them, or as soon as they are scheduled. */
enum { AFTER_PROMPT = 0, AFTER_STEP = 1, AS_SCHEDULED = 2 };
enum { DONE = 0, NO_MEMORY = 1, STUCK = 2 };
enum { SAMPLES = 256, GAPS = 800, GAP_OCTAVE = -14, GAP_SHIFT = 47 };
#define ALWAYS_CACHED (-2)
/* Requests that are followed back from one to its source, the source's source and so on. */
enum { MOST_SOURCES = 64 };
/* Computed before: caches that hold more than `distance` tokens hold it still. */
#define BY_DISTANCE (-3)
/* SGLang: share of the output it reserves at first and at least, steps until the least, and the
   longest output it reserves (managers/schedule_policy.py, global_config.py of 0.5). */
static const double FIRST_RATIO = 0.7, LEAST_RATIO = 0.098, RATIO_STEPS = 600.0;
static const double RETRACTED_RATIO = 0.1, LONGEST_RESERVED = 4096.0;
/* Decode steps after which a request that waits for the reserve to shrink is looked at again. */
static const int64_t RESERVE_STEPS = 16;

/* How the replica schedules, and what its host and corrections of step times are. */
typedef struct {
    int64_t kind, router, ranks, whole_prompts, reserve_output, both_ways, loads_overlap, sharing;
    double token_budget, max_sequences, cache_tokens, block_tokens;
    double lag_steps, receive_steps, imbalance;
    double request_s, burst_s, token_s, reply_s, first_wave_s;
    double prefill_factor, decode_factor;
    double step_floor_s, prompt_step_floor_s;  /* no step, none with prompt tokens, is shorter */
    double tier_tokens, tier_token_s;          /* of one rank in host memory; to load one token */
    /* Of a store that all replicas share: tokens of this replica, of one rank; to read one token. */
    double store_tokens, store_rank_tokens, store_token_s;
} Setting;

/* Arrays of `count` requests: what they ask, and when they were sent, admitted and answered. */
typedef struct {
    int64_t count, concurrency, measured_from, measured_to;
    const double *prompt, *output, *reused, *distance;
    const double *far, *far_distance;          /* tokens another replica computed, and how long ago */
    const int64_t *reused_from;
    double *send, *admitted, *first, *done;
} Requests;

/* What a replay records besides: totals, a timeline, and a histogram of gaps between tokens. */
typedef struct {
    double busy_s, end_s, loaded_tokens;
    int64_t steps, preemptions, samples;
    double sample_every_s, peak_waiting, peak_cached;
    double time[SAMPLES], running[SAMPLES], waiting[SAMPLES], cached[SAMPLES];
    double gaps[GAPS], gap_seconds[GAPS]; /* tokens after a gap of this bin; sum of their gaps */
} Record;

/* One attention rank: its queue (a list, first to last), what it runs and what its cache holds. */
typedef struct {
    int64_t queue_first, queue_last, queued;
    int64_t newest;                 /* last admitted of the running; a list through older[] */
    int64_t partial;                /* the one request whose prompt is partly computed, or -1 */
    double partial_done, partial_length;
    int64_t decoding, decoded;      /* sequences; decode steps so far: the clock of the heap */
    double context, to_come;        /* sums over the decoding: their contexts, outputs to come */
    double used, allocated;         /* cache tokens held now; allocated since the start */
    double ratio;                   /* SGLang's share of outputs to come that it reserves */
    int64_t gate_open;              /* static batches: whether the next batch is being filled */
    int64_t *heap, heap_size;       /* requests by the decode step that ends them */
    double prefill, prefill_cost;   /* of the step being formed: prompt tokens, attention seconds */
    int64_t decodes_now;            /* whether its sequences decode in this step */
    int64_t begun;                  /* of its sequences, those that have not decoded yet */
    double written;                 /* tokens computed so far */
    double link_free, network_free; /* when its link to the host, and to the store, is idle */
    double load_s;                  /* of the step being formed: loads that its prompts hide */
    double stalled;                 /* seconds its other sequences have waited for prompts */
} Rank;

typedef struct {
    const Tables *tables;
    const Setting *set;
    Requests *req;
    Record *rec;
    Rank *rank;
    double now, since_receive, next_sample, last_growth;
    double host_free;               /* when the front end has read all requests sent so far */
    double delivered;               /* when it hands out the tokens of the last step */
    int64_t reached;                /* requests that came to it before those tokens */
    int64_t step, sent, seen, finished, turn;
    double *enter, *generated, *charged, *base, *evicted_at, *held, *token_at, *left_at, *loaded_at;
    double *known;                  /* tokens of its prompt that others find */
    double *found;                  /* tokens it found on the host or in the store */
    int64_t *ready, *next, *older, *newer, *key, *place, *since, *home, *root, *holders;
    int64_t *sharer;                /* of its rank, the last that computed what it shares, or -1 */
    int64_t *starting;              /* requests whose prompt ends in this step */
    int64_t starting_count;
    int64_t *begun;                 /* requests that have not decoded since they began */
    int64_t begun_count;
    int64_t *loading;               /* requests whose prefix comes from the host */
    int64_t loading_count;
    double loaded_tokens;           /* of all requests, from the host */
} Replica;

/* ---- heap of finishes */

static void place_at(Replica *r, Rank *rank, int64_t at, int64_t request) {
    rank->heap[at] = request;
    r->place[request] = at;
}

static void sift_up(Replica *r, Rank *rank, int64_t at) {
    int64_t request = rank->heap[at];
    while (at > 0) {
        int64_t parent = (at - 1) / 2;
        if (r->key[rank->heap[parent]] <= r->key[request]) break;
        place_at(r, rank, at, rank->heap[parent]);
        at = parent;
    }
    place_at(r, rank, at, request);
}

static void sift_down(Replica *r, Rank *rank, int64_t at) {
    int64_t request = rank->heap[at], size = rank->heap_size;
    for (int64_t child; (child = 2 * at + 1) < size; at = child) {
        if (child + 1 < size && r->key[rank->heap[child + 1]] < r->key[rank->heap[child]]) child++;
        if (r->key[rank->heap[child]] >= r->key[request]) break;
        place_at(r, rank, at, rank->heap[child]);
    }
    place_at(r, rank, at, request);
}

static void push_finish(Replica *r, Rank *rank, int64_t request) {
    place_at(r, rank, rank->heap_size++, request);
    sift_up(r, rank, rank->heap_size - 1);
}

static void remove_finish(Replica *r, Rank *rank, int64_t request) {
    int64_t at = r->place[request], last = rank->heap[--rank->heap_size];
    if (last == request) return;
    place_at(r, rank, at, last);
    sift_up(r, rank, at);
    sift_down(r, rank, r->place[last]);
}

/* ---- queue and running list */

static void enqueue(Replica *r, Rank *rank, int64_t request) {
    r->next[request] = -1;
    if (rank->queued++) r->next[rank->queue_last] = request;
    else rank->queue_first = request;
    rank->queue_last = request;
}

static void enqueue_first(Replica *r, Rank *rank, int64_t request) {
    r->next[request] = rank->queue_first;
    if (!rank->queued++) rank->queue_last = request;
    rank->queue_first = request;
}

static int64_t dequeue(Replica *r, Rank *rank) {
    int64_t request = rank->queue_first;
    rank->queue_first = r->next[request];
    rank->queued--;
    return request;
}

static void run(Replica *r, Rank *rank, int64_t request) {
    r->older[request] = rank->newest;
    r->newer[request] = -1;
    if (rank->newest >= 0) r->newer[rank->newest] = request;
    rank->newest = request;
}

static void stop(Replica *r, Rank *rank, int64_t request) {
    if (r->newer[request] >= 0) r->older[r->newer[request]] = r->older[request];
    else rank->newest = r->older[request];
    if (r->older[request] >= 0) r->newer[r->older[request]] = r->newer[request];
}

#endif
