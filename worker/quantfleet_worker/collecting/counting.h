/* Counts float32 values into a tap's table: the kernel of tap.c. Not to be mixed with where the values come from.
 *
 * Plain C and GCC's vector types, which every CPU of the compiler's has; on x86-64 the loader picks AVX2 where it is.
 */
#ifndef QUANTFLEET_COUNTING_H
#define QUANTFLEET_COUNTING_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BINS (1u << 17)
#define LANES 32u /* behind the bins: zeros are counted by position, so that runs of them do not wait for each other */
#define ROW 256u  /* bins of one exponent and sign */
#define MOST_WAITING ((uint64_t)1 << 30)
#define GATHERED 4096
#define LARGEST_FINITE 0x7F7FFFFF

/* WIDTH is the vector's, in bytes: a wider one than the CPU has still counts right, at a third of the speed. */
#if defined(__x86_64__) && defined(__GLIBC__)
#define FOR_EACH_CPU __attribute__((target_clones("avx2", "default")))
#define WIDTH 32
#else
#define FOR_EACH_CPU
#define WIDTH 16
#endif
#define WORDS (WIDTH / 4)

/* A tap's memory, which the caller owns; it also resets `lowest` to INT32_MAX and `highest` to INT32_MIN before a run. */
struct tap {
    uint32_t *hot;     /* [BINS + LANES], of the tensor being counted; all taps of a session share it: it stays cached */
    uint32_t *counts;  /* [BINS], since the last spill */
    uint64_t *totals;  /* [BINS], what was spilled */
    uint64_t waiting;  /* elements in `hot` */
    uint64_t pending;  /* elements in `counts` */
    uint64_t spills;   /* how often `counts` went to `totals` */
    uint64_t extremes_only; /* where not 0, nothing is counted but tensors with values that are not finite */
    int32_t lowest;    /* of this run, in the order of floats, see ORDERED */
    int32_t highest;
};

typedef uint32_t words __attribute__((vector_size(WIDTH)));
typedef int32_t integers __attribute__((vector_size(WIDTH)));
typedef uint64_t pairs __attribute__((vector_size(WIDTH)));

static const uint32_t LANE[8] = {BINS, BINS + 1, BINS + 2, BINS + 3, BINS + 4, BINS + 5, BINS + 6, BINS + 7};

/* Integers that sort as the floats of these bits do; NaNs and infinities lie outside of all finite ones. */
#define ORDERED(bits, sign) ((bits) ^ ((sign) >> 1))

static inline void count_pair(uint32_t *counts, uint64_t keys)
{
    counts[(uint32_t)keys]++;
    counts[keys >> 32]++;
}

FOR_EACH_CPU static void count(struct tap *tap, const uint32_t *bits, size_t size)
{
    uint32_t *counts = tap->hot;
    integers lowest = (integers){0} + tap->lowest, highest = (integers){0} + tap->highest;
    words lanes;
    memcpy(&lanes, LANE, sizeof lanes);
    size_t i = 0;
    for (; i + LANES <= size; i += LANES) {
        for (uint32_t lane = 0; lane < LANES; lane += WORDS) {
            words value;
            memcpy(&value, bits + i + lane, sizeof value);
            words zero = (words)(value + value == 0); /* of either sign */
            pairs keys = (pairs)(((value >> 15) & ~zero) | ((lanes + lane) & zero));
            for (int pair = 0; pair < WORDS / 2; pair++)
                count_pair(counts, keys[pair]);
            integers order = (integers)ORDERED(value, (words)((integers)value >> 31));
            integers above = order > highest, below = order < lowest;
            highest = (order & above) | (highest & ~above);
            lowest = (order & below) | (lowest & ~below);
        }
    }
    for (; i < size; i++) {
        uint32_t value = bits[i];
        counts[value << 1 ? value >> 15 : BINS]++;
        int32_t order = (int32_t)ORDERED(value, -(value >> 31));
        highest[0] = order > highest[0] ? order : highest[0];
        lowest[0] = order < lowest[0] ? order : lowest[0];
    }
    for (int lane = 0; lane < WORDS; lane++) {
        tap->highest = highest[lane] > tap->highest ? highest[lane] : tap->highest;
        tap->lowest = lowest[lane] < tap->lowest ? lowest[lane] : tap->lowest;
    }
}

/* Moves one row from the hot table to the tap's; returns how many elements. */
FOR_EACH_CPU static uint32_t move_row(struct tap *tap, uint32_t first)
{
    uint32_t *hot = tap->hot + first, *counts = tap->counts + first, moved = 0;
    for (uint32_t bin = 0; bin < ROW; bin++)
        moved += hot[bin];
    if (!moved)
        return 0;
    for (uint32_t bin = 0; bin < ROW; bin++) {
        counts[bin] += hot[bin];
        hot[bin] = 0;
    }
    return moved;
}

static void spill(struct tap *tap)
{
    for (uint32_t bin = 0; bin < BINS; bin++) {
        if (tap->counts[bin]) { /* so that pages without counts stay untouched */
            tap->totals[bin] += tap->counts[bin];
            tap->counts[bin] = 0;
        }
    }
    tap->pending = 0;
    tap->spills++;
}

/* Moves the hot table to the tap's: from the largest exponents down, until all that waits is moved. */
static void settle(struct tap *tap)
{
    uint64_t size = tap->waiting;
    if (tap->pending + size > UINT32_MAX)
        spill(tap);
    tap->pending += size;
    tap->waiting = 0;
    for (uint32_t lane = BINS; lane < BINS + LANES; lane++) {
        tap->counts[0] += tap->hot[lane];
        size -= tap->hot[lane];
        tap->hot[lane] = 0;
    }
    int32_t positive = tap->highest < 0 ? -1 : tap->highest >> 23;
    int32_t negative = tap->lowest < 0 ? ~tap->lowest >> 23 : -1;
    while (size) {
        int32_t exponent = positive > negative ? positive : negative;
        if (positive == exponent)
            size -= move_row(tap, (uint32_t)positive-- * ROW);
        if (negative == exponent)
            size -= move_row(tap, BINS / 2 + (uint32_t)negative-- * ROW);
    }
}

/* Finds the extremes of `size` > 0 values; returns whether all are finite. A loop that every compiler vectorises:
 * of positive floats the largest integer is the largest, of negative ones, read without a sign, the smallest. */
FOR_EACH_CPU static int find_extremes(struct tap *tap, const uint32_t *bits, size_t size)
{
    int32_t most = INT32_MIN, least = INT32_MAX;
    uint32_t top = 0;
    for (size_t i = 0; i < size; i++) {
        int32_t value = (int32_t)bits[i];
        most = value > most ? value : most;
        least = value < least ? value : least;
        top = bits[i] > top ? bits[i] : top;
    }
    int32_t highest = most < 0 ? least ^ INT32_MAX : most, lowest = least < 0 ? (int32_t)top ^ INT32_MAX : least;
    tap->highest = highest > tap->highest ? highest : tap->highest;
    tap->lowest = lowest < tap->lowest ? lowest : tap->lowest;
    return highest <= LARGEST_FINITE && lowest >= ~LARGEST_FINITE;
}

/* Counts `size` float32 values. No count of 32 bits overflows: the hot table is settled in time. */
static void observe(struct tap *tap, const uint32_t *bits, size_t size)
{
    if (tap->extremes_only && size && find_extremes(tap, bits, size))
        return;
    while (size) {
        if (tap->waiting == MOST_WAITING)
            settle(tap);
        size_t part = size < MOST_WAITING - tap->waiting ? size : MOST_WAITING - tap->waiting;
        count(tap, bits, part);
        tap->waiting += part;
        bits += part;
        size -= part;
    }
}

/* Counts the first `real` of every `block` values, `rows` times. */
static void observe_lanes(struct tap *tap, const uint32_t *bits, size_t rows, size_t block, size_t real)
{
    uint32_t gathered[GATHERED];
    size_t filled = 0;
    for (size_t row = 0; row < rows; row++, bits += block) {
        for (size_t lane = 0; lane < real; lane++)
            gathered[filled++] = bits[lane];
        if (filled + real > GATHERED) {
            observe(tap, gathered, filled);
            filled = 0;
        }
    }
    observe(tap, gathered, filled);
}

/* Counts the real channels of a blocked tensor with `padded` channels and `spatial` positions. */
static void observe_blocked(struct tap *tap, const uint32_t *bits, size_t batch, size_t padded, size_t spatial,
                            size_t channels, size_t block)
{
    size_t whole = channels / block * block;
    for (size_t n = 0; n < batch; n++, bits += padded * spatial) {
        observe(tap, bits, whole * spatial);
        if (whole < channels)
            observe_lanes(tap, bits + whole * spatial, spatial, block, channels - whole);
    }
}

#endif
