/* What training does to numbers between its products, where a library goes over them once for every small thing. First attention of
   whole sentences and its gradient: sentences lie end to end, without padding, and each attends within itself or to one source; the slow
   twin is `as_padded` in seq2seq/model/segments.py. Then rotary positions, whose twin is `Rotation` in seq2seq/model/positions.py; layer norm, whose
   twin is torch's; the exponentials of logits, and what R-Drop makes of them, with their slow twins in seq2seq/training/loss.py. Last, dropout; that of
   torch is in seq2seq/model/dropout.py.

   Letters of shapes are those of symbols.py. */

#include <omp.h>

#include "vectors.h"

typedef uint16_t halves __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

INLINE lanes of_bfloat16(halves x) { return (lanes)(__builtin_convertvector(x, whole_lanes) << 16); }

/* To the nearest, of two as near to the even one. A NaN that a processor makes stays one. */
INLINE halves in_bfloat16(lanes x) {
    whole_lanes bits = (whole_lanes)x;
    return __builtin_convertvector((bits + 0x7FFF + (bits >> 16 & 1)) >> 16, halves);
}

/* Tensors of tokens and heads in memory: D numbers, float32 or bfloat16, with strides in elements. */
typedef struct {
    void *numbers;
    size row, head, narrow;
} rows;

/* LANES numbers of a tensor of float32 or, with `narrow`, bfloat16. */
INLINE lanes read_at(const void *numbers, size place, size narrow) {
    return narrow ? of_bfloat16(*(const halves *)((const uint16_t *)numbers + place)) : at((const float *)numbers + place, 0);
}
INLINE void write_at(void *numbers, size place, size narrow, lanes x) {
    if (narrow)
        *(halves *)((uint16_t *)numbers + place) = in_bfloat16(x);
    else
        put((float *)numbers + place, 0, x);
}

/* `count` rows of a head -> as many of float32, side by side. */
INLINE void load(rows x, size first, size head, size count, size D, float *out) {
    for (size i = 0; i < count; i++, out += D) {
        size start = (first + i) * x.row + head * x.head;
        for (size d = 0; d < D; d += LANES) put(out + d, 0, read_at(x.numbers, start + d, x.narrow));
    }
}

/* With zeros behind, up to `filled` rows. */
INLINE void load_filled(rows x, size first, size head, size count, size filled, size D, float *out) {
    load(x, first, head, count, D, out);
    memset(out + count * D, 0, (filled - count) * D * sizeof(float));
}

/* And back. */
INLINE void store(const float *in, rows x, size first, size head, size count, size D) {
    for (size i = 0; i < count; i++, in += D) {
        size start = (first + i) * x.row + head * x.head;
        for (size d = 0; d < D; d += LANES) write_at(x.numbers, start + d, x.narrow, at(in + d, 0));
    }
}

INLINE size whole_vectors(size count) { return (count + LANES - 1) / LANES * LANES; }
INLINE size smaller(size a, size b) { return a < b ? a : b; }

/* Two vectors, one number of each in turn: the first halves, the second halves. */
INLINE lanes first_in_turn(lanes a, lanes b) {
    return __builtin_shuffle(a, b, (whole_lanes){0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23});
}
INLINE lanes second_in_turn(lanes a, lanes b) {
    return __builtin_shuffle(a, b, (whole_lanes){8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31});
}

/* `count` rows of D numbers -> D rows of `padded`, with zeros behind: blocks of LANES by LANES, which four perfect shuffles transpose. */
static void transpose(const float *x, size count, size padded, size D, float *out) {
    for (size j = 0; j < padded; j += LANES)
        for (size d = 0; d < D; d += LANES) {
            lanes block[LANES], shuffled[LANES];
            for (size i = 0; i < LANES; i++) block[i] = j + i < count ? at(x + (j + i) * D + d, 0) : (lanes){0};
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

/* The sums below stay in registers: so many numbers each, and as many of them side by side as there are registers for. Vectors that are wider than
   registers would be kept in memory. */
#ifdef __AVX512F__
#define REGISTER 16
#define SIDE_BY_SIDE 4
#else
#define REGISTER 8
#define SIDE_BY_SIDE 2
#endif
typedef float vector __attribute__((vector_size(4 * REGISTER), aligned(4), may_alias));

/* Weights of rows: that of row k in sum r is numbers[r * by_sum + k * by_row]. */
typedef struct {
    const float *numbers;
    size by_sum, by_row;
} weights;

INLINE void some_sums(weights w, size from, size to, const float *x, size width, int vectors, float *out, size out_width, int more) {
    vector sum[TOGETHER][SIDE_BY_SIDE];
    for (int r = 0; r < TOGETHER; r++)
        for (int v = 0; v < vectors; v++) sum[r][v] = more ? ((const vector *)(out + r * out_width))[v] : (vector){0};
    for (size k = from; k < to; k++)
        for (int r = 0; r < TOGETHER; r++) {
            float weight = w.numbers[r * w.by_sum + k * w.by_row];
            for (int v = 0; v < vectors; v++) sum[r][v] += weight * ((const vector *)(x + k * width))[v];
        }
    for (int r = 0; r < TOGETHER; r++)
        for (int v = 0; v < vectors; v++) ((vector *)(out + r * out_width))[v] = sum[r][v];
}

/* All of attention's products: TOGETHER sums of the rows `from` up to `to` of x, as far as `width` numbers of each, a multiple of LANES; with
   `more` on top of what is in `out`. Each row lies `x_width` numbers behind the one before, and each sum `out_width`. */
INLINE void sums(weights w, size from, size to, const float *x, size x_width, size width, float *out, size out_width, int more) {
    size d = 0, most = SIDE_BY_SIDE * REGISTER;
    for (; width - d >= most; d += most) some_sums(w, from, to, x + d, x_width, SIDE_BY_SIDE, out + d, out_width, more);
    for (; width - d >= most / 2; d += most / 2) some_sums(w, from, to, x + d, x_width, SIDE_BY_SIDE / 2, out + d, out_width, more);
    for (; width - d >= REGISTER; d += REGISTER) some_sums(w, from, to, x + d, x_width, 1, out + d, out_width, more);
}

/* Numbers at the places from `start` on: those before `visible`, and `other` in the place of the rest. */
INLINE lanes visible_of(lanes x, size start, size visible, lanes other) {
    const lanes places = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return choose(places < (float)(visible - start), x, other);
}

/* The scores of a query's visible keys become weights, those up to `end` 0; log sum exp. */
INLINE float softmax(float *scores, size visible, size end, float scale) {
    lanes nothing = (lanes){0} - INFINITY, greatest = nothing, sum = {0};
    for (size j = 0; j < end; j += LANES) {
        lanes x = visible_of(at(scores + j, 0), j, visible, nothing);
        greatest = choose(x > greatest, x, greatest);
    }
    float most = greatest_of(greatest);
    for (size j = 0; j < end; j += LANES) {
        lanes x = visible_of(exponentials((at(scores + j, 0) - most) * scale), j, visible, (lanes){0});
        put(scores + j, 0, x);
        sum += x;
    }
    float total = sum_of(sum), share = 1.0f / total;
    for (size j = 0; j < end; j += LANES) put(scores + j, 0, at(scores + j, 0) * share);
    return most * scale + logf(total);
}

/* From scores and normalizer the weights of a query again, and from its gradient by them that by its scores, both 0 from `visible` up to `end`. */
INLINE void softmax_backward(float *scores, float *by_weights, float normalizer, size visible, size end, float scale) {
    lanes sum = {0};
    for (size j = 0; j < end; j += LANES) {
        lanes x = at(scores + j, 0) * scale - normalizer;
        x = exponentials(choose(x > 0.0f, (lanes){0}, x)); /* above 0 by rounding, or behind what it may see */
        x = visible_of(x, j, visible, (lanes){0});
        put(scores + j, 0, x);
        sum += x * at(by_weights + j, 0);
    }
    float mean = sum_of(sum);
    for (size j = 0; j < end; j += LANES) put(by_weights + j, 0, at(scores + j, 0) * (at(by_weights + j, 0) - mean) * scale);
}

/* What belongs to all: B sentences whose queries and keys start where `queries_at` and `keys_at` (B + 1) say, H heads, groups of which
   share keys and values, D a multiple of LANES. */
typedef struct {
    const size *queries_at, *keys_at;
    size B, H, group, D, causal;
} task;

INLINE size seen(task t, size query, size keys) { return t.causal ? smaller(query + 1, keys) : keys; }

/* Room for `count` numbers out of what a thread has to work with. */
INLINE float *taken(float **scratch, size count) {
    float *start = *scratch;
    *scratch += count;
    return start;
}

/* x: queries, keys, values, and what comes out. */
static void forward_of(task t, const rows *x, float *normalizers, size b, size g, float *scratch) {
    size D = t.D, first = t.queries_at[b], T = t.queries_at[b + 1] - first, source = t.keys_at[b], S = t.keys_at[b + 1] - source;
    size padded = whole_vectors(S), filled = whole_vectors(T);
    float scale = 1.0f / sqrtf((float)D);
    float *keys = taken(&scratch, padded * D), *columns = taken(&scratch, padded * D), *values = taken(&scratch, padded * D);
    float *of_queries = taken(&scratch, filled * D), *out = taken(&scratch, filled * D), *scores = scratch;
    load(x[1], source, g, S, D, keys);
    load(x[2], source, g, S, D, values);
    transpose(keys, S, padded, D, columns);
    for (size h = g * t.group; h < (g + 1) * t.group; h++) {
        load_filled(x[0], first, h, T, filled, D, of_queries);
        for (size i = 0; i < T; i += TOGETHER) {
            size end = whole_vectors(seen(t, i + TOGETHER - 1, S));
            sums((weights){of_queries + i * D, D, 1}, 0, D, columns, padded, end, scores, padded, 0);
            for (size q = 0; q < TOGETHER; q++) {
                float normalizer = softmax(scores + q * padded, seen(t, i + q, S), end, scale);
                if (i + q < T) normalizers[(first + i + q) * t.H + h] = normalizer;
            }
            sums((weights){scores, padded, 1}, 0, seen(t, i + TOGETHER - 1, S), values, D, D, out + i * D, D, 0);
        }
        store(out, x[3], first, h, T, D);
    }
}

/* x: queries, keys, values, the gradient by what came out, and those by the first three. */
static void backward_of(task t, const rows *x, const float *normalizers, size b, size g, float *scratch) {
    size D = t.D, first = t.queries_at[b], T = t.queries_at[b + 1] - first, source = t.keys_at[b], S = t.keys_at[b + 1] - source;
    size padded = whole_vectors(S), filled = whole_vectors(T);
    float scale = 1.0f / sqrtf((float)D);
    float *keys = taken(&scratch, padded * D), *columns = taken(&scratch, padded * D), *of_values = taken(&scratch, padded * D);
    float *by_keys = taken(&scratch, padded * D), *by_values = taken(&scratch, padded * D);
    float *of_queries = taken(&scratch, filled * D), *by_out = taken(&scratch, filled * D), *by_queries = taken(&scratch, filled * D);
    float *by_scores = taken(&scratch, filled * padded), *scores = scratch;
    load(x[2], source, g, S, D, by_values); /* for a moment */
    transpose(by_values, S, padded, D, of_values);
    load(x[1], source, g, S, D, keys);
    transpose(keys, S, padded, D, columns);
    for (size h = g * t.group; h < (g + 1) * t.group; h++) {
        load_filled(x[0], first, h, T, filled, D, of_queries);
        load_filled(x[3], first, h, T, filled, D, by_out);
        for (size i = 0; i < T; i += TOGETHER) {
            size visible = seen(t, i + TOGETHER - 1, S), end = whole_vectors(visible);
            sums((weights){of_queries + i * D, D, 1}, 0, D, columns, padded, end, scores + i * padded, padded, 0);
            sums((weights){by_out + i * D, D, 1}, 0, D, of_values, padded, end, by_scores + i * padded, padded, 0);
            for (size q = i; q < smaller(i + TOGETHER, T); q++)
                softmax_backward(scores + q * padded, by_scores + q * padded, normalizers[(first + q) * t.H + h], seen(t, q, S), end, scale);
            sums((weights){by_scores + i * padded, padded, 1}, 0, visible, keys, D, D, by_queries + i * D, D, 0);
        }
        store(by_queries, x[4], first, h, T, D);
        for (size j = 0; j < S; j += TOGETHER) {
            size from = t.causal ? smaller(j, T) : 0;
            sums((weights){scores + j, 1, padded}, from, T, by_out, D, D, by_values + j * D, D, h > g * t.group);
            sums((weights){by_scores + j, 1, padded}, from, T, of_queries, D, D, by_keys + j * D, D, h > g * t.group);
        }
    }
    store(by_keys, x[5], source, g, S, D);
    store(by_values, x[6], source, g, S, D);
}

/* Each sentence and each head of keys is the work of one thread, in its `part` of `room`. */
#define FOR_EACH(t, call)                                              \
    _Pragma("omp parallel num_threads(threads)") {                     \
        float *scratch = room + omp_get_thread_num() * part;           \
        _Pragma("omp for schedule(dynamic, 16)")                       \
        for (size n = 0; n < t.B * (t.H / t.group); n++) {             \
            size b = n / (t.H / t.group), g = n % (t.H / t.group);     \
            call;                                                      \
        }                                                              \
    }

/* softmax(Q K^T / sqrt(D)) V: queries (N, H, D), keys and values (M, H / group, D) -> out like queries, and normalizers (N, H). */
void attend_within(const size *queries_at, const size *keys_at, size B, size H, size group, size D, size causal, size threads, float *room,
                   size part, const rows *x, float *normalizers) {
    task t = {queries_at, keys_at, B, H, group, D, causal};
    FOR_EACH(t, forward_of(t, x, normalizers, b, g, scratch))
}

/* Its gradient: after queries, keys and values comes that by out, then those by queries, keys and values. */
void attend_within_backward(const size *queries_at, const size *keys_at, size B, size H, size group, size D, size causal, size threads, float *room,
                            size part, const rows *x, const float *normalizers) {
    task t = {queries_at, keys_at, B, H, group, D, causal};
    FOR_EACH(t, backward_of(t, x, normalizers, b, g, scratch))
}

/* x: (N, H, D) -> out: each pair of numbers, taken as a complex one, times that of its row and place in `turns` (N, D / 2), or the conjugate of it. */
void turn(const rows *x, size N, size H, size D, const float *turns, size conjugate, size threads) {
    const lanes sign = conjugate ? (lanes){1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1}
                                 : (lanes){-1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1};
    #pragma omp parallel for num_threads(threads)
    for (size n = 0; n < N; n++)
        for (size h = 0; h < H; h++) {
            float pairs[MOST_PARTS * LANES];
            load(x[0], n, h, 1, D, pairs);
            for (size d = 0; d < D; d += LANES) {
                lanes pair = at(pairs + d, 0), by = at(turns + n * D + d, 0);
                lanes cosine = __builtin_shuffle(by, (whole_lanes){0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 12, 12, 14, 14});
                lanes sine = __builtin_shuffle(by, (whole_lanes){1, 1, 3, 3, 5, 5, 7, 7, 9, 9, 11, 11, 13, 13, 15, 15});
                lanes other = __builtin_shuffle(pair, (whole_lanes){1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14});
                put(pairs + d, 0, pair * cosine + other * (sine * sign));
            }
            store(pairs, x[1], n, h, 1, D);
        }
}

/* x (N, E), E a multiple of LANES -> out (N, E): (x - mean) / sqrt(variance + epsilon) * weight + bias, of each row its own mean and variance; and
   mean and 1 / sqrt(variance + epsilon), (N, 2). */
void normalize(const float *x, size N, size E, const float *weight, const float *bias, double epsilon, void *out, size narrow, float *moments,
               size threads) {
    #pragma omp parallel for num_threads(threads)
    for (size n = 0; n < N; n++) {
        const float *row = x + n * E;
        lanes sum = {0}, squares = {0};
        for (size e = 0; e < E; e += LANES) sum += at(row + e, 0);
        float mean = sum_of(sum) / E;
        for (size e = 0; e < E; e += LANES) {
            lanes apart = at(row + e, 0) - mean;
            squares += apart * apart;
        }
        float share = 1.0f / sqrtf(sum_of(squares) / E + (float)epsilon);
        for (size e = 0; e < E; e += LANES)
            write_at(out, n * E + e, narrow, (at(row + e, 0) - mean) * share * at(weight + e, 0) + at(bias + e, 0));
        moments[2 * n] = mean, moments[2 * n + 1] = share;
    }
}

/* Its gradient from that by `out`: by x, on top of `past` (N, E); and by weight and bias, each thread its part of
   by_vectors (threads, 2, E), which comes with zeros. */
void normalize_backward(const void *by_out, size narrow, const float *x, const float *moments, size N, size E, const float *weight, const float *past,
                        float *by_x, float *by_vectors, size threads) {
    #pragma omp parallel num_threads(threads)
    {
        float *by_weight = by_vectors + omp_get_thread_num() * 2 * E, *by_bias = by_weight + E;
        #pragma omp for schedule(static)
        for (size n = 0; n < N; n++) {
            const float *row = x + n * E;
            float mean = moments[2 * n], share = moments[2 * n + 1];
            lanes sum = {0}, along = {0};
            for (size e = 0; e < E; e += LANES) {
                lanes normal = (at(row + e, 0) - mean) * share, by = read_at(by_out, n * E + e, narrow), weighted = by * at(weight + e, 0);
                sum += weighted;
                along += weighted * normal;
                put(by_weight + e, 0, at(by_weight + e, 0) + by * normal);
                put(by_bias + e, 0, at(by_bias + e, 0) + by);
            }
            float common = sum_of(sum) / E, slope = sum_of(along) / E;
            for (size e = 0; e < E; e += LANES) {
                lanes normal = (at(row + e, 0) - mean) * share, weighted = read_at(by_out, n * E + e, narrow) * at(weight + e, 0);
                put(by_x + n * E + e, 0, (weighted - common - normal * slope) * share + at(past + n * E + e, 0));
            }
        }
    }
}

INLINE float from_bfloat16(uint16_t x) {
    uint32_t bits = (uint32_t)x << 16;
    float number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

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
