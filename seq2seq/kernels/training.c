/* What training does to numbers between its products, where a library goes over them once for every small thing. First attention of
   whole sentences and its gradient: sentences lie end to end, without padding, and each attends within itself or to one source; the slow
   twin is `as_padded` in seq2seq/model/segments.py. Then the exponentials of logits, and what R-Drop makes of them; the slow twins are in seq2seq/training/loss.py. Last, dropout; that of torch is in seq2seq/model/dropout.py.

   Letters of shapes are those of symbols.py. Rows of queries, keys and values are D numbers for each head, with strides in elements. */

#include <omp.h>

#include "vectors.h"

/* What belongs to all: B sentences whose queries and keys start where `queries_at` and `keys_at` (B + 1) say, H heads, groups of which
   share keys and values, D a multiple of LANES. */
typedef struct {
    const size *queries_at, *keys_at;
    size B, H, group, D, causal;
} task;

/* Rows of heads in memory. */
typedef struct {
    float *numbers;
    size row, head;
} rows;

INLINE float *row_of(rows x, size row, size head) { return x.numbers + row * x.row + head * x.head; }

INLINE size whole_vectors(size count) { return (count + LANES - 1) / LANES * LANES; }

/* Two vectors, one number of each in turn: the first halves, the second halves. */
INLINE lanes first_in_turn(lanes a, lanes b) {
    return __builtin_shuffle(a, b, (whole_lanes){0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23});
}
INLINE lanes second_in_turn(lanes a, lanes b) {
    return __builtin_shuffle(a, b, (whole_lanes){8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31});
}

/* `count` rows of D numbers -> D rows of `padded`, with zeros behind: blocks of LANES by LANES, which four perfect shuffles transpose. */
static void transpose(rows x, size first, size head, size count, size padded, size D, float *out) {
    for (size j = 0; j < padded; j += LANES)
        for (size d = 0; d < D; d += LANES) {
            lanes block[LANES], shuffled[LANES];
            for (size i = 0; i < LANES; i++) block[i] = j + i < count ? at(row_of(x, first + j + i, head) + d, 0) : (lanes){0};
            for (int round = 0; round < 4; round++) {
                for (int i = 0; i < LANES / 2; i++) {
                    shuffled[2 * i] = first_in_turn(block[i], block[i + LANES / 2]);
                    shuffled[2 * i + 1] = second_in_turn(block[i], block[i + LANES / 2]);
                }
                memcpy(block, shuffled, sizeof block);
            }
            for (size i = 0; i < LANES; i++) put(out + (d + i) * padded + j, 0, block[i]);
        }
}

/* Some queries of a sentence: the last may be there several times. */
typedef struct {
    const float *row[TOGETHER];
} queries;

INLINE queries some(rows x, size first, size head, size i, size T) {
    queries found;
    for (int q = 0; q < TOGETHER; q++) found.row[q] = row_of(x, first + (i + q < T ? i + q : T - 1), head);
    return found;
}

/* Products of queries with `visible` columns, or some more: (TOGETHER, padded). */
INLINE void products(queries x, const float *columns, size padded, size visible, int parts, float *out) {
    for (size j = 0; j < visible; j += LANES) {
        lanes sum[TOGETHER] = {0};
        for (int d = 0; d < parts * LANES; d++) {
            lanes column = at(columns + d * padded + j, 0);
            for (int q = 0; q < TOGETHER; q++) sum[q] += x.row[q][d] * column;
        }
        for (int q = 0; q < TOGETHER; q++) put(out + q * padded + j, 0, sum[q]);
    }
}

/* The scores of a query's visible keys become weights, those up to `end` 0; log sum exp. */
INLINE float softmax(float *scores, size visible, size end, float scale) {
    for (size j = visible; j < end; j++) scores[j] = -INFINITY;
    lanes greatest = at(scores, 0), sum = {0};
    for (size j = LANES; j < end; j += LANES) greatest = choose(at(scores + j, 0) > greatest, at(scores + j, 0), greatest);
    float most = greatest_of(greatest);
    for (size j = 0; j < end; j += LANES) {
        lanes x = exponentials((at(scores + j, 0) - most) * scale);
        put(scores + j, 0, x);
        sum += x;
    }
    float total = sum_of(sum), share = 1.0f / total;
    for (size j = 0; j < end; j += LANES) put(scores + j, 0, at(scores + j, 0) * share);
    return most * scale + logf(total);
}

/* For each of some queries the sum of its weights (TOGETHER, padded) times `count` rows. */
INLINE void weighted(const float *weights, size padded, rows x, size first, size head, size count, int parts, queries out) {
    for (int start = 0; start < parts; start += 4) {
        int end = parts - start < 4 ? parts - start : 4;
        lanes sum[TOGETHER][4] = {0};
        for (size j = 0; j < count; j++) {
            const float *row = row_of(x, first + j, head) + start * LANES;
            for (int q = 0; q < TOGETHER; q++)
                for (int p = 0; p < end; p++) sum[q][p] += weights[q * padded + j] * at(row, p);
        }
        for (int q = TOGETHER - 1; q >= 0; q--)
            for (int p = 0; p < end; p++) put((float *)out.row[q], start + p, sum[q][p]);
    }
}

/* Row j of `sums` grows by what some queries weigh it times their rows. */
INLINE void spread(const float *weights, size padded, queries x, size count, int parts, float *sums) {
    for (size j = 0; j < count; j++)
        for (int p = 0; p < parts; p++, sums += LANES) {
            lanes sum = at(sums, 0);
            for (int q = 0; q < TOGETHER; q++) sum += weights[q * padded + j] * at(x.row[q], p);
            put(sums, 0, sum);
        }
}

INLINE size seen(task t, size query, size T, size keys) {
    query = query < T ? query : T - 1;
    return t.causal && query + 1 < keys ? query + 1 : keys;
}

INLINE void forward_of(task t, rows Q, rows K, rows V, rows out, float *normalizers, size b, size g, int parts, float *scratch) {
    size D = parts * LANES, first = t.queries_at[b], T = t.queries_at[b + 1] - first;
    size source = t.keys_at[b], S = t.keys_at[b + 1] - source, padded = whole_vectors(S);
    float scale = 1.0f / sqrtf((float)D), *columns = scratch, *weights = columns + D * padded;
    transpose(K, source, g, S, padded, D, columns);
    for (size h = g * t.group; h < (g + 1) * t.group; h++)
        for (size i = 0; i < T; i += TOGETHER) {
            size visible = seen(t, i + TOGETHER - 1, T, S), end = whole_vectors(visible);
            products(some(Q, first, h, i, T), columns, padded, visible, parts, weights);
            for (int q = 0; q < TOGETHER; q++) {
                float normalizer = softmax(weights + q * padded, seen(t, i + q, T, S), end, scale);
                if (i + q < T) normalizers[(first + i + q) * t.H + h] = normalizer;
            }
            weighted(weights, padded, V, source, g, visible, parts, some(out, first, h, i, T));
        }
}

INLINE void backward_of(task t, rows Q, rows K, rows V, const float *normalizers, rows by_out, rows by_q, rows by_k, rows by_v, size b,
                        size g, int parts, float *scratch) {
    size D = parts * LANES, first = t.queries_at[b], T = t.queries_at[b + 1] - first;
    size source = t.keys_at[b], S = t.keys_at[b + 1] - source, padded = whole_vectors(S);
    float scale = 1.0f / sqrtf((float)D), *keys = scratch, *values = keys + D * padded, *weights = values + D * padded;
    float *by_weights = weights + TOGETHER * padded, *of_keys = by_weights + TOGETHER * padded, *of_values = of_keys + D * padded;
    const lanes places = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    transpose(K, source, g, S, padded, D, keys);
    transpose(V, source, g, S, padded, D, values);
    memset(of_keys, 0, 2 * D * padded * sizeof(float));
    for (size h = g * t.group; h < (g + 1) * t.group; h++)
        for (size i = 0; i < T; i += TOGETHER) {
            size visible = seen(t, i + TOGETHER - 1, T, S);
            queries query = some(Q, first, h, i, T), gradient = some(by_out, first, h, i, T);
            products(query, keys, padded, visible, parts, weights);
            products(gradient, values, padded, visible, parts, by_weights);
            for (int q = 0; q < TOGETHER; q++) {
                float *weight = weights + q * padded, *by_weight = by_weights + q * padded;
                float normalizer = i + q < T ? normalizers[(first + i + q) * t.H + h] : INFINITY; /* a repeated query counts once */
                float own = (float)seen(t, i + q, T, S);
                lanes sum = {0};
                for (size j = 0; j < visible; j += LANES) {
                    lanes x = at(weight + j, 0) * scale - normalizer;
                    x = exponentials(choose(x > 0.0f, (lanes){0}, x)); /* above 0 by rounding, or behind what it may see */
                    x = choose(places + (float)j < own, x, (lanes){0});
                    put(weight + j, 0, x);
                    sum += x * at(by_weight + j, 0);
                }
                float mean = sum_of(sum);
                for (size j = 0; j < visible; j += LANES)
                    put(by_weight + j, 0, at(weight + j, 0) * (at(by_weight + j, 0) - mean) * scale);
            }
            spread(weights, padded, gradient, visible, parts, of_values);
            spread(by_weights, padded, query, visible, parts, of_keys);
            weighted(by_weights, padded, K, source, g, visible, parts, some(by_q, first, h, i, T));
        }
    for (size j = 0; j < S; j++) {
        memcpy(row_of(by_k, source + j, g), of_keys + j * D, D * sizeof(float));
        memcpy(row_of(by_v, source + j, g), of_values + j * D, D * sizeof(float));
    }
}

/* How many numbers a thread needs to work with; `training_scratch_size` of the caller says the same. */
static size scratch_size(task t) {
    size most = 0;
    for (size b = 0; b < t.B; b++) {
        size padded = whole_vectors(t.keys_at[b + 1] - t.keys_at[b]);
        most = padded > most ? padded : most;
    }
    return (4 * t.D + 2 * TOGETHER) * most;
}

/* Each sentence and each head of keys is the work of one thread; the usual widths are constants, so that sums stay in registers. */
#define FOR_EACH(t, threads, call)                                                       \
    size needed = scratch_size(t);                                                       \
    _Pragma("omp parallel num_threads(threads)") {                                       \
        float *scratch = room + omp_get_thread_num() * needed;                           \
        _Pragma("omp for schedule(dynamic, 16)")                                         \
        for (size n = 0; n < t.B * (t.H / t.group); n++) {                               \
            size b = n / (t.H / t.group), g = n % (t.H / t.group);                       \
            if (t.D == 64) { call(4); }                                                  \
            else if (t.D == 32) { call(2); }                                             \
            else { call((int)(t.D / LANES)); }                                           \
        }                                                                                \
    }

/* softmax(Q K^T / sqrt(D)) V: queries (N, H, D), keys and values (M, H / group, D) -> out (N, H, D) and normalizers (N, H). */
void attend_within(const size *queries_at, const size *keys_at, size B, size H, size group, size D, size causal, size threads, float *room,
                   float *q, size q_row, size q_head, float *k, size k_row, size k_head, float *v, size v_row, size v_head,
                   float *out, float *normalizers) {
    task t = {queries_at, keys_at, B, H, group, D, causal};
    rows Q = {q, q_row, q_head}, K = {k, k_row, k_head}, V = {v, v_row, v_head}, O = {out, H * D, D};
    #define CALL(parts) forward_of(t, Q, K, V, O, normalizers, b, g, parts, scratch)
    FOR_EACH(t, threads, CALL)
    #undef CALL
}

/* Its gradient: by_q, by_k and by_v, laid out like out. */
void attend_within_backward(const size *queries_at, const size *keys_at, size B, size H, size group, size D, size causal, size threads, float *room,
                            float *q, size q_row, size q_head, float *k, size k_row, size k_head, float *v, size v_row, size v_head,
                            float *normalizers, float *by_out, size out_row, size out_head, float *by_q, float *by_k, float *by_v) {
    task t = {queries_at, keys_at, B, H, group, D, causal};
    rows Q = {q, q_row, q_head}, K = {k, k_row, k_head}, V = {v, v_row, v_head}, O = {by_out, out_row, out_head};
    rows dQ = {by_q, H * D, D}, dK = {by_k, H / group * D, D}, dV = {by_v, H / group * D, D};
    #define CALL(parts) backward_of(t, Q, K, V, normalizers, O, dQ, dK, dV, b, g, parts, scratch)
    FOR_EACH(t, threads, CALL)
    #undef CALL
}

INLINE float from_bfloat16(uint16_t x) {
    uint32_t bits = (uint32_t)x << 16;
    float number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

/* To the nearest, of two as near to the even one; there is no NaN. */
INLINE uint16_t to_bfloat16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

/* Of each row of logits (R, V) the greatest, the sum of e^(logit - greatest), and those in the place of the logits. */
void exponentials_of_rows(float *logits, size R, size V, float *greatest, float *totals, size threads) {
    #pragma omp parallel for num_threads(threads)
    for (size r = 0; r < R; r++) {
        float *row = logits + r * V, most = -INFINITY, total = 0.0f;
        #pragma omp simd reduction(max : most)
        for (size v = 0; v < V; v++) most = row[v] > most ? row[v] : most;
        #pragma omp simd reduction(+ : total)
        for (size v = 0; v < V; v++) total += row[v] = exponential(row[v] - most);
        greatest[r] = most;
        totals[r] = total;
    }
}

/* The same of logits in bfloat16; the sum is that of the numbers before they are rounded. */
void exponentials_of_bfloat16_rows(uint16_t *logits, size R, size V, float *greatest, float *totals, size threads) {
    #pragma omp parallel for num_threads(threads)
    for (size r = 0; r < R; r++) {
        uint16_t *row = logits + r * V;
        float most = -INFINITY, total = 0.0f;
        #pragma omp simd reduction(max : most)
        for (size v = 0; v < V; v++) most = from_bfloat16(row[v]) > most ? from_bfloat16(row[v]) : most;
        #pragma omp simd reduction(+ : total)
        for (size v = 0; v < V; v++) {
            float x = exponential(from_bfloat16(row[v]) - most);
            total += x;
            row[v] = to_bfloat16(x);
        }
        greatest[r] = most;
        totals[r] = total;
    }
}

INLINE float as_is(float x) { return x; }

/* R-Drop: logits (2, R, V) of the same R rows under two dropouts, p and q after softmax. In the place of the logits comes the gradient of their
   negative log-likelihood and `weight` times KL(p, q) + KL(q, p), but for what the targets add; log sum exp of each row (2, R), and the
   divergence of each pair (R). */
#define AGREEMENT(name, kind, read, write)                                                                                   \
    void name(kind *logits, size R, size V, double weight, float *normalizers, float *divergences, size threads) {           \
        float w = (float)weight;                                                                                             \
        _Pragma("omp parallel for num_threads(threads)")                                                                     \
        for (size r = 0; r < R; r++) {                                                                                       \
            kind *first = logits + r * V, *second = first + R * V;                                                           \
            float most = -INFINITY, most2 = -INFINITY, total = 0.0f, total2 = 0.0f, sum = 0.0f, sum2 = 0.0f;                 \
            _Pragma("omp simd reduction(max : most, most2)")                                                                 \
            for (size v = 0; v < V; v++) {                                                                                   \
                most = read(first[v]) > most ? read(first[v]) : most;                                                        \
                most2 = read(second[v]) > most2 ? read(second[v]) : most2;                                                   \
            }                                                                                                                \
            _Pragma("omp simd reduction(+ : total, total2, sum, sum2)")                                                      \
            for (size v = 0; v < V; v++) {                                                                                   \
                float x = read(first[v]), y = read(second[v]), p = exponential(x - most), q = exponential(y - most2);        \
                total += p;                                                                                                  \
                total2 += q;                                                                                                 \
                sum += p * (x - y);                                                                                          \
                sum2 += q * (x - y);                                                                                         \
            }                                                                                                                \
            float normalizer = most + logf(total), normalizer2 = most2 + logf(total2), apart = normalizer - normalizer2;     \
            float by_p = sum / total - apart, by_q = apart - sum2 / total2, share = 1.0f / total, share2 = 1.0f / total2;    \
            _Pragma("omp simd")                                                                                              \
            for (size v = 0; v < V; v++) {                                                                                   \
                float x = read(first[v]), y = read(second[v]), log_ratio = x - y - apart;                                    \
                float p = exponential(x - most) * share, q = exponential(y - most2) * share2;                                \
                first[v] = write(p + w * (p * (log_ratio - by_p + 1.0f) - q));                                               \
                second[v] = write(q + w * (q * (1.0f - log_ratio - by_q) - p));                                              \
            }                                                                                                                \
            normalizers[r] = normalizer;                                                                                     \
            normalizers[R + r] = normalizer2;                                                                                \
            divergences[r] = by_p + by_q;                                                                                    \
        }                                                                                                                    \
    }

AGREEMENT(agreement_of_rows, float, as_is, as_is)
AGREEMENT(agreement_of_bfloat16_rows, uint16_t, from_bfloat16, to_bfloat16)

/* 32 random bits for each place: lowbias32 (C. Wellons), twice, with half of the seed each time. */
INLINE uint32_t bits_of(uint32_t place, uint32_t first, uint32_t second) {
    uint32_t x = place ^ first;
    x = (x ^ x >> 16) * 0x7feb352d;
    x = (x ^ x >> 15) * 0x846ca68b;
    x ^= x >> 16 ^ second;
    x = (x ^ x >> 16) * 0x7feb352d;
    x = (x ^ x >> 15) * 0x846ca68b;
    return x ^ x >> 16;
}

/* out = base + (x times `scale`, or 0 at about dropped / 2^32 of the places); base may be missing. What is dropped depends on seed and
   place alone, so that the gradient is this function of the gradient. */
#define DROPOUT(name, from, to, read, write)                                                                                 \
    void name(const float *base, const from *x, to *out, size count, uint64_t seed, uint64_t dropped, double scale, size threads) { \
        uint32_t first = (uint32_t)seed, second = (uint32_t)(seed >> 32), limit = (uint32_t)dropped;                         \
        float factor = (float)scale;                                                                                         \
        _Pragma("omp parallel for num_threads(threads)")                                                                     \
        for (size start = 0; start < count; start += 4096) {                                                                 \
            size end = start + 4096 < count ? start + 4096 : count;                                                          \
            if (base)                                                                                                        \
                for (size i = start; i < end; i++)                                                                           \
                    out[i] = write(base[i] + (bits_of((uint32_t)i, first, second) < limit ? 0.0f : read(x[i]) * factor));    \
            else                                                                                                             \
                for (size i = start; i < end; i++)                                                                           \
                    out[i] = write(bits_of((uint32_t)i, first, second) < limit ? 0.0f : read(x[i]) * factor);                \
        }                                                                                                                    \
    }

DROPOUT(dropout, float, float, as_is, as_is)
DROPOUT(dropout_of_bfloat16, uint16_t, float, from_bfloat16, as_is)
DROPOUT(dropout_to_bfloat16, float, uint16_t, as_is, to_bfloat16)
