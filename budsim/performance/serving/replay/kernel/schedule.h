/* What goes into the next step of a rank: which requests are admitted and how far prompts go. */

#ifndef BUDSIM_SCHEDULE_H
#define BUDSIM_SCHEDULE_H

#include "cache.h"

/* Instead of a number of tokens: the first of the queue waits for its prefix, the next may go. */
static const double LOADING = -1.0;

static double attention_cost(const Replica *r, const Rank *rank, double before, double tokens,
                             double prompt) {
    const Tables *tables = r->tables;
    double context = before + tokens / 2.0;
    if (r->set->both_ways) context = prompt;
    else if (tables->multiplies_step > 0.0) context = before + tokens;
    if (tables->multiplies_cache > 0.0) context = rank->used + tokens;
    return tokens * by_context(tables, tables->rest.prefill_context, context);
}

/* Compute `tokens` more of a prompt in this step. Returns whether the prompt is then complete. */
static int take_prompt(Replica *r, Rank *rank, int64_t request, double tokens) {
    rank->prefill += tokens;
    rank->prefill_cost += attention_cost(r, rank, rank->partial_done, tokens,
                                         r->req->prompt[request]);
    if (!r->set->reserve_output) charge(r, rank, request, tokens);
    rank->partial_done += tokens;
    if (r->set->sharing == AS_SCHEDULED) r->known[request] = rank->partial_done;
    if (rank->partial_done < rank->partial_length - 1e-9) return 0;
    rank->partial = -1;
    r->starting[r->starting_count++] = request;
    return 1;
}

/* Cache tokens that must be free before a request is admitted. */
static double needed(const Replica *r, double hit, double left, double budget, int64_t request) {
    double half_block = r->set->block_tokens / 2.0;
    double to_come = r->req->output[request] - r->generated[request];
    if (r->set->reserve_output) return hit + left + to_come + half_block;
    if (r->set->kind == MIXED) return hit + (left < budget ? left : budget) + half_block;
    return hit + left + (to_come < LONGEST_RESERVED ? to_come : LONGEST_RESERVED);
}

static void admit(Replica *r, Rank *rank, int64_t request, double hit, double left) {
    double half_block = r->set->block_tokens / 2.0;
    dequeue(r, rank);
    run(r, rank, request);
    if (r->req->admitted[request] < 0.0) r->req->admitted[request] = r->now;
    hold_prefix(r, rank, request, hit);
    /* Until it is released, nothing of it is dropped. */
    r->evicted_at[request] = r->left_at[request] = HUGE_VAL;
    if (r->set->sharing != AFTER_PROMPT && hit > r->known[request]) r->known[request] = hit;
    double to_come = r->req->output[request] - r->generated[request];
    charge(r, rank, request, half_block + (r->set->reserve_output ? left + to_come : 0.0));
    rank->partial = request;
    rank->partial_done = hit;
    rank->partial_length = hit + left;
}

/* Loaded tokens take blocks of the cache; where prompts hide the load, their step may wait. */
static void take_loaded(Replica *r, Rank *rank, double tokens) {
    rank->allocated += tokens;
    if (!r->set->loads_overlap) return;
    rank->load_s += tokens * r->set->tier_token_s;
    r->loaded_tokens += tokens;
}

/* Let the first of the queue wait for a load of so many tokens over a link that is idle from `idle` on. */
static void await_load(Replica *r, Rank *rank, int64_t request, double tokens, double token_s,
                       double *idle) {
    double seconds = tokens * token_s;
    r->found[request] = tokens;
    double begins = r->now > *idle ? r->now : *idle;
    r->loaded_at[request] = *idle = begins + seconds;
    dequeue(r, rank);
    r->loading[r->loading_count++] = request;
}

/* Load the prefix of the first of the queue from the host, where the device does not hold it, or
   from the store, where neither does. Returns the tokens found: all of them at once where prompts
   hide the load from the host, later else. */
static double load_first(Replica *r, Rank *rank, int64_t request) {
    double found = tier_tokens(r, rank, request);
    if (found > 0.0) {
        if (r->set->loads_overlap) return found;
        r->loaded_tokens += found;
        await_load(r, rank, request, found, r->set->tier_token_s, &rank->link_free);
        return LOADING;
    }
    found = store_tokens(r, request);
    if (found <= 0.0) return 0.0;
    if (!r->set->loads_overlap) r->loaded_tokens += found;
    await_load(r, rank, request, found, r->set->store_token_s, &rank->network_free);
    return LOADING;
}

/* Admit the first of the queue if there is a place, budget and cache for it. Returns its tokens. */
static double admit_first(Replica *r, Rank *rank, double budget, double reserved, int64_t starting) {
    if (rank->queued == 0 || budget <= 0.0) return 0.0;
    int64_t request = rank->queue_first;
    int64_t runs = rank->decoding + starting;
    if (r->ready[request] > r->step || runs >= r->set->max_sequences) return 0.0;
    double hit = hit_tokens(r, rank, request), loads = 0.0;
    if (hit <= 0.0 && r->loaded_at[request] > 0.0) {
        hit = loads = r->found[request];
    } else if (hit <= 0.0) {
        hit = loads = load_first(r, rank, request);
        if (hit == LOADING) return LOADING;
    }
    double left = r->req->prompt[request] - hit + r->generated[request];
    int alone = runs == 0;
    double available = r->set->cache_tokens - rank->used - reserved;
    if (needed(r, hit, left, budget, request) > available && !alone) return 0.0;
    int rest = rank->prefill + (r->set->kind == MIXED ? rank->decoding : 0) > 0;
    if (r->set->whole_prompts && left > budget && rest) return 0.0;
    admit(r, rank, request, hit, left);
    if (loads > 0.0) take_loaded(r, rank, loads);
    return r->set->whole_prompts || left < budget ? left : budget;
}

static void fill_with_prompts(Replica *r, Rank *rank, double budget) {
    const Setting *set = r->set;
    int64_t before = r->starting_count;
    double reserved = 0.0;
    if (set->kind == PREFILL_FIRST && !set->reserve_output) {
        double most = LONGEST_RESERVED * (double)rank->decoding;
        reserved = rank->ratio * (rank->to_come < most ? rank->to_come : most);
    }
    if (rank->partial >= 0 && budget > 0.0) {
        double left = rank->partial_length - rank->partial_done;
        double tokens = left < budget ? left : budget;
        budget -= tokens;
        take_prompt(r, rank, rank->partial, tokens);
    }
    while (rank->partial < 0) {
        double tokens = admit_first(r, rank, budget, reserved, r->starting_count - before);
        if (tokens == LOADING) continue;
        if (tokens <= 0.0) break;
        budget -= tokens;
        if (set->kind == PREFILL_FIRST) {
            double output = r->req->output[rank->partial];
            reserved += output < LONGEST_RESERVED ? output : LONGEST_RESERVED;
        }
        take_prompt(r, rank, rank->partial, tokens);
    }
}

/* A static batch takes requests until it decodes for the first time, and again when it is over. */
static int is_closed(const Replica *r, Rank *rank) {
    if (rank->decoding == 0 && rank->partial < 0) rank->gate_open = 1;
    return r->set->kind == STATIC && !rank->gate_open;
}

/* Form the next step of a rank: which prompt tokens it computes and whether it decodes. */
static void form(Replica *r, Rank *rank) {
    rank->prefill = rank->prefill_cost = rank->load_s = 0.0;
    if (rank->partial >= 0 && r->set->sharing == AFTER_STEP)
        r->known[rank->partial] = rank->partial_done;
    int full = rank->decoding > 0 && make_room(r, rank);
    int nothing = rank->queued == 0 && rank->partial < 0;
    if (!full && !nothing && !is_closed(r, rank)) {
        double taken = r->set->kind == MIXED ? (double)rank->decoding : 0.0;
        fill_with_prompts(r, rank, r->set->token_budget - taken);
    }
    rank->decodes_now = rank->decoding > 0 && (r->set->kind == MIXED || rank->prefill <= 0.0);
    if (rank->decodes_now) rank->gate_open = 0;
}

#endif
