/* The neurons of one site in one pass over memory; `native.py` compiles and calls it.

   Each function does the operations of its namesake in converter/neurons, in the same order, so it gives the same bits:
   it must be compiled without contraction of products and sums. NaN goes through. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* How the values of a site lie in memory: rows of `length`, `per_image` of them for each image. A row has one
   channel, or, where `spread`, goes through all of them `length / channels` times, and each `tile` begins with the
   first. The neuron of an element, which selects its random number, is the row's first plus, where spread, `position`
   for each time it went through all channels and `channel` for each of them. */
typedef struct {
    int64_t images, per_image, length, tile, channels, spread, position, channel, threads;
} Rows;

/* What the neurons of a site share: numbers for each channel, of which `offset` may be NULL for 0, and `worth`, that of
   a spike, for 1. There are `offsets` times as many offsets, one for each step, or once as many. */
typedef struct {
    const float *theta, *offset, *worth;
    float steps, low, most;
    int64_t offsets;
} Site;

#define INLINE static inline __attribute__((always_inline))
#define GOLDEN 0x9E3779B97F4A7C15u
#define SMALL 16384 /* elements for which waking another thread does not pay */

INLINE float clip(float x, float low, float high) {
    x = x < low ? low : x;
    return x > high ? high : x;
}

INLINE uint64_t mix_upper(uint64_t x) { /* the upper 31 bits of mix */
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    return (x ^ (x >> 27)) * 0x94D049BB133111EBu;
}

INLINE uint64_t mix(uint64_t x) { /* SplitMix64, as in noise.py */
    x = mix_upper(x);
    return x ^ (x >> 31);
}

/* The parameters of the neurons along a tile, one of each where it has one channel, and offsets `apart` from step to
   step; and the hashes of those along a row. */
typedef struct {
    uint64_t *hash;
    float *theta, *offset, *worth;
    int64_t apart;
} Along;

static Along along_new(const Rows *rows, const Site *site) {
    const int64_t n = rows->tile;
    Along a;
    a.hash = malloc(rows->length * sizeof(uint64_t) + n * (2 + site->offsets) * sizeof(float));
    if (!a.hash) abort();
    a.theta = (float *)(a.hash + rows->length);
    a.worth = a.theta + n;
    a.offset = a.worth + n;
    a.apart = site->offsets == 1 ? 0 : rows->spread ? n : 1;
    return a;
}

static void along_fill(Along *a, const Rows *rows, const Site *site, int64_t row) {
    const int64_t n = rows->spread ? rows->tile : 1, first = rows->spread ? 0 : row;
    for (int64_t i = 0; i < n; i++) {
        const int64_t c = (first + i) % rows->channels;
        a->theta[i] = site->theta[c];
        a->worth[i] = site->worth ? site->worth[c] : 1.0f;
        for (int64_t t = 0; t < site->offsets; t++) /* x + -0 is x, also where x is -0 */
            a->offset[t * a->apart + i] = site->offset ? site->offset[t * rows->channels + c] : -0.0f;
    }
}

/* Run the last argument for every row `r`, the `row`-th of its image; `a` holds what its neurons have. In the order of
   memory, or with the images of a row one after the other, where that saves the neurons' hashes: `fresh` says that the
   row before was another one of its image. */
#define FOR_ROWS(rows, site, by_image, ...)                                                                         \
    _Pragma("omp parallel num_threads(rows->threads) if (rows->images * rows->per_image * rows->length > SMALL)") { \
        Along a = along_new(rows, site);                                                                            \
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

/* Put the count N of neuron `i` into `out`: times `worth` as a float, or, where `bytes`, as it is. Return whether it is
   no number, which a byte cannot say. */
INLINE int put(void *restrict out, int64_t i, float count, float worth, const int bytes) {
    if (!bytes) {
        ((float *)out)[i] = count * worth;
        return 0;
    }
    const int none = count != count;
    ((uint8_t *)out)[i] = (uint8_t)(int32_t)(none ? 0.0f : count);
    return none;
}

/* Where row `r` of `n` elements begins in `out`. */
INLINE void *row_of(void *out, int64_t r, int64_t n, const int bytes) {
    return bytes ? (void *)((uint8_t *)out + r * n) : (void *)((float *)out + r * n);
}

INLINE int two_phase_row(const float *restrict z, void *restrict out, int64_t n, const Along *a, const int spread,
                         const int bytes, float steps, float low, float most) {
    const float *restrict theta = a->theta, *restrict worth = a->worth, *restrict offset = a->offset;
    int none = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t j = spread ? i : 0;
        none |= put(out, i, clip(floorf((z[i] * steps + offset[j]) / theta[j] + 0.5f), low, most), worth[j], bytes);
    }
    return none;
}

/* N worth, or N in bytes, with N = clip(floor((z T + offset) / theta + 1/2), low, most); return whether a byte failed. */
int two_phase(const Rows *rows, const Site *site, const float *z, void *out, int bytes) {
    const float steps = site->steps, low = site->low, most = site->most;
    const int64_t n = rows->length;
    int failed = 0;
    FOR_ROWS(rows, site, 1, {
        const float *from = z + r * n;
        void *to = row_of(out, r, n, bytes);
        int none;
        if (rows->spread && bytes) none = two_phase_row(from, to, n, &a, 1, 1, steps, low, most);
        else if (rows->spread) none = two_phase_row(from, to, n, &a, 1, 0, steps, low, most);
        else if (bytes) none = two_phase_row(from, to, n, &a, 0, 1, steps, low, most);
        else none = two_phase_row(from, to, n, &a, 0, 0, steps, low, most);
        if (none) __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
    })
    return failed;
}

INLINE int tpp_tile(const float *restrict z, void *restrict out, int64_t n, const Along *a,
                    const uint64_t *restrict hash, const int spread, const int negative, const int bytes, float steps,
                    float most, const uint64_t *restrict table, float grid, uint64_t image) {
    const float *restrict theta = a->theta, *restrict worth = a->worth, *restrict offset = a->offset;
    const float last = most * grid - 1;
    int none = 0;
#pragma omp simd reduction(| : none)
    for (int64_t i = 0; i < n; i++) {
        const int64_t j = spread ? i : 0;
        const float uniform = (float)(int32_t)(mix_upper(image + hash[i]) >> 40) * 0x1p-24f;
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
        none |= put(out, i, spikes, worth[j], bytes);
    }
    return none;
}

INLINE int tpp_row(const float *z, void *out, const Rows *rows, const Along *a, const int spread, const int negative,
                   const int bytes, float steps, float most, const uint64_t *table, float grid, uint64_t image) {
    const int64_t n = rows->tile;
    int none = 0;
    for (int64_t i = 0; i < rows->length; i += n)
        none |= tpp_tile(z + i, row_of(out, 1, i, bytes), n, a, a->hash + i, spread, negative, bytes, steps, most, table,
                         grid, image);
    return none;
}

/* Fill in the hashes of the neurons along a row, of which the first has the number `first`. */
static void along_hash(Along *a, const Rows *rows, uint64_t key, int64_t first) {
    const int64_t inner = rows->spread ? rows->channels : rows->length, apart = rows->spread ? rows->channel : 1;
    uint64_t *hash = a->hash;
    for (int64_t at = first; hash < a->hash + rows->length; at += rows->position, hash += inner)
        for (int64_t i = 0; i < inner; i++) hash[i] = mix(key + (uint64_t)(at + i * apart + 1) * GOLDEN);
}

/* N worth, or N in bytes (of sites that are not signed), with N = floor(E[N] + u), E[N] and its rise to the next entry
   from `table`, at intervals of 1 / grid, and u the random number that `key` (of site and step), `images` (the hash of
   each) and the neuron select; return whether a byte failed. */
int tpp(const Rows *rows, const Site *site, const float *z, void *out, int bytes, const uint64_t *table, float grid,
        uint64_t key, const uint64_t *images) {
    const float steps = site->steps, most = site->most;
    const int64_t n = rows->length, ahead = rows->spread ? n / rows->channels * rows->position : n;
    const int negative = site->low < 0;
    int failed = 0;
    FOR_ROWS(rows, site, 0, {
        if (fresh) along_hash(&a, rows, key, row * ahead);
        const float *from = z + r * n;
        const uint64_t hash = images[image];
        void *to = row_of(out, r, n, bytes);
        int none;
        if (rows->spread && negative) none = tpp_row(from, to, rows, &a, 1, 1, 0, steps, most, table, grid, hash);
        else if (rows->spread && bytes) none = tpp_row(from, to, rows, &a, 1, 0, 1, steps, most, table, grid, hash);
        else if (rows->spread) none = tpp_row(from, to, rows, &a, 1, 0, 0, steps, most, table, grid, hash);
        else if (negative) none = tpp_row(from, to, rows, &a, 0, 1, 0, steps, most, table, grid, hash);
        else if (bytes) none = tpp_row(from, to, rows, &a, 0, 0, 1, steps, most, table, grid, hash);
        else none = tpp_row(from, to, rows, &a, 0, 0, 0, steps, most, table, grid, hash);
        if (none) __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
    })
    return failed;
}

/* A vector of neurons: as many as the widest registers hold, two or four registers elsewhere. */
typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Truths __attribute__((vector_size(64)));
typedef int8_t Bytes __attribute__((vector_size(16)));
enum { LANES = 16, BLOCK = 4 };

INLINE Floats get(const float *at) {
    Floats v;
    memcpy(&v, at, sizeof v);
    return v;
}

/* `steps` steps of BLOCK vectors of neurons from the `i`-th of a row on, whose potentials stay in registers. */
INLINE void fire_block(const float *restrict current, int64_t apart, float *restrict potential, void *restrict out,
                       int64_t out_apart, int64_t steps, int64_t i, const Along *a, const int spread, const int bytes) {
    Floats v[BLOCK], theta[BLOCK], worth[BLOCK];
    for (int k = 0; k < BLOCK; k++) {
        const int64_t at = i + k * LANES;
        v[k] = get(potential + at);
        theta[k] = spread ? get(a->theta + at) : a->theta[0] - (Floats){0};
        worth[k] = spread ? get(a->worth + at) : a->worth[0] - (Floats){0};
    }
    for (int64_t t = 0; t < steps; t++) {
        const float *drive = a->offset + t * a->apart;
        for (int k = 0; k < BLOCK; k++) {
            const int64_t at = i + k * LANES;
            v[k] = v[k] + get(current + t * apart + at) + (spread ? get(drive + at) : drive[0] - (Floats){0});
            const Truths fires = v[k] >= theta[k];
            v[k] = v[k] - (Floats)((Truths)theta[k] & fires);
            if (bytes) {
                const Bytes spikes = -__builtin_convertvector(fires, Bytes);
                memcpy((uint8_t *)out + t * out_apart + at, &spikes, sizeof spikes);
            } else {
                const Floats spikes = (Floats)((Truths)worth[k] & fires);
                memcpy((float *)out + t * out_apart + at, &spikes, sizeof spikes);
            }
        }
    }
    for (int k = 0; k < BLOCK; k++) memcpy(potential + i + k * LANES, &v[k], sizeof v[k]);
}

INLINE void fire_rest(const float *restrict current, float *restrict potential, void *restrict out, int64_t step,
                      int64_t first, int64_t n, const Along *a, const int spread, const int bytes) {
    for (int64_t i = first; i < n; i++) {
        const int64_t j = spread ? i : 0;
        const float v = potential[i] + current[i] + a->offset[step * a->apart + j];
        const float spike = v >= a->theta[j] ? 1.0f : 0.0f;
        potential[i] = v - a->theta[j] * spike;
        put(out, i, spike, a->worth[j], bytes);
    }
}

INLINE void fire_row(const float *restrict current, int64_t apart, float *restrict potential, void *restrict out,
                     int64_t out_apart, int64_t steps, int64_t n, const Along *a, const int spread, const int bytes) {
    const int64_t size = BLOCK * LANES, blocks = n / size;
    for (int64_t b = 0; b < blocks; b++)
        fire_block(current, apart, potential, out, out_apart, steps, b * size, a, spread, bytes);
    for (int64_t t = 0; t < steps && blocks * size < n; t++)
        fire_rest(current + t * apart, potential, row_of(out, 1, t * out_apart, bytes), t, blocks * size, n, a, spread,
                  bytes);
}

/* `steps` steps of soft-reset integrate-and-fire: v <- v + I + offset[t], s = 1[v >= theta], v <- v - theta s. The
   current and the train, s worth or s in bytes, lie `apart` and `out_apart` from step to step. */
void integrate_and_fire(const Rows *rows, const Site *site, int64_t steps, const float *current, int64_t apart,
                        float *potential, void *out, int64_t out_apart, int bytes) {
    const int64_t n = rows->length;
    FOR_ROWS(rows, site, 1, {
        const float *from = current + r * n;
        float *v = potential + r * n;
        void *to = row_of(out, r, n, bytes);
        if (rows->spread && bytes) fire_row(from, apart, v, to, out_apart, steps, n, &a, 1, 1);
        else if (rows->spread) fire_row(from, apart, v, to, out_apart, steps, n, &a, 1, 0);
        else if (bytes) fire_row(from, apart, v, to, out_apart, steps, n, &a, 0, 1);
        else fire_row(from, apart, v, to, out_apart, steps, n, &a, 0, 0);
    })
}

INLINE void values_row(const uint8_t *restrict counts, const float *restrict plus, float *restrict out, int64_t n,
                       const float *restrict worth, const int spread, const int sum) {
    for (int64_t i = 0; i < n; i++) {
        const float value = (float)(int32_t)counts[i] * worth[spread ? i : 0];
        out[i] = sum ? plus[i] + value : value;
    }
}

/* What `counts` are worth, and `plus` besides, which may be NULL. */
void values(const Rows *rows, const Site *site, const uint8_t *counts, const float *plus, float *out) {
    const int64_t n = rows->length;
    FOR_ROWS(rows, site, 1, {
        const int64_t at = r * n;
        if (rows->spread && plus) values_row(counts + at, plus + at, out + at, n, a.worth, 1, 1);
        else if (rows->spread) values_row(counts + at, NULL, out + at, n, a.worth, 1, 0);
        else if (plus) values_row(counts + at, plus + at, out + at, n, a.worth, 0, 1);
        else values_row(counts + at, NULL, out + at, n, a.worth, 0, 0);
    })
}
