/* The neurons of one site in one pass over memory; `native.py` compiles and calls it.

   Each function does the operations of its namesake in converter/neurons, in the same order, so it gives the same bits:
   it must be compiled without contraction of products and sums. NaN goes through. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* How the values of a site lie in memory: rows of `length`, `per_image` of them for each image. A row has one
   channel, or, where `spread`, goes through all of them `length / channels` times. The neuron of an element, which
   selects its random number, is the row's first plus, where spread, `position` for each time it went through all
   channels and `channel` for each of them. */
typedef struct {
    int64_t images, per_image, length, channels, spread, position, channel, threads;
} Rows;

/* What the neurons of a site share: numbers for each channel, of which `offset` may be NULL for 0, and `worth`, that of
   a spike, for 1. */
typedef struct {
    const float *theta, *offset, *worth;
    float steps, low, most;
} Site;

#define INLINE static inline __attribute__((always_inline))
#define GOLDEN 0x9E3779B97F4A7C15u
#define SMALL 16384 /* elements for which waking another thread does not pay */

INLINE float clip(float x, float low, float high) {
    x = x < low ? low : x;
    return x > high ? high : x;
}

INLINE uint64_t mix(uint64_t x) { /* SplitMix64, as in noise.py */
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* The parameters of the neurons along a row, one of each where it has one channel; and the neurons' hashes. */
typedef struct {
    uint64_t *hash;
    float *theta, *offset, *worth;
} Along;

static Along along_new(const Rows *rows) {
    const int64_t n = rows->length;
    Along a;
    a.hash = malloc(n * (sizeof(uint64_t) + 3 * sizeof(float)));
    if (!a.hash) abort();
    a.theta = (float *)(a.hash + n);
    a.offset = a.theta + n;
    a.worth = a.offset + n;
    return a;
}

static void along_fill(Along *a, const Rows *rows, const Site *site, int64_t row) {
    const int64_t n = rows->spread ? rows->length : 1, first = rows->spread ? 0 : row;
    for (int64_t i = 0; i < n; i++) {
        const int64_t c = (first + i) % rows->channels;
        a->theta[i] = site->theta[c];
        a->offset[i] = site->offset ? site->offset[c] : -0.0f; /* x + -0 is x, also where x is -0 */
        a->worth[i] = site->worth ? site->worth[c] : 1.0f;
    }
}

/* Run the last argument for every row `r`, the `row`-th of its image; `a` holds what its neurons have. In the order of
   memory, or with the images of a row one after the other, where that saves the neurons' hashes: `fresh` says that the
   row before was another one of its image. */
#define FOR_ROWS(rows, site, by_image, ...)                                                                         \
    _Pragma("omp parallel num_threads(rows->threads) if (rows->images * rows->per_image * rows->length > SMALL)") { \
        Along a = along_new(rows);                                                                                  \
        int64_t known = -1;                                                                                         \
        _Pragma("omp for schedule(static)") for (int64_t q = 0; q < rows->images * rows->per_image; q++) {          \
            const int64_t row = by_image ? q % rows->per_image : q / rows->images;                                  \
            const int64_t image = by_image ? q / rows->per_image : q % rows->images;                                \
            const int64_t r = image * rows->per_image + row;                                                        \
            const int fresh = row != known;                                                                         \
            if (fresh && (known < 0 || !rows->spread)) along_fill(&a, rows, site, row);                             \
            known = row;                                                                                            \
            __VA_ARGS__                                                                                             \
        }                                                                                                           \
        free(a.hash);                                                                                               \
    }

INLINE void two_phase_row(const float *restrict z, float *restrict out, int64_t n, const Along *a, const int spread,
                          float steps, float low, float most) {
    const float *restrict theta = a->theta, *restrict worth = a->worth, *restrict offset = a->offset;
    for (int64_t i = 0; i < n; i++) {
        const int64_t j = spread ? i : 0;
        out[i] = clip(floorf((z[i] * steps + offset[j]) / theta[j] + 0.5f), low, most) * worth[j];
    }
}

/* N worth with N = clip(floor((z T + offset) / theta + 1/2), low, most). */
void two_phase(const Rows *rows, const Site *site, const float *z, float *out) {
    const float steps = site->steps, low = site->low, most = site->most;
    const int64_t n = rows->length;
    FOR_ROWS(rows, site, 1, {
        if (rows->spread) two_phase_row(z + r * n, out + r * n, n, &a, 1, steps, low, most);
        else two_phase_row(z + r * n, out + r * n, n, &a, 0, steps, low, most);
    })
}

INLINE void tpp_row(const float *restrict z, float *restrict out, int64_t n, const Along *a, const int spread,
                    const int negative, float steps, float most, const uint64_t *restrict table, float grid,
                    uint64_t image) {
    const float *restrict theta = a->theta, *restrict worth = a->worth, *restrict offset = a->offset;
    const uint64_t *restrict hash = a->hash;
    const float last = most * grid - 1;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const int64_t j = spread ? i : 0;
        const uint64_t bits = mix(image + hash[i]);
        const float uniform = (float)(int32_t)(bits >> 40 & 0xFFFFFF) * 0x1p-24f;
        const float total = z[i] * steps + offset[j];
        const float v = (negative ? fabsf(total) : total) / theta[j];
        const float position = clip(v, 0.0f, most) * grid;
        float left = floorf(position);
        left = left >= 0 ? left : 0; /* NaN must not select an entry */
        left = left > last ? last : left;
        const int32_t entry = (int32_t)left;
        const uint64_t pair = table[entry]; /* two look-ups in one */
        const uint32_t low = (uint32_t)pair, high = (uint32_t)(pair >> 32);
        float below, rise;
        memcpy(&below, &low, sizeof below);
        memcpy(&rise, &high, sizeof rise);
        const float mean = below + (position - left) * rise;
        float spikes = floorf(mean + uniform);
        spikes = spikes > most ? most : spikes;
        if (negative) spikes *= (float)((total > 0) - (total < 0));
        out[i] = spikes * worth[j];
    }
}

/* Fill in the hashes of the neurons along a row, of which the first has the number `first`. */
static void along_hash(Along *a, const Rows *rows, uint64_t key, int64_t first) {
    for (int64_t i = 0; i < rows->length; i++) {
        const int64_t more = rows->spread ? i / rows->channels * rows->position + i % rows->channels * rows->channel : i;
        a->hash[i] = mix(key + (uint64_t)(first + more + 1) * GOLDEN);
    }
}

/* N worth with N = floor(E[N] + u), E[N] and its rise to the next entry from `table`, at intervals of 1 / grid, and u the
   random number that `key` (of site and step), `images` (the hash of each) and the neuron select. */
void tpp(const Rows *rows, const Site *site, const float *z, float *out, const uint64_t *table, float grid,
         uint64_t key, const uint64_t *images) {
    const float steps = site->steps, most = site->most;
    const int64_t n = rows->length, ahead = rows->spread ? n / rows->channels * rows->position : n;
    const int negative = site->low < 0;
    FOR_ROWS(rows, site, 0, {
        if (fresh) along_hash(&a, rows, key, row * ahead);
        const float *from = z + r * n;
        float *to = out + r * n;
        if (rows->spread && negative) tpp_row(from, to, n, &a, 1, 1, steps, most, table, grid, images[image]);
        else if (rows->spread) tpp_row(from, to, n, &a, 1, 0, steps, most, table, grid, images[image]);
        else if (negative) tpp_row(from, to, n, &a, 0, 1, steps, most, table, grid, images[image]);
        else tpp_row(from, to, n, &a, 0, 0, steps, most, table, grid, images[image]);
    })
}

INLINE void fire_row(const float *restrict current, float *restrict potential, float *restrict out, int64_t n,
                     const Along *a, const int spread) {
    const float *restrict theta = a->theta, *restrict worth = a->worth, *restrict drive = a->offset;
    for (int64_t i = 0; i < n; i++) {
        const int64_t j = spread ? i : 0;
        const float v = potential[i] + current[i] + drive[j];
        const float spike = v >= theta[j] ? 1.0f : 0.0f;
        potential[i] = v - theta[j] * spike;
        out[i] = spike * worth[j];
    }
}

/* `steps` steps of soft-reset integrate-and-fire: v <- v + I + offset, s = 1[v >= theta], v <- v - theta s. The
   current and the train lie `apart` and `out_apart` from step to step; a row stays in the cache for all of them. */
void integrate_and_fire(const Rows *rows, const Site *site, int64_t steps, const float *current, int64_t apart,
                        float *potential, float *out, int64_t out_apart) {
    const int64_t n = rows->length;
    FOR_ROWS(rows, site, 1, {
        for (int64_t t = 0; t < steps; t++) {
            const float *from = current + t * apart + r * n;
            float *to = out + t * out_apart + r * n;
            if (rows->spread) fire_row(from, potential + r * n, to, n, &a, 1);
            else fire_row(from, potential + r * n, to, n, &a, 0);
        }
    })
}
