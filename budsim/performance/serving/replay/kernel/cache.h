/* What the KV cache holds: prefixes, what requests are charged for, and preemption. */

#ifndef BUDSIM_CACHE_H
#define BUDSIM_CACHE_H

#include "replica.h"

static double reused_tokens(const Replica *r, int64_t request) {
    double reused = r->req->reused[request], most = r->req->prompt[request] - 1.0;
    return reused < most ? reused : most;
}

/* The last request that computed the beginning of this prompt, on one rank or (NULL) on any: its
   source, or where that waits still or ran elsewhere, the source of it, and so on; -1 for none.
   `shared` is what this prompt shares with it, as far as others find it already. */
static int64_t last_sharer(const Replica *r, const Rank *rank, int64_t request, double *shared) {
    const Requests *req = r->req;
    int64_t source = req->reused_from[request];
    for (int64_t i = 0; source >= 0 && i < MOST_SOURCES; i++) {
        if (r->known[source] > 0.0 && (!rank || &r->rank[r->home[source]] == rank)) {
            if (r->known[source] < *shared) *shared = r->known[source];
            return source;
        }
        if (req->reused[source] < *shared) *shared = req->reused[source];
        source = req->reused_from[source];
    }
    return -1;
}

/* Tokens of this prompt that the cache of the rank still holds. */
static double hit_tokens(Replica *r, const Rank *rank, int64_t request) {
    int64_t source = r->req->reused_from[request];
    double reused = reused_tokens(r, request);
    r->sharer[request] = -1;
    if (source == ALWAYS_CACHED) return reused;
    if (source == BY_DISTANCE)
        return r->req->distance[request] <= r->set->cache_tokens - rank->used ? reused : 0.0;
    source = r->sharer[request] = last_sharer(r, rank, request, &reused);
    return source >= 0 && rank->allocated <= r->evicted_at[source] ? reused : 0.0;
}

/* Tokens of this prompt that the host's memory holds. What a rank computes is written there, too, so
   that the host keeps the tokens written last. */
static double tier_tokens(const Replica *r, const Rank *rank, int64_t request) {
    if (r->set->tier_tokens <= 0.0) return 0.0;
    int64_t source = r->req->reused_from[request];
    double reused = reused_tokens(r, request);
    if (source == BY_DISTANCE)
        return r->req->distance[request] <= r->set->tier_tokens ? reused : 0.0;
    source = last_sharer(r, rank, request, &reused);
    if (source < 0) return 0.0;
    return rank->written - r->left_at[source] <= r->set->tier_tokens ? reused : 0.0;
}

/* Tokens of this prompt that a shared store may hold: reused here, or computed by another replica. */
static double shared_tokens(const Replica *r, int64_t request) {
    double most = r->req->prompt[request] - 1.0;
    double reused = r->req->reused[request];
    if (r->req->far[request] > reused) reused = r->req->far[request];
    return reused < most ? reused : most;
}

/* Tokens of this prompt that the store of all replicas holds, whichever rank computed them. */
static double store_tokens(const Replica *r, int64_t request) {
    if (r->set->store_tokens <= 0.0) return 0.0;
    int64_t source = r->req->reused_from[request];
    double found = shared_tokens(r, request);
    if (source == BY_DISTANCE)
        return r->req->distance[request] <= r->set->store_tokens ? found : 0.0;
    if (r->req->far[request] > 0.0)
        return r->req->far_distance[request] <= r->set->store_tokens ? found : 0.0;
    source = last_sharer(r, NULL, request, &found);
    if (source < 0) return 0.0;
    double since = r->rank[r->home[source]].written - r->left_at[source];
    return since <= r->set->store_rank_tokens ? found : 0.0;
}

/* Count a shared prefix once, however many running requests hold it. Where the source still runs
   and was charged for it, the charge moves to the prefix. */
static void hold_prefix(Replica *r, Rank *rank, int64_t request, double hit) {
    int64_t source = r->sharer[request];
    int shared = source >= 0 && hit > 0.0;
    int64_t root = shared ? r->root[source] : request;
    double more = shared ? hit - r->held[root] : 0.0;
    r->root[request] = root;
    r->holders[root]++;
    if (more > 0.0) {
        if (r->charged[source] >= more) r->charged[source] -= more;
        else rank->used += more;
        r->held[root] = hit;
    }
    r->charged[request] = shared ? 0.0 : hit;
    rank->used += r->charged[request];
}

static void charge(Replica *r, Rank *rank, int64_t request, double tokens) {
    r->charged[request] += tokens;
    rank->used += tokens;
    rank->allocated += tokens;
    rank->written += tokens;
}

static double grown(const Replica *r, const Rank *rank, int64_t request) {
    return (double)(rank->decoded - r->since[request]);
}

/* Give back what a request holds; the cache keeps its blocks until others need the room. */
static void release(Replica *r, Rank *rank, int64_t request, double growth) {
    int64_t root = r->root[request];
    rank->used -= r->charged[request] + (r->set->reserve_output ? 0.0 : growth);
    r->charged[request] = 0.0;
    if (--r->holders[root] == 0) {
        rank->used -= r->held[root];
        r->held[root] = 0.0;
    }
    r->evicted_at[request] = rank->allocated + r->set->cache_tokens - rank->used;
    r->left_at[request] = rank->written;
}

/* Take a request out of the decoding sequences. Returns the tokens it has grown by. */
static double leave(Replica *r, Rank *rank, int64_t request) {
    double growth = grown(r, rank, request);
    double to_come = r->req->output[request] - r->generated[request];
    rank->decoding--;
    rank->context -= r->base[request] + growth;
    rank->to_come -= to_come > growth ? to_come - growth : 0.0;
    if (rank->decoding == 0) rank->context = rank->to_come = 0.0;
    stop(r, rank, request);
    return growth;
}

static void forget_begun(Replica *r, Rank *rank, int64_t request) {
    for (int64_t i = 0; i < r->begun_count; i++) {
        if (r->begun[i] != request) continue;
        r->begun[i] = r->begun[--r->begun_count];
        rank->begun--;
        return;
    }
}

/* Throw the newest request out of the cache; it goes first in the queue and is computed again. */
static void preempt(Replica *r, Rank *rank) {
    int64_t request = rank->newest;
    double growth = 0.0;
    if (request == rank->partial) {
        rank->partial = -1;
        stop(r, rank, request);
    } else {
        remove_finish(r, rank, request);
        forget_begun(r, rank, request);
        growth = leave(r, rank, request);
        r->generated[request] += growth;
    }
    release(r, rank, request, growth);
    r->token_at[request] = r->now;
    r->ready[request] = 0;
    r->loaded_at[request] = 0.0;
    enqueue_first(r, rank, request);
    r->rec->preemptions++;
    rank->ratio = rank->ratio + RETRACTED_RATIO > 1.0 ? 1.0 : rank->ratio + RETRACTED_RATIO;
}

/* Preempt until every decoding sequence has room for the tokens of one step. */
static int make_room(Replica *r, Rank *rank) {
    int64_t before = r->rec->preemptions;
    if (r->set->reserve_output) return 0;
    while (rank->newest >= 0 && r->older[rank->newest] >= 0
           && r->set->cache_tokens - rank->used < (double)rank->decoding)
        preempt(r, rank);
    return r->rec->preemptions > before;
}

#endif
