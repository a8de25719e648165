/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pure half of the profile page's reader: offsets, checks and decoding. */
#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "common/fore-page.h"

#define MAX_INTERVAL_NS (60 * FORE_NS_PER_S) /* the plugin takes at most 10 s */
#define MAX_WINDOW_NS   (3600 * FORE_NS_PER_S)

#define AT(type, member, offset) G_STATIC_ASSERT(offsetof(type, member) == (offset))
G_STATIC_ASSERT(sizeof(ForePageHeader) == FORE_PAGE_HEADER);
AT(ForePageHeader, version, 8);
AT(ForePageHeader, header_bytes, 12);
AT(ForePageHeader, page_bytes, 16);
AT(ForePageHeader, vm_bytes, 20);
AT(ForePageHeader, block_bytes, 24);
AT(ForePageHeader, max_blocks, 28);
AT(ForePageHeader, mode, 32);
AT(ForePageHeader, level, 36);
AT(ForePageHeader, valid, 40);
AT(ForePageHeader, boot_id, 48);
AT(ForePageHeader, start_ns, 64);
AT(ForePageHeader, interval_ns, 72);
AT(ForePageHeader, heartbeat_ns, 80);
AT(ForePageHeader, writer, 88);
AT(ForePageHeader, max_vcpus, 92);
AT(ForePageHeader, pid, 96);
AT(ForePageHeader, uuid, 104);
AT(ForePageHeader, target, 144);
AT(ForePageHeader, reserved2, 160);
G_STATIC_ASSERT(sizeof(ForePageVm) == FORE_PAGE_VM);
AT(ForePageVm, n_spaces, 4);
AT(ForePageVm, updated_ns, 8);
AT(ForePageVm, window_ns, 16);
AT(ForePageVm, ws_pages, 24);
AT(ForePageVm, ws_error_pages, 32);
AT(ForePageVm, ws_samples, 40);
AT(ForePageVm, ws_seen_pages, 48);
AT(ForePageVm, space_ns, 56);
AT(ForePageVm, spaces, 64);
AT(ForePageVm, dirty_bytes_per_s, 192);
AT(ForePageVm, resident_bytes, 200);
AT(ForePageVm, reserved, 208);
AT(ForePageVm, syscall_number, 512);
G_STATIC_ASSERT(sizeof(ForePageVcpu) == FORE_PAGE_BLOCK);
AT(ForePageVcpu, state, 4);
AT(ForePageVcpu, plugged_ns, 8);
AT(ForePageVcpu, updated_ns, 16);
AT(ForePageVcpu, idle_since_ns, 24);
AT(ForePageVcpu, idle_ns, 32);
AT(ForePageVcpu, resumes, 40);
AT(ForePageVcpu, insns, 48);
AT(ForePageVcpu, blocks, 56);
AT(ForePageVcpu, loads, 64);
AT(ForePageVcpu, stores, 72);
AT(ForePageVcpu, syscalls, 80);
AT(ForePageVcpu, branch, 88);
AT(ForePageVcpu, mix, 128);
AT(ForePageVcpu, mmio, 176);
AT(ForePageVcpu, space_switches, 184);
AT(ForePageVcpu, run_ns, 192);
AT(ForePageVcpu, wait_ns, 200);
AT(ForePageVcpu, cycles, 208);
AT(ForePageVcpu, exits, 216);
AT(ForePageVcpu, exit, 224);
AT(ForePageVcpu, halt_poll_ns, 288);
AT(ForePageVcpu, halt_wait_ns, 296);
AT(ForePageVcpu, reserved, 304);
AT(ForePageVcpu, signature, 512);
G_STATIC_ASSERT(FORE_PAGE_HEADER + FORE_PAGE_VM == FORE_PAGE_BLOCKS);
G_STATIC_ASSERT(FORE_PAGE_BLOCKS + FORE_PAGE_MAX_VCPUS * FORE_PAGE_BLOCK == FORE_PAGE_BYTES);

/* A NUL-padded field of printable ASCII; @ret has room for @size + 1. */
static bool take_text(ForeCursor *cur, size_t size, char *ret)
{
    const uint8_t *bytes = fore_cursor_take(cur, size);

    if (bytes == NULL) {
        return false;
    }
    size_t len = strnlen((const char *)bytes, size);
    for (size_t i = 0; i < size; i++) {
        bool fine = i < len ? g_ascii_isprint((char)bytes[i]) : bytes[i] == 0;
        if (!fine) {
            return false;
        }
    }
    memcpy(ret, bytes, len);
    ret[len] = '\0';
    return true;
}

/* Magic, version and the sizes: the first 28 bytes. */
static bool parse_layout(ForeCursor *cur, GError **error)
{
    const uint8_t *magic = fore_cursor_take(cur, 8);

    if (magic == NULL || memcmp(magic, FORE_PAGE_MAGIC, 8) != 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "not a profile page: it does not begin with \"" FORE_PAGE_MAGIC "\"");
        return false;
    }
    uint32_t version = fore_cursor_le32(cur);
    if (version != FORE_PAGE_VERSION) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNSUPPORTED,
                    "profile page of version %u, this program reads version %u: use the plugin and "
                    "the agent of one release",
                    version, FORE_PAGE_VERSION);
        return false;
    }
    uint32_t header_bytes = fore_cursor_le32(cur);
    uint32_t page_bytes = fore_cursor_le32(cur);
    uint32_t vm_bytes = fore_cursor_le32(cur);
    uint32_t block_bytes = fore_cursor_le32(cur);
    uint32_t max_blocks = fore_cursor_le32(cur);
    if (header_bytes != FORE_PAGE_HEADER || page_bytes != FORE_PAGE_BYTES ||
        vm_bytes != FORE_PAGE_VM || block_bytes != FORE_PAGE_BLOCK ||
        max_blocks != FORE_PAGE_MAX_VCPUS) {
        g_set_error(
            error, FORE_ERROR, FORE_ERROR_INVALID,
            "profile page claims header %u, size %u, section %u, block %u, blocks %u; version "
            "%u has %u, %u, %u, %u, %u",
            header_bytes, page_bytes, vm_bytes, block_bytes, max_blocks, FORE_PAGE_VERSION,
            FORE_PAGE_HEADER, FORE_PAGE_BYTES, FORE_PAGE_VM, FORE_PAGE_BLOCK, FORE_PAGE_MAX_VCPUS);
        return false;
    }
    return true;
}

static bool parse_header(ForeCursor *cur, uint64_t now_ns, ForePageSnapshot *snap, GError **error)
{
    char uuid[41] = "", target[17] = "";

    if (!parse_layout(cur, error)) {
        return false;
    }
    uint32_t mode = fore_cursor_le32(cur);
    uint32_t level = fore_cursor_le32(cur);
    snap->valid = fore_cursor_le64(cur);
    const uint8_t *boot_id = fore_cursor_take(cur, FORE_PAGE_BOOT_ID);
    uint64_t start_ns = fore_cursor_le64(cur);
    snap->interval_ns = fore_cursor_le64(cur);
    snap->heartbeat_ns = fore_cursor_le64(cur);
    uint32_t writer = fore_cursor_le32(cur);
    snap->n_vcpus = fore_cursor_le32(cur);
    snap->pid = fore_cursor_le32(cur);
    fore_cursor_take(cur, 4);
    bool text_ok = take_text(cur, 40, uuid);
    text_ok = take_text(cur, 16, target) && text_ok;
    fore_cursor_take(cur, sizeof(((ForePageHeader *)NULL)->reserved2));

    text_ok = text_ok && (uuid[0] == '\0' || fore_uuid_is_valid(uuid)) &&
              strlen(target) <= FORE_PAGE_TARGET_MAX;
    if (!fore_cursor_ok(cur) || !text_ok || mode >= FORE_PAGE_MODE_N ||
        level >= FORE_PAGE_LEVEL_N || writer >= FORE_PAGE_WRITER_N ||
        (snap->valid & ~(uint64_t)FORE_PAGE_HAS_ALL) != 0 || snap->n_vcpus < 1 ||
        snap->n_vcpus > FORE_PAGE_MAX_VCPUS || snap->interval_ns == 0 ||
        snap->interval_ns > MAX_INTERVAL_NS || start_ns > now_ns || snap->heartbeat_ns > now_ns) {
        g_set_error(
            error, FORE_ERROR, FORE_ERROR_INVALID,
            "profile page has a value out of range in its header (mode %u, level %u, writer "
            "%u, vCPUs %u): restart the VM, and distrust it",
            mode, level, writer, snap->n_vcpus);
        return false;
    }
    snap->mode = (ForePageMode)mode;
    snap->level = (ForePageLevel)level;
    snap->writer = (ForePageWriter)writer;
    memcpy(snap->boot_id, boot_id, FORE_PAGE_BOOT_ID);
    g_strlcpy(snap->uuid, uuid, sizeof(snap->uuid));
    g_strlcpy(snap->target, target, sizeof(snap->target));
    return true;
}

/* A part of the page, word for word; false when it is in mid-write.  The part's first word is the
 * sequence number, which the copy does not keep, and 32 bits of data. */
static bool take_words(ForeCursor *cur, void *ret, size_t size)
{
    uint32_t seq = fore_cursor_le32(cur);
    uint32_t second = fore_cursor_le32(cur);
    uint64_t *words = ret;

    words[0] = (uint64_t)second << 32; /* struct order on little-endian hosts, as below */
    for (size_t i = 1; i < size / sizeof(uint64_t); i++) {
        words[i] = fore_cursor_le64(cur);
    }
    return (seq & 1) == 0;
}
G_STATIC_ASSERT(G_BYTE_ORDER == G_LITTLE_ENDIAN);

static bool parse_vm(ForeCursor *cur, uint64_t now_ns, ForePageVm *vm, GError **error)
{
    bool ok;

    if (!take_words(cur, vm, sizeof(*vm))) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                    "the VM's section is being written: read again");
        return false;
    }
    ok = fore_cursor_ok(cur) && vm->n_spaces <= FORE_PAGE_SPACES && vm->updated_ns <= now_ns &&
         vm->window_ns <= MAX_WINDOW_NS && vm->ws_seen_pages <= vm->ws_samples;
    for (unsigned i = 0; i < FORE_PAGE_SPACES && ok; i++) {
        ok = i < vm->n_spaces ? vm->spaces[i].ns <= vm->space_ns : vm->spaces[i].ns == 0;
    }
    if (!ok) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "the VM's section has a value out of range (address spaces %u): distrust the "
                    "VM",
                    vm->n_spaces);
    }
    return ok;
}

static bool parse_block(ForeCursor *cur, unsigned index, uint64_t now_ns, ForePageVcpu *vcpu,
                        GError **error)
{
    if (!take_words(cur, vcpu, sizeof(*vcpu))) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                    "block of vCPU %u is being written: read again", index);
        return false;
    }
    if (!fore_cursor_ok(cur) || vcpu->state >= FORE_PAGE_VCPU_N || vcpu->plugged_ns > now_ns ||
        vcpu->updated_ns > now_ns || vcpu->idle_since_ns > vcpu->updated_ns ||
        vcpu->idle_ns > now_ns ||
        (vcpu->state == FORE_PAGE_VCPU_IDLE) != (vcpu->idle_since_ns != 0)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "block of vCPU %u has a value out of range (state %u): distrust the VM", index,
                    vcpu->state);
        return false;
    }
    return true;
}

bool fore_page_parse(const void *data, size_t size, const char *expected_uuid, uint64_t now_ns,
                     ForePageSnapshot *ret, GError **error)
{
    g_autofree ForePageSnapshot *snap = g_new0(ForePageSnapshot, 1);
    ForeCursor cur;

    if (size != FORE_PAGE_BYTES) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "profile page has %zu bytes, version %u has %u", size, FORE_PAGE_VERSION,
                    FORE_PAGE_BYTES);
        return false;
    }
    fore_cursor_init(&cur, data, size);
    snap->mono_ns = now_ns;
    if (!parse_header(&cur, now_ns, snap, error)) {
        return false;
    }
    if (expected_uuid != NULL && strcmp(snap->uuid, expected_uuid) != 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "profile page belongs to VM %s, expected %s: give each VM its own page= and "
                    "its own uuid= on the -plugin line",
                    snap->uuid[0] == '\0' ? "(no uuid=)" : snap->uuid, expected_uuid);
        return false;
    }
    if (!parse_vm(&cur, now_ns, &snap->vm, error)) {
        return false;
    }
    for (unsigned i = 0; i < snap->n_vcpus; i++) {
        if (!parse_block(&cur, i, now_ns, &snap->vcpu[i], error)) {
            return false;
        }
    }
    *ret = *snap;
    return true;
}
