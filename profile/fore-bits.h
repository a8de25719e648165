/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Bits, most significant first, and the integer code that chunks are made of.  The reader is
 * poisoned by the first read past the end, every later read then yields 0; ask fore_bit_reader_ok()
 * once at the end.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    GByteArray *out; /* borrowed */
    uint64_t acc;    /* bits not yet in @out, in the low end */
    unsigned n;      /* how many, 0..7 between calls */
} ForeBitWriter;

typedef struct {
    const uint8_t *data; /* borrowed */
    size_t size;         /* bytes of @data */
    size_t at;           /* bits already read */
    bool poisoned;
} ForeBitReader;

void fore_bit_writer_init(ForeBitWriter *w, GByteArray *out);
/** fore_bit_put: append the low @n bits of @v; @n: 0..64 */
void fore_bit_put(ForeBitWriter *w, uint64_t v, unsigned n);
/** fore_bit_writer_finish: pad with zero bits to a whole byte */
void fore_bit_writer_finish(ForeBitWriter *w);

void fore_bit_reader_init(ForeBitReader *r, const void *data, size_t size);
/** fore_bit_get: the next @n bits; @n: 0..64; 0 when poisoned */
uint64_t fore_bit_get(ForeBitReader *r, unsigned n);
bool fore_bit_reader_ok(const ForeBitReader *r);
/** fore_bit_reader_finished: ok, and nothing but less than one byte of zero padding is left */
bool fore_bit_reader_finished(ForeBitReader *r);

/*
 * Adaptive Rice code.  The parameter follows the mean of what was coded so far, as in JPEG-LS
 * (ITU-T T.87, A.5.1), so that neither side sends it; a value far above the mean escapes.
 */
typedef struct {
    uint64_t sum;
    unsigned n;
} ForeRice;

void fore_rice_init(ForeRice *rice);
void fore_rice_put(ForeRice *rice, ForeBitWriter *w, uint64_t v);
uint64_t fore_rice_get(ForeRice *rice, ForeBitReader *r);

/** fore_zigzag: small numbers of either sign to small unsigned ones, and back */
static inline uint64_t fore_zigzag(uint64_t two_complement)
{
    return (two_complement << 1) ^ (0 - (two_complement >> 63));
}
static inline uint64_t fore_unzigzag(uint64_t z)
{
    return (z >> 1) ^ (0 - (z & 1));
}

/** fore_crc32c: Castagnoli (RFC 3720, B.4: 32 bytes of 0 give 0x8a9136aa) */
uint32_t fore_crc32c(const void *data, size_t size);
