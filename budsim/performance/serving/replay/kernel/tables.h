/* The time of one step, read from tables that `step_tables.py` fills from the analytic model. */

#ifndef BUDSIM_TABLES_H
#define BUDSIM_TABLES_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* A double's bits below the index of its knot: 52 less log2 of the knots in an octave. */
enum { TOKENS_SHIFT = 49, CONTEXT_SHIFT = 51 };
#define LOWEST_CONTEXT 16.0

typedef struct {
    const double *decode, *prefill, *beside, *decode_context, *prefill_context;
    const double *attended;
} Part;

typedef struct {
    Part rest, traffic;       /* the whole step is `rest` where overlap is 1 */
    double overlap;           /* exponent of the p-norm of both parts */
    double multiplies_cache;  /* 1: a sequence multiplies everyone's cache; 0: its own context */
    double multiplies_step;   /* 1: a prompt token multiplies its whole step, masked or not */
    int64_t last_token, last_context;  /* index of the last knot of each table */
} Tables;

/* Knots lie at 0 and at 2^e (1 + j / m): the upper bits of a double are the index of its knot.
   Beyond the last knot the last two are continued. */
static inline double between(const double *table, double x, int shift, int64_t last) {
    if (x < 1.0) return table[0] + (table[1] - table[0]) * (x > 0.0 ? x : 0.0);
    uint64_t bits;
    memcpy(&bits, &x, 8);
    int64_t at = 1 + (int64_t)((bits >> shift) - (1023ULL << (52 - shift)));
    if (at >= last) {
        double step = table[last] - table[last - 1];
        double width = ldexp(1.0, (int)((last - 2) >> (52 - shift)) - (52 - shift));
        double knot = ldexp(1.0, (int)((last - 1) >> (52 - shift)));
        return table[last] + step * (x - knot) / width;
    }
    double share = (double)(bits & ((1ULL << shift) - 1)) / (double)(1ULL << shift);
    return table[at] + (table[at + 1] - table[at]) * share;
}

static inline double by_tokens(const Tables *tables, const double *table, double tokens) {
    return between(table, tokens, TOKENS_SHIFT, tables->last_token);
}

static inline double by_context(const Tables *tables, const double *table, double context) {
    return between(table, context / LOWEST_CONTEXT, CONTEXT_SHIFT, tables->last_context);
}

/* Attention of sequences that cores cannot share starts at two sequences, in full at eight. */
static inline double together(double sequences) {
    double share = (sequences - 1.0) / 7.0;
    return share < 0.0 ? 0.0 : share > 1.0 ? 1.0 : share;
}

/* What looking back costs the decoding sequences of a step. */
static double attention(const Tables *tables, const Part *part, double sequences, double context,
                        double attended) {
    double seconds = sequences * by_context(tables, part->decode_context, context);
    if (tables->overlap > 1.0)
        seconds += together(sequences) * by_context(tables, part->attended, attended);
    return seconds;
}

/* Join both parts of a step, which hide each other by their p-norm. */
static inline double join(const Tables *tables, double rest, double traffic) {
    double p = tables->overlap;
    return pow(pow(rest > 0.0 ? rest : 0.0, p) + pow(traffic, p), 1.0 / p);
}

static double decode_part(const Tables *tables, const Part *part, double sequences, double context,
                          double attended) {
    return by_tokens(tables, part->decode, sequences)
         + attention(tables, part, sequences, context, attended);
}

/* Seconds of a step that only decodes. */
static double decode_seconds(const Tables *tables, double sequences, double context) {
    double attended = tables->multiplies_cache > 0.0 ? context * sequences : context;
    double look = tables->overlap > 1.0 ? attended : context;
    double rest = decode_part(tables, &tables->rest, sequences, look, attended);
    if (tables->overlap <= 1.0) return rest;
    return join(tables, rest, decode_part(tables, &tables->traffic, sequences, context, 0.0));
}

static double mixed_part(const Tables *tables, const Part *part, double prefill, double sequences,
                         double context, double attended) {
    double seconds = by_tokens(tables, part->prefill, prefill + sequences);
    if (sequences <= 0.0) return seconds;
    seconds += by_tokens(tables, part->beside, sequences);
    return seconds + attention(tables, part, sequences, context, attended);
}

/* Seconds of a step with prompt tokens; `cost` is what their own attention takes. */
static double mixed_seconds(const Tables *tables, double prefill, double cost, double sequences,
                            double context) {
    double attended = tables->multiplies_cache > 0.0 ? context * sequences : context;
    double look = tables->overlap > 1.0 ? attended : context;
    double rest = mixed_part(tables, &tables->rest, prefill, sequences, look, attended) + cost;
    if (tables->overlap <= 1.0) return rest;
    return join(tables, rest,
                mixed_part(tables, &tables->traffic, prefill, sequences, context, 0.0));
}

#endif
