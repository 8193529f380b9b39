#include "services/trust/timekeeper.h"

#include "common/clock.h"
#include "common/log.h"
#include "services/trust/mark_store.h"

#include <stdlib.h>
#include <string.h>

#define SAVE_S 600

static void save(struct timekeeper *k)
{
    struct error err = {""};
    if (k->mark.at.s <= k->saved.s)
        return;
    k->saved = k->mark.at; // also if it fails: the next try is in ten minutes
    if (mark_save(k->mark.at, k->state_dir, &err) == 0) {
        k->fault_told = false;
    } else if (!k->fault_told) {
        k->fault_told = true;
        log_warn("clock.mark-not-saved", LOG_S("msg", err.text));
    }
}

void timekeeper_init(struct timekeeper *k, const char *state_dir, struct wall_time not_before)
{
    struct error err = {""};
    struct wall_time saved = WALL_MIN;
    *k = (struct timekeeper){.state_dir = strdup(state_dir)};
    if (k->state_dir == NULL)
        abort();
    if (mark_load(&saved, state_dir, &err) < 0)
        log_warn("clock.mark-ignored", LOG_S("msg", err.text));
    k->saved = saved;
    clock_mark_init(&k->mark, not_before, clock_mono());
    clock_mark_raise(&k->mark, saved, clock_mono());
    clock_mark_advance(&k->mark, clock_wall(), clock_mono());
}

void timekeeper_fini(struct timekeeper *k)
{
    if (k->state_dir == NULL)
        return;
    timekeeper_tick(k);
    save(k);
    free(k->state_dir);
    k->state_dir = NULL;
}

void timekeeper_tick(struct timekeeper *k)
{
    clock_mark_advance(&k->mark, clock_wall(), clock_mono());
    if (k->mark.at.s - SAVE_S >= k->saved.s)
        save(k);
}

void timekeeper_issued(struct timekeeper *k, struct wall_time issued)
{
    clock_mark_raise(&k->mark, issued, clock_mono());
}
