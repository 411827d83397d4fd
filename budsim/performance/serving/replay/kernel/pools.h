/* A closed loop through prefill workers and decode workers: `pools/runs.py` says what it models.

   Requests go to the workers of each pool in turn. A prefill worker reads what waits for it as one
   batch; a cache is sent once it has a place, which it then holds. Tokens come at one speed. */

#ifndef BUDSIM_POOLS_H
#define BUDSIM_POOLS_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

typedef struct {
    int64_t clients, workers, most_prompts, decode_workers, places, count;
    double batch_s, more_s, further;
} PoolRun;

typedef struct {
    const double *prompt, *decoding; /* seconds of each request; then: when it is sent, and its */
    double *sent, *first;            /* first token */
} PoolRequests;

/* A heap of times, the earliest at its root. */
typedef struct {
    double *at;
    int64_t size;
} Times;

static void lift(Times *times, int64_t at, double value) {
    for (; at > 0 && times->at[(at - 1) / 2] > value; at = (at - 1) / 2)
        times->at[at] = times->at[(at - 1) / 2];
    times->at[at] = value;
}

static void sink(Times *times, double value) {
    int64_t at = 0;
    for (int64_t child = 1; child < times->size; child = 2 * at + 1) {
        if (child + 1 < times->size && times->at[child + 1] < times->at[child]) child++;
        if (times->at[child] >= value) break;
        times->at[at] = times->at[child];
        at = child;
    }
    times->at[at] = value;
}

static double take(Times *times) {
    double found = times->at[0];
    double last = times->at[--times->size];
    if (times->size > 0) sink(times, last);
    return found;
}

/* `starts` is when a prefill worker's next batch begins, HUGE_VAL for none. Of the requests n that
   are sent to it, n = worker, worker + workers, ..., `read` is the next one that it reads. */
typedef struct {
    const PoolRun *run;
    PoolRequests *req;
    Times clients, *held;
    double *starts, *freed;
    int64_t *read, sent, placed;
    double end_s;
} Pools;

static void decode_request(Pools *p, int64_t request, double ready) {
    Times *held = &p->held[p->placed++ % p->run->decode_workers];
    double start = (ready > held->at[0] ? ready : held->at[0]) + p->run->more_s;
    double end = start + p->req->decoding[request];
    sink(held, end);
    p->req->first[request] = start;
    lift(&p->clients, p->clients.size++, end);
    if (end > p->end_s) p->end_s = end;
}

static void read_batch(Pools *p, int64_t worker) {
    const PoolRun *run = p->run;
    double took = run->batch_s;
    int64_t first = p->read[worker], last = first;
    for (int64_t n = 0; n < run->most_prompts && last < p->sent; n++, last += run->workers)
        took += p->req->prompt[last];
    double done = p->starts[worker] + took;
    p->freed[worker] = done;
    p->read[worker] = last;
    p->starts[worker] = last < p->sent ? done : HUGE_VAL;
    double ready = done + took * run->further;
    for (int64_t n = first; n < last; n += run->workers) decode_request(p, n, ready);
}

static void send_request(Pools *p) {
    double now = take(&p->clients);
    int64_t request = p->sent++, worker = request % p->run->workers;
    p->req->sent[request] = now;
    if (p->read[worker] == request)
        p->starts[worker] = now > p->freed[worker] ? now : p->freed[worker];
}

static int64_t next_worker(const Pools *p) {
    int64_t best = 0;
    for (int64_t i = 1; i < p->run->workers; i++)
        if (p->starts[i] < p->starts[best]) best = i;
    return best;
}

static void serve_all(Pools *p) {
    while (p->placed < p->run->count) {
        int64_t worker = next_worker(p);
        int over = p->sent == p->run->count || p->clients.size == 0;
        if (over || p->starts[worker] < p->clients.at[0]) read_batch(p, worker);
        else send_request(p);
    }
}

/* Fill when each request is sent and when its first token comes. Returns 0, or 1 without memory. */
int serve_pools(const PoolRun *run, PoolRequests *req, double *end_s) {
    int64_t places = run->places < run->clients ? run->places : run->clients;
    int64_t reals = run->count + 2 * run->workers + run->decode_workers * places;
    double *arena = calloc((size_t)reals, sizeof(double));
    int64_t *read = calloc((size_t)run->workers, sizeof(int64_t));
    Times *held = calloc((size_t)run->decode_workers, sizeof(Times));
    Pools p = {.run = run, .req = req, .held = held, .read = read};
    int status = arena && read && held ? 0 : 1;
    if (status == 0) {
        p.clients = (Times){.at = arena, .size = run->clients};
        p.starts = arena + run->count;
        p.freed = p.starts + run->workers;
        for (int64_t i = 0; i < run->workers; i++) {
            p.starts[i] = HUGE_VAL;
            read[i] = i;
        }
        for (int64_t i = 0; i < run->decode_workers; i++)
            held[i] = (Times){.at = p.freed + run->workers + i * places, .size = places};
        serve_all(&p);
    }
    *end_s = p.end_s;
    free(arena);
    free(read);
    free(held);
    return status;
}

#endif
