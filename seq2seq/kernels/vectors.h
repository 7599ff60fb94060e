/* What the kernels share: vectors of LANES numbers, and an exponential that is vectorised. LANES, MOST_PARTS, AT_ONCE and TOGETHER are set where
   these files are compiled, in __init__.py. */

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef int64_t size;

_Static_assert(LANES == 16, "turned() counts them one by one");

#define INLINE static inline __attribute__((always_inline))

/* e^x for x <= 0 to within 2e-7 of itself, without a branch, so that loops over it are vectorised. */
INLINE float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    float whole = floorf(x * 1.44269504f + 0.5f);
    float rest = (x - whole * 0.693359375f) + whole * 2.12194440e-4f; /* ln 2 in two parts */
    float power = 1.0f + rest * (1.0f + rest * (0.5f + rest * (0.166666666f + rest * (0.0416664548f + rest * (0.00836303151f
                  + rest * 0.00137978571f)))));
    uint32_t bits = (uint32_t)((int32_t)whole + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return power * scale;
}

typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE lanes at(const float *numbers, int part) { return ((const lanes *)numbers)[part]; }
INLINE void put(float *numbers, int part, lanes x) { ((lanes *)numbers)[part] = x; }

typedef int32_t whole_lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* x where `chosen` has all bits, y where it has none. */
INLINE lanes choose(whole_lanes chosen, lanes x, lanes y) {
    return (lanes)((chosen & (whole_lanes)x) | (~chosen & (whole_lanes)y));
}

/* `exponential` of each. */
INLINE lanes exponentials(lanes x) {
    const lanes least = (lanes){0} - 87.0f;
    x = choose(x < least, least, x);
    whole_lanes whole = __builtin_convertvector(x * 1.44269504f - 0.5f, whole_lanes); /* cut off, and x <= 0: the nearest */
    lanes number = __builtin_convertvector(whole, lanes);
    lanes rest = (x - number * 0.693359375f) + number * 2.12194440e-4f;
    lanes power = 1.0f + rest * (1.0f + rest * (0.5f + rest * (0.166666666f + rest * (0.0416664548f + rest * (0.00836303151f
                  + rest * 0.00137978571f)))));
    return power * (lanes)((whole + 127) << 23);
}

INLINE lanes turned(lanes x, int by) {
    whole_lanes places = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return __builtin_shuffle(x, (places + by) & (LANES - 1));
}

INLINE float sum_of(lanes x) {
    for (int by = LANES / 2; by; by /= 2) x += turned(x, by);
    return x[0];
}

INLINE float greatest_of(lanes x) {
    for (int by = LANES / 2; by; by /= 2) x = choose(x > turned(x, by), x, turned(x, by));
    return x[0];
}
