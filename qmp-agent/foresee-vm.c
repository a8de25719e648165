/* SPDX-License-Identifier: GPL-2.0-or-later */
/* foresee vm list|show|args|add|set|enroll|remove */
#include <stdio.h>
#include <string.h>

#include "common/fore-flow.h"
#include "qmp-agent/foresee-cli.h"

#define DEFAULT_DIR "/run/foresee/vm"

typedef struct {
    char *uuid, *qmp, *page, *sea, *dir, *vmem;
    char **rest; /* what is left: names and settings */
} Options;

static void options_clear(Options *o)
{
    g_free(o->uuid);
    g_free(o->qmp);
    g_free(o->page);
    g_free(o->sea);
    g_free(o->dir);
    g_free(o->vmem);
    g_strfreev(o->rest);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Options, options_clear)

static bool parse(Options *o, int argc, char **argv)
{
    const GOptionEntry entries[] = {
        {"uuid", 0, 0, G_OPTION_ARG_STRING, &o->uuid, "UUID of the VM", "UUID"},
        {"dir", 0, 0, G_OPTION_ARG_FILENAME, &o->dir, "Folder of its sockets and page", "DIR"},
        {"qmp", 0, 0, G_OPTION_ARG_FILENAME, &o->qmp, "QMP socket", "PATH"},
        {"page", 0, 0, G_OPTION_ARG_FILENAME, &o->page, "Profile page", "PATH"},
        {"sea", 0, 0, G_OPTION_ARG_FILENAME, &o->sea, "SEA port's socket", "PATH"},
        {"vmem", 0, 0, G_OPTION_ARG_STRING, &o->vmem, "Id of the virtio-mem device", "ID"},
        {G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_STRING_ARRAY, &o->rest, NULL, NULL},
        {NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new("add|args NAME [KEY=VALUE...]");
    g_autoptr(GError) error = NULL;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        fore_cli_usage("%s", error->message);
        return false;
    }
    if (o->rest == NULL || !fore_name_is_valid(o->rest[0])) {
        fore_cli_usage(
            "a VM's name is missing or has other characters than letters, digits, '.', '_', '-'");
        return false;
    }
    if (o->dir == NULL) {
        o->dir = g_build_filename(DEFAULT_DIR, o->rest[0], NULL);
    }
    o->qmp = o->qmp != NULL ? o->qmp : g_build_filename(o->dir, "qmp.sock", NULL);
    o->sea = o->sea != NULL ? o->sea : g_build_filename(o->dir, "sea.sock", NULL);
    o->page = o->page != NULL ? o->page : g_build_filename(o->dir, "page", NULL);
    return true;
}

static void print_row(const json_t *vm)
{
    const json_t *c = json_object_get(vm, "capacity"), *u = json_object_get(vm, "usage");
    g_autofree char *online = fore_cli_size(fore_cli_number(c, "memory-online"));
    g_autofree char *used = fore_cli_size(fore_cli_number(u, "mem_used"));

    printf("%-16s %-10s %-12s %5.2f of %-3.0f %10s of %s\n", fore_cli_text(vm, "name"),
           fore_cli_text(vm, "mode"), fore_cli_text(vm, "state"), fore_cli_number(u, "cpu_busy"),
           fore_cli_number(c, "vcpus-online"), used, online);
}

static int list(ForeCli *cli)
{
    int code;
    g_autoptr(json_t) ret = fore_cli_call(cli, "query-vms", NULL, 5000, &code);
    json_t *vm;
    size_t i;

    if (ret == NULL) {
        return code;
    }
    if (cli->json) {
        fore_cli_print_json(ret);
        return CLI_OK;
    }
    printf("%-16s %-10s %-12s %-12s %s\n", "NAME", "MODE", "STATE", "VCPUS USED", "MEMORY USED");
    json_array_foreach (json_object_get(ret, "vms"), i, vm) {
        print_row(vm);
    }
    return CLI_OK;
}

static void print_pairs(const char *title, const json_t *object)
{
    const char *key;
    json_t *value;

    printf("%s\n", title);
    json_object_foreach ((json_t *)object, key, value) {
        if (json_is_string(value)) {
            printf("  %-24s %s\n", key, json_string_value(value));
        } else if (json_is_boolean(value)) {
            printf("  %-24s %s\n", key, json_is_true(value) ? "yes" : "no");
        } else if (json_is_number(value)) {
            printf("  %-24s %.6g\n", key, json_number_value(value));
        }
    }
}

static void print_sources(const json_t *sources)
{
    const char *key;
    json_t *s;

    printf("sources\n");
    json_object_foreach ((json_t *)sources, key, s) {
        bool ok = json_is_true(json_object_get(s, "ok"));
        printf("  %-24s %s%s\n", key, ok ? "ok" : "down: ", ok ? "" : fore_cli_text(s, "reason"));
    }
}

static int show(ForeCli *cli, const char *name)
{
    int code;
    g_autoptr(json_t) ret =
        fore_cli_call(cli, "query-vms", json_pack("{s:s}", "name", name), 5000, &code);
    const json_t *vm = json_array_get(json_object_get(ret, "vms"), 0);

    if (ret == NULL) {
        return code;
    }
    if (cli->json) {
        fore_cli_print_json(vm);
        return CLI_OK;
    }
    print_pairs(name, vm);
    print_sources(json_object_get(vm, "sources"));
    print_pairs("capacity", json_object_get(vm, "capacity"));
    print_pairs("usage", json_object_get(vm, "usage"));
    if (json_object_get(vm, "kvm") != NULL) {
        print_pairs("kvm", json_object_get(vm, "kvm"));
    }
    print_pairs("forecaster", json_object_get(vm, "forecaster"));
    print_pairs("policy", json_object_get(vm, "policy"));
    return CLI_OK;
}

static int args(const Options *o)
{
    if (o->uuid == NULL || !fore_uuid_is_valid(o->uuid)) {
        return fore_cli_usage("vm args needs --uuid UUID, lower case");
    }
    printf(
        "-name %s,debug-threads=on -uuid %s \\\n"
        "-plugin libforesee-profiler.so,page=%s,uuid=%s \\\n"
        "-qmp unix:%s,server=on,wait=off \\\n"
        "-device virtio-serial-pci -chardev socket,id=foresee-sea,path=%s,server=on,wait=off \\\n"
        "-device virtserialport,chardev=foresee-sea,name=org.foresee.sea.0 \\\n"
        "-smp 1,maxcpus=64 -m 512M,slots=8,maxmem=8G \\\n"
        "-object memory-backend-ram,id=vmem0-ram,size=2G,reserve=off \\\n"
        "-device virtio-mem-pci,id=%s,memdev=vmem0-ram,requested-size=0\n",
        o->rest[0], o->uuid, o->page, o->uuid, o->qmp, o->sea, o->vmem != NULL ? o->vmem : "vmem0");
    fprintf(stderr,
            "foresee: give -plugin the path of libforesee-profiler.so; set -smp, -m and the "
            "virtio-mem size to what the VM may grow to; add a vTPM (swtpm)\n");
    return CLI_OK;
}

static int add(ForeCli *cli, const Options *o)
{
    json_t *policy, *record;

    if (o->uuid == NULL) {
        return fore_cli_usage("vm add needs --uuid UUID, the one QEMU was given");
    }
    policy = fore_cli_settings(o->rest + 1);
    if (policy == NULL) {
        return CLI_USAGE;
    }
    record = json_pack("{s:s,s:s,s:s,s:s,s:s,s:o}", "name", o->rest[0], "uuid", o->uuid, "qmp",
                       o->qmp, "page", o->page, "sea", o->sea, "policy", policy);
    if (o->vmem != NULL) {
        json_object_set_new(record, "vmem-device", json_string(o->vmem));
    }
    return fore_cli_run(cli, "vm-add", record);
}

static int set(ForeCli *cli, const Options *o)
{
    json_t *policy = o->rest[1] != NULL ? fore_cli_settings(o->rest + 1) : NULL;

    if (policy == NULL) {
        return o->rest[1] != NULL ? CLI_USAGE : fore_cli_usage("vm set needs KEY=VALUE");
    }
    return fore_cli_run(cli, "vm-set",
                        json_pack("{s:s,s:o}", "name", o->rest[0], "policy", policy));
}

static int enroll(ForeCli *cli, const Options *o)
{
    json_t *nodes = json_array();
    int code;
    g_autoptr(json_t) ret = NULL;

    for (char **node = o->rest + 1; *node != NULL; node++) {
        json_array_append_new(nodes, json_string(*node));
    }
    if (json_array_size(nodes) == 0) {
        json_decref(nodes);
        return fore_cli_usage(
            "vm enroll needs the ids of the pathway's nodes, as 'foresee pam nodes' shows");
    }
    ret = fore_cli_call(cli, "vm-enroll",
                        json_pack("{s:s,s:o}", "name", o->rest[0], "pathway", nodes), 60000, &code);
    if (ret != NULL && cli->json) {
        fore_cli_print_json(ret);
    } else if (ret != NULL) {
        printf("%s is enrolled; vTPM key name %s\n", o->rest[0], fore_cli_text(ret, "ak-name"));
    }
    return code;
}

int fore_cli_vm(ForeCli *cli, int argc, char **argv)
{
    g_auto(Options) o = {0};
    const char *verb = argc > 1 ? argv[1] : "";

    if (strcmp(verb, "list") == 0) {
        return argc == 2 ? list(cli) : fore_cli_usage("vm list takes no argument");
    }
    if (!g_strv_contains(
            (const char *const[]){"show", "args", "add", "set", "enroll", "remove", NULL}, verb)) {
        return fore_cli_usage("'vm %s' is not known: list, show, args, add, set, enroll, remove",
                              verb);
    }
    if (!parse(&o, argc - 1, argv + 1)) {
        return CLI_USAGE;
    }
    if (strcmp(verb, "add") == 0) {
        return add(cli, &o);
    }
    if (strcmp(verb, "set") == 0) {
        return set(cli, &o);
    }
    if (strcmp(verb, "enroll") == 0) {
        return enroll(cli, &o);
    }
    if (o.rest[1] != NULL) {
        return fore_cli_usage("vm %s takes one name, not '%s' too", verb, o.rest[1]);
    }
    if (strcmp(verb, "show") == 0) {
        return show(cli, o.rest[0]);
    }
    if (strcmp(verb, "args") == 0) {
        return args(&o);
    }
    return fore_cli_run(cli, "vm-remove", json_pack("{s:s}", "name", o.rest[0]));
}
