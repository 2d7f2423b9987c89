/* Convolutions of binary spikes by look-up in tables; `native.py` compiles it beside native.c, `spike_tables.py` calls it.

   Four inputs that fire or not have sixteen sums of their weights. One instruction looks up the sums of sixteen
   positions in the table of four weights, where multiplying takes four. Sums are in floats; their order does not depend
   on the position, the batch or the number of threads. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* What goes in, [images, height, width, channels] with channels a multiple of 8, and how the kernel goes over it. */
typedef struct {
    int64_t images, height, width, channels, out, kernel_height, kernel_width, stride_height, stride_width, pad_height,
        pad_width, dilation_height, dilation_width, out_height, out_width, threads;
} Convolution;

#ifdef __AVX512BW__
#include <immintrin.h>

int has_tables(void) { return 1; }

enum {
    LANES = 16,
    GROUP = 4, /* inputs of a table */
    GROUPS = 8, /* of a word of 32 spikes */
    BLOCK = 4, /* outputs whose sums stay in registers, for VECTORS of positions */
    VECTORS = 6,
    TILE = VECTORS * LANES,
    OUTPUTS = 64, /* whose tables, for WORDS of a kernel, stay in the cache */
    WORDS = 9,
    TILES = 42, /* for which tables are made once */
    TABLE = BLOCK * LANES,
};

/* A kernel's inputs come in runs of neighbours in memory, one bit each, in words of 32: one run for each row of the
   kernel, or for each of its places where they lie apart. */
typedef struct {
    const Convolution *c;
    int64_t row_bytes, image_bytes, runs_in_row, run_words, run_groups, words, inputs, positions;
} Layout;

static Layout layout_of(const Convolution *c) {
    Layout l = {.c = c};
    l.row_bytes = (c->width + 2 * c->pad_width) * c->channels / 8;
    l.image_bytes = (c->height + 2 * c->pad_height) * l.row_bytes;
    l.inputs = c->kernel_height * c->kernel_width * c->channels;
    l.runs_in_row = c->dilation_width == 1 ? 1 : c->kernel_width;
    l.run_groups = l.inputs / (c->kernel_height * l.runs_in_row * GROUP);
    l.run_words = (l.run_groups + GROUPS - 1) / GROUPS;
    l.words = c->kernel_height * l.runs_in_row * l.run_words;
    l.positions = c->out_height * c->out_width;
    return l;
}

static int64_t groups_of(const Layout *l, int64_t word) {
    const int64_t left = l->run_groups - word % l->run_words * GROUPS;
    return left < GROUPS ? left : GROUPS;
}

/* Put `count` bytes, a multiple of 8, into bits: whether each is another one than 0. */
static void pack(const uint8_t *from, uint8_t *to, int64_t count) {
    for (int64_t i = 0; i < count; i += 64) {
        const int64_t left = count - i < 64 ? count - i : 64;
        const __mmask64 some = left == 64 ? ~0ull : (1ull << left) - 1;
        const __m512i bytes = _mm512_maskz_loadu_epi8(some, from + i);
        const uint64_t bits = _mm512_test_epi8_mask(bytes, bytes);
        memcpy(to + i / 8, &bits, left / 8);
    }
}

static __m512 where(__mmask16 fires, const float *weight) {
    return _mm512_maskz_broadcastss_ps(fires, _mm_load_ss(weight));
}

/* Fill in the tables of `outs` outputs, [blocks, groups, BLOCK, LANES], for the words from `first` to `last`. */
static void make_tables(const Layout *l, const float *weight, int64_t outs, int64_t first, int64_t last, float *table) {
    for (int64_t block = 0; block < outs; block += BLOCK) {
        for (int64_t word = first; word < last; word++) {
            const float *w = weight + (word / l->run_words * l->run_groups + word % l->run_words * GROUPS) * GROUP;
            for (int64_t group = 0; group < groups_of(l, word); group++, w += GROUP) {
                for (int64_t o = 0; o < BLOCK; o++, table += LANES) {
                    if (block + o >= outs) {
                        _mm512_storeu_ps(table, _mm512_setzero_ps());
                        continue;
                    }
                    const float *four = w + (block + o) * l->inputs;
                    const __m512 low = _mm512_add_ps(where(0xAAAA, four), where(0xCCCC, four + 1));
                    const __m512 high = _mm512_add_ps(where(0xF0F0, four + 2), where(0xFF00, four + 3));
                    _mm512_storeu_ps(table, _mm512_add_ps(low, high));
                }
            }
        }
    }
}

/* Add what `groups` of inputs, of which `fired` [groups, TILE] says who fires, send to BLOCK outputs to their sums,
   [BLOCK, TILE]; return the tables behind theirs. */
static const float *add_block(const float *restrict table, const int32_t *restrict fired, int64_t groups,
                              float *restrict sums) {
    __m512 sum[BLOCK][VECTORS];
    for (int o = 0; o < BLOCK; o++)
        for (int p = 0; p < VECTORS; p++) sum[o][p] = _mm512_loadu_ps(sums + o * TILE + p * LANES);
    for (int64_t group = 0; group < groups; group++, table += TABLE, fired += TILE) {
        __m512i who[VECTORS];
        for (int p = 0; p < VECTORS; p++) who[p] = _mm512_loadu_si512(fired + p * LANES);
        for (int o = 0; o < BLOCK; o++) {
            const __m512 four = _mm512_loadu_ps(table + o * LANES);
            for (int p = 0; p < VECTORS; p++)
                sum[o][p] = _mm512_add_ps(sum[o][p], _mm512_permutexvar_ps(who[p], four)); /* by 4 low bits */
        }
    }
    for (int o = 0; o < BLOCK; o++)
        for (int p = 0; p < VECTORS; p++) _mm512_storeu_ps(sums + o * TILE + p * LANES, sum[o][p]);
    return table;
}

/* Fill in who fires among the inputs of a tile, [groups, TILE], in the low bits of each number, for the words from
   `first` to `last`; return the number of groups. */
static int64_t gather(const Layout *l, const uint8_t *bits, const int64_t *starts, int64_t first, int64_t last,
                      int32_t *fired) {
    const Convolution *c = l->c;
    const int32_t *begin = fired;
    for (int64_t word = first; word < last; word++) {
        const int64_t run = word / l->run_words, y = run / l->runs_in_row * c->dilation_height;
        const int64_t x = run % l->runs_in_row * c->dilation_width;
        const uint8_t *at = bits + y * l->row_bytes + x * c->channels / 8 + word % l->run_words * (GROUP * GROUPS / 8);
        int32_t now[TILE];
        for (int64_t i = 0; i < TILE; i++) memcpy(now + i, at + starts[i], sizeof *now);
        for (int64_t group = 0; group < groups_of(l, word); group++)
            for (int64_t i = 0; i < TILE; i++) *fired++ = (int32_t)((uint32_t)now[i] >> GROUP * group);
    }
    return (fired - begin) / TILE;
}

/* Write 16 rows of `from`, `apart` from each other, as the 16 columns of `to`. */
static void transpose(const float *from, int64_t apart, float *to, int64_t to_apart) {
    __m512 r[16], t[16];
    for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_ps(from + i * apart);
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int k = 0; k < 2; k++) {
            const __m512d one = _mm512_castps_pd(t[i + k]), other = _mm512_castps_pd(t[i + k + 2]);
            r[i + 2 * k] = _mm512_castpd_ps(_mm512_unpacklo_pd(one, other));
            r[i + 2 * k + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(one, other));
        }
    for (int i = 0; i < 4; i++) { /* r[4 q + i] has column i of each quarter, of the rows 4 q .. 4 q + 3 */
        const __m512 a = _mm512_shuffle_f32x4(r[i], r[4 + i], 0x88), b = _mm512_shuffle_f32x4(r[i], r[4 + i], 0xDD);
        const __m512 c = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0x88), d = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0xDD);
        _mm512_storeu_ps(to + i * to_apart, _mm512_shuffle_f32x4(a, c, 0x88));
        _mm512_storeu_ps(to + (4 + i) * to_apart, _mm512_shuffle_f32x4(b, d, 0x88));
        _mm512_storeu_ps(to + (8 + i) * to_apart, _mm512_shuffle_f32x4(a, c, 0xDD));
        _mm512_storeu_ps(to + (12 + i) * to_apart, _mm512_shuffle_f32x4(b, d, 0xDD));
    }
}

/* Write the sums of `outs` outputs at `positions`, [outs, TILE], to `to`, [positions, all outputs]. */
static void write_out(const float *sums, int64_t outs, int64_t positions, float *to, int64_t all) {
    for (int64_t p = 0; p < positions; p += LANES)
        for (int64_t o = 0; o < outs; o += LANES)
            if (p + LANES <= positions && o + LANES <= outs) transpose(sums + o * TILE + p, TILE, to + p * all + o, all);
            else
                for (int64_t i = p; i < p + LANES && i < positions; i++)
                    for (int64_t k = o; k < o + LANES && k < outs; k++) to[i * all + k] = sums[k * TILE + i];
}

typedef struct {
    float *table, *sums;
    int32_t *fired;
    int64_t *starts;
} Scratch;

static Scratch scratch_new(int64_t chunks) {
    const int64_t groups = WORDS * GROUPS, table = groups * OUTPUTS * LANES, fired = groups * TILE;
    const int64_t sums = (chunks > 1 ? TILES : 1) * OUTPUTS * TILE;
    Scratch s;
    s.table = aligned_alloc(64, (table + sums + fired) * sizeof(float) + TILES * TILE * sizeof(int64_t));
    if (!s.table) abort();
    s.sums = s.table + table;
    s.fired = (int32_t *)(s.sums + sums);
    s.starts = (int64_t *)(s.fired + fired);
    return s;
}

/* Compute `outs` outputs, of which `weight`, `bias` and `out` point to the first, at `count` positions from `from` on. */
static void compute(const Layout *l, const uint8_t *bits, const float *weight, const float *bias, int64_t outs,
                    int64_t from, int64_t count, float *out, Scratch *s) {
    const Convolution *c = l->c;
    const int64_t tiles = (count + TILE - 1) / TILE, several = l->words > WORDS;
    const int64_t down = c->stride_height * l->row_bytes, right = c->stride_width * c->channels / 8;
    int64_t image = from / l->positions, y = from % l->positions / c->out_width, x = from % c->out_width;
    for (int64_t i = 0; i < tiles * TILE; i++) { /* the last tile is filled up with its last position */
        s->starts[i] = image * l->image_bytes + y * down + x * right;
        if (i + 1 >= count) continue;
        if (++x == c->out_width) x = 0, y++;
        if (y == c->out_height) y = 0, image++;
    }
    for (int64_t first = 0; first < l->words; first += WORDS) {
        const int64_t last = first + WORDS < l->words ? first + WORDS : l->words;
        make_tables(l, weight, outs, first, last, s->table);
        for (int64_t tile = 0; tile < tiles; tile++) {
            float *sums = s->sums + several * tile * OUTPUTS * TILE;
            const int64_t *starts = s->starts + tile * TILE;
            const int64_t groups = gather(l, bits, starts, first, last, s->fired);
            if (!first)
                for (int64_t o = 0; o < (outs + BLOCK - 1) / BLOCK * BLOCK; o++)
                    for (int64_t i = 0; i < TILE; i++) sums[o * TILE + i] = bias && o < outs ? bias[o] : 0;
            const float *table = s->table;
            for (int64_t o = 0; o < outs; o += BLOCK) table = add_block(table, s->fired, groups, sums + o * TILE);
            const int64_t rest = count - tile * TILE;
            if (last == l->words) write_out(sums, outs, rest < TILE ? rest : TILE, out + tile * TILE * c->out, c->out);
        }
    }
}

/* out [images, out_height, out_width, out] = weight [out, kernel_height, kernel_width, channels] * spikes + bias, of
   spikes in bytes, one or none for each input, and a bias that may be NULL; return whether it could not be done. */
int table_convolution(const Convolution *c, const uint8_t *spikes, const float *weight, const float *bias, float *out) {
    const Layout l = layout_of(c);
    const int64_t all = c->images * l.positions;
    if (!all) return 0;
    uint8_t *bits = calloc(c->images * l.image_bytes + 4, 1);
    if (!bits) return 1;
    const int64_t parts = (c->out + OUTPUTS - 1) / OUTPUTS, tiles = (all + TILE - 1) / TILE;
    int64_t spans = (tiles + TILES - 1) / TILES;
    while (spans < tiles && spans * parts % c->threads) spans++; /* so that all threads have as much to do */
    const int64_t span = (tiles + spans - 1) / spans * TILE;
#pragma omp parallel num_threads(c->threads)
    {
        Scratch s = scratch_new((l.words + WORDS - 1) / WORDS);
#pragma omp for schedule(static)
        for (int64_t row = 0; row < c->images * c->height; row++) {
            const int64_t into = row / c->height * l.image_bytes + (row % c->height + c->pad_height) * l.row_bytes;
            pack(spikes + row * c->width * c->channels, bits + into + c->pad_width * c->channels / 8, c->width * c->channels);
        }
#pragma omp for schedule(dynamic)
        for (int64_t item = 0; item < spans * parts; item++) {
            const int64_t o = item % parts * OUTPUTS, from = item / parts * span;
            const int64_t outs = c->out - o < OUTPUTS ? c->out - o : OUTPUTS;
            const int64_t count = all - from < span ? all - from : span;
            if (count <= 0) continue;
            float *to = out + from * c->out + o;
            compute(&l, bits, weight + o * l.inputs, bias ? bias + o : NULL, outs, from, count, to, &s);
        }
        free(s.table);
    }
    free(bits);
    return 0;
}

#else

int has_tables(void) { return 0; }

int table_convolution(const Convolution *c, const uint8_t *spikes, const float *weight, const float *bias, float *out) {
    (void)c, (void)spikes, (void)weight, (void)bias, (void)out;
    return 1;
}

#endif
