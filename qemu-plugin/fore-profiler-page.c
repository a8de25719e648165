/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qemu-plugin/fore-profiler-page.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

G_STATIC_ASSERT(G_BYTE_ORDER == G_LITTLE_ENDIAN); /* the page is little-endian, stored in place */

static void set_errno_error(GError **error, const char *path, const char *what, int errsv)
{
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errsv), "page=%s: cannot %s: %s%s",
                path, what, g_strerror(errsv),
                errsv == ENOENT   ? " (make the directory first)"
                : errsv == EACCES ? " (QEMU's user must be able to write to the directory)"
                                  : "");
}

static void fill_header(ForePageHeader *page, const ForeProfilerPageInfo *info,
                        const uint8_t *boot_id)
{
    memcpy(page->magic, FORE_PAGE_MAGIC, sizeof(page->magic));
    page->version = FORE_PAGE_VERSION;
    page->header_bytes = FORE_PAGE_HEADER;
    page->page_bytes = FORE_PAGE_BYTES;
    page->vm_bytes = FORE_PAGE_VM;
    page->block_bytes = FORE_PAGE_BLOCK;
    page->max_blocks = FORE_PAGE_MAX_VCPUS;
    page->mode = FORE_PAGE_MODE_UNKNOWN;
    page->level = info->level;
    page->valid = 0;
    if (info->uuid != NULL) {
        memcpy(page->uuid, info->uuid, MIN(strlen(info->uuid), FORE_UUID_LEN));
    }
    memcpy(page->boot_id, boot_id, FORE_PAGE_BOOT_ID);
    page->start_ns = info->now_ns;
    page->interval_ns = info->interval_ns;
    memcpy(page->target, info->target, MIN(strlen(info->target), FORE_PAGE_TARGET_MAX));
    page->max_vcpus = info->max_vcpus;
    page->pid = (uint32_t)getpid();
    page->heartbeat_ns = info->now_ns;
    page->writer = FORE_PAGE_WRITER_RUNNING;
}

/* Gives the file its size with its blocks allocated: a full file system must refuse here, not kill
 * QEMU with SIGBUS at some later store. */
static ForePageHeader *map_file(int fd, const char *path, GError **error)
{
    int errsv = fchmod(fd, 0640) != 0 ? errno : posix_fallocate(fd, 0, FORE_PAGE_BYTES);

    if (errsv != 0) {
        set_errno_error(error, path, "allocate the page", errsv);
        return NULL;
    }
    void *map = mmap(NULL, FORE_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        set_errno_error(error, path, "map the page", errno);
        return NULL;
    }
    return (ForePageHeader *)map;
}

static ForePageHeader *make_file(const char *path, const char *temporary,
                                 const ForeProfilerPageInfo *info, const uint8_t *boot_id,
                                 GError **error)
{
    int fd = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);

    if (fd < 0) {
        set_errno_error(error, path, "create the page", errno);
        return NULL;
    }
    ForePageHeader *page = map_file(fd, path, error);
    close(fd);
    if (page == NULL) {
        unlink(temporary);
        return NULL;
    }
    fill_header(page, info, boot_id);
    if (rename(temporary, path) != 0) {
        set_errno_error(error, path, "put the page in place", errno);
        munmap(page, FORE_PAGE_BYTES);
        unlink(temporary);
        return NULL;
    }
    return page;
}

ForePageHeader *fore_profiler_page_create(const char *path, const ForeProfilerPageInfo *info,
                                          GError **error)
{
    uint8_t boot_id[FORE_PAGE_BOOT_ID];
    uint64_t tag;

    if (getrandom(boot_id, sizeof(boot_id), 0) != (ssize_t)sizeof(boot_id)) {
        set_errno_error(error, path, "get random bytes", errno);
        return NULL;
    }
    memcpy(&tag, boot_id, sizeof(tag));
    g_autofree char *dir = g_path_get_dirname(path);
    g_autofree char *name = g_path_get_basename(path);
    g_autofree char *temporary =
        g_strdup_printf("%s/.%.200s.%016" G_GINT64_MODIFIER "x", dir, name, tag);
    return make_file(path, temporary, info, boot_id, error);
}
