/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vtpm/pam/fore-pam-limit.h"

typedef struct {
    double tokens[FORE_PAM_COST_N];
    int64_t at_us;
} Bucket;

struct ForePamLimit {
    double burst[FORE_PAM_COST_N], per_us[FORE_PAM_COST_N];
    GHashTable *of; /* pin -> Bucket */
};

ForePamLimit *fore_pam_limit_new(unsigned per_second, unsigned per_minute)
{
    ForePamLimit *limit = g_new0(ForePamLimit, 1);

    limit->burst[FORE_PAM_COMMAND] = per_second;
    limit->per_us[FORE_PAM_COMMAND] = per_second / 1e6;
    limit->burst[FORE_PAM_ENROLMENT] = per_minute;
    limit->per_us[FORE_PAM_ENROLMENT] = per_minute / 60e6;
    limit->of = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return limit;
}

void fore_pam_limit_free(ForePamLimit *limit)
{
    if (limit != NULL) {
        g_hash_table_unref(limit->of);
        g_free(limit);
    }
}

static Bucket *bucket_of(ForePamLimit *limit, const char *pin, int64_t now_us)
{
    Bucket *bucket = g_hash_table_lookup(limit->of, pin);

    if (bucket == NULL) {
        bucket = g_new0(Bucket, 1);
        bucket->at_us = now_us;
        for (unsigned i = 0; i < FORE_PAM_COST_N; i++) {
            bucket->tokens[i] = limit->burst[i];
        }
        g_hash_table_insert(limit->of, g_strdup(pin), bucket);
    }
    return bucket;
}

bool fore_pam_limit_take(ForePamLimit *limit, const char *pin, ForePamCost cost, int64_t now_us)
{
    Bucket *bucket = bucket_of(limit, pin, now_us);
    double passed = (double)MAX(now_us - bucket->at_us, 0);

    for (unsigned i = 0; i < FORE_PAM_COST_N; i++) {
        bucket->tokens[i] = MIN(bucket->tokens[i] + passed * limit->per_us[i], limit->burst[i]);
    }
    bucket->at_us = MAX(now_us, bucket->at_us);
    if (bucket->tokens[cost] < 1) {
        return false;
    }
    bucket->tokens[cost] -= 1;
    return true;
}
