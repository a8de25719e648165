/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading and replaying.  Both forms of the list end up as template data, which is what the kernel
 * hashes (security/integrity/ima/ima_template_lib.c: for each field a 32-bit little-endian length,
 * then its bytes), and are taken apart from there by the same code:
 *   d-ng  "sha256:" NUL digest     n-ng  path NUL     sig, buf  bytes
 * So what is judged is what was hashed, never a text beside it.  The SHA-256 bank of PCR 10 is
 * extended with the SHA-256 of the template data (kernels from 5.8 on; older ones extend the padded
 * SHA-1, whose replay fails here); a violation extends all ones.
 */
#include "vtpm/attest/fore-imalog.h"

#include <string.h>

#include "common/fore-bytes.h"
#include "vtpm/attest/fore-imalog-internal.h"
#include "vtpm/attest/fore-public.h"

#define MAX_EXTRA (64u << 10) /* bytes of a signature or buffer */
#define MAX_NAME  16          /* of a template or algorithm */

static const char *const names[] = {
    [FORE_IMA_OK] = "ok",
    [FORE_IMA_MISSING] = "ima-missing",
    [FORE_IMA_TOO_LARGE] = "ima-too-large",
    [FORE_IMA_GAP] = "ima-gap",
    [FORE_IMA_OVERLAP] = "ima-overlap",
    [FORE_IMA_TRUNCATED] = "ima-truncated",
    [FORE_IMA_MALFORMED] = "ima-malformed",
    [FORE_IMA_TEMPLATE] = "ima-unknown-template",
    [FORE_IMA_PCR_COLUMN] = "ima-pcr-column",
    [FORE_IMA_TEMPLATE_HASH] = "ima-template-hash",
    [FORE_IMA_HASH_ALGORITHM] = "ima-hash-algorithm",
    [FORE_IMA_VIOLATION] = "ima-violation",
    [FORE_IMA_BOOT_AGGREGATE] = "ima-boot-aggregate",
    [FORE_IMA_REJECTED] = "ima-rejected",
    [FORE_IMA_DIGEST_MISMATCH] = "ima-digest-mismatch",
    [FORE_IMA_UNLISTED] = "ima-unlisted",
    [FORE_IMA_SIGNATURE_MALFORMED] = "ima-signature-malformed",
    [FORE_IMA_SIGNATURE_KEY] = "ima-signature-key",
    [FORE_IMA_SIGNATURE] = "ima-bad-signature",
    [FORE_IMA_SIGNATURE_LIMIT] = "ima-signature-limit",
    [FORE_IMA_KEYRING] = "ima-keyring",
    [FORE_IMA_BUFFER] = "ima-buffer",
    [FORE_IMA_REPLAY] = "ima-replay-mismatch",
    [FORE_IMA_POLICY] = "ima-bad-policy",
};
G_STATIC_ASSERT(G_N_ELEMENTS(names) == FORE_IMA_N);

const char *fore_ima_reason_name(ForeImaReason reason)
{
    g_assert(reason < FORE_IMA_N);
    return names[reason];
}

void fore_ima_reader_init(ForeImaReader *reader, const uint8_t *data, size_t size)
{
    *reader =
        (ForeImaReader){.start = data, .at = data, .left = size, .scratch = g_byte_array_new()};
    if (size > FORE_IMA_MAX) {
        reader->left = 0;
        reader->reason = FORE_IMA_TOO_LARGE;
    }
}

void fore_ima_reader_done(ForeImaReader *reader)
{
    g_clear_pointer(&reader->scratch, g_byte_array_unref);
}

static bool end_with(ForeImaReader *reader, ForeImaReason reason)
{
    reader->left = 0;
    reader->reason = reason;
    return false;
}

static bool all_zero(const uint8_t *data, size_t size)
{
    uint8_t any = 0;

    for (size_t i = 0; i < size; i++) {
        any |= data[i];
    }
    return any == 0;
}

/* --- template data --- */

static uint16_t alg_of(const uint8_t *name, size_t size)
{
    static const struct {
        const char *name;
        uint16_t alg;
    } algs[] = {{"sha256", FORE_ALG_SHA256},
                {"sha1", FORE_ALG_SHA1},
                {"sha384", FORE_ALG_SHA384},
                {"sha512", FORE_ALG_SHA512}};

    for (unsigned i = 0; i < G_N_ELEMENTS(algs); i++) {
        if (strlen(algs[i].name) == size && memcmp(algs[i].name, name, size) == 0) {
            return algs[i].alg;
        }
    }
    return 0;
}

/* "name:" NUL digest */
static bool split_digest(ForeImaEntry *entry, const uint8_t *field, size_t size)
{
    const uint8_t *colon = memchr(field, ':', MIN(size, MAX_NAME + 1));
    size_t head = colon != NULL ? (size_t)(colon - field) : 0;

    if (head == 0 || size < head + 3 || field[head + 1] != 0) {
        return false;
    }
    entry->alg = alg_of(field, head);
    entry->digest = field + head + 2;
    entry->digest_size = size - head - 2;
    return entry->digest_size <= 64 &&
           (entry->alg == 0 || entry->digest_size == fore_hash_digest_size(entry->alg));
}

static bool split(ForeImaEntry *entry)
{
    const uint8_t *field, *path;
    uint32_t size, path_size, extra_size = 0;
    ForeCursor cur;

    fore_cursor_init(&cur, entry->data, entry->size);
    size = fore_cursor_le32(&cur);
    field = fore_cursor_take(&cur, size);
    path_size = fore_cursor_le32(&cur);
    path = fore_cursor_take(&cur, path_size);
    if (entry->template != FORE_IMA_NG) {
        extra_size = fore_cursor_le32(&cur);
        entry->extra = fore_cursor_take(&cur, extra_size);
    }
    if (!fore_cursor_finished(&cur) || path_size < 2 || path_size > FORE_IMA_MAX_PATH + 1 ||
        memchr(path, 0, path_size) != path + path_size - 1 || extra_size > MAX_EXTRA ||
        (entry->template == FORE_IMA_BUF && extra_size == 0)) {
        return false;
    }
    entry->path = (const char *)path;
    entry->path_size = path_size - 1;
    entry->extra_size = extra_size;
    return split_digest(entry, field, size);
}

static bool template_of(const uint8_t *name, size_t size, ForeImaTemplate *ret)
{
    static const char *const known[] = {"ima-ng", "ima-sig", "ima-buf"};

    for (unsigned i = 0; i < G_N_ELEMENTS(known); i++) {
        if (strlen(known[i]) == size && memcmp(known[i], name, size) == 0) {
            *ret = (ForeImaTemplate)i;
            return true;
        }
    }
    return false;
}

/* --- binary_runtime_measurements: ima_fs.c, ima_measurements_show() --- */

static bool next_binary(ForeImaReader *reader, ForeImaEntry *entry)
{
    const uint8_t *name;
    uint32_t pcr, name_size, size;
    ForeCursor cur;

    fore_cursor_init(&cur, reader->at, reader->left);
    pcr = fore_cursor_le32(&cur);
    entry->hash_size = 20;
    entry->hash = fore_cursor_take(&cur, entry->hash_size);
    name_size = fore_cursor_le32(&cur);
    if (fore_cursor_ok(&cur) && name_size > MAX_NAME) {
        return end_with(reader, FORE_IMA_TEMPLATE);
    }
    name = fore_cursor_take(&cur, name_size);
    if (!fore_cursor_ok(&cur)) {
        return end_with(reader, FORE_IMA_TRUNCATED);
    }
    if (pcr != FORE_IMA_PCR) {
        return end_with(reader, FORE_IMA_PCR_COLUMN);
    }
    if (!template_of(name, name_size, &entry->template)) {
        return end_with(reader, FORE_IMA_TEMPLATE);
    }
    size = fore_cursor_le32(&cur);
    entry->size = size;
    entry->data = fore_cursor_take(&cur, size);
    if (!fore_cursor_ok(&cur)) {
        return end_with(reader, FORE_IMA_TRUNCATED);
    }
    reader->at = cur.at;
    reader->left = cur.left;
    return true;
}

/* --- ascii_runtime_measurements --- */

typedef struct {
    const char *at;
    size_t size;
} Text;

/* Up to the next space, which is taken too; false when there is none. */
static bool word(Text *line, Text *ret)
{
    const char *space = memchr(line->at, ' ', line->size);

    if (space == NULL) {
        return false;
    }
    *ret = (Text){line->at, (size_t)(space - line->at)};
    line->size -= ret->size + 1;
    line->at = space + 1;
    return true;
}

/* 0 to 15, or 0xff; a table, since two of three bytes of a text are digits. */
static uint8_t nibble(char c)
{
    static const uint8_t values[256] = {
        ['0'] = 0x10, ['1'] = 0x11, ['2'] = 0x12, ['3'] = 0x13, ['4'] = 0x14, ['5'] = 0x15,
        ['6'] = 0x16, ['7'] = 0x17, ['8'] = 0x18, ['9'] = 0x19, ['a'] = 0x1a, ['b'] = 0x1b,
        ['c'] = 0x1c, ['d'] = 0x1d, ['e'] = 0x1e, ['f'] = 0x1f, ['A'] = 0x1a, ['B'] = 0x1b,
        ['C'] = 0x1c, ['D'] = 0x1d, ['E'] = 0x1e, ['F'] = 0x1f,
    };
    uint8_t v = values[(uint8_t)c];

    return v != 0 ? v & 0x0f : 0xff;
}

static bool put_hex(GByteArray *out, Text hex)
{
    guint from = out->len;

    if (hex.size % 2 != 0 || hex.size > 2 * (size_t)MAX_EXTRA) {
        return false;
    }
    g_byte_array_set_size(out, from + (guint)(hex.size / 2));
    for (size_t i = 0; i < hex.size; i += 2) {
        uint8_t high = nibble(hex.at[i]);
        uint8_t low = nibble(hex.at[i + 1]);

        if (high == 0xff || low == 0xff) {
            return false;
        }
        out->data[from + i / 2] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static void put_raw(GByteArray *out, const void *data, size_t size)
{
    g_byte_array_append(out, data, (guint)size);
}

/* "alg:hex path extra" as template data behind what @out holds already */
static bool put_template(GByteArray *out, ForeImaTemplate template, Text digest, Text path,
                         Text extra)
{
    const char *colon = memchr(digest.at, ':', digest.size);
    size_t name = colon != NULL ? (size_t)(colon - digest.at) : 0;
    Text hex = {digest.at + name + 1, colon != NULL ? digest.size - name - 1 : 0};

    if (name == 0 || name > MAX_NAME || hex.size == 0 || hex.size > 128 || path.size == 0 ||
        path.size > FORE_IMA_MAX_PATH) {
        return false;
    }
    fore_put_le32(out, (uint32_t)(name + 2 + hex.size / 2));
    put_raw(out, digest.at, name + 1);
    fore_put_u8(out, 0);
    if (!put_hex(out, hex)) {
        return false;
    }
    fore_put_le32(out, (uint32_t)path.size + 1);
    put_raw(out, path.at, path.size);
    fore_put_u8(out, 0);
    if (template == FORE_IMA_NG) {
        return true;
    }
    fore_put_le32(out, (uint32_t)(extra.size / 2));
    return put_hex(out, extra);
}

static ForeImaReason parse_line(GByteArray *scratch, Text line, ForeImaEntry *entry)
{
    Text pcr, hash, name, digest, path = {0}, extra = {0};

    if (memchr(line.at, 0, line.size) != NULL || !word(&line, &pcr) || pcr.size != 2 ||
        !g_ascii_isdigit(pcr.at[1])) {
        return FORE_IMA_MALFORMED;
    }
    if (memcmp(pcr.at, "10", 2) != 0) {
        return FORE_IMA_PCR_COLUMN;
    }
    if (!word(&line, &hash) || (hash.size != 40 && hash.size != 64) || !word(&line, &name)) {
        return FORE_IMA_MALFORMED;
    }
    if (!template_of((const uint8_t *)name.at, name.size, &entry->template)) {
        return FORE_IMA_TEMPLATE;
    }
    if (!word(&line, &digest)) {
        return FORE_IMA_MALFORMED;
    }
    if (entry->template == FORE_IMA_NG) {
        path = line;
    } else if (word(&line, &path)) {
        extra = line;
    }
    if (memchr(path.at != NULL ? path.at : "", ' ', path.size) != NULL) {
        return FORE_IMA_MALFORMED;
    }
    g_byte_array_set_size(scratch, 0);
    if (!put_hex(scratch, hash) || !put_template(scratch, entry->template, digest, path, extra)) {
        return FORE_IMA_MALFORMED;
    }
    entry->hash_size = hash.size / 2;
    entry->hash = scratch->data;
    entry->data = scratch->data + entry->hash_size;
    entry->size = scratch->len - entry->hash_size;
    return FORE_IMA_OK;
}

static bool next_text(ForeImaReader *reader, ForeImaEntry *entry)
{
    const uint8_t *newline = memchr(reader->at, '\n', reader->left);
    size_t size = newline != NULL ? (size_t)(newline - reader->at) : reader->left;
    ForeImaReason reason =
        parse_line(reader->scratch, (Text){(const char *)reader->at, size}, entry);

    if (reason != FORE_IMA_OK) {
        return end_with(reader, newline == NULL && reason == FORE_IMA_MALFORMED ? FORE_IMA_TRUNCATED
                                                                                : reason);
    }
    size += newline != NULL;
    reader->at += size;
    reader->left -= size;
    return true;
}

bool fore_ima_next(ForeImaReader *reader, ForeImaEntry *ret)
{
    ForeImaEntry entry = {.offset = (size_t)(reader->at - reader->start)};
    /* A binary entry begins with a small 32-bit number; a text has no NUL. */
    bool binary = reader->left > 0 && (reader->left > 1 ? reader->at[1] == 0 : reader->at[0] < ' ');

    if (reader->left == 0) {
        return false;
    }
    if (!(binary ? next_binary(reader, &entry) : next_text(reader, &entry))) {
        return false;
    }
    if (!split(&entry)) {
        return end_with(reader, FORE_IMA_MALFORMED);
    }
    entry.violation = all_zero(entry.hash, entry.hash_size);
    *ret = entry;
    return true;
}

/* --- replay --- */

bool fore_ima_hashes_init(ForeImaHashes *hashes, uint16_t bank)
{
    *hashes = (ForeImaHashes){0};
    if (!fore_hash_init(&hashes->sha1, FORE_ALG_SHA1) ||
        !fore_hash_init(&hashes->sha256, FORE_ALG_SHA256)) {
        fore_ima_hashes_done(hashes);
        return false;
    }
    hashes->bank = bank == FORE_ALG_SHA1 ? &hashes->sha1 : &hashes->sha256;
    return true;
}

void fore_ima_hashes_done(ForeImaHashes *hashes)
{
    fore_hash_done(&hashes->sha1);
    fore_hash_done(&hashes->sha256);
}

ForeImaReason fore_ima_extend(ForeImaHashes *hashes, const ForeImaEntry *entry, uint8_t *pcr)
{
    ForeHash *told = entry->hash_size == 20 ? &hashes->sha1 : &hashes->sha256;
    uint8_t digest[32], other[32];

    if (entry->violation) {
        memset(digest, 0xff, sizeof(digest));
        fore_hash_extend(hashes->bank, pcr, digest);
        return FORE_IMA_OK;
    }
    fore_hash_of(told, entry->data, entry->size, NULL, 0, other);
    if (memcmp(other, entry->hash, entry->hash_size) != 0) {
        return FORE_IMA_TEMPLATE_HASH;
    }
    if (told != hashes->bank) {
        fore_hash_of(hashes->bank, entry->data, entry->size, NULL, 0, digest);
    }
    fore_hash_extend(hashes->bank, pcr, told != hashes->bank ? digest : other);
    return FORE_IMA_OK;
}

void fore_ima_result_name(ForeImaResult *ret, const ForeImaEntry *entry, uint64_t base)
{
    g_strlcpy(ret->path, entry->path, sizeof(ret->path));
    fore_text_plain(ret->path);
    ret->at = base + entry->offset;
}

ForeImaReason fore_ima_replay(GBytes *bytes, uint16_t bank, uint8_t *ret_pcr, ForeImaResult *ret)
{
    g_auto(ForeImaHashes) hashes = {0};
    g_auto(ForeImaReader) reader = {0};
    ForeImaReason reason = FORE_IMA_OK;
    ForeImaEntry entry;
    uint8_t pcr[32] = {0};
    gsize size = 0;
    const uint8_t *data = bytes != NULL ? g_bytes_get_data(bytes, &size) : NULL;

    memset(ret, 0, sizeof(*ret));
    if (size == 0) {
        return FORE_IMA_MISSING;
    }
    if (!fore_ima_hashes_init(&hashes, bank)) {
        return FORE_IMA_HASH_ALGORITHM;
    }
    fore_ima_reader_init(&reader, data, size);
    while (reason == FORE_IMA_OK && fore_ima_next(&reader, &entry)) {
        ret->entries++;
        ret->violations += entry.violation;
        reason = fore_ima_extend(&hashes, &entry, pcr);
        if (reason != FORE_IMA_OK) {
            fore_ima_result_name(ret, &entry, 0);
        }
    }
    if (reason == FORE_IMA_OK) {
        reason = reader.reason;
    }
    ret->consumed = (uint64_t)(reader.at - reader.start);
    if (reason == FORE_IMA_OK && ret_pcr != NULL) {
        memcpy(ret_pcr, pcr, hashes.bank->size);
    }
    return reason;
}
