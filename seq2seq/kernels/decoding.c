/* The inner loops of decoding, where a library's products are too large a tool: thousands of attentions of a few queries, and the
   few best of many tokens. Each has its slow twin in torch, to which tests/test_kernels.py compares it.

   Letters of shapes are those of symbols.py. Tensors come with their strides in elements; the last axis has stride 1. */

#include "vectors.h"

/* softmax(q K^T / sqrt(D)) V of one query over some rows of keys and values. `weights` has room for a multiple of LANES. D is
   `parts` times LANES; `parts` is a constant where this is called, so that all sums stay in registers. */
INLINE void attend_one(const float *query, const float *keys, const float *values, size step, const int *rows, size count,
                       int parts, float *weights, float *out) {
    float scale = 1.0f / sqrtf((float)(parts * LANES)), most = -INFINITY, total = 0.0f;
    lanes asked[MOST_PARTS], sum[MOST_PARTS];
    for (int p = 0; p < parts; p++) asked[p] = at(query, p);
    for (size i = 0; i < count; i++) {
        const float *key = keys + rows[i] * step;
        lanes products = asked[0] * at(key, 0);
        for (int p = 1; p < parts; p++) products += asked[p] * at(key, p);
        weights[i] = sum_of(products) * scale;
        most = weights[i] > most ? weights[i] : most;
    }
    for (size i = count; i % LANES; i++) weights[i] = -INFINITY;
    for (size start = 0; start < count; start += LANES) {
        #pragma omp simd reduction(+ : total)
        for (size i = start; i < start + LANES; i++) total += weights[i] = exponential(weights[i] - most);
    }
    for (int p = 0; p < parts; p++) sum[p] = (lanes){0};
    for (size i = 0; i < count; i++) {
        const float *value = values + rows[i] * step;
        for (int p = 0; p < parts; p++) sum[p] += weights[i] * at(value, p);
    }
    for (int p = 0; p < parts; p++) put(out, p, sum[p] * (1.0f / total));
}

/* Memory is far away, and the next head's rows are known. */
INLINE void prefetch(const float *keys, const float *values, size step, size N, size D) {
    for (size n = 0; n < N; n++)
        for (size d = 0; d < D; d += LANES) {
            __builtin_prefetch(keys + n * step + d);
            __builtin_prefetch(values + n * step + d);
        }
}

/* Keys and values of B sentences, H heads of them: (B, H, room, D) each, laid out alike. */
typedef struct {
    float *keys, *values;
    size b, h, n;
} kept;

/* Queries (B, K, H * D), with rows `row` apart, attend to the first N of what is kept of H / group heads, where may_attend (B, K, N)
   is true: out (B, K, H * D). D is a multiple of LANES and at most MOST_PARTS of them. `scratch` has room for (AT_ONCE + 1) * N + LANES
   numbers of four bytes. */
static void attend(const float *queries, size row, kept memory, const uint8_t *may_attend, size may_b, size may_k, void *scratch,
                   float *out, size B, size K, size H, size group, size N, size D) {
    int(*rows)[N] = scratch;
    float *weights = (float *)scratch + AT_ONCE * N;
    size counts[AT_ONCE];
    for (size b = 0; b < B; b++)
        for (size first = 0; first < K; first += AT_ONCE) {
            size count = first + AT_ONCE < K ? AT_ONCE : K - first;
            for (size k = 0; k < count; k++) {
                const uint8_t *may = may_attend + b * may_b + (first + k) * may_k;
                counts[k] = 0;
                for (size n = 0; n < N; n++) {
                    rows[k][counts[k]] = (int)n;
                    counts[k] += may[n];
                }
            }
            for (size h = 0; h < H; h++) {
                size at = b * memory.b + h / group * memory.h;
                const float *keys = memory.keys + at, *values = memory.values + at;
                if (h + 1 < H) prefetch(keys + memory.h, values + memory.h, memory.n, N, D);
                else if (b + 1 < B) prefetch(memory.keys + (b + 1) * memory.b, memory.values + (b + 1) * memory.b, memory.n, N, D);
                for (size k = 0; k < count; k++) {
                    size bk = b * K + first + k;
                    const float *query = queries + bk * row + h * D;
                    float *to = out + (bk * H + h) * D;
                    /* The usual widths are constants here, so that sums stay in registers. */
                    if (D == 64) attend_one(query, keys, values, memory.n, rows[k], counts[k], 4, weights, to);
                    else if (D == 32) attend_one(query, keys, values, memory.n, rows[k], counts[k], 2, weights, to);
                    else attend_one(query, keys, values, memory.n, rows[k], counts[k], (int)(D / LANES), weights, to);
                }
            }
        }
}

/* Multiply pairs of numbers, taken as complex ones, by complex numbers of length 1. */
INLINE void turn(float *numbers, const float *turns, size D) {
    for (size d = 0; d < D; d += 2) {
        float real = numbers[d], imaginary = numbers[d + 1], cosine = turns[d], sine = turns[d + 1];
        numbers[d] = real * cosine - imaginary * sine;
        numbers[d + 1] = real * sine + imaginary * cosine;
    }
}

/* A step of masked self-attention. Of each hypothesis come queries of H heads, then keys, then values of H / group heads, side by
   side: (B, K, (H + 2 H / group) * D). Queries and keys are turned in place by `turns` (B, K, D) unless that is NULL, keys and values are
   kept at nodes (B, K), and the queries attend to the first N nodes. */
void attend_to_past(float *projected, const float *turns, float *keys, float *values, size kept_b, size kept_h, size kept_n,
                    const size *nodes, const uint8_t *may_attend, size may_b, size may_k, void *scratch, float *out, size B,
                    size K, size H, size group, size N, size D) {
    kept memory = {keys, values, kept_b, kept_h, kept_n};
    size of_keys = H / group, row = (H + 2 * of_keys) * D;
    for (size bk = 0; bk < B * K; bk++) {
        float *of_one = projected + bk * row;
        if (turns)
            for (size h = 0; h < H + of_keys; h++) turn(of_one + h * D, turns + bk * D, D);
        for (size h = 0; h < of_keys; h++) {
            size at = bk / K * kept_b + h * kept_h + nodes[bk] * kept_n;
            memcpy(keys + at, of_one + (H + h) * D, D * sizeof(float));
            memcpy(values + at, of_one + (H + of_keys + h) * D, D * sizeof(float));
        }
    }
    attend(projected, row, memory, may_attend, may_b, may_k, scratch, out, B, K, H, group, N, D);
}

/* A step of cross-attention: queries (B, K, H * D) attend to the S positions of the source, the same for all hypotheses of a sentence. */
void attend_to_source(const float *queries, float *keys, float *values, size kept_b, size kept_h, size kept_n,
                      const uint8_t *may_attend, size may_b, void *scratch, float *out, size B, size K, size H, size group,
                      size S, size D) {
    attend(queries, H * D, (kept){keys, values, kept_b, kept_h, kept_n}, may_attend, may_b, 0, scratch, out, B, K, H, group, S, D);
}

/* log sum exp of each row of (R, V). */
void log_sum_exp(const float *logits, float *out, size R, size V) {
    for (size r = 0; r < R; r++) {
        const float *row = logits + r * V;
        float most = -INFINITY, total = 0.0f;
        #pragma omp simd reduction(max : most)
        for (size v = 0; v < V; v++) most = row[v] > most ? row[v] : most;
        #pragma omp simd reduction(+ : total)
        for (size v = 0; v < V; v++) total += exponential(row[v] - most);
        out[r] = most + logf(total);
    }
}

/* Put a sum among the `count` best, which are in falling order; the last of them leaves. */
INLINE void insert(float sum, size token, size slot, float *sums, size *tokens, size *slots, size count) {
    size place = count - 1;
    for (; place > 0 && sums[place - 1] < sum; place--) {
        sums[place] = sums[place - 1];
        tokens[place] = tokens[place - 1];
        slots[place] = slots[place - 1];
    }
    sums[place] = sum;
    tokens[place] = token;
    slots[place] = slot;
}

#define BLOCK 64

/* The `count` best of scores (B, K) + logits (B, K, V) of each sentence: sums, tokens and slots, each (B, count), which the caller
   has filled with -inf, 0 and 0. A block of tokens none of which is better than the worst of the best is passed over at once. */
void best(const float *logits, const float *scores, float *sums, size *tokens, size *slots, size B, size K, size V, size count) {
    for (size b = 0; b < B; b++, sums += count, tokens += count, slots += count)
        for (size k = 0; k < K; k++) {
            const float *row = logits + (b * K + k) * V;
            float score = scores[b * K + k];
            for (size start = 0; start < V; start += BLOCK) {
                size end = start + BLOCK < V ? start + BLOCK : V;
                float most = -INFINITY;
                #pragma omp simd reduction(max : most)
                for (size v = start; v < end; v++) most = row[v] > most ? row[v] : most;
                if (!(score + most > sums[count - 1])) continue;
                for (size v = start; v < end; v++)
                    if (score + row[v] > sums[count - 1]) insert(score + row[v], v, k, sums, tokens, slots, count);
            }
        }
}
